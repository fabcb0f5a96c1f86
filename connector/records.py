"""The plain records that travel between the layers. Frozen; times are timezone-aware UTC.

Those that the worker makes of every user are msgspec's: a frozen dataclass of as many fields takes ten times as long.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, NamedTuple

import msgspec

IdentifierKind = Literal["external_id", "email", "anonymous_id", "cio_id", "customer_id"]
CustomerIdKind = Literal["id", "email", "cio_id"]
Verb = Literal["create", "update", "delete", "postpone", "skip"]
MessageType = Literal["identify", "track", "page", "screen", "group", "alias"]


class Damaged(dict[str, Any]):
    """An object of JSON that the store holds and of which something can't be read; `lost` are the dotted paths of
    that, "" when it is all of it."""

    __slots__ = ("lost",)

    def __init__(self, values: Mapping[str, Any], lost: frozenset[str]) -> None:
        super().__init__(values)
        self.lost = lost

    def has_lost(self, path: str) -> bool:
        """Whether what stands at the path, or a part of it, is lost."""
        return any(
            each in {"", path} or each.startswith(f"{path}.") or path.startswith(f"{each}.") for each in self.lost
        )


class Identifier(NamedTuple):
    """A kind and a value that name one user. Email values are stored in lower case, as they are compared."""

    kind: IdentifierKind
    value: str


@dataclass(frozen=True, slots=True)
class Received:
    """A raw message on its way into the inbox."""

    source_id: str
    received_at: datetime
    body: bytes
    unread_reason: str | None = None


@dataclass(frozen=True, slots=True)
class InboxRow:
    """A raw message as the inbox holds it."""

    id: int
    source: str
    source_id: str
    received_at: datetime
    body: bytes


@dataclass(frozen=True, slots=True)
class Word:
    """What a webhook, or our own data, says of a person, and when that was said; what it doesn't say is None or empty.

    `fact` names what happened to a message of theirs ("opened_at"); `preferences` are by group ("topics", "channels")
    and name.
    """

    at: datetime
    opted_out: bool | None = None
    fact: str | None = None
    preferences: Mapping[str, Mapping[str, bool]] = field(default_factory=dict)
    by: Literal["own", "customerio"] = "customerio"


class Preference(NamedTuple):
    """What somebody wants, and since which second (unix time)."""

    wanted: bool
    at: int


@dataclass(frozen=True, slots=True)
class Learnt:
    """What all the words about a user have taught. `facts` are the newest times by name, in unix seconds; `opted_by` is
    whose word the last one on the opt-out was."""

    opted_out: bool = False
    opt_changed_at: datetime | None = None
    facts: Mapping[str, int] = field(default_factory=dict)
    preferences: Mapping[str, Mapping[str, Preference]] = field(default_factory=dict)
    opted_by: Literal["own", "customerio"] = "customerio"


@dataclass(frozen=True, slots=True)
class Glance:
    """As much of a webhook as is looked at before it is stored; None for what it doesn't say."""

    source_id: str
    kind: str | None
    timestamp: datetime | None


@dataclass(frozen=True, slots=True)
class Reading:
    """A webhook, read: whose event it is (strongest identifier first) and what happened."""

    source_id: str
    kind: str
    name: str
    identifiers: tuple[Identifier, ...]
    properties: dict[str, Any]
    context: dict[str, Any]
    occurred_at: datetime
    word: Word | None = None


@dataclass(frozen=True, slots=True)
class Unread:
    """An authentic webhook that can't be read now; kept, with one reason word."""

    reason: str
    kind: str | None = None


@dataclass(frozen=True, slots=True)
class Message:
    """A message of the Segment spec, read: who it is about, and what is said of them or what they did.

    Identifiers are as they were given (the email in its letters), None when absent. `traits` become attributes, None
    removes one; `account` are those of a group, with its `id`. `name` is the event's, empty for the types that are
    none. `occurred_at` is corrected by the sender's clock, `said_at` is the time as the sender gave it, None when
    they gave none. `public` came with a key that anybody can read off a web page; `imported` is history.
    """

    source_id: str
    type: MessageType
    external_id: str | None
    email: str | None
    anonymous_id: str | None
    previous_id: str | None
    traits: dict[str, Any]
    account: dict[str, Any] | None
    created_at: datetime | None
    name: str
    properties: dict[str, Any]
    context: dict[str, Any]
    occurred_at: datetime
    said_at: datetime | None
    public: bool = False
    imported: bool = False


@dataclass(frozen=True, slots=True)
class Event:
    """Something a user did, or that Customer.io reports about them. `due_at` is since when it is due to be sent,
    `settled_at` when it was skipped."""

    source: str
    source_id: str
    user_id: str | None
    type: str
    name: str
    properties: dict[str, Any]
    context: dict[str, Any]
    occurred_at: datetime
    received_at: datetime
    activity_id: str
    outbound: str = "none"
    reason: str | None = None
    due_at: datetime | None = None
    settled_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class DueEvent:
    """An event that waits to be sent, as the store has it: also one that SQL wrote, with any `type` and name. `due_at`
    is since when it is due."""

    id: int
    user_id: str
    activity_id: str
    type: str
    name: str
    properties: Mapping[str, Any]
    context: Mapping[str, Any]
    occurred_at: datetime
    received_at: datetime
    due_at: datetime


@dataclass(frozen=True, slots=True)
class UserRow:
    """One row of an import: identifiers, the user's own created time, and attributes (None removes one)."""

    external_id: str | None
    email: str | None
    anonymous_id: str | None
    created_at: datetime | None
    attributes: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class EventRow:
    """One row of an import of events: whose it is, and what they did. `source_id` is the row's own id, or derived."""

    source_id: str
    external_id: str | None
    email: str | None
    anonymous_id: str | None
    type: Literal["track", "page", "screen"]
    name: str
    occurred_at: datetime
    properties: dict[str, Any] = field(default_factory=dict)
    context: dict[str, Any] = field(default_factory=dict)


class User(msgspec.Struct, frozen=True):
    """Someone in our store, as decisions see them."""

    id: str
    external_id: str | None
    email: str | None
    attributes: Mapping[str, Any]
    known_by: str
    created_at: datetime | None
    opted_out: bool
    opt_changed_at: datetime | None
    version: int
    fresh_until: datetime | None = None
    merged_into: str | None = None
    opted_by: Literal["own", "customerio"] = "customerio"


EVERYTHING = "*"


class Mirror(msgspec.Struct, frozen=True):
    """What we last sent of a user; `attributes` under the names and in the form they were sent.

    `version`, `segment_bits` and `mapping_hash` say at which state of the user and of the settings it was last
    compared; `sent_ts` is the identify's `timestamp` in unix seconds. `left_at` is since when they are in no
    whitelisted segment. Who was deleted keeps a bare one with `deleted_at`; what never comes back, `suppressed_at`.
    `opt_sent_at` is the time of the last word of our own on their opt-out that was sent. `unsure` are the
    names of attributes, by line, that a call may have set of which nobody heard; `EVERYTHING` where it may have made or
    deleted the person, too.
    """

    user_id: str
    customer_id: str
    id_kind: CustomerIdKind
    attributes: Mapping[str, Any]
    segment_bits: str
    mapping_hash: str
    version: int
    sent_ts: int
    created_at: datetime
    synced_at: datetime
    release: str | None
    left_at: datetime | None = None
    deleted_at: datetime | None = None
    suppressed_at: datetime | None = None
    opt_sent_at: datetime | None = None
    unsure: str = ""
    anonymous_ids: Sequence[str] = msgspec.field(default_factory=list)

    @property
    def was_never_heard_of(self) -> bool:
        """Whether all that is known of the person is that a call may have made them."""
        return self.unsure == EVERYTHING and not self.attributes


class Subject(msgspec.Struct, frozen=True):
    """A user with all that a decision needs: memberships as bits in the settings' order, mirror, rival.

    `taken` is true when the customer id that this user would get is another user's live mirror, `erased` when something
    that names them, or would name them at Customer.io, was an erased person's. `cio_id` is the
    person's own at Customer.io, `preferences` are the words on topics and channels that webhooks taught, by group.
    `id_deleted_at` is when somebody else's person with that customer id was deleted, if that was a moment ago.
    `anonymous_ids` are there only where the settings send visitors, without those that name another person there.
    `customer_id` is the one that they would get, or the reason why they can't, where that has been looked at.
    """

    user: User
    segment_bits: str
    mirror: Mirror | None
    taken: bool = False
    erased: bool = False
    cio_id: str | None = None
    preferences: Mapping[str, Mapping[str, Preference]] = msgspec.field(default_factory=dict)
    id_deleted_at: datetime | None = None
    anonymous_ids: tuple[str, ...] = ()
    customer_id: CustomerId | str | None = None


class CustomerId(msgspec.Struct, frozen=True):
    """The identifier under which the person is known to Customer.io, and which of its kinds it is."""

    kind: CustomerIdKind
    value: str


@dataclass(frozen=True, slots=True)
class LeftOut:
    """An attribute that could not be sent, and why."""

    name: str
    reason: str
    message: str


class Decision(msgspec.Struct, frozen=True):
    """What is due for a user. `changes` are the attributes to send (None empties one), in sending order;
    `attributes` is what the person will have of us afterwards. `customer_id` is what they are addressed by, `renamed`
    the id they are known by from then on, where that is another one. What is postponed is decided anew at `until`.
    `anonymous_ids` are the visitors whom they turn out to be, and of whom Customer.io has to hear."""

    verb: Verb
    reason: str
    customer_id: CustomerId | None = None
    renamed: CustomerId | None = None
    changes: dict[str, Any] = msgspec.field(default_factory=dict)
    attributes: dict[str, Any] = msgspec.field(default_factory=dict)
    left_out: tuple[LeftOut, ...] = ()
    timestamp: int = 0
    until: datetime | None = None
    anonymous_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Seen:
    """What a pass sees of store and settings, and the next one compares with."""

    users: int
    customer_id: tuple[str, ...]


class Claim(msgspec.Struct, frozen=True):
    """A pending row that is ours while the lease holds. Who is `alone` shares no call with others."""

    user_id: str
    attempts: int
    failing_since: datetime | None
    release: str | None
    alone: bool = False
    lease: str = ""
