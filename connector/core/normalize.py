"""Reading a reporting webhook: bytes in, a `Reading` or an `Unread` out.

The current envelope is one JSON object: event_id, object_type, metric, timestamp (unix seconds) and data
(https://docs.customer.io/api/webhooks/). Be liberal: identifiers may be absent or null, `customer_id` is blank
for a deleted person, and nothing in `data` is validated beyond its shape. What can't be read is named by
one reason word and stays in the inbox:

    not_json       not a JSON document, or text in it that is no Unicode
    too_deep       nested deeper than 100 levels, which not everything behind the reader can follow
    wrong_shape    JSON, but not the envelope
    unknown_kind   the envelope, of a kind that this version does not know
    too_large      over 1 MiB (the receiver says so; such a body is not parsed)
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from connector.core import naming, text
from connector.records import Identifier, OptWord, Reading, Unread

MAX_READ_BYTES = 1024 * 1024
_MAX_ID_LENGTH = 200
_MAX_IDENTIFIER_BYTES = 1000  # an index entry of PostgreSQL ends at 2,704
_MAX_TIMESTAMP_DIGITS = 12  # the year 9999 has that many
_MAX_DEPTH = 100
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_OPT_OUT = {
    "customer.unsubscribed": True,
    "customer.subscribed": False,
    "email.unsubscribed": True,
    "email.subscribed": False,
    "email.spammed": True,
}


class _Id(msgspec.Struct):
    event_id: Any = None


class _Envelope(msgspec.Struct):
    event_id: str
    object_type: str
    metric: str
    data: dict[str, Any]
    timestamp: Any = None


_id_decoder = msgspec.json.Decoder(_Id)
_envelope_decoder = msgspec.json.Decoder(_Envelope)


def source_id(body: bytes) -> str:
    """What the inbox deduplicates by: the vendor's `event_id`, else the body's hash (`sha256:…`)."""
    if len(body) <= MAX_READ_BYTES:
        try:
            event_id = _id_decoder.decode(body).event_id
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            event_id = None
        if isinstance(event_id, str) and 0 < len(event_id) <= _MAX_ID_LENGTH and event_id.isprintable():
            return event_id
    return "sha256:" + hashlib.sha256(body).hexdigest()


def read(source_id: str, body: bytes, received_at: datetime) -> Reading | Unread:
    """The webhook as an event. A missing or impossible timestamp counts as received_at; `context.flags` says so, and
    likewise when something else could not be taken as it came."""
    try:
        envelope = _envelope_decoder.decode(body)
    except msgspec.ValidationError:
        return Unread("wrong_shape")
    except RecursionError:
        return Unread("too_deep")
    except (msgspec.DecodeError, UnicodeDecodeError):
        return Unread("not_json")
    kind = f"{envelope.object_type}.{envelope.metric}"
    name = naming.name(kind)
    if name is None:
        return Unread("unknown_kind", kind[:_MAX_ID_LENGTH].replace("\0", "\ufffd"))
    # Counted first: a body with so few brackets can't be deep, and that is nearly every one.
    if body.count(b"[") + body.count(b"{") > _MAX_DEPTH and text.deeper_than(_MAX_DEPTH, envelope.data):
        return Unread("too_deep")

    flags: list[str] = []
    data = envelope.data
    if b"\\u0000" in body and data != (cleaned := text.without_nul(data)):
        data = cleaned
        flags.append("nul_replaced")
    occurred_at = _time(envelope.timestamp)
    if occurred_at is None:
        occurred_at = received_at
        flags.append("no_timestamp")
    named = _identifiers(envelope.object_type, data)
    identifiers = tuple(each for each in named if len(each.value.encode()) <= _MAX_IDENTIFIER_BYTES)
    if len(identifiers) < len(named):
        flags.append("identifier_too_long")
    opted_out = _OPT_OUT.get(kind)
    return Reading(
        source_id=source_id,
        kind=kind,
        name=name,
        identifiers=identifiers,
        properties=_properties(envelope.object_type, data),
        context={"flags": flags} if flags else {},
        occurred_at=occurred_at,
        opt_word=None if opted_out is None else OptWord(opted_out, occurred_at),
    )


def _identifiers(object_type: str, data: dict[str, Any]) -> tuple[Identifier, ...]:
    named = data.get("identifiers")
    named = named if isinstance(named, dict) else {}
    found: list[Identifier] = []
    customer_id = _text(named.get("id")) or _text(data.get("customer_id"))
    if customer_id:
        found.append(Identifier("customer_id", customer_id))
    if cio_id := _text(named.get("cio_id")):
        found.append(Identifier("cio_id", cio_id))
    address = text.email_address(named.get("email")) or text.email_address(data.get("email_address"))
    if address is None and object_type == "email":
        address = text.email_address(data.get("recipient"))
    if address:
        found.append(Identifier("email", address))
    return tuple(found)


def _properties(object_type: str, data: dict[str, Any]) -> dict[str, Any]:
    """All of `data` under the vendor's names, but for a message's body: that lasts only as long as the raw webhook."""
    if object_type == "email" and "content" in data:
        return {name: value for name, value in data.items() if name != "content"}
    return data


def _text(value: Any) -> str | None:
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return value.strip() or None if isinstance(value, str) else None


def _time(value: Any) -> datetime | None:
    if isinstance(value, str) and len(value) <= _MAX_TIMESTAMP_DIGITS and value.isascii() and value.isdigit():
        value = int(value)
    if not isinstance(value, int | float) or isinstance(value, bool) or value <= 0:
        return None
    try:
        return _EPOCH + timedelta(seconds=value)
    except (OverflowError, ValueError):
        return None
