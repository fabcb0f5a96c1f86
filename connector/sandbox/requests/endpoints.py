"""Every path of the Track API, v1 and v2: the request is read, applied to the state, and answered.

    body, path -> v1_requests | v2_operations -> state.apply -> 200 | 207 | 400

A handler decides nothing; it words the answer. Answers follow docs.customer.io/integrations/api/track and
docs.customer.io/journeys/invalid-api-requests: 200 `{}`; v1 400 with `meta.errors` for an identify, a device
and a segment (the reference's component for a 400), with `meta.error` for all else; v2 400 with `errors`,
207 with `errors` and `batch_index`.

A batch is applied in the order sent, unless the application has a `BATCH_ORDER`: nothing promises an order,
and a client must not need one.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any
from urllib.parse import unquote

from aiohttp import web

from connector.sandbox import json_body
from connector.sandbox.operations import Operation
from connector.sandbox.read_back import STATE
from connector.sandbox.requests import v1_requests, v2_operations
from connector.sandbox.requests.limits import Problem
from connector.sandbox.unordered import UNORDERED

# Draws the order in which the items of a batch are applied; without one, it is that of the batch.
BATCH_ORDER = web.AppKey("BATCH_ORDER", random.Random)

# On a request that was given this fault: the status, 2xx, under which v2 answers errors of what is fine.
ERRORS_UNDER = web.RequestKey("ERRORS_UNDER", int)

# Braces are legal in an id; the plain form of a path variable excludes them.
_CUSTOMER = "/api/v1/customers/{identifier:[^/]+}"
_SEGMENT = "/api/v1/segments/{segment_id}"

_ASKED_FOR = Problem("", "the sandbox was asked to refuse this operation")


def routes() -> list[web.RouteDef]:
    return [
        web.put(_CUSTOMER, _identify),
        web.delete(_CUSTOMER, _delete),
        web.post(f"{_CUSTOMER}/events", _event),
        web.put(f"{_CUSTOMER}/devices", _add_device),
        web.delete(_CUSTOMER + "/devices/{device_id:[^/]+}", _delete_device),
        web.post(f"{_CUSTOMER}/suppress", _suppress),
        web.post(f"{_CUSTOMER}/unsuppress", _unsuppress),
        web.post("/api/v1/events", _anonymous_event),
        web.post("/api/v1/merge_customers", _merge),
        web.post(f"{_SEGMENT}/add_customers", _add_to_segment),
        web.post(f"{_SEGMENT}/remove_customers", _remove_from_segment),
        web.post("/api/v2/entity", _entity),
        web.post("/api/v2/batch", _batch),
    ]


async def _identify(request: web.Request) -> web.Response:
    read = v1_requests.identify(_named(request, 4), await request.read())
    return _apply_v1_component(request, read)


async def _delete(request: web.Request) -> web.Response:
    return _apply_v1(request, v1_requests.delete(_named(request, 4)))


async def _event(request: web.Request) -> web.Response:
    return _apply_v1(request, v1_requests.event(_named(request, 4), await request.read()))


async def _anonymous_event(request: web.Request) -> web.Response:
    return _apply_v1(request, v1_requests.anonymous_event(await request.read()))


async def _add_device(request: web.Request) -> web.Response:
    read = v1_requests.add_device(_named(request, 4), await request.read())
    return _apply_v1_component(request, read)


async def _delete_device(request: web.Request) -> web.Response:
    return _apply_v1(request, v1_requests.delete_device(_named(request, 4), _named(request, 6)))


async def _suppress(request: web.Request) -> web.Response:
    return _apply_v1(request, v1_requests.suppress(_named(request, 4)))


async def _unsuppress(request: web.Request) -> web.Response:
    return _apply_v1(request, v1_requests.unsuppress(_named(request, 4)))


async def _merge(request: web.Request) -> web.Response:
    return _apply_v1(request, v1_requests.merge(await request.read()))


async def _add_to_segment(request: web.Request) -> web.Response:
    return await _membership(request, adds=True)


async def _remove_from_segment(request: web.Request) -> web.Response:
    return await _membership(request, adds=False)


async def _membership(request: web.Request, *, adds: bool) -> web.Response:
    id_type = request.query.get("id_type", "id")
    read = v1_requests.membership(_named(request, 4), id_type, await request.read(), adds=adds)
    return _apply_v1_component(request, read)


async def _entity(request: web.Request) -> web.Response:
    read = v2_operations.read_entity(await request.read())
    if isinstance(read, list):
        return _refused(read, 400)
    if ERRORS_UNDER in request:
        return _refused([_ASKED_FOR], request[ERRORS_UNDER])
    return _apply(request, [read])


async def _batch(request: web.Request) -> web.Response:
    read = v2_operations.read_batch(await request.read())
    if isinstance(read, list):
        return _refused(read, 400)
    if ERRORS_UNDER in request:
        read = v2_operations.every_other_refused(read, _ASKED_FOR)
    order = request.app.get(BATCH_ORDER)
    if order is not None:
        order.shuffle(read.accepted)
    answer = _apply(request, read.accepted)
    if read.refused:
        errors = [{"batch_index": index, **_error(problem)} for index, problem in read.refused]
        return json_body.answer({"errors": errors}, request.get(ERRORS_UNDER, 207))
    return answer


async def unreadable(request: web.Request) -> web.Response:
    """The answer where the body can't even be decoded, such as a broken gzip."""
    if request.path.startswith("/api/v2/"):
        answer = _refused([v2_operations.NOT_JSON], 400)
    else:
        answer = _refused_v1([v1_requests.NOT_JSON])
    return without_the_rest(request, answer)


def without_the_rest(request: web.Request, answer: web.Response) -> web.Response:
    """The answer to a body that broke off: the server doesn't wait for more of it, and no other request follows."""
    request.content.feed_eof()
    answer.force_close()
    return answer


def _named(request: web.Request, part: int) -> str:
    """One part of the path, decoded once, from the path as sent: `%2F` and `%25` are part of a name."""
    return unquote(request.rel_url.raw_path.split("/")[part])


def _apply_v1(request: web.Request, read: Operation | list[Problem]) -> web.Response:
    return _refused_v1(read) if isinstance(read, list) else _apply(request, [read])


def _apply_v1_component(request: web.Request, read: Operation | list[Problem]) -> web.Response:
    """Where the reference's component for a 400 is the answer, which has all that is wrong."""
    if isinstance(read, list):
        return json_body.answer({"meta": {"errors": [problem.v1_text for problem in read]}}, 400)
    return _apply(request, [read])


def _apply(request: web.Request, accepted: Sequence[Operation]) -> web.Response:
    request.app[UNORDERED].take(request, accepted)
    state = request.app[STATE]
    for operation in accepted:
        state.apply(operation)
    return json_body.answer({})


def _refused(problems: Sequence[Problem], status: int) -> web.Response:
    return json_body.answer({"errors": [_error(problem) for problem in problems]}, status)


def _refused_v1(problems: Sequence[Problem]) -> web.Response:
    return json_body.answer({"meta": {"error": problems[0].v1_text}}, 400)


def _error(problem: Problem) -> dict[str, Any]:
    return {"reason": problem.reason, "field": problem.field, "message": problem.message}
