"""What the sandbox knows, as JSON, for tests, demos and people. Outside `/api`, without credentials.

GET /sandbox             counts
GET /sandbox/people      GET /sandbox/activities      GET /sandbox/calls      GET /sandbox/log
"""

from __future__ import annotations

from typing import Any

import orjson
from aiohttp import web

from connector.sandbox.people import Activity, Person
from connector.sandbox.state import Call, LogEntry, State

STATE = web.AppKey("STATE", State)


def routes() -> list[web.RouteDef]:
    return [
        web.get("/sandbox", _counts),
        web.get("/sandbox/people", _people),
        web.get("/sandbox/activities", _activities),
        web.get("/sandbox/calls", _calls),
        web.get("/sandbox/log", _log),
    ]


async def _counts(request: web.Request) -> web.Response:
    state = request.app[STATE]
    counts = {
        "people": len(state.people),
        "activities": state.activities_kept(),
        "calls": state.calls_received,
        "applied": dict(state.applied),
        "refused": dict(state.refused),
    }
    return _json(counts)


async def _people(request: web.Request) -> web.Response:
    return _json([person(each) for each in request.app[STATE].people])


async def _activities(request: web.Request) -> web.Response:
    return _json([activity(whose, each) for whose, each in request.app[STATE].activities()])


async def _calls(request: web.Request) -> web.Response:
    return _json([call(each) for each in request.app[STATE].calls])


async def _log(request: web.Request) -> web.Response:
    return _json([log_entry(each) for each in request.app[STATE].log])


def person(each: Person) -> dict[str, Any]:
    """`updated` is the time that orders identifies, null for a bare person that an event made."""
    return {
        "id": each.id,
        "email": each.email,
        "phone": each.identifiers.get("phone"),
        "cio_id": each.cio_id,
        "attributes": each.attributes,
        "unsubscribed": each.unsubscribed,
        "created": each.created,
        "updated": each.changed_at,
    }


def activity(whose: Person | None, each: Activity) -> dict[str, Any]:
    return {
        "number": each.number,
        "customer_id": whose.id if whose else None,
        "email": whose.email if whose else None,
        "cio_id": whose.cio_id if whose else None,
        "anonymous_id": each.anonymous_id,
        "type": each.type,
        "name": each.name,
        "id": each.id,
        "timestamp": each.timestamp,
        "received": each.received,
        "data": each.data,
    }


def call(each: Call) -> dict[str, Any]:
    """`bytes` is the length of the body as received."""
    return {
        "at": each.at,
        "method": each.method,
        "path": each.path,
        "status": each.status,
        "bytes": len(each.body),
    }


def log_entry(each: LogEntry) -> dict[str, Any]:
    return {
        "at": each.at,
        "what": each.what,
        "reason": each.reason,
        "who": {each.who.kind: each.who.value} if each.who else None,
        "detail": each.detail,
    }


def _json(value: object) -> web.Response:
    return web.Response(body=orjson.dumps(value), content_type="application/json")
