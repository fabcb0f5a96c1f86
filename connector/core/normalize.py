"""Reading a reporting webhook: bytes in, a `Reading` or an `Unread` out.

The current envelope is one JSON object: event_id, object_type, metric, timestamp (unix seconds) and data
(https://docs.customer.io/api/webhooks/); the old "Email Activity Webhook" has event_type instead of object_type and
metric. Be liberal: identifiers may be absent or null, `customer_id` is blank for a deleted person, and nothing in
`data` is validated beyond its shape. What can't be read is named by one reason word and stays in the inbox: those of
`core.document`, and

    wrong_shape    JSON, but not an envelope with a kind and data
    too_large      over 1 MiB (the receiver says so; such a body is not parsed)
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from connector.core import document, naming, text
from connector.records import Glance, Identifier, Reading, Unread, Word

MAX_READ_BYTES = 1024 * 1024
_MAX_ID_LENGTH = 200
_MAX_IDENTIFIER_BYTES = 1000  # an index entry of PostgreSQL ends at 2,704
_MAX_TIMESTAMP_DIGITS = 12  # the year 9999 has that many
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_PREFERENCES = "cio_subscription_preferences_changed"
_CONSENT = frozenset({*naming.PERSON_METRICS, "spammed"})
_FACTS = {
    "delivered": "delivered_at",
    "opened": "opened_at",
    "clicked": "clicked_at",
    "bounced": "bounced_at",
    "spammed": "spammed_at",
}
_MESSAGES = naming.TYPES.keys() - {"customer"}
_ENVELOPE = frozenset({"event_id", "object_type", "object_type_type", "metric", "event_type", "timestamp", "data"})


class _Head(msgspec.Struct):
    event_id: Any = None
    object_type: Any = None
    object_type_type: Any = None
    metric: Any = None
    event_type: Any = None
    timestamp: Any = None


_head_decoder = msgspec.json.Decoder(_Head)


def glance(body: bytes) -> Glance:
    """What has to be known before a webhook is stored. `source_id` is what the inbox deduplicates by: the vendor's
    `event_id`, else the body's hash (`sha256:…`)."""
    head = _Head()
    if len(body) <= MAX_READ_BYTES:
        try:
            head = _head_decoder.decode(body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            head = _Head()
    event_id = head.event_id
    if not (isinstance(event_id, str) and 0 < len(event_id) <= _MAX_ID_LENGTH and event_id.isprintable()):
        event_id = "sha256:" + hashlib.sha256(body).hexdigest()
    kind = _kind(head.object_type, head.object_type_type, head.metric, head.event_type)
    return Glance(event_id, kind, _time(head.timestamp))


def says_consent(kind: str) -> bool:
    """True for kinds that may say what somebody wants to receive."""
    return kind.rpartition(".")[2] in _CONSENT


def read(
    source_id: str, body: bytes, received_at: datetime, renamed: Mapping[str, str] | None = None
) -> Reading | Unread:
    """The webhook as an event; `renamed` are other names by kind.

    A missing or impossible timestamp counts as received_at; `context.flags` says so, and likewise when something
    else could not be taken as it came.
    """
    envelope = document.read(body)
    if isinstance(envelope, str):
        return Unread(envelope)
    legacy = envelope.get("metric") is None
    kind = _kind(
        envelope.get("object_type"),
        envelope.get("object_type_type"),
        envelope.get("metric"),
        envelope.get("event_type"),
    )
    data = envelope.get("data")
    if kind is None or not isinstance(data, dict):
        return Unread("wrong_shape", kind)

    flags: list[str] = []
    if b"\\u0000" in body and envelope != (cleaned := text.without_nul(envelope)):
        envelope, data = cleaned, cleaned["data"]
        flags.append("nul_replaced")
    occurred_at = _time(envelope.get("timestamp"))
    if occurred_at is None:
        occurred_at = received_at
        flags.append("no_timestamp")
    named = _identifiers(kind, data)
    identifiers = tuple(each for each in named if len(each.value.encode()) <= _MAX_IDENTIFIER_BYTES)
    if len(identifiers) < len(named):
        flags.append("identifier_too_long")
    # Nobody can have said something after it arrived; dated later, it would outrank what they say tomorrow.
    word = _word(kind, data, min(occurred_at, received_at), flags)
    context: dict[str, Any] = {"kind": kind}
    if legacy:
        context["format"] = "legacy"
    if more := {name: value for name, value in envelope.items() if name not in _ENVELOPE}:
        context["envelope"] = more
    if flags:
        context["flags"] = flags
    return Reading(
        source_id=source_id,
        kind=kind,
        name=naming.name(kind, renamed or {}),
        identifiers=identifiers,
        properties=_properties(kind, data),
        context=context,
        occurred_at=occurred_at,
        word=word,
    )


def _kind(object_type: Any, object_type_type: Any, metric: Any, event_type: Any) -> str | None:
    if metric is None:
        return naming.legacy_kind(event_type)
    # The vendor's document names the second one in one place, which looks like a slip; seen in others' tests too.
    return naming.kind(object_type or object_type_type, metric)


def _identifiers(kind: str, data: dict[str, Any]) -> tuple[Identifier, ...]:
    named = data.get("identifiers")
    named = named if isinstance(named, dict) else {}
    found: list[Identifier] = []
    customer_id = text.identifier(named.get("id")) or text.identifier(data.get("customer_id"))
    if customer_id:
        found.append(Identifier("customer_id", customer_id))
    if cio_id := text.identifier(named.get("cio_id")):
        found.append(Identifier("cio_id", cio_id))
    address = text.email_address(named.get("email")) or text.email_address(data.get("email_address"))
    if address is None and kind.startswith("email."):
        address = text.email_address(data.get("recipient"))
    if address:
        found.append(Identifier("email", address))
    return tuple(found)


def _properties(kind: str, data: dict[str, Any]) -> dict[str, Any]:
    """All of `data` under the vendor's names, but for a message's text: that lasts only as long as the raw webhook."""
    if "content" in data and kind in naming.NAMES and not kind.endswith(_PREFERENCES):
        return {name: value for name, value in data.items() if name != "content"}
    return data


def _word(kind: str, data: dict[str, Any], at: datetime, flags: list[str]) -> Word | None:
    """What it says of its person; None when that is nothing. Adds to `flags` when it is silent on what it is about."""
    object_type, _, metric = kind.partition(".")
    if metric == _PREFERENCES:
        return _changed_preferences(data, at, flags)
    if metric == "unsubscribed":
        return Word(at, opted_out=True)
    if metric == "subscribed":
        # Under a type that nobody knows yet it may allow less than everything.
        return Word(at, opted_out=False) if object_type in naming.TYPES else None
    fact = _FACTS.get(metric)
    if metric == "spammed":
        return Word(at, opted_out=True, fact=fact)
    by_machine = data.get("machine") is True or data.get("prefetched") is True
    return None if fact is None or by_machine or object_type not in _MESSAGES else Word(at, fact=fact)


def _changed_preferences(data: dict[str, Any], at: datetime, flags: list[str]) -> Word | None:
    """`content` is JSON in a string, and there only when the webhook's body content is switched on."""
    content = data.get("content")
    if content is None or content == "":
        flags.append("no_content")
        return None
    if isinstance(content, str):
        found = document.read(content.encode())
        content = text.without_nul(found) if isinstance(found, dict) else None
    if not isinstance(content, dict):
        flags.append("unreadable_content")
        return None
    preferences = {}
    for group in ("topics", "channels"):
        entries = content.get(group)
        if isinstance(entries, dict):
            preferences[group] = {name: wanted for name, wanted in entries.items() if isinstance(wanted, bool)}
    unsubscribed = content.get("unsubscribed")
    return Word(at, opted_out=unsubscribed if isinstance(unsubscribed, bool) else None, preferences=preferences)


def _time(value: Any) -> datetime | None:
    if isinstance(value, str) and len(value) <= _MAX_TIMESTAMP_DIGITS and value.isascii() and value.isdigit():
        value = int(value)
    if not isinstance(value, int | float) or isinstance(value, bool) or value <= 0:
        return None
    try:
        return _EPOCH + timedelta(seconds=value)
    except (OverflowError, ValueError):
        return None
