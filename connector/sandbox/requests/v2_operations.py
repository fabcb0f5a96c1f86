"""Track API v2, bodies: bytes in, operations and the problems of the bad items out. Pure.

Follows docs.customer.io/integrations/api/track, tag "track_v2". A batch is split without decoding its
items, so that each is measured by the bytes it was sent in, then decoded on its own: one pass, whatever the
size. Nothing is applied here: a batch that turns out not to be JSON leaves no trace. The payload of an
event is under `attributes`, a device's token under `token`; the keys of v1 beside them mean nothing in v2.

Stricter readings of what is unverified:
- A batch of one bad item answers 207, like any batch with a bad item.
- Of the spellings of the ordering key only the present one, `timestamp` at the top level, counts;
  `_timestamp` (at the top or among the attributes) is ignored and not kept.
- An event may be addressed by `anonymous_id` (undocumented, in production use by others), any other person
  action may not.
- `identify_anonymous` relates an object to anonymous ids and nobody else.
- A delivery's report must be one of the three documented names, with a `device_token`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from connector.sandbox import json_body, operations
from connector.sandbox.operations import (
    ActivityType,
    AddDevice,
    Delete,
    DeleteDevice,
    DeleteObject,
    Identifier,
    Identify,
    IdentifyObject,
    Kind,
    Operation,
    Relate,
    ReportDelivery,
    Suppress,
    Track,
    Unsuppress,
)
from connector.sandbox.requests import limits, request_parts
from connector.sandbox.requests.limits import Problem
from connector.sandbox.requests.request_parts import problems_of

NOT_JSON = Problem("body", "request body is not valid JSON")


class Batch(msgspec.Struct, frozen=True):
    """A batch as read: `accepted` in the order sent, `refused` with the index of the item."""

    accepted: list[Operation]
    refused: list[tuple[int, Problem]]


class _Envelope(msgspec.Struct):
    batch: list[msgspec.Raw]


_ENVELOPE = msgspec.json.Decoder(_Envelope)
_PERSON_KINDS: tuple[Kind, ...] = ("id", "email", "phone", "cio_id")
_METRICS = ("opened", "converted", "delivered")


def read_batch(body: bytes) -> Batch | list[Problem]:
    """A list of problems means that the whole request is unusable."""
    if too_large := limits.batch(len(body)):
        return too_large
    try:
        items = json_body.split(body, _ENVELOPE).batch
    except msgspec.ValidationError:
        return [Problem("batch", "batch must be an array of operations", "required")]
    except json_body.Malformed:
        return [NOT_JSON]
    result = Batch([], [])
    for index, item in enumerate(map(bytes, items)):
        try:
            operation = limits.item(len(item)) or _read(item)
        except json_body.Malformed:
            return [NOT_JSON]
        if isinstance(operation, list):
            result.refused.extend((index, problem) for problem in operation)
        else:
            result.accepted.append(operation)
    return result


def read_entity(body: bytes) -> Operation | list[Problem]:
    try:
        return limits.entity(len(body)) or _read(body)
    except json_body.Malformed:
        return [NOT_JSON]


def every_other_refused(read: Batch, problem: Problem) -> Batch:
    """The batch with its first, third, fifth item and so on refused for this, and those that were refused anyway."""
    bad = {index for index, _ in read.refused}
    good = (index for index in range(len(bad) + len(read.accepted)) if index not in bad)
    result = Batch([], list(read.refused))
    for index, operation in zip(good, read.accepted, strict=True):
        if index % 2:
            result.accepted.append(operation)
        else:
            result.refused.append((index, problem))
    result.refused.sort(key=lambda each: each[0])
    return result


def _read(body: bytes) -> Operation | list[Problem]:
    """Raises json_body.Malformed."""
    sent = json_body.read(body)
    if not isinstance(sent, dict):
        return [Problem("", "operation must be an object")]
    kind = sent.get("type")
    readers = _READERS.get(kind) if isinstance(kind, str) else None
    if readers is None:
        return [Problem("type", f"unknown type {kind!r}")]
    action = sent.get("action")
    reader = readers.get(action) if isinstance(action, str) else None
    if reader is None:
        return [Problem("action", f"unknown action {action!r}")]
    return reader(sent)


# People


def _identify(sent: dict[str, Any]) -> Identify | list[Problem]:
    who = _person(sent)
    attributes = _attributes(sent)
    if isinstance(attributes, list):
        return [*problems_of(who), *attributes]
    update_only = attributes.pop("_update", None) is True
    attributes.pop("_timestamp", None)
    problems = problems_of(who)
    problems += limits.person_id(attributes["id"], "attributes.id") if "id" in attributes else []
    problems += limits.texts(attributes, "email", "phone", "anonymous_id", field="attributes.")
    problems += limits.attributes(attributes)
    if isinstance(who, list):
        return problems
    listed = sent.get("cio_relationships")
    relate = None if listed is None else request_parts.to_objects(who, listed)
    if problems or isinstance(relate, list):
        return [*problems, *problems_of(relate)]
    timestamp = operations.unix_seconds(sent.get("timestamp"))
    return operations.identify(
        who, attributes, update_only=update_only, timestamp=timestamp, relate=relate, phone_identifies=True
    )


def _about(made: Callable[[Identifier], Operation]) -> Callable[[dict[str, Any]], Operation | list[Problem]]:
    """An action that needs to know whom it is about, and nothing else."""

    def read(sent: dict[str, Any]) -> Operation | list[Problem]:
        who = _person(sent)
        return who if isinstance(who, list) else made(who)

    return read


def _activity(kind: ActivityType) -> Callable[[dict[str, Any]], Track | list[Problem]]:
    def read(sent: dict[str, Any]) -> Track | list[Problem]:
        who = request_parts.identifier(sent.get("identifiers"), (*_PERSON_KINDS, "anonymous_id"))
        data = sent.get("attributes")
        data = {} if data is None else data
        problems = problems_of(who) + limits.event_name(sent.get("name")) + limits.event_data(data, "attributes")
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


def _add_device(sent: dict[str, Any]) -> AddDevice | list[Problem]:
    who = _person(sent)
    return who if isinstance(who, list) else request_parts.device(who, sent.get("device"), "token")


def _delete_device(sent: dict[str, Any]) -> DeleteDevice | list[Problem]:
    who, token = _person(sent), request_parts.device_token(sent.get("device"), "token")
    if isinstance(who, list) or isinstance(token, list):
        return [*problems_of(who), *problems_of(token)]
    return DeleteDevice(who, token)


def _relate_person(sent: dict[str, Any], *, adds: bool) -> Relate | list[Problem]:
    who = _person(sent)
    if isinstance(who, list):
        return who
    return request_parts.to_objects(who, sent.get("cio_relationships"), adds=adds)


# Objects and deliveries


def _identify_object(sent: dict[str, Any], kinds: tuple[Kind, ...] = _PERSON_KINDS) -> Operation | list[Problem]:
    name, attributes = request_parts.object_name(sent.get("identifiers")), _attributes(sent)
    if isinstance(name, list) or isinstance(attributes, list):
        return [*problems_of(name), *problems_of(attributes)]
    problems = limits.attributes(attributes)
    listed = sent.get("cio_relationships")
    relate = None if listed is None else request_parts.to_people(name, listed, kinds=kinds)
    if problems or isinstance(relate, list):
        return [*problems, *problems_of(relate)]
    return IdentifyObject(name, attributes, relate)


def _delete_object(sent: dict[str, Any]) -> DeleteObject | list[Problem]:
    name = request_parts.object_name(sent.get("identifiers"))
    return name if isinstance(name, list) else DeleteObject(name)


def _relate_object(sent: dict[str, Any], *, adds: bool) -> Relate | list[Problem]:
    name = request_parts.object_name(sent.get("identifiers"))
    if isinstance(name, list):
        return name
    return request_parts.to_people(name, sent.get("cio_relationships"), adds=adds)


def _delivery(sent: dict[str, Any]) -> ReportDelivery | list[Problem]:
    named = sent.get("identifiers")
    delivery_id = named.get("id") if isinstance(named, dict) else None
    attributes = _attributes(sent)
    problems = problems_of(attributes)
    if not isinstance(delivery_id, str) or not delivery_id.strip():
        problems.append(Problem("identifiers.id", "must be a string that isn't empty", "required"))
    if sent.get("name") not in _METRICS:
        problems.append(Problem("name", f"name must be one of {', '.join(_METRICS)}"))
    if isinstance(attributes, dict) and not isinstance(attributes.get("device_token"), str):
        problems.append(Problem("attributes.device_token", "must be a string", "required"))
    if problems or isinstance(attributes, list) or not isinstance(delivery_id, str):
        return problems
    return ReportDelivery(delivery_id, sent["name"], attributes)


_Reader = Callable[[dict[str, Any]], Operation | list[Problem]]
_READERS: dict[str, dict[str, _Reader]] = {
    "person": {
        "identify": _identify,
        "event": _activity("event"),
        "page": _activity("page"),
        "screen": _activity("screen"),
        "delete": _about(Delete),
        "suppress": _about(Suppress),
        "unsuppress": _about(Unsuppress),
        "merge": request_parts.merge,
        "add_device": _add_device,
        "delete_device": _delete_device,
        "add_relationships": lambda sent: _relate_person(sent, adds=True),
        "delete_relationships": lambda sent: _relate_person(sent, adds=False),
    },
    "object": {
        "identify": _identify_object,
        "identify_anonymous": lambda sent: _identify_object(sent, ("anonymous_id",)),
        "delete": _delete_object,
        "add_relationships": lambda sent: _relate_object(sent, adds=True),
        "delete_relationships": lambda sent: _relate_object(sent, adds=False),
    },
    "delivery": {"event": _delivery},
}


def _person(sent: dict[str, Any]) -> Identifier | list[Problem]:
    return request_parts.identifier(sent.get("identifiers"), _PERSON_KINDS)


def _attributes(sent: dict[str, Any]) -> dict[str, Any] | list[Problem]:
    attributes = sent.get("attributes")
    if attributes is None:
        return {}
    return attributes if isinstance(attributes, dict) else [Problem("attributes", "attributes must be an object")]
