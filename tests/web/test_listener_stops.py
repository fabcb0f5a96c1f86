"""How a listener stops: whatever was read or arrives is answered, and the rest is closed soon."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager

import pytest

from connector.listener.connections import Limits
from tests.clients import QUICK, Served, request, served


@asynccontextmanager
async def stopping(limits: Limits = QUICK) -> AsyncIterator[tuple[Served, Callable[[], asyncio.Task[None]]]]:
    """A listener, and a function that begins to stop it."""
    stop = asyncio.Event()
    ready: asyncio.Future[Served] = asyncio.get_running_loop().create_future()

    async def serve() -> None:
        async with served(limits) as running:
            ready.set_result(running)
            await stop.wait()

    task = asyncio.create_task(serve())

    def begin() -> asyncio.Task[None]:
        stop.set()
        return task

    yield await ready, begin
    stop.set()
    await task


async def begun(running: Served) -> None:
    await running.until(lambda: running.listener.connections.stopping)


async def test_a_stop_answers_what_was_read_and_what_arrives_and_says_that_the_connection_closes() -> None:
    async with stopping() as (running, stop):
        read, arriving, head, idle = [await running.connect() for _ in range(4)]
        assert await idle.ask(request(b"x")) == 200
        await read.send(request(path="/wait") + request(b"pipelined"))
        await running.waiting.acquire()
        await arriving.send(request(b"half", size=8))
        await head.send(request(b"x")[:20])
        await running.until(lambda: running.listener.connections.doing()["busy"] == 2)
        stopped = stop()
        await begun(running)
        await idle.send(request(b"was on its way"))
        await arriving.send(b"half")
        await head.send(request(b"x")[20:])
        for client in (idle, arriving, head):
            status, headers, _ = await client.answer()
            assert (status, headers["connection"]) == (200, "close")
            assert await client.is_closed()
        running.gate.set()
        assert "connection" not in (await read.answer())[1]
        assert (await read.answer())[1]["connection"] == "close"
        assert await read.is_closed()
        await stopped
        assert running.closed == {}


async def test_a_stop_takes_who_waits_in_the_kernels_queue() -> None:
    async with stopping() as (running, stop):
        running.listener._pause()
        clients = [await running.connect() for _ in range(100)]
        for client in clients:
            await client.send(request(b"x"))
        stopped = stop()
        for client in clients:
            status, headers, _ = await client.answer()
            assert (status, headers["connection"]) == (200, "close")
        await stopped


async def test_a_stop_goes_on_when_those_who_waited_have_gone() -> None:
    async with stopping() as (running, stop):
        idle = await running.connect()
        assert await idle.ask(request(b"x")) == 200
        still = iter([True, True, False])
        running.listener._accept = lambda _socket: next(still)
        await stop()
        assert await idle.is_closed()


async def test_a_stop_closes_who_is_quiet_soon_and_gives_up_what_does_not_come() -> None:
    limits = Limits(quiet_seconds=0.1, arriving_seconds=0.4)
    async with stopping(limits) as (running, stop):
        silent, idle, half, slow = [await running.connect() for _ in range(4)]
        await idle.ask(request(b"x"))
        await half.send(b"POST ")
        await slow.send(request(size=10))
        began = time.monotonic()
        stopped = stop()
        for client in (silent, idle, half, slow):
            assert await client.is_closed()
        await stopped
        assert time.monotonic() - began < 3
        assert running.closed == {"incomplete_at_stop": 2}


@pytest.mark.parametrize(
    "behaviour",
    [
        test_a_stop_answers_what_was_read_and_what_arrives_and_says_that_the_connection_closes,
        test_a_stop_takes_who_waits_in_the_kernels_queue,
        test_a_stop_closes_who_is_quiet_soon_and_gives_up_what_does_not_come,
    ],
    ids=lambda behaviour: behaviour.__name__.removeprefix("test_"),
)
def test_uvloop_does_it_the_same_way(behaviour: Callable[[], Coroutine[None, None, None]]) -> None:
    uvloop = pytest.importorskip("uvloop")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(behaviour())
