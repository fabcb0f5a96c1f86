"""What the sandbox knows, as JSON, for tests, demos and people. Outside `/api`, without credentials.

GET /sandbox               counts
GET /sandbox/people        in the order of creation
GET /sandbox/objects       likewise
GET /sandbox/activities    these three with the newest first
GET /sandbox/calls
GET /sandbox/log

Lists come in pages: `limit` is how many at most, `after` where the page before ended (a `cio_id` or `cio_object_id`,
else a `number`). While there is more, the header `Link` has the next page. A page of calls also ends when the
bodies in it have reached 4 MiB.
"""

from __future__ import annotations

import base64
import heapq
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, TypeVar

import orjson
from aiohttp import web

from connector.sandbox.rules.objects import CustomObject
from connector.sandbox.rules.people import Activity, Device, Person
from connector.sandbox.rules.workspace import LogEntry
from connector.sandbox.state import Call, State

STATE = web.AppKey("STATE", State)

T = TypeVar("T")

_LIMIT = 1000
_MOST = 10_000
_PAGE_BYTES = 4 * 1024 * 1024


def routes() -> list[web.RouteDef]:
    return [
        web.get("/sandbox", _counts),
        web.get("/sandbox/people", _people),
        web.get("/sandbox/objects", _objects),
        web.get("/sandbox/activities", _activities),
        web.get("/sandbox/calls", _calls),
        web.get("/sandbox/log", _log),
    ]


def counts(state: State) -> dict[str, Any]:
    return {
        "people": len(state.people),
        "activities": state.activities_kept(),
        "calls": state.calls_received,
        "applied": dict(state.applied),
        "refused": dict(state.refused),
    }


def newest_activities(state: State, limit: int, before: int | None = None) -> list[tuple[Person | None, Activity]]:
    """The newest first; `before`: only those with a lower number."""
    kept = (each for each in _activities_of(state) if before is None or each[1].number < before)
    return heapq.nlargest(limit, kept, key=lambda each: each[1].number)


def _activities_of(state: State) -> Iterator[tuple[Person | None, Activity]]:
    for each in state.anonymous.kept(state.seconds()):
        yield None, each
    for whose in state.people:
        for each in whose.activities:
            yield whose, each


def newest_log_entries(state: State) -> Iterator[tuple[int, LogEntry]]:
    """The newest first, each with its number: of all there were, the first is 1."""
    number = state.refused.total()
    for each in reversed(state.log):
        yield number, each
        number -= 1


def person(each: Person) -> dict[str, Any]:
    """`updated` is the time that orders identifies, null for a bare person that an event made."""
    return {
        "id": each.id,
        "email": each.email,
        "phone": each.identifiers.get("phone"),
        "cio_id": each.cio_id,
        "attributes": each.attributes,
        "unsubscribed": each.unsubscribed,
        "anonymous_ids": list(each.anonymous_ids),
        "devices": [device(one) for one in each.devices.values()],
        "segments": sorted(each.segments),
        "objects": sorted(each.objects),
        "created": each.created,
        "updated": each.changed_at,
    }


def device(each: Device) -> dict[str, Any]:
    return {
        "token": each.token,
        "platform": each.platform,
        "last_used": each.last_used,
        "attributes": each.attributes,
    }


def custom_object(each: CustomObject) -> dict[str, Any]:
    """`people` and `anonymous` have the attributes of each relationship, by cio_id and by anonymous_id."""
    return {
        "cio_object_id": each.cio_object_id,
        "object_type_id": each.name.object_type_id,
        "object_id": each.name.object_id,
        "attributes": each.attributes,
        "people": each.people,
        "anonymous": each.anonymous,
        "created": each.created,
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
    """`bytes` is the length of the body as received; it is in `body`, or in `body_base64` when it isn't UTF-8.

    `status` is null when the call wasn't answered, `fault` the word of the fault it met, else empty.
    """
    return {
        "number": each.number,
        "at": each.at,
        "method": each.method,
        "path": each.path,
        "status": each.status,
        "fault": each.fault,
        "bytes": len(each.body),
        **_body(each.body),
    }


def log_entry(number: int, each: LogEntry) -> dict[str, Any]:
    return {
        "number": number,
        "at": each.at,
        "what": each.what,
        "reason": each.reason,
        "who": {each.who.kind: each.who.value} if each.who else None,
        "detail": each.detail,
    }


async def _counts(request: web.Request) -> web.Response:
    return _json(counts(request.app[STATE]))


async def _people(request: web.Request) -> web.Response:
    limit, after = _limit(request), request.query.get("after", "")
    found = (each for each in request.app[STATE].people if each.cio_id > after)
    page, more = _page(found, limit)
    return _list(request, [person(each) for each in page], page[-1].cio_id if more else None)


async def _objects(request: web.Request) -> web.Response:
    limit, after = _limit(request), request.query.get("after", "")
    found = (each for each in request.app[STATE].objects if each.cio_object_id > after)
    page, more = _page(found, limit)
    return _list(request, [custom_object(each) for each in page], page[-1].cio_object_id if more else None)


async def _activities(request: web.Request) -> web.Response:
    limit = _limit(request)
    page, more = _page(newest_activities(request.app[STATE], limit + 1, _after(request)), limit)
    return _list(request, [activity(*each) for each in page], page[-1][1].number if more else None)


async def _calls(request: web.Request) -> web.Response:
    after = _after(request)
    newest = (each for each in reversed(request.app[STATE].calls) if after is None or each.number < after)
    page, more = _page(newest, _limit(request), lambda each: len(each.body))
    return _list(request, [call(each) for each in page], page[-1].number if more else None)


async def _log(request: web.Request) -> web.Response:
    after = _after(request)
    newest = (each for each in newest_log_entries(request.app[STATE]) if after is None or each[0] < after)
    page, more = _page(newest, _limit(request))
    return _list(request, [log_entry(*each) for each in page], page[-1][0] if more else None)


def _page(found: Iterable[T], limit: int, size: Callable[[T], int] = lambda _each: 0) -> tuple[list[T], bool]:
    """The first `limit`, fewer when their sizes add up to a page's, and whether there are more."""
    page: list[T] = []
    taken = 0
    for each in islice(found, limit + 1):
        if len(page) == limit or taken >= _PAGE_BYTES:
            return page, True
        page.append(each)
        taken += size(each)
    return page, False


def _limit(request: web.Request) -> int:
    return _whole_number(request, "limit", _MOST) or _LIMIT


def _after(request: web.Request) -> int | None:
    return _whole_number(request, "after", 2**63)


def _whole_number(request: web.Request, name: str, most: int) -> int | None:
    text = request.query.get(name)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 20 and 1 <= int(text) <= most):
        problem = {"error": f"{name} must be a whole number from 1 to {most}, is {text!r}"}
        raise web.HTTPBadRequest(text=orjson.dumps(problem).decode(), content_type="application/json")
    return int(text)


def _body(body: bytes) -> dict[str, str]:
    try:
        return {"body": body.decode()}
    except UnicodeDecodeError:
        return {"body_base64": base64.b64encode(body).decode()}


def _list(request: web.Request, page: list[dict[str, Any]], last: int | str | None) -> web.Response:
    """`last` is where the page ends, None when nothing comes after it."""
    response = _json(page)
    if last is not None:
        following = request.rel_url.update_query({"after": str(last)})
        response.headers["Link"] = f'<{following}>; rel="next"'
    return response


def _json(value: object) -> web.Response:
    return web.Response(body=orjson.dumps(value), content_type="application/json")
