"""The settings, as one frozen record: every key that this version knows, its default, and what must agree.

Values are checked here, files are read by `settings_file`. Secrets arrive resolved and stay `SecretStr`.
"""

from __future__ import annotations

import functools
import hashlib
import ipaddress
import json
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Annotated, Any, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainValidator, SecretStr, model_validator

from connector.settings import kept_events, names, patterns, references
from connector.settings import values as values
from connector.settings.condition_tables import read

# Part of the vocabulary of settings: `settings.Attribute`, `settings.All`, ...
from connector.settings.conditions import All as All
from connector.settings.conditions import AnyOf as AnyOf
from connector.settings.conditions import Attribute as Attribute
from connector.settings.conditions import Condition as Condition
from connector.settings.conditions import Event as Event
from connector.settings.conditions import Everyone as Everyone
from connector.settings.conditions import NoneOf as NoneOf
from connector.settings.conditions import Property as Property
from connector.settings.conditions import Reference as Reference
from connector.settings.conditions import Segment as Segment
from connector.settings.conditions import plain
from connector.settings.faults import Problem, did_you_mean, quoted, refused

MOST_SEGMENTS = 500

# In `events.names`: views, which have a name of their own or none, and are meant as such.
VIEWS = frozenset({"page", "screen"})

# Sent with every person (`created_at` when it is known).
SENT_ANYWAY = ("email", "created_at")

# Not attributes to Customer.io: https://docs.customer.io/messaging/people/reserved-attributes/
RESERVED = frozenset({
    "anonymous_id", "cio_id", "cio_relationships", "cio_subscription_preferences", "id", "unsubscribed",
})  # fmt: skip

# Bytes of an attribute's name at Customer.io.
LONGEST_NAME = 150


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", hide_input_in_errors=True)


class Server(_Table):
    """The public listener. `public_url` carries no trailing slash; empty when it isn't known."""

    host: values.Host = "127.0.0.1"
    port: values.Port = 8080
    public_url: values.WebUrl = ""
    reuse_port: bool = False


class Admin(_Table):
    """The private listener. Without a token it stays on a loopback address."""

    host: values.Host = "127.0.0.1"
    port: values.Port = 8081
    token: SecretStr = SecretStr("")


class Store(_Table):
    """`url` may hold a password. As loaded from a file, an SQLite path in it is absolute.

    The others say how long something is kept; `events` is None where they are kept forever.
    """

    url: values.StoreUrl = SecretStr("sqlite:///connector.db")
    webhook_bodies: values.Duration = timedelta(days=30)
    attempts: values.Duration = timedelta(days=30)
    events: values.DurationOrForever = None
    indexed_attributes: values.OwnAttributes = ()


class Customerio(_Table):
    """The workspace's Track API. Off while `site_id` and `api_key` are empty; else there is a `region`."""

    site_id: values.SiteId = ""
    api_key: SecretStr = SecretStr("")
    region: Literal["us", "eu"] | None = None
    track_url: values.WebUrl = ""
    api: Literal["batch", "single"] = "batch"
    rate_per_second: float = Field(100, gt=0, allow_inf_nan=False)
    in_flight: int = Field(16, ge=1)


class Webhooks(_Table):
    """None of `signing_keys` is empty; no key of either sort means that webhooks are off.

    `ignore` holds patterns of kinds ("*.drafted"), `names` the events' names by kind ("email.clicked").
    """

    signing_keys: values.Keys = ()
    url_key: SecretStr = SecretStr("")
    ignore: values.KindPatterns = ()
    names: values.EventNames = Field(default_factory=dict)


class Intake(_Table):
    """Keys of the tracking API: none of either sort means that it is off. Anybody can read `browser_keys` off a page.

    `origins` are the sites whose pages may send, "*" is any.
    """

    write_keys: values.Keys = ()
    browser_keys: values.Keys = ()
    origins: values.Origins = ("*",)


class Pick(_Table):
    """One attribute to send; in the file also written as plain text, its name."""

    name: values.AttributePath
    as_: str | None = Field(None, alias="as", min_length=1)
    date: bool = False

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: object) -> object:
        return {"name": value} if isinstance(value, str) else value

    @functools.cached_property
    def sent_as(self) -> str:
        """The name under which Customer.io gets it."""
        if self.as_ is None and self.name == "id":
            return "hull_id"
        return (self.as_ or self.name.replace(".", "_")).replace("/", "-")

    @functools.cached_property
    def is_time(self) -> bool:
        """Whether any ISO 8601 date in it is meant as a time, also without an offset."""
        return self.date or names.says_time(self.name) or names.says_time(self.sent_as)


class Delete(_Table):
    """Whether people who left every whitelisted segment are deleted at Customer.io, and how long after that."""

    enabled: bool = False
    grace: values.Duration = timedelta(hours=24)
    blind: bool = False


class People(_Table):
    """Who is sent, and what of them. `customer_id` lists attributes: the first that has a value is the id.

    `opt_out` is the dotted path of our own attribute that says whether somebody has unsubscribed; empty: none does.
    """

    customer_id: values.OneOrMore = ("external_id",)
    segments: values.Names = ()
    attributes: Annotated[tuple[Pick, ...], BeforeValidator(values.as_tuple)] = ()
    segments_attribute: str = "hull_segments"
    opt_out: values.AttributePathOrNone = ""
    require_email: bool = True
    max_attributes_per_call: int = Field(30, ge=1, le=300)
    timezone: values.ZoneName = "UTC"
    delete: Delete = Delete()

    @functools.cached_property
    def zone(self) -> ZoneInfo:
        """What times without an offset are read in."""
        return ZoneInfo(self.timezone)


class Events(_Table):
    """Which events are sent. `names` are names and patterns of them, apart from `page` and `screen`, which mean views;
    none means that nothing is sent. `pages` are patterns of URLs, none means that all pages are meant.

    `max_age` is how old an event may be when it is stored, `wait` how long it waits for a user who can't be sent yet.
    """

    names: values.EventPatterns = ()
    pages: values.PagePatterns = ()
    anonymous: bool = False
    max_age: values.Duration = timedelta(days=7)
    wait: values.Duration = timedelta(minutes=10)
    pass_reserved: bool = False

    @functools.cached_property
    def named(self) -> patterns.Patterns:
        """The names of events that aren't views."""
        return patterns.of_names(name for name in self.names if name not in VIEWS)

    @functools.cached_property
    def paged(self) -> patterns.Patterns:
        """The URLs of pages. It takes none where there are no patterns, which means all."""
        return patterns.of_pages(self.pages)


class Guard(_Table):
    """Limits in any 24 hours; None is unlimited, 0 is none at all. The share is one of the people in the mirror, and
    counts from ten deletes on."""

    max_delete_share: values.Share = 0.05
    max_deletes: values.Limit = None
    max_creates: values.Limit = 1000
    max_events_per_user: values.Limit = None


class Sync(_Table):
    """How often the whole store is compared, and how soon a changed user is looked at. While `paused`, all is decided
    and nothing is sent."""

    paused: bool = False
    every: values.Duration = timedelta(minutes=5)
    latency: values.Duration = timedelta(seconds=1)


class Retry(_Table):
    """For how long somebody who can't be delivered is tried again, before they are parked."""

    give_up_after: values.Duration = timedelta(days=7)


class Log(_Table):
    """`auto` is readable on a terminal and JSON otherwise."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    personal_data: bool = False
    format: Literal["auto", "text", "json"] = "auto"


class Settings(_Table):
    """One revision of everything the admin decides. `segments` keeps the order of the file."""

    server: Server = Server()
    admin: Admin = Admin()
    store: Store = Store()
    customerio: Customerio = Customerio()
    webhooks: Webhooks = Webhooks()
    intake: Intake = Intake()
    people: People = People()
    events: Events = Events()
    guard: Guard = Guard()
    sync: Sync = Sync()
    retry: Retry = Retry()
    log: Log = Log()
    segments: Mapping[str, Annotated[Segment, PlainValidator(read)]] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if problems := [
            *_listeners(self),
            *_credentials(self.customerio),
            *_keys(self.intake),
            *_segments(self),
            *_names(self.people),
            *_deleting(self),
            *_keeping(self),
        ]:
            raise refused(*problems)
        return self

    @functools.cached_property
    def whitelist(self) -> tuple[int, ...]:
        """The positions of the segments whose users are sent, counted from 0."""
        return tuple(position for position, name in enumerate(self.segments) if name in self.people.segments)

    def sent_hash(self) -> str:
        """12 hex digits that change when what is sent, or to whom, does; no secret, port or pace is in it."""
        to = self.customerio.model_dump(mode="json", include={"site_id", "region", "track_url"})
        parts = (self.guard, self.people.delete, self.events)
        return _hash([to, *(part.model_dump(mode="json") for part in parts), *self._mapping()])

    def mapping_hash(self) -> str:
        """12 hex digits that change when an unchanged user may map to another person or other segments."""
        return _hash(self._mapping())

    def _mapping(self) -> list[Any]:
        # Pairs, not an object: the order of the segments is part of it.
        named = [[name, plain(segment)] for name, segment in self.segments.items()]
        # Visitors only where they are sent: then everybody has to be told whom they were.
        visitors = ["anonymous"] if self.events.anonymous else []
        return [self.people.model_dump(mode="json", exclude={"delete"}), named, *visitors]


def _hash(value: Any) -> str:
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(canonical.encode(), digest_size=6).hexdigest()


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _listeners(settings: Settings) -> Iterator[Problem]:
    server, admin = settings.server, settings.admin
    everywhere = ("0.0.0.0", "::")  # noqa: S104  (compared, not bound)
    same = server.host == admin.host or server.host in everywhere or admin.host in everywhere
    if admin.port == server.port != 0 and (same or (_loopback(server.host) and _loopback(admin.host))):
        yield Problem(("admin", "port"), f"is {admin.port}, which [server] listens on already")
    if not _loopback(admin.host) and not admin.token.get_secret_value():
        yield Problem(("admin", "token"), "is required when admin.host is not a loopback address")


def _credentials(workspace: Customerio) -> Iterator[Problem]:
    key = workspace.api_key.get_secret_value()
    if workspace.site_id and not key:
        yield Problem(("customerio", "api_key"), "is required with customerio.site_id")
    if key and not workspace.site_id:
        yield Problem(("customerio", "site_id"), "is required with customerio.api_key")
    if workspace.site_id and workspace.region is None:
        yield Problem(("customerio", "region"), 'is required with customerio.site_id: "us" or "eu"')


def _keys(intake: Intake) -> Iterator[Problem]:
    secret = {key.get_secret_value() for key in intake.write_keys}
    for index, key in enumerate(intake.browser_keys):
        if key.get_secret_value() in secret:
            message = "is one of intake.write_keys too, and what stands in a web page is no secret: make another key"
            yield Problem(("intake", "browser_keys", index), message)


def _segments(settings: Settings) -> Iterator[Problem]:
    if len(settings.segments) > MOST_SEGMENTS:
        message = f"holds {len(settings.segments):,} segments, {MOST_SEGMENTS} are the most that a database takes"
        yield Problem(("segments",), message)
    for name in settings.segments:
        if not name.strip() or not name.isprintable():
            yield Problem(("segments", name), "needs a name, without line breaks or control characters")
    yield from references.problems(settings.segments)
    listed = settings.people.segments
    for index, name in enumerate(listed):
        where = ("people", "segments", index)
        if name not in settings.segments:
            near = did_you_mean(name, settings.segments)
            yield Problem(where, f"no segment is called {quoted(name)}{near}")
        elif name in listed[:index]:
            yield Problem(where, f"{quoted(name)} is listed twice")


def _deleting(settings: Settings) -> Iterator[Problem]:
    """A person who is deleted and comes back is subscribed: who opted out has to be learnt before."""
    delete = settings.people.delete
    webhooks = settings.webhooks
    learns = webhooks.signing_keys or webhooks.url_key.get_secret_value()
    if delete.enabled and not delete.blind and not learns:
        message = (
            "needs webhooks.signing_keys: without webhooks nobody's opt-out is learnt, and who comes back after a "
            "delete would be subscribed; `blind = true` allows it all the same"
        )
        yield Problem(("people", "delete", "enabled"), message)


def _keeping(settings: Settings) -> Iterator[Problem]:
    store = settings.store
    if store.events is not None:
        yield from kept_events.problems(store.events, settings.events.max_age, store.webhook_bodies, settings.segments)


def _names(people: People) -> Iterator[Problem]:
    """No two attributes of a person under one name, and none under a name that is taken."""
    own = people.segments_attribute
    if own and (fault := _name_fault(own)):
        yield Problem(("people", "segments_attribute"), fault)
    sent: dict[str, str] = {}
    for index, pick in enumerate(people.attributes):
        where = ("people", "attributes", index)
        name = pick.sent_as
        if fault := _name_fault(name):
            yield Problem(where, fault)
        elif name == own:
            yield Problem(where, f"would be sent as {quoted(name)}, which is people.segments_attribute")
        elif name in sent:
            yield Problem(where, f"would be sent as {quoted(name)}, as {quoted(sent[name])} is")
        sent.setdefault(name, pick.name)


def _name_fault(name: str) -> str | None:
    if name in SENT_ANYWAY:
        return f"{quoted(name)} is sent anyway, its name is taken"
    if name in RESERVED or name.startswith("_"):
        return f"would be sent as {quoted(name)}, a name that Customer.io reserves"
    if len(name.encode()) > LONGEST_NAME:
        return f"would be sent under a name of more than {LONGEST_NAME} bytes"
    if not name.isprintable():
        return "would be sent under a name with control characters"
    return None
