"""Track API v2, bodies: bytes in, operations and the problems of the bad items out. Pure.

Follows docs.customer.io/integrations/api/track, tag "track_v2". A batch is split without decoding its
items, so that each is measured by the bytes it was sent in, then decoded on its own: one pass, whatever the
size. Nothing is applied here: a batch that turns out not to be JSON leaves no trace. The payload of an
event is under `attributes`; a key `data` beside it means nothing in v2.

Known so far: the person actions identify, delete, event, page and screen; any other is an item error. A
further action is one more reader in `_READERS` and one more operation.

Stricter readings of what is unverified:
- Identifiers are strings that aren't empty, exactly one of them; a cio_id is bare (`cio_` belongs to v1
  paths).
- A batch of one bad item answers 207, like any batch with a bad item.
- Of the spellings of the ordering key only the present one, `timestamp` at the top level, counts;
  `_timestamp` (at the top or among the attributes) is ignored and not kept.
- An event may be addressed by `anonymous_id` (undocumented, in production use by others), an identify may
  not.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import orjson

from connector.sandbox import limits, operations
from connector.sandbox.limits import Problem
from connector.sandbox.operations import ActivityType, Delete, Identifier, Identify, Kind, Operation, Track


class Batch(msgspec.Struct, frozen=True):
    """A batch as read: `accepted` in the order sent, `refused` with the index of the item."""

    accepted: list[Operation]
    refused: list[tuple[int, Problem]]


class _Envelope(msgspec.Struct):
    batch: list[msgspec.Raw]


_ENVELOPE = msgspec.json.Decoder(_Envelope)
_PERSON_KINDS: tuple[Kind, ...] = ("id", "email", "phone", "cio_id")
_NOT_JSON = Problem("body", "request body is not valid JSON")


def read_batch(body: bytes) -> Batch | list[Problem]:
    """A list of problems means that the whole request is unusable."""
    if too_large := limits.batch(len(body)):
        return too_large
    try:
        items = _ENVELOPE.decode(body).batch
    except msgspec.ValidationError:
        return [Problem("batch", "batch must be an array of operations", "required")]
    except msgspec.DecodeError:
        return [_NOT_JSON]
    result = Batch([], [])
    for index, item in enumerate(items):
        try:
            operation = _read(bytes(item))
        except orjson.JSONDecodeError:
            return [_NOT_JSON]
        if isinstance(operation, list):
            result.refused.extend((index, problem) for problem in operation)
        else:
            result.accepted.append(operation)
    return result


def read_entity(body: bytes) -> Operation | list[Problem]:
    try:
        return _read(body)
    except orjson.JSONDecodeError:
        return [_NOT_JSON]


def _read(body: bytes) -> Operation | list[Problem]:
    if too_large := limits.operation(len(body)):
        return too_large
    sent = orjson.loads(body)
    if not isinstance(sent, dict):
        return [Problem("", "operation must be an object")]
    if sent.get("type") != "person":
        return [Problem("type", f"unknown type {sent.get('type')!r}")]
    action = sent.get("action")
    reader = _READERS.get(action) if isinstance(action, str) else None
    if reader is None:
        return [Problem("action", f"unknown action {action!r}")]
    return reader(sent)


def _identify(sent: dict[str, Any]) -> Identify | list[Problem]:
    who = _identifier(sent, _PERSON_KINDS)
    attributes = sent.get("attributes")
    attributes = {} if attributes is None else attributes
    if not isinstance(attributes, dict):
        return [*_problems(who), Problem("attributes", "attributes must be an object")]
    update_only = attributes.pop("_update", None) is True
    attributes.pop("_timestamp", None)
    problems = _problems(who)
    problems += limits.person_id(attributes["id"], "attributes.id") if "id" in attributes else []
    problems += limits.email(attributes.get("email"), "attributes.email")
    problems += limits.attributes(attributes)
    if problems or isinstance(who, list):
        return problems
    timestamp = operations.unix_seconds(sent.get("timestamp"))
    return operations.identify(who, attributes, update_only=update_only, timestamp=timestamp)


def _delete(sent: dict[str, Any]) -> Delete | list[Problem]:
    who = _identifier(sent, _PERSON_KINDS)
    return who if isinstance(who, list) else Delete(who)


def _activity(kind: ActivityType) -> Callable[[dict[str, Any]], Track | list[Problem]]:
    def read(sent: dict[str, Any]) -> Track | list[Problem]:
        who = _identifier(sent, (*_PERSON_KINDS, "anonymous_id"))
        data = sent.get("attributes")
        data = {} if data is None else data
        problems = _problems(who) + limits.event_name(sent.get("name")) + limits.event_data(data, "attributes")
        if problems or isinstance(who, list):
            return problems
        event_id = sent.get("id")
        return Track(
            who,
            kind,
            sent["name"].strip(),
            event_id if isinstance(event_id, str) and event_id else None,
            operations.unix_seconds(sent.get("timestamp")),
            data,
            who.value if who.kind == "anonymous_id" else None,
        )

    return read


_READERS: dict[str, Callable[[dict[str, Any]], Operation | list[Problem]]] = {
    "identify": _identify,
    "delete": _delete,
    "event": _activity("event"),
    "page": _activity("page"),
    "screen": _activity("screen"),
}


def _identifier(sent: dict[str, Any], kinds: tuple[Kind, ...]) -> Identifier | list[Problem]:
    named = sent.get("identifiers")
    if not isinstance(named, dict) or not named:
        return [Problem("identifiers", "identifiers are required", "required")]
    if len(named) > 1:
        return [Problem("identifiers", f"exactly one identifier is allowed, got {', '.join(sorted(named))}")]
    for kind in kinds:
        if kind in named:
            value, field = named[kind], f"identifiers.{kind}"
            if kind == "id":
                return limits.person_id(value, field) or Identifier(kind, value)
            if not isinstance(value, str) or not value.strip():
                return [Problem(field, f"{kind} must be a string that isn't empty")]
            return Identifier(kind, value)
    return [Problem("identifiers", f"unknown identifier {next(iter(named))!r}")]


def _problems(read: object) -> list[Problem]:
    return list(read) if isinstance(read, list) else []
