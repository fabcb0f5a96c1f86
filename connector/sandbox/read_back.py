"""What the sandbox knows, as JSON, for tests, demos and people. Outside `/api`, without credentials.

GET /sandbox                     counts
GET /sandbox/people              in the order of creation
GET /sandbox/objects             likewise
GET /sandbox/activities          these four with the newest first
GET /sandbox/calls
GET /sandbox/log
GET /sandbox/delivery_reports    what devices reported of deliveries through the Track API

Lists come in pages: `limit` is how many at most, `after` where the page before ended (a `cio_id` or `cio_object_id`,
else a `number`). While there is more, the header `Link` has the next page. A page of calls also ends when the
bodies in it have reached 4 MiB. What the sandbox itself sent and waits to send is in `webhook_routes`, likewise; calls
without an order are in `unordered`.
"""

from __future__ import annotations

import base64
import heapq
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, TypeVar

import orjson
from aiohttp import web

from connector.sandbox import json_body
from connector.sandbox.operations import ReportDelivery
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
        web.get("/sandbox/delivery_reports", _delivery_reports),
    ]


def counts(state: State) -> dict[str, Any]:
    return {
        "people": len(state.people),
        "activities": state.activities_kept(),
        "calls": state.calls_received,
        "applied": dict(state.applied),
        "refused": dict(state.refused),
    }


def newest_activities(state: State, most: int, before: int | None = None) -> list[tuple[Person | None, Activity]]:
    """The newest first; `before`: only those with a lower number."""
    kept = (each for each in _activities_of(state) if before is None or each[1].number < before)
    return heapq.nlargest(most, kept, key=lambda each: each[1].number)


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


def newest_delivery_reports(state: State) -> Iterator[tuple[int, ReportDelivery]]:
    """The newest first, each with its number, likewise."""
    number = state.applied["delivery"]
    for each in reversed(state.delivery_reports):
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
    It is compressed where `encoding` says so, by the word of its Content-Encoding.

    `status` is null when the call wasn't answered, `fault` the word of the fault it met, else empty.
    """
    return {
        "number": each.number,
        "at": each.at,
        "method": each.method,
        "path": each.path,
        "status": each.status,
        "fault": each.fault,
        "encoding": each.encoding,
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


def delivery_report(number: int, each: ReportDelivery) -> dict[str, Any]:
    return {"number": number, "delivery_id": each.delivery_id, "metric": each.metric, "data": each.data}


async def _counts(request: web.Request) -> web.Response:
    return json_body.answer(counts(request.app[STATE]))


async def _people(request: web.Request) -> web.Response:
    last = request.query.get("after", "")
    found = (each for each in request.app[STATE].people if each.cio_id > last)
    return listed(request, found, person, key=lambda each: each.cio_id)


async def _objects(request: web.Request) -> web.Response:
    last = request.query.get("after", "")
    found = (each for each in request.app[STATE].objects if each.cio_object_id > last)
    return listed(request, found, custom_object, key=lambda each: each.cio_object_id)


async def _activities(request: web.Request) -> web.Response:
    newest = newest_activities(request.app[STATE], limit(request) + 1, after(request))
    return listed(request, newest, lambda each: activity(*each), key=lambda each: each[1].number)


async def _calls(request: web.Request) -> web.Response:
    before = after(request)
    newest = (each for each in reversed(request.app[STATE].calls) if before is None or each.number < before)
    return listed(request, newest, call, key=lambda each: each.number, size=lambda each: len(each.body))


async def _log(request: web.Request) -> web.Response:
    before = after(request)
    newest = (each for each in newest_log_entries(request.app[STATE]) if before is None or each[0] < before)
    return listed(request, newest, lambda each: log_entry(*each), key=lambda each: each[0])


async def _delivery_reports(request: web.Request) -> web.Response:
    before = after(request)
    newest = (each for each in newest_delivery_reports(request.app[STATE]) if before is None or each[0] < before)
    return listed(request, newest, lambda each: delivery_report(*each), key=lambda each: each[0])


def listed(
    request: web.Request,
    found: Iterable[T],
    shown: Callable[[T], dict[str, Any]],
    *,
    key: Callable[[T], int | str],
    size: Callable[[T], int] = lambda _each: 0,
) -> web.Response:
    """A page of what comes after the page before it. `key` is what `after` names one by, `size` is in bytes."""
    page, more = _page(found, limit(request), size)
    response = json_body.answer([shown(each) for each in page])
    if more:
        following = request.rel_url.update_query({"after": str(key(page[-1]))})
        response.headers["Link"] = f'<{following}>; rel="next"'
    return response


def _page(found: Iterable[T], most: int, size: Callable[[T], int]) -> tuple[list[T], bool]:
    """The first `most`, fewer when their sizes add up to a page's, and whether there are more."""
    page: list[T] = []
    taken = 0
    for each in islice(found, most + 1):
        if len(page) == most or taken >= _PAGE_BYTES:
            return page, True
        page.append(each)
        taken += size(each)
    return page, False


def limit(request: web.Request) -> int:
    """How many to show at most. Raises a 400 for what is no such number."""
    return _whole_number(request, "limit", _MOST) or _LIMIT


def after(request: web.Request) -> int | None:
    """The number that the page before ended with, None for the first page. Raises a 400 likewise."""
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
