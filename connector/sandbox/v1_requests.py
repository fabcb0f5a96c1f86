"""Track API v1, bodies and paths: bytes in, an operation or the list of what is wrong with it out. Pure.

Follows docs.customer.io/integrations/api/track, tags "Track Customers" and "Track Events". The payload of
an event is under `data`; a key `attributes` beside it means nothing in v1.

Stricter readings of what is unverified:
- A body that isn't a JSON object is refused, an empty one too.
- The identifier of a path is an email when it has one `@` with text on both sides and no blanks.
- An `id` in the body must be a string that isn't empty; it can't be cleared.
- An anonymous event has an `anonymous_id`, or (an invite) a `data.recipient`; without either it is refused.
"""

from __future__ import annotations

import re
from typing import Any

import orjson

from connector.sandbox import limits, operations
from connector.sandbox.limits import Problem
from connector.sandbox.operations import Delete, Identifier, Identify, Track

_EMAIL_SHAPE = re.compile(r"[^@\s]+@[^@\s]+")


def identify(path_value: str, body: bytes) -> Identify | list[Problem]:
    sent = _object(body)
    who = identifier(path_value)
    if isinstance(sent, list) or isinstance(who, list):
        return [*_problems(sent), *_problems(who)]
    update_only = sent.pop("_update", None) is True
    timestamp = operations.unix_seconds(sent.pop("_timestamp", None))
    sent.pop("cio_relationships", None)
    problems = limits.person_id(sent["id"]) if "id" in sent else []
    problems += limits.email(sent.get("email"), "email")
    problems += limits.attributes(sent)
    return problems or operations.identify(who, sent, update_only=update_only, timestamp=timestamp)


def delete(path_value: str) -> Delete | list[Problem]:
    who = identifier(path_value)
    return who if isinstance(who, list) else Delete(who)


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


def _object(body: bytes) -> dict[str, Any] | list[Problem]:
    try:
        sent = orjson.loads(body)
    except orjson.JSONDecodeError:
        return [Problem("body", "is not valid JSON", v1="malformed JSON in the request body")]
    if isinstance(sent, dict):
        return sent
    return [Problem("body", "must be an object", v1="the request body must be a JSON object")]


def _problems(read: object) -> list[Problem]:
    return read if isinstance(read, list) else []
