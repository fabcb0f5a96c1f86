"""Another writer of the same people: somebody on the website, a form, a second integration.

POST /sandbox/edit    {"identifiers": {"id": "42"}, "attributes": {"plan": "team"}, "timestamp": …}

Changes a person with a change time that is newer than every one before it (or the `timestamp` given, unix
seconds), so that an identify which was made before then, and comes after, is older and changes nothing.
Identifiers may be among the attributes. Answers 404 for somebody who isn't there, else 200 `{}`.
"""

from __future__ import annotations

from typing import Any

import msgspec
from aiohttp import web

from connector.sandbox import json_body, operations
from connector.sandbox.operations import Edit
from connector.sandbox.read_back import STATE
from connector.sandbox.requests import limits, request_parts
from connector.sandbox.requests.limits import Problem


class _Sent(msgspec.Struct, forbid_unknown_fields=True):
    identifiers: dict[str, Any]
    attributes: dict[str, Any]
    timestamp: int | None = None


def routes() -> list[web.RouteDef]:
    return [web.post("/sandbox/edit", _edit)]


async def _edit(request: web.Request) -> web.Response:
    try:
        sent = json_body.read_as(await request.read(), _Sent)
    except json_body.Malformed as error:
        return json_body.answer({"error": str(error)}, 400)
    who = request_parts.identifier(sent.identifiers, request_parts.RELATED_KINDS)
    problems = request_parts.problems_of(who) + _problems(sent.attributes)
    if problems or isinstance(who, list):
        return json_body.answer({"error": "; ".join(problem.v1_text for problem in problems)}, 400)
    state = request.app[STATE]
    if state.people.find(who) is None:
        return json_body.answer({"error": f"there is nobody with the {who.kind} {who.value!r}"}, 404)
    state.apply(Edit(who, sent.attributes, operations.unix_seconds(sent.timestamp)))
    return json_body.answer({})


def _problems(attributes: dict[str, Any]) -> list[Problem]:
    """Those of an identify; what is applied, and kept in a state file, must have been looked at here."""
    problems = limits.person_id(attributes["id"]) if "id" in attributes else []
    return problems + limits.texts(attributes, "email", "phone", "anonymous_id") + limits.attributes(attributes)
