"""The Track API as an aiohttp application on a real port.

    request -> note the call, its fault -> credentials -> region -> endpoints -> answer

What a path does is in `endpoints`; which region's host was asked, in `regions`. What is about the sandbox
itself is outside `/api` and needs no credentials.

Stricter readings of what is unverified:
- An oversize batch or operation is a 400, not a 413; a body over 16 MiB, of any kind, is a 413.
- `/auth` isn't in the reference; its two answers are those that another connector recorded.
- An empty identifier in a path is a 404: it is no route.
"""

from __future__ import annotations

import base64
import hmac
import random
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Literal

from aiohttp import web

from connector.sandbox import compressed_body, faults, json_body, other_writer, page, read_back, unordered
from connector.sandbox.faults import FAULTS, Faults
from connector.sandbox.read_back import STATE
from connector.sandbox.requests import endpoints, regions
from connector.sandbox.requests.endpoints import BATCH_ORDER
from connector.sandbox.requests.regions import ACCOUNT, Account, Region
from connector.sandbox.state import State
from connector.sandbox.unordered import UNORDERED, Unordered
from connector.sandbox.webhooks import reporting, webhook_routes
from connector.sandbox.webhooks.reporting import Webhooks

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_MAX_BODY_BYTES = 16 * 1024 * 1024
_SHUTDOWN_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Running:
    """Where a served sandbox listens; `port` is the real one, also when 0 was asked for."""

    host: str
    port: int
    scheme: Literal["http", "https"] = "http"

    @property
    def url(self) -> str:
        return regions.address(self.scheme, self.host, self.port)


def create_app(
    state: State | None = None,
    *,
    site_id: str,
    api_key: str,
    region: Region = "us",
    environment_id: int = 1,
    faulty: Faults | None = None,
    webhooks: Webhooks | None = None,
    batch_order_seed: int | None = None,
) -> web.Application:
    """A Track API over `state` (a fresh one on the wall clock when none is given; `app[STATE]` has it).

    With a `batch_order_seed` the items of a batch are applied in an order that it draws.
    """
    token = base64.b64encode(f"{site_id}:{api_key}".encode())
    app = web.Application(middlewares=[_note_call, _check_credentials], client_max_size=_MAX_BODY_BYTES)
    app[STATE] = State(time.time) if state is None else state
    app[FAULTS] = Faults() if faulty is None else faulty
    app[ACCOUNT] = Account(token, region, environment_id)
    app[UNORDERED] = Unordered()
    if batch_order_seed is not None:
        app[BATCH_ORDER] = random.Random(batch_order_seed)  # noqa: S311 - repeatable, guards nothing
    app.add_routes(
        [
            *regions.routes(),
            *endpoints.routes(),
            *other_writer.routes(),
            *read_back.routes(),
            *unordered.routes(),
            *faults.routes(),
            *page.routes(),
            *webhook_routes.routes(),
        ]
    )
    reporting.add_to(app, Webhooks() if webhooks is None else webhooks)
    return app


@asynccontextmanager
async def serve(
    app: web.Application, host: str = "127.0.0.1", port: int = 0, *, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Running]:
    """Runs the application on a port for as long as the block lasts; port 0 takes a free one."""
    # `compressed_body` decompresses, so that what was received is known.
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=_SHUTDOWN_SECONDS, auto_decompress=False)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port, ssl_context=tls).start()
        yield Running(host, runner.addresses[0][1], "http" if tls is None else "https")
    finally:
        await runner.cleanup()


@web.middleware
async def _note_call(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Gives the call its fault, as long as nobody else can come in between, and notes what came of it."""
    if _is_ours(request):
        return await _about_the_sandbox(request, handler)
    step = request.app[FAULTS].next_step()
    request.app[UNORDERED].began(request)
    status, body = None, b""
    try:
        try:
            body = await request.read()
            await compressed_body.decode(request, _MAX_BODY_BYTES)
        except web.RequestPayloadError:
            handler = endpoints.unreadable
        except web.HTTPRequestEntityTooLarge as refusal:
            handler = _answering(refusal)
        except ConnectionError:
            return web.Response()  # to nobody: its sender has gone, without having said all
        response = await faults.inflict(step, request, handler)
        status = response.status if response is not None else None
    except web.HTTPException as refusal:
        status = refusal.status
        raise
    except Exception:
        status = 500
        raise
    finally:
        fault = "" if step.does == "pass" else step.word
        encoding = compressed_body.encoding(request)
        path = regions.path_and_query(request)
        request.app[STATE].received(request.method, path, status, body, fault, encoding)
        request.app[UNORDERED].ended(request)
    return web.Response() if response is None else response


@web.middleware
async def _check_credentials(request: web.Request, handler: Handler) -> web.StreamResponse:
    if not _is_ours(request):
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        sent = token.strip().encode(errors="surrogateescape")  # as aiohttp decoded it
        known = hmac.compare_digest(sent, request.app[ACCOUNT].authorization)
        if scheme.lower() != "basic" or not known:
            return json_body.answer({"meta": {"error": "Unauthorized request"}}, 401)
        if (elsewhere := regions.wrong_host(request)) is not None:
            return elsewhere
    return await handler(request)


def _answering(refusal: web.HTTPException) -> Handler:
    async def answer(_request: web.Request) -> web.StreamResponse:
        raise refusal

    return answer


async def _about_the_sandbox(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        await compressed_body.decode(request, _MAX_BODY_BYTES)
        return await handler(request)
    except web.RequestPayloadError:
        answer = json_body.answer({"error": "the body can't be decoded"}, 400)
        return endpoints.without_the_rest(request, answer)


def _is_ours(request: web.Request) -> bool:
    """Whether a request is about the sandbox itself, and no call to Customer.io."""
    return request.path in ("/", "/sandbox") or request.path.startswith("/sandbox/")
