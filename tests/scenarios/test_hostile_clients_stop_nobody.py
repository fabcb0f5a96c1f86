"""A running connector that thousands of others keep busy: who sends webhooks is answered promptly."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import resource
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest

from tests.places import Place, Process, example, post, signed

# Customer.io's own patience.
PROMPT_SECONDS = 4.0
RESERVED = 200

Start = Callable[..., Awaitable[Process]]

pytestmark = pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="counts open files as Linux shows them")


@pytest.fixture
def started() -> Iterator[Start]:
    """Starts connectors that end with the test, also when it fails."""
    with contextlib.ExitStack() as stack:

        async def start(place: Place, **options: Any) -> Process:
            return stack.enter_context(await asyncio.to_thread(Process, place, **options))

        yield start


@pytest.fixture
def store_kind() -> str:
    """What is tested here happens before the store."""
    return "sqlite"


@contextmanager
def many_files() -> Iterator[int]:
    """As many as this process may have."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (before[1], before[1]))
    try:
        yield before[1]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@contextmanager
def connections(url: str, count: int, say: Callable[[int], bytes]) -> Iterator[list[socket.socket]]:
    """So many connections; number n says `say(n)`, and nothing more."""
    address = (urlsplit(url).hostname, urlsplit(url).port)
    with contextlib.ExitStack() as stack:
        opened = []
        for number in range(count):
            one = stack.enter_context(socket.create_connection(address, timeout=30))
            with contextlib.suppress(ConnectionError):
                one.sendall(say(number))
            opened.append(one)
        yield opened


@asynccontextmanager
async def webhooks_meanwhile(process: Process) -> AsyncIterator[list[float]]:
    """Sends signed webhooks, on kept and on new connections; yields how long each answer took."""
    over = asyncio.Event()
    took: list[float] = []

    async def send() -> None:
        async with aiohttp.ClientSession() as kept:
            while not over.is_set():
                async with aiohttp.ClientSession() as fresh:
                    for session in (kept, fresh):
                        began = time.monotonic()
                        status, _ = await post(session, process.url, example(f"event-{len(took)}"))
                        took.append(time.monotonic() - began)
                        assert status == 200

    sending = asyncio.create_task(send())
    try:
        yield took
        enough = len(took) + 20
        async with asyncio.timeout(60):
            while len(took) < enough and not sending.done():
                await asyncio.sleep(0.01)
    finally:
        over.set()
        await sending
    assert max(took) < PROMPT_SECONDS


def silent(number: int) -> bytes:
    return b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n" if number % 3 == 0 else b"POST /webhooks/cu" * (number % 3 - 1)


def open_count(process: Process) -> int:
    """How many files the process has open."""
    return len(list(Path(f"/proc/{process.pid}/fd").iterdir()))


async def test_ten_thousand_connections_or_as_many_as_the_system_allows(place: Place, started: Start) -> None:
    place.write()
    process = await started(place)
    with many_files() as limit:
        most = min(10_000, limit - RESERVED)
        count = min(most + 500, limit - 500)
        async with webhooks_meanwhile(process) as took:
            opening = connections(process.url, count, silent)
            await asyncio.to_thread(opening.__enter__)
            full = min(count, most) * 0.9
            async with asyncio.timeout(60):
                while open_count(process) < full:
                    await asyncio.sleep(0.01)
                held, enough = open_count(process), len(took) + 50
                while len(took) < enough:
                    await asyncio.sleep(0.01)
            await asyncio.to_thread(opening.__exit__, None, None, None)
    print(f"{count} connections opened, {held} files held, slowest answer of {len(took)}: {max(took):.2f} s")
    assert full <= held < most + RESERVED
    assert await asyncio.to_thread(process.terminate) == 0
    assert "no_descriptors" not in {line.get("reason") for line in process.lines}


async def test_with_few_file_descriptors_the_idle_ones_make_room(place: Place, started: Start) -> None:
    place.write()
    process = await started(place, file_limit=300)
    assert resource.prlimit(process.pid, resource.RLIMIT_NOFILE) == (300, 300)
    async with webhooks_meanwhile(process):
        for _ in range(3):
            with connections(process.url, 400, silent):
                assert open_count(process) < 300
    assert await asyncio.to_thread(process.terminate) == 0
    reasons = {line.get("reason") for line in process.lines}
    assert "too_many" in reasons
    assert "no_descriptors" not in reasons


async def test_a_compressed_body_is_kept_as_the_bytes_that_were_signed(place: Place, started: Start) -> None:
    place.write()
    process = await started(place)
    bomb = gzip.compress(b'{"event_id": "' + b"0" * 64 * 1024 * 1024, mtime=0)
    async with webhooks_meanwhile(process), aiohttp.ClientSession() as session:
        url = f"{process.url}/webhooks/customerio"
        headers = {**signed(bomb), "Content-Encoding": "gzip"}
        async with session.post(url, data=bomb, headers=headers) as response:
            assert response.status == 200
        async with session.post(url, data=bomb, headers={"Content-Encoding": "gzip"}) as response:
            assert response.status == 401
    assert await asyncio.to_thread(process.terminate) == 0
    assert [row["reason"] for row in place.export("webhooks") if row["state"] == "unread"] == ["not_json"]
