"""The calls that `connector sync --user` made, as it shows them: what went out, and what was answered.

    {method, path, status, reason, operations: [{action, …what was sent…, reason, message}]}

Each try is a call. An operation is what stood in a batch, or the call itself, in the batch's words. Unless
`log.personal_data` is on, whom it is about, all values, and Customer.io's words are hidden; names stay, and of a page,
whose name is its address, the path.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote, urlsplit

import msgspec

from connector import log
from connector.commands.person_text import quoted
from connector.core import outcome
from connector.core.outcome import Answer, Delivered, Outcome
from connector.outbound.client import Request

_PLAIN = frozenset({"type", "action", "name", "id", "timestamp"})  # of an operation; the id is an event's
_CUSTOMERS = "/customers/"
_EVENTS = "/events"


class Shown:
    """All calls so far, as they went out; `heard` is what a client tells of them to."""

    def __init__(self, *, shows: bool) -> None:
        self._shows = shows
        self.calls: list[dict[str, Any]] = []

    def heard(self, request: Request, answer: Answer) -> None:
        path = "/" + request.url.partition("://")[2].partition("/")[2]
        operations = _batch(request, answer) if path.endswith("/batch") else [_single(request, path, answer)]
        self.calls.append(
            {
                "method": request.method,
                "path": path if self._shows else _hidden_path(path),
                "status": answer.status,
                "reason": answer.problem or None,
                "operations": [each if self._shows else _hidden(each) for each in operations],
            }
        )


def _batch(request: Request, answer: Answer) -> list[dict[str, Any]]:
    sent = msgspec.json.decode(request.body)["batch"]
    outcomes = outcome.of_items(answer, len(sent))
    return [_operation(each, came) for each, came in zip(sent, outcomes, strict=True)]


def _single(request: Request, path: str, answer: Answer) -> dict[str, Any]:
    """In the words of a batch."""
    body: dict[str, Any] = msgspec.json.decode(request.body) if request.body else {}
    whom = unquote(path.partition(_CUSTOMERS)[2].removesuffix(_EVENTS))
    named = {"identifiers": {"id": whom}} if whom else {}
    match request.method:
        case "DELETE":
            sent = {"action": "delete", **named}
        case "PUT":
            timestamp = body.pop("_timestamp", None)
            sent = {"action": "identify", **named, "timestamp": timestamp, "attributes": body}
        case _:
            if "anonymous_id" in body:
                named = {"identifiers": {"anonymous_id": body.pop("anonymous_id")}}
            sent = {"action": body.pop("type", "event"), **named, "attributes": body.pop("data", {}), **body}
    return _operation(sent, outcome.of_call(answer))


def _operation(sent: Mapping[str, Any], came: Outcome) -> dict[str, Any]:
    if isinstance(came, Delivered):
        return {**sent, "reason": None, "message": None}
    return {**sent, "reason": came.reason, "message": came.message}


def _hidden(operation: Mapping[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in operation.items() if key in _PLAIN or value is None or key == "reason"}
    names = {key: dict.fromkeys(value, log.HIDDEN) for key, value in operation.items() if isinstance(value, dict)}
    if operation["action"] == "page":
        kept["name"] = _path(operation["name"])
    return {**dict.fromkeys(operation, log.HIDDEN), **names, **kept}


def _path(address: str) -> str:
    try:
        return urlsplit(address).path or log.HIDDEN
    except ValueError:
        return log.HIDDEN


def _hidden_path(path: str) -> str:
    before, found, named = path.partition(_CUSTOMERS)
    return path if not found else f"{before}{found}{log.HIDDEN}{_EVENTS if named.endswith(_EVENTS) else ''}"


def describe(calls: list[dict[str, Any]]) -> Iterator[str]:
    """A line for each call, and for each operation in it. Text of others is quoted, so that none of it can move the
    cursor."""
    for call in calls:
        status = call["status"] if call["status"] is not None else call["reason"]
        yield f"{call['method']} {_plain(call['path'])}: {status}"
        for each in call["operations"]:
            said = (each.get(key) for key in ("name", "identifiers", "attributes", "message"))
            words = [str(each["action"]), *(quoted(value) for value in said if value)]
            yield f"    {' '.join(words)}: {each['reason'] or 'accepted'}"


def _plain(path: str) -> str:
    return "".join(each if each.isprintable() else log.HIDDEN for each in path)
