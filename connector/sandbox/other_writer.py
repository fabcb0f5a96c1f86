"""Another writer of the same people: somebody on the website, a form, a second integration.

POST /sandbox/edit    {"identifiers": {"id": "42"}, "attributes": {"plan": "team"}, "timestamp": …}

Changes a person with a change time that is newer than every one before it (or the `timestamp` given, unix
seconds), so that an identify which was made before then, and comes after, is older and changes nothing.
Identifiers may be among the attributes. Answers 404 for somebody who isn't there, else 200 `{}`.
"""

from __future__ import annotations

from typing import Any

import msgspec
import orjson
from aiohttp import web

from connector.sandbox.operations import Edit
from connector.sandbox.read_back import STATE
from connector.sandbox.requests import limits, request_parts


class _Sent(msgspec.Struct, forbid_unknown_fields=True):
    identifiers: dict[str, Any]
    attributes: dict[str, Any]
    timestamp: int | None = None


def routes() -> list[web.RouteDef]:
    return [web.post("/sandbox/edit", _edit)]


async def _edit(request: web.Request) -> web.Response:
    try:
        sent = msgspec.json.decode(await request.read(), type=_Sent)
    except msgspec.DecodeError as error:
        return _json({"error": str(error)}, 400)
    who = request_parts.identifier(sent.identifiers, request_parts.RELATED_KINDS)
    problems = request_parts.problems_of(who)
    problems += limits.person_id(sent.attributes["id"]) if "id" in sent.attributes else []
    problems += limits.email(sent.attributes.get("email"), "email") + limits.attributes(sent.attributes)
    if problems or isinstance(who, list):
        return _json({"error": "; ".join(problem.v1_text for problem in problems)}, 400)
    state = request.app[STATE]
    if state.people.find(who) is None:
        return _json({"error": f"there is nobody with the {who.kind} {who.value!r}"}, 404)
    state.apply(Edit(who, sent.attributes, sent.timestamp))
    return _json({})


def _json(value: object, status: int = 200) -> web.Response:
    return web.Response(body=orjson.dumps(value), status=status, content_type="application/json")
