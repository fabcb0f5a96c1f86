"""The Track API's client: how often it tries, when it doesn't, and what it makes of having no answer."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest
from aiohttp import web
from pydantic import SecretStr

from connector.outbound.client import TrackClient
from connector.outbound.throttle import Throttle
from connector.settings import Customerio
from connector.store import throttle as bucket
from connector.store.database import Database

pytestmark = pytest.mark.parametrize("store_kind", ["sqlite"], indirect=True)  # it only needs a throttle

Answers = Callable[[web.Request], Awaitable[web.Response]]


def always() -> float:
    return time.monotonic() + 30


@asynccontextmanager
async def track_api(answers: Answers) -> AsyncIterator[str]:
    """A Track API that answers as the test says, on a port."""
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", answers)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def raw_api(answer: bytes) -> AsyncIterator[str]:
    """One that says these bytes to each request, and closes the connection."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


def client_of(db: Database, url: str) -> TrackClient:
    settings = Customerio(site_id="site", api_key=SecretStr("key"), region="us", track_url=url)
    return TrackClient(settings, Throttle(db, 10_000))


def answering(*statuses: int, **headers: str) -> Answers:
    """These one after the other, then 200."""
    left = list(statuses)

    async def answer(_request: web.Request) -> web.Response:
        status = left.pop(0) if left else 200
        return web.json_response({}, status=status, headers=headers if status in {429, 503} else {})

    return answer


async def test_a_server_error_is_tried_again_at_once_and_three_times_at_most(db: Database) -> None:
    async with track_api(answering(500, 408, 200, 503, 503, 503)) as url, client_of(db, url) as client:
        assert client.last_success is None
        first = await client.batch([b"{}"], always)
        assert (first.status, first.calls) == (200, 3)
        assert client.last_success is not None
        succeeded = client.last_success
        second = await client.batch([b"{}"], always)
        assert (second.status, second.calls, client.calls) == (503, 3, 6)
        assert client.last_success == succeeded <= time.monotonic()


async def test_as_many_tries_as_are_asked_for(db: Database) -> None:
    async with track_api(answering(500)) as url, client_of(db, url) as client:
        answer = await client.identify("u1", b"{}", always, tries=1)
        assert (answer.status, answer.calls) == (500, 1)
        answer = await client.delete("u1", always, tries=1)
        assert (answer.status, answer.calls) == (200, 1)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "40"}, 40),
        ({"Retry-After": "Wed, 01 Jan 2025 00:00:40 GMT", "Date": "Wed, 01 Jan 2025 00:00:00 GMT"}, 40),
        ({"Retry-After": "4000"}, 300),
        ({"Retry-After": "soon"}, 20),
        ({}, 20),
    ],
)
async def test_a_429_pauses_every_call_for_as_long_as_it_says(
    db: Database, headers: dict[str, str], seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bucket, "LEAST_PAUSE", timedelta(seconds=20))
    async with track_api(answering(429, **headers)) as url, client_of(db, url) as client, client_of(db, url) as other:
        first = await client.batch([b"{}"], always)
        assert (first.status, first.calls) == (429, 1)
        assert seconds - 5 < client.paused_for <= seconds
        for each in (client, other):
            second = await each.identify("u1", b"{}", always)
            assert (second.status, second.calls) == (429, 0)
            assert second.retry_after is not None
            assert seconds - 5 < second.retry_after <= seconds
        assert (client.calls, other.calls) == (1, 0)


async def test_a_server_error_that_says_for_how_long_pauses_every_call_and_is_not_tried_again_at_once(
    db: Database,
) -> None:
    async with track_api(answering(503, **{"Retry-After": "40"})) as url, client_of(db, url) as client:
        first = await client.batch([b"{}"], always)
        assert (first.status, first.calls, first.unheard) == (503, 1, True)
        assert 35 < client.paused_for <= 40
        second = await client.batch([b"{}"], always)
        assert (second.status, second.calls, client.calls) == (429, 0, 1)


async def test_no_try_begins_on_a_lease_that_is_too_old(db: Database) -> None:
    async with track_api(answering(500, 500, 500)) as url, client_of(db, url) as client:
        answer = await client.batch([b"{}"], lambda: time.monotonic() - 1)
        assert (answer.status, answer.problem, answer.calls) == (None, "lease_ran_out", 0)
        ends = iter([always(), always(), 0.0])
        answer = await client.batch([b"{}"], lambda: next(ends))
        assert (answer.problem, answer.calls) == ("lease_ran_out", 2)


async def test_a_try_takes_no_longer_than_it_may(db: Database) -> None:
    async def hang(_request: web.Request) -> web.Response:
        await asyncio.sleep(60)
        raise AssertionError

    async with track_api(hang) as url, client_of(db, url) as client:
        began = time.monotonic()
        answer = await client.batch([b"{}"], always, tries=2, seconds=0.2)
        assert (answer.status, answer.problem, answer.calls) == (None, "timeout", 2)
        assert 0.4 <= time.monotonic() - began < 5


async def test_who_can_not_be_connected_to_is_unreachable(db: Database) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # and listens to nothing
        async with client_of(db, f"http://127.0.0.1:{nobody.getsockname()[1]}") as client:
            answer = await client.identify("a person's id", b"{}", always, tries=1)
    assert (answer.status, answer.problem, answer.calls) == (None, "unreachable", 1)


async def test_a_name_that_is_nobodys_is_unreachable(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    async def unknown(*_arguments: object, **_options: object) -> object:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", unknown)
    async with client_of(db, "http://track.invalid") as client:
        assert (await client.batch([b"{}"], always, tries=1)).problem == "unreachable"


async def test_who_does_not_speak_tls_is_unreachable(db: Database) -> None:
    async with track_api(answering()) as url, client_of(db, url.replace("http:", "https:")) as client:
        assert (await client.batch([b"{}"], always, tries=1)).problem == "unreachable"


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{", id="half"),
        pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nno\r\n", id="garbled"),
        pytest.param(b"SSH-2.0-OpenSSH_9.6\r\n", id="something else"),
    ],
)
async def test_a_connection_that_breaks_is_the_networks_fault(db: Database, answer: bytes) -> None:
    async with raw_api(answer) as url, client_of(db, url) as client:
        got = await client.delete("a person's id", always, tries=1)
        assert (got.status, got.body, got.problem, got.calls) == (None, b"", "network", 1)
        assert client.last_success is None


@pytest.mark.parametrize("customer_id", ["", ".", ".."])
async def test_an_id_that_would_change_the_path_never_goes_out(db: Database, customer_id: str) -> None:
    paths: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        paths.append(request.raw_path)
        return web.json_response({})

    async with track_api(answer) as url, client_of(db, url) as client:
        with pytest.raises(ValueError, match="path"):
            await client.delete(customer_id, always)
        with pytest.raises(ValueError, match="path"):
            await client.identify(customer_id, b"{}", always)
        assert (paths, client.calls) == ([], 0)
        for fine in ("...", "../x", "a/../b", "%2e%2e", "?", "#"):
            await client.delete(fine, always)
    assert all(path.startswith("/api/v1/customers/") and path.count("/") == 4 for path in paths)
    assert len(set(paths)) == 6


async def test_a_client_without_a_throttle_asks_where_it_leads_and_sends_nothing(db: Database) -> None:
    async with track_api(answering()) as url:
        settings = Customerio(site_id="site", api_key=SecretStr("key"), region="us", track_url=url)
        async with TrackClient(settings, None) as client:
            assert (await client.region()).status == 200
            with pytest.raises(RuntimeError, match="throttle"):
                await client.batch([b"{}"], always)
            assert (client.calls, client.last_success, client.paused_for) == (0, None, 0)
