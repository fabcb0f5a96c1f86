"""The listener against clients that take long, take much, or aren't clients at all, while others are served."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import Callable, Coroutine

import pytest

from connector.listener.connections import Limits
from tests.clients import a_client_that_is_served, request, served


async def test_the_listener_follows_what_aiohttp_does() -> None:
    """Fails when the names that `Connection` takes from aiohttp's protocol no longer mean what they meant."""
    async with served() as running:
        client = await running.connect()
        doing = running.listener.connections.doing
        await running.until(lambda: doing()["arriving"] == 1)
        await client.send(request(path="/wait") + request(b"abc"))
        await running.waiting.acquire()
        (connection,) = running.listener.connections._busy
        await client.send(b"not HTTP\r\n\r\n")
        await running.until(lambda: connection.requests_waiting() == 3)
        running.gate.set()
        assert [(await client.answer())[0] for _ in range(3)] == [200, 200, 400]
        assert await client.is_closed()
        assert connection.answered == 3
        await running.until(lambda: sum(doing().values()) == 0)


async def test_a_connection_is_proven_by_an_accepted_post_and_else_idle() -> None:
    async with served() as running:
        doing = running.listener.connections.doing
        for message, state in (
            (request(b"x"), "proven"),
            (request(method="GET"), "idle"),
            (request(path="/no"), "idle"),
        ):
            client = await running.connect()
            before = doing()[state]
            await client.ask(message)
            await running.until(lambda state=state, before=before: doing()[state] == before + 1)
        assert doing() == {"arriving": 0, "busy": 0, "idle": 2, "proven": 1}


@pytest.mark.parametrize("said", [b"", b"POST / HT", request(size=5)[:-2]], ids=["silent", "line", "headers"])
async def test_who_connects_and_sends_no_whole_head_is_closed(said: bytes) -> None:
    async with served() as running, a_client_that_is_served(running):
        clients = [await running.connect() for _ in range(50)]
        for client in clients:
            await client.send(said)
        for client in clients:
            assert await client.is_closed()
        assert running.closed == {"slow_head": 50}


async def test_a_head_that_comes_in_drops_is_closed_too() -> None:
    async with served() as running, a_client_that_is_served(running):
        client = await running.connect()

        async def drips() -> None:
            for byte in request() * 1000:
                await client.send(bytes([byte]))
                await asyncio.sleep(0.05)

        dripping = asyncio.create_task(drips())
        assert await client.is_closed()
        assert running.closed == {"slow_head": 1}
        dripping.cancel()
        await asyncio.gather(dripping, return_exceptions=True)


async def test_half_a_head_on_a_kept_connection_is_closed_and_an_idle_one_stays() -> None:
    async with served() as running:
        quiet, half = await running.connect(), await running.connect()
        assert await quiet.ask(request(b"x")) == await half.ask(request(b"x")) == 200
        await half.send(b"POST / HTTP")
        assert await half.is_closed()
        assert running.closed == {"slow_head": 1}
        assert await quiet.ask(request(b"x")) == 200


@pytest.mark.parametrize("framing", ["Content-Length: 100", "Transfer-Encoding: chunked"])
async def test_a_body_that_does_not_come_gets_408_and_is_closed(framing: str) -> None:
    async with served() as running, a_client_that_is_served(running):
        clients = [await running.connect() for _ in range(50)]
        for client in clients:
            await client.send(f"POST / HTTP/1.1\r\nHost: here\r\n{framing}\r\n\r\n".encode())
        for client in clients:
            status, headers, body = await client.answer()
            assert (status, headers["connection"], json.loads(body)["code"]) == (408, "close", "slow_body")
            assert await client.is_closed()
        assert running.closed == {"slow_body": 50}


async def test_a_compressed_bomb_is_no_more_than_its_bytes() -> None:
    bomb = gzip.compress(b"\0" * 64 * 1024 * 1024, mtime=0)
    async with served() as running, a_client_that_is_served(running):
        client = await running.connect()
        for encoding in ("gzip", "deflate", "br", "zstd"):
            await client.send(request(bomb, more=f"Content-Encoding: {encoding}\r\n"))
            status, _, body = await client.answer()
            assert (status, int(body)) == (200, len(bomb))


@pytest.mark.parametrize(
    ("head", "status", "code"),
    [
        (request(more="".join(f"X-{n}: y\r\n" for n in range(5000))), 431, "headers_too_large"),
        (request(more=f"X: {'y' * 60_000}\r\n"), 431, "headers_too_large"),
        (request(path="/" + "y" * 60_000), 431, "headers_too_large"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400, "bad_request"),
        (b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400, "bad_request"),
        (b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400, "bad_request"),
    ],
    ids=["many", "large", "path", "tls", "two lengths", "negative length"],
)
async def test_a_flood_of_bad_heads_is_answered_and_disturbs_nobody(
    head: bytes, status: int, code: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with served() as running, a_client_that_is_served(running):
        for _ in range(30):
            client = await running.connect()
            await client.send(head)
            answered, headers, body = await client.answer()
            assert (answered, json.loads(body)["code"]) == (status, code)
            assert headers["content-type"] == "application/problem+json"
            assert await client.is_closed()
        assert running.closed == {"bad_request": 30}
    assert caplog.records == []


async def test_a_head_without_an_end_is_closed_when_it_is_too_large() -> None:
    slow = Limits(head_bytes=20_000)
    async with served(slow) as running, a_client_that_is_served(running):
        client = await running.connect()
        for number in range(90):
            await client.send(
                f"{'' if number else 'POST / HTTP/1.1' + chr(13) + chr(10)}X{number}: {'y' * 300}\r\n".encode()
            )
        assert await client.is_closed()
        assert running.closed == {"head_too_large": 1}


async def test_a_thousand_pipelined_requests_are_answered_in_order() -> None:
    async with served() as running, a_client_that_is_served(running):
        client = await running.connect()
        sending = asyncio.create_task(client.send(b"".join(request(b"x" * size) for size in range(1000))))
        assert [int((await client.answer())[2]) for _ in range(1000)] == list(range(1000))
        await sending


async def test_a_large_body_to_an_unknown_path_is_refused_before_it_is_there() -> None:
    async with served() as running, a_client_that_is_served(running):
        clients = [await running.connect() for _ in range(20)]
        for client in clients:
            assert await client.ask(request(b"x" * 100_000, path="/nowhere", size=1_000_000_000)) == 404
            client.close()
        # A refused body that does end leaves the connection usable.
        patient = await running.connect()
        assert await patient.ask(request(b"x" * 100_000, path="/nowhere", size=200_000)) == 404
        await patient.send(b"x" * 100_000)
        assert await patient.ask(request()) == 200


async def test_the_ones_idle_longest_are_closed_when_there_are_too_many_and_proven_ones_last() -> None:
    async with served(Limits(most=4)) as running:
        proven, first, second, third = [await running.connect() for _ in range(4)]
        assert await proven.ask(request(b"x")) == 200
        for client in (second, first, third):
            assert await client.ask(request(method="GET")) == 200
        for _ in range(2):
            assert await (await running.connect()).ask(request(b"x")) == 200
        assert await second.is_closed()
        assert await first.is_closed()
        assert await proven.ask(request(b"x")) == await third.ask(request(b"x")) == 200
        assert running.closed == {"too_many": 2}


async def test_a_request_that_was_read_is_never_closed_for_a_newcomer_who_waits_instead() -> None:
    async with served(Limits(most=4)) as running:
        clients = [await running.connect() for _ in range(4)]
        for client in clients:
            await client.send(request(path="/wait"))
            await running.waiting.acquire()
        late = await running.connect()
        await late.send(request(b"late"))
        await running.until(lambda: running.listener.connections.is_full)
        running.gate.set()
        assert [(await client.answer())[0] for client in clients] == [200] * 4
        assert (await late.answer())[0] == 200


async def test_a_body_under_way_is_given_up_for_a_newcomer_when_all_else_is_busy() -> None:
    async with served(Limits(most=3)) as running:
        busy, slow = await running.connect(), await running.connect()
        await busy.send(request(path="/wait"))
        await running.waiting.acquire()
        await slow.send(request(size=100))
        proven = await running.connect()
        assert await proven.ask(request(b"x")) == 200
        await running.until(lambda: running.listener.connections.doing()["busy"] == 2)
        assert await (await running.connect()).ask(request(b"x")) == 200
        assert await slow.is_closed()
        assert await proven.ask(request(b"x")) == 200
        running.gate.set()
        assert (await busy.answer())[0] == 200


async def test_the_largest_of_too_many_large_bodies_gets_503_and_small_ones_pass() -> None:
    limits = Limits(bodies_bytes=3_000_000)
    async with served(limits) as running, a_client_that_is_served(running):
        large, larger = await running.connect(), await running.connect()
        await larger.send(request(b"x" * 2_000_000, size=10_000_000))
        await running.until(lambda: running.listener.connections._held >= 2_000_000)
        await large.send(request(b"x" * 1_500_000, size=1_600_000))
        status, headers, body = await larger.answer()
        assert (status, json.loads(body)["code"]) == (503, "too_much_at_once")
        assert int(headers["retry-after"]) > 0
        await large.send(b"x" * 100_000)
        assert (await large.answer())[0] == 200
        assert running.closed == {"too_much_at_once": 1}
        await running.until(lambda: running.listener.connections._held < 100)


async def test_who_never_reads_answers_is_closed() -> None:
    async with served(Limits(body_seconds=0.3, answer_seconds=0.5)) as running, a_client_that_is_served(running):
        client = await running.connect()
        client.writer.transport.pause_reading()
        sending = asyncio.create_task(client.send(request() * 400_000))
        await running.until(lambda: running.closed.get("stuck") == 1)
        sending.cancel()
        client.writer.transport.abort()
        await asyncio.gather(sending, return_exceptions=True)


@pytest.mark.parametrize(
    "behaviour",
    [
        test_the_listener_follows_what_aiohttp_does,
        test_half_a_head_on_a_kept_connection_is_closed_and_an_idle_one_stays,
        test_the_ones_idle_longest_are_closed_when_there_are_too_many_and_proven_ones_last,
        test_a_request_that_was_read_is_never_closed_for_a_newcomer_who_waits_instead,
        test_a_body_under_way_is_given_up_for_a_newcomer_when_all_else_is_busy,
        test_who_never_reads_answers_is_closed,
    ],
    ids=lambda behaviour: behaviour.__name__.removeprefix("test_"),
)
def test_uvloop_does_it_the_same_way(behaviour: Callable[[], Coroutine[None, None, None]]) -> None:
    uvloop = pytest.importorskip("uvloop")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(behaviour())
