"""Track API v1, bodies and paths: bytes in, an operation or the list of what is wrong with it out. Pure.

Follows docs.customer.io/integrations/api/track, tags "Track Customers", "Track Events" and "Track Segments".
The payload of an event is under `data`, a device's token under `id`; the keys of v2 beside them mean nothing.

Stricter readings of what is unverified:
- A body that isn't a JSON object is refused, an empty one too.
- The identifier of a path is an email when it has one `@` with text on both sides and no blanks.
- An `id` in the body must be a string that isn't empty; it can't be cleared.
- The array of v2 in `cio_relationships` is refused, and so is an object without a known action.
- The ids of a segment are strings; a cio_id among them is bare.
- An anonymous event has an `anonymous_id`, or (an invite) a `data.recipient`; without either it is refused.
"""

from __future__ import annotations

import re
from typing import Any

from connector.sandbox import json_body, operations
from connector.sandbox.operations import (
    AddDevice,
    Delete,
    DeleteDevice,
    Identifier,
    Identify,
    Kind,
    Membership,
    Merge,
    Relate,
    Suppress,
    Track,
    Unsuppress,
)
from connector.sandbox.requests import limits, request_parts
from connector.sandbox.requests.limits import Problem
from connector.sandbox.requests.request_parts import problems_of

NOT_JSON = Problem("body", "is not valid JSON", v1="malformed JSON in the request body")

_SEGMENT_KINDS: tuple[Kind, ...] = ("id", "email", "cio_id")
_EMAIL_SHAPE = re.compile(r"[^@\s]+@[^@\s]+")


def identify(path_value: str, body: bytes) -> Identify | list[Problem]:
    sent = _object(body)
    who = identifier(path_value)
    if isinstance(sent, list) or isinstance(who, list):
        return [*problems_of(sent), *problems_of(who)]
    update_only = sent.pop("_update", None) is True
    timestamp = operations.unix_seconds(sent.pop("_timestamp", None))
    relate = _relationships(who, sent.pop("cio_relationships", None))
    problems = limits.person_id(sent["id"]) if "id" in sent else []
    problems += limits.texts(sent, "email", "anonymous_id")
    problems += limits.attributes(sent)
    if problems or isinstance(relate, list):
        return [*problems, *problems_of(relate)]
    return operations.identify(who, sent, update_only=update_only, timestamp=timestamp, relate=relate)


def delete(path_value: str) -> Delete | list[Problem]:
    who = identifier(path_value)
    return who if isinstance(who, list) else Delete(who)


def suppress(path_value: str) -> Suppress | list[Problem]:
    who = identifier(path_value)
    return who if isinstance(who, list) else Suppress(who)


def unsuppress(path_value: str) -> Unsuppress | list[Problem]:
    who = identifier(path_value)
    return who if isinstance(who, list) else Unsuppress(who)


def merge(body: bytes) -> Merge | list[Problem]:
    sent = _object(body)
    return sent if isinstance(sent, list) else request_parts.merge(sent)


def add_device(path_value: str, body: bytes) -> AddDevice | list[Problem]:
    who, sent = identifier(path_value), _object(body)
    if isinstance(sent, list) or isinstance(who, list):
        return [*problems_of(sent), *problems_of(who)]
    return request_parts.device(who, sent.get("device"), "id")


def delete_device(path_value: str, token: str) -> DeleteDevice | list[Problem]:
    """Both are from the path, already decoded."""
    who = identifier(path_value)
    return who if isinstance(who, list) else DeleteDevice(who, token)


def membership(segment_id: str, id_type: str, body: bytes, *, adds: bool) -> Membership | list[Problem]:
    """The ids of a manual segment; an id that is too long or blank is one that nobody has."""
    sent = _object(body)
    if isinstance(sent, list):
        return sent
    problems = limits.segment_ids(sent.get("ids")) + limits.segment_id(segment_id)
    kind = next((kind for kind in _SEGMENT_KINDS if kind == id_type), None)
    if kind is None:
        problems.append(Problem("id_type", f"must be one of {', '.join(_SEGMENT_KINDS)}"))
    if problems or kind is None:
        return problems
    return Membership(int(segment_id), [Identifier(kind, each) for each in sent["ids"]], adds)


def event(path_value: str, body: bytes) -> Track | list[Problem]:
    """An event, page or screen of the person in the path."""
    who = identifier(path_value)
    return who if isinstance(who, list) else _track(who, body)


def anonymous_event(body: bytes) -> Track | list[Problem]:
    """`POST /api/v1/events`: an anonymous event, or an invite."""
    return _track(None, body)


def identifier(path_value: str) -> Identifier | list[Problem]:
    """Its shape tells which of the three it is (reference: parameter `identifier`). Already decoded."""
    if path_value.startswith("cio_"):
        return Identifier("cio_id", path_value.removeprefix("cio_"))
    if _EMAIL_SHAPE.fullmatch(path_value):
        return Identifier("email", path_value)
    return limits.person_id(path_value) or Identifier("id", path_value)


def _track(who: Identifier | None, body: bytes) -> Track | list[Problem]:
    sent = _object(body)
    if isinstance(sent, list):
        return sent
    data = sent.get("data")
    data = {} if data is None else data
    problems = limits.event_name(sent.get("name")) + limits.event_data(data, "data")
    anonymous_id = sent.get("anonymous_id")
    anonymous_id = anonymous_id if isinstance(anonymous_id, str) and anonymous_id else None
    if who is None and anonymous_id is not None:
        who = Identifier("anonymous_id", anonymous_id)
    if who is None and not problems and not data.get("recipient"):
        problems.append(Problem("anonymous_id", "cannot be blank"))
    if problems:
        return problems
    kind, event_id = sent.get("type"), sent.get("id")
    return Track(
        who,
        kind if kind in ("page", "screen") else "event",  # any other type becomes `event`
        sent["name"].strip(),
        event_id if isinstance(event_id, str) and event_id else None,
        operations.unix_seconds(sent.get("timestamp")),
        data,
        anonymous_id,
    )


def _relationships(who: Identifier, sent: object) -> Relate | list[Problem] | None:
    """v1 wraps the array: `{"action": …, "relationships": […]}`."""
    if sent is None:
        return None
    actions = {"add_relationships": True, "delete_relationships": False}
    action = sent.get("action") if isinstance(sent, dict) else None
    if not isinstance(sent, dict) or not isinstance(action, str) or action not in actions:
        return [Problem("cio_relationships", f"must be an object with an action of {' or '.join(actions)}")]
    return request_parts.to_objects(who, sent.get("relationships"), adds=actions[action])


def _object(body: bytes) -> dict[str, Any] | list[Problem]:
    try:
        sent = json_body.read(body)
    except json_body.Malformed:
        return [NOT_JSON]
    if isinstance(sent, dict):
        return sent
    return [Problem("body", "must be an object", v1="the request body must be a JSON object")]
