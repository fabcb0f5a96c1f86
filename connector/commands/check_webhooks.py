"""The part of `connector check` that is about webhooks: the settings, and what arrived so far.

Nothing of a webhook's body is printed, only counts and times.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from typing import Any

import msgspec
from sqlalchemy.engine import Connection

from connector.commands.findings import Line
from connector.core import document, naming, normalize
from connector.inbound.refused import BAD_SIGNATURE
from connector.inbound.webhooks import PATH
from connector.settings import Settings
from connector.settings.faults import did_you_mean, quoted
from connector.store import inbox, refusals
from connector.store.database import Database

_LOOKED_AT = 1000
_PAGE = 50
_SILENCE = timedelta(hours=24)
_KEY_CHANGED = timedelta(minutes=10)  # so long none was taken, and one was refused
_TWINS = 3
_TWINS_SHARE = 0.01
_PREFERENCES = ".cio_subscription_preferences_changed"
# These may happen twice in a second; all others happen once to a message, or to a person at a time.
_OFTEN = frozenset({"opened", "clicked"})
# There or not, as the option "Body Content" of a webhook says; the message is the same one.
_OPTIONAL = frozenset({"content", "headers"})


def from_settings(settings: Settings) -> Iterator[Line]:
    """The keys, the URL, the names."""
    webhooks = settings.webhooks
    has_url_key = bool(webhooks.url_key.get_secret_value())
    if not webhooks.signing_keys and not has_url_key:
        yield _warning("off: webhooks.signing_keys is empty, every webhook is answered 503; put its signing key there")
    elif not webhooks.signing_keys:
        yield _warning(
            "webhooks.signing_keys is empty: only what is sent to the URL with webhooks.url_key is taken; "
            "current webhooks are signed, put their signing key there"
        )
    yield from _url(settings, "?key= and webhooks.url_key" if has_url_key else "")
    for kind in webhooks.names:
        if kind not in naming.NAMES:
            meant = did_you_mean(kind, naming.NAMES) or "; the name is used should one arrive"
            yield _warning(f"webhooks.names: {quoted(kind)} is no kind that is known{meant}")


def _url(settings: Settings, added: str) -> Iterator[Line]:
    base = settings.server.public_url
    if not base:
        local = f"http://{settings.server.host}:{settings.server.port}{PATH}"
        yield _warning(f"server.public_url is empty; locally the URL is {local}, Customer.io needs a public one")
        return
    if base.startswith("http://"):
        yield _warning("server.public_url is http: people's data would travel in the clear")
    legacy = f"; for webhooks without a signature add {added}" if added else ""
    yield Line("ok", "webhooks", f"the webhook URL is {base.rstrip('/')}{PATH}{legacy}")


def from_store(db: Database, settings: Settings, now: datetime) -> Iterator[Line]:
    """What arrived, what was refused, what could not be read."""
    last = db.read(inbox.last_received_at, inbox.CUSTOMERIO)
    if settings.webhooks.signing_keys or settings.webhooks.url_key.get_secret_value():
        yield _last(last, now)
    for refusal in db.read(refusals.load):
        if refusal.reason == BAD_SIGNATURE and now - refusal.last_at <= refusals.QUIET:
            yield _refused(refusal, last, now)
    if unread := db.read(inbox.unread_reasons):
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in unread.most_common())
        yield _warning(
            f"{unread.total():,} could not be read ({reasons}) and are kept; "
            "`connector replay webhooks` tries again, for example after an upgrade"
        )
    yield from _bodies(_newest(db))


def _last(at: datetime | None, now: datetime) -> Line:
    if at is None:
        return _warning(
            "none has arrived (or none since store.webhook_bodies): "
            "add the URL in Customer.io as a reporting webhook and press Send test"
        )
    if now - at > _SILENCE:
        return _warning(
            f"the last one arrived {_minute(at)}, more than 24 hours ago: "
            "see in Customer.io whether the webhook is on and its URL is the one above"
        )
    return Line("ok", "webhooks", f"the last one arrived {_minute(at)}")


def _refused(refusal: refusals.Refusal, last: datetime | None, now: datetime) -> Line:
    told = (
        f"{refusal.count:,} refused for a wrong signature since {_minute(refusal.since)}, "
        f"the last {_minute(refusal.last_at)}"
    )
    if last is None or (refusal.last_at > last and now - last > _KEY_CHANGED):
        return _warning(
            f"{told}, and none taken since: webhooks.signing_keys differ from Customer.io's; "
            "copy the webhook's signing key there again"
        )
    return _warning(
        f"{told}, while others are taken: some requests carry a wrong signature. "
        "If there is a second webhook, add its key to webhooks.signing_keys"
    )


def _newest(db: Database) -> Iterator[bytes]:
    """The newest raw webhooks that may be read, the newest first, a page in memory at a time."""
    before: int | None = None
    for _ in range(_LOOKED_AT // _PAGE):
        page = db.read(_page, before)
        if not page:
            return
        yield from (body for _, body in page if body is not None)
        before = page[-1][0]


def _page(connection: Connection, before: int | None) -> list[tuple[int, bytes | None]]:
    return inbox.newest(connection, inbox.CUSTOMERIO, before, _PAGE, normalize.MAX_READ_BYTES)


def _bodies(bodies: Iterable[bytes]) -> Iterator[Line]:
    """What the bodies tell about how the webhooks are set up; the newest comes first."""
    looked_at = without_content = 0
    content_seen = False
    twins: defaultdict[bytes, set[str]] = defaultdict(set)
    for body in bodies:
        looked_at += 1
        glance = normalize.glance(body)
        found = document.read(body)
        data = found.get("data") if isinstance(found, dict) else None
        if glance.kind is None or not isinstance(found, dict) or not isinstance(data, dict):
            continue
        if glance.kind.endswith(_PREFERENCES):
            # An older one without it says only that the option was off then.
            content_seen = content_seen or data.get("content") not in (None, "")
            without_content += not content_seen
        if glance.kind.rpartition(".")[2] not in _OFTEN and isinstance(found.get("event_id"), str):
            twins[_fact(glance.kind, found, data)].add(glance.source_id)
    if without_content:
        yield _warning(
            f"the last {without_content:,} changes of preferences came without what changed: "
            'turn on "Body Content" of the webhook in Customer.io'
        )
    pairs = sum(len(ids) - 1 for ids in twins.values())
    if pairs >= _TWINS or (pairs > 0 and pairs >= _TWINS_SHARE * looked_at):
        yield _warning(
            f"{pairs:,} of the newest {looked_at:,} report what another one reports under another event_id: "
            "two webhooks are set up in Customer.io for this URL; remove one, or each event counts twice"
        )


def _fact(kind: str, envelope: dict[str, Any], data: dict[str, Any]) -> bytes:
    """A hash of what happened: all that is in the webhook, but for its own id."""
    optional = () if kind.endswith(_PREFERENCES) else _OPTIONAL
    kept = {name: value for name, value in envelope.items() if name != "event_id"}
    kept["data"] = {name: value for name, value in data.items() if name not in optional}
    return hashlib.blake2b(msgspec.json.encode(kept, order="deterministic"), digest_size=16).digest()


def _minute(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M} UTC"


def _warning(message: str) -> Line:
    return Line("warning", "webhooks", message)
