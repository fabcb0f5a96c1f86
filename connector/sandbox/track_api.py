"""The Track API as an aiohttp application on a real port.

    request -> note the call -> check credentials -> v1_requests | v2_operations -> state.apply -> answer

A handler reads the body, has it read into operations, applies them, and words the answer; it decides
nothing. Answers follow docs.customer.io/integrations/api/track and
docs.customer.io/journeys/invalid-api-requests: 200 `{}`; v1 400 with `meta.errors` for an identify and
`meta.error` for all else; v2 400 with `errors`, 207 with `errors` and `batch_index`.

Stricter readings of what is unverified:
- An oversize batch or operation is a 400, not a 413; a body over 16 MiB, of any kind, is a 413.
- `/auth` isn't in the reference; its two answers are those that another connector recorded.
- An empty identifier in a path is a 404: it is no route.
"""

from __future__ import annotations

import base64
import hmac
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import unquote

import orjson
from aiohttp import web

from connector.sandbox import read_back, v1_requests, v2_operations
from connector.sandbox.limits import Problem
from connector.sandbox.operations import Operation
from connector.sandbox.read_back import STATE
from connector.sandbox.state import State

Region = Literal["us", "eu"]
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_HOSTS: dict[Region, str] = {"us": "https://track.customer.io", "eu": "https://track-eu.customer.io"}
_MAX_BODY_BYTES = 16 * 1024 * 1024
_SHUTDOWN_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Account:
    """The workspace's side of the credentials. `authorization` is the one header value that is let in."""

    authorization: bytes
    region: Region
    environment_id: int


@dataclass(frozen=True, slots=True)
class Running:
    """Where a served sandbox listens; `port` is the real one, also when 0 was asked for."""

    host: str
    port: int

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"


ACCOUNT = web.AppKey("ACCOUNT", Account)


def create_app(
    state: State | None = None,
    *,
    site_id: str,
    api_key: str,
    region: Region = "us",
    environment_id: int = 1,
) -> web.Application:
    """A Track API over `state` (a fresh one on the wall clock when none is given; `app[STATE]` has it)."""
    token = base64.b64encode(f"{site_id}:{api_key}".encode())
    app = web.Application(middlewares=[_note_call, _check_credentials], client_max_size=_MAX_BODY_BYTES)
    app[STATE] = State(time.time) if state is None else state
    app[ACCOUNT] = Account(token, region, environment_id)
    app.add_routes(
        [
            web.get("/auth", _auth),
            web.get("/api/v1/accounts/region", _region),
            web.put("/api/v1/customers/{identifier}", _identify),
            web.delete("/api/v1/customers/{identifier}", _delete),
            web.post("/api/v1/customers/{identifier}/events", _event),
            web.post("/api/v1/events", _anonymous_event),
            web.post("/api/v2/entity", _entity),
            web.post("/api/v2/batch", _batch),
            *read_back.routes(),
        ]
    )
    return app


@asynccontextmanager
async def serve(app: web.Application, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[Running]:
    """Runs the application on a port for as long as the block lasts; port 0 takes a free one."""
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=_SHUTDOWN_SECONDS)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        yield Running(host, runner.addresses[0][1])
    finally:
        await runner.cleanup()


@web.middleware
async def _note_call(request: web.Request, handler: Handler) -> web.StreamResponse:
    if _is_ours(request):
        return await handler(request)
    status, body = 500, b""
    try:
        body = await request.read()
        response = await handler(request)
        status = response.status
    except web.HTTPException as refusal:
        status = refusal.status
        raise
    finally:
        request.app[STATE].received(request.method, request.raw_path, status, body)
    return response


@web.middleware
async def _check_credentials(request: web.Request, handler: Handler) -> web.StreamResponse:
    if not _is_ours(request):
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        sent = token.strip().encode(errors="surrogateescape")  # as aiohttp decoded it
        known = hmac.compare_digest(sent, request.app[ACCOUNT].authorization)
        if scheme.lower() != "basic" or not known:
            return _json({"meta": {"error": "Unauthorized request"}}, 401)
    return await handler(request)


def _is_ours(request: web.Request) -> bool:
    """Whether a request is about the sandbox itself, and no call to Customer.io."""
    return request.path == "/sandbox" or request.path.startswith("/sandbox/")


async def _auth(_request: web.Request) -> web.Response:
    return _json({"meta": {"message": "nice credentials."}})


async def _region(request: web.Request) -> web.Response:
    account = request.app[ACCOUNT]
    answer = {
        "url": _HOSTS[account.region],
        "region": account.region,
        "environment_id": account.environment_id,
    }
    return _json(answer)


async def _identify(request: web.Request) -> web.Response:
    read = v1_requests.identify(_identifier(request), await request.read())
    if isinstance(read, list):
        return _json({"meta": {"errors": [problem.v1_text for problem in read]}}, 400)
    return _apply(request, read)


async def _delete(request: web.Request) -> web.Response:
    return _apply_v1(request, v1_requests.delete(_identifier(request)))


async def _event(request: web.Request) -> web.Response:
    return _apply_v1(request, v1_requests.event(_identifier(request), await request.read()))


async def _anonymous_event(request: web.Request) -> web.Response:
    return _apply_v1(request, v1_requests.anonymous_event(await request.read()))


async def _entity(request: web.Request) -> web.Response:
    read = v2_operations.read_entity(await request.read())
    if isinstance(read, list):
        return _json({"errors": [_error(problem) for problem in read]}, 400)
    return _apply(request, read)


async def _batch(request: web.Request) -> web.Response:
    read = v2_operations.read_batch(await request.read())
    if isinstance(read, list):
        return _json({"errors": [_error(problem) for problem in read]}, 400)
    answer = _apply(request, *read.accepted)
    if read.refused:
        return _json({"errors": [{"batch_index": i, **_error(problem)} for i, problem in read.refused]}, 207)
    return answer


def _identifier(request: web.Request) -> str:
    """The path's identifier, decoded once, from the path as sent: `%2F` and `%25` are part of a name."""
    return unquote(request.raw_path.partition("?")[0].split("/")[4])


def _apply_v1(request: web.Request, read: Operation | list[Problem]) -> web.Response:
    if isinstance(read, list):
        return _json({"meta": {"error": read[0].v1_text}}, 400)
    return _apply(request, read)


def _apply(request: web.Request, *accepted: Operation) -> web.Response:
    state = request.app[STATE]
    for operation in accepted:
        state.apply(operation)
    return _json({})


def _error(problem: Problem) -> dict[str, Any]:
    return {"reason": problem.reason, "field": problem.field, "message": problem.message}


def _json(value: object, status: int = 200) -> web.Response:
    return web.Response(body=orjson.dumps(value), status=status, content_type="application/json")
