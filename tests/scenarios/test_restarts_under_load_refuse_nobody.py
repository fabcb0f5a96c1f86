"""Restarts while webhooks keep coming: no connection is refused or reset, and what got 200 is in the inbox.

The suite does a few restarts; `CONNECTOR_TEST_RESTARTS=20` is the full form.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp
import pytest

from tests.places import Place, Process, example, post

RESTARTS = int(os.environ.get("CONNECTOR_TEST_RESTARTS", "4"))
KEPT, FRESH = 6, 6
ENOUGH = 200


@dataclass
class Load:
    """What the clients saw: ids answered with 200, everything else by name, and the longest wait for an answer."""

    url: str
    acknowledged: list[str] = field(default_factory=list)
    failures: Counter[str] = field(default_factory=Counter)
    longest: float = 0.0
    over: bool = False

    async def some_more(self) -> None:
        """Until a number of further webhooks were acknowledged."""
        enough = len(self.acknowledged) + ENOUGH
        async with asyncio.timeout(60):
            while len(self.acknowledged) < enough:
                await asyncio.sleep(0.01)

    async def client(self, name: str, session: Callable[[], aiohttp.ClientSession], *, kept: bool) -> None:
        """Posts one webhook after the other, on one session or each on its own."""
        number = 0
        while not self.over:
            async with session() as http:
                while not self.over:
                    number += 1
                    await self._post(http, f"{name}-{number}")
                    await asyncio.sleep(0.01)
                    if not kept:
                        break

    async def _post(self, http: aiohttp.ClientSession, event_id: str) -> None:
        began = time.monotonic()
        try:
            status, _ = await post(http, self.url, example(event_id))
        except (aiohttp.ClientError, OSError) as error:
            self.failures[type(error).__name__] += 1
            return
        self.longest = max(self.longest, time.monotonic() - began)
        if status == 200:
            self.acknowledged.append(event_id)
        else:
            self.failures[str(status)] += 1


@asynccontextmanager
async def load(url: str) -> AsyncIterator[Load]:
    state = Load(url)
    clients = [
        asyncio.create_task(state.client(f"{'kept' if kept else 'fresh'}-{n}", aiohttp.ClientSession, kept=kept))
        for kept, count in ((True, KEPT), (False, FRESH))
        for n in range(count)
    ]
    try:
        yield state
    finally:
        state.over = True
        await asyncio.gather(*clients)


def nothing_went_wrong(place: Place, state: Load) -> None:
    stored = [row["event_id"] for row in place.export("webhooks")]
    lost = set(state.acknowledged) - set(stored)
    print(f"{len(state.acknowledged)} acknowledged, longest wait {state.longest:.2f} s, {dict(state.failures)}")
    assert (dict(state.failures), len(lost)) == ({}, 0)
    assert len(stored) == len(set(stored))


def listening() -> socket.socket:
    """A socket as systemd would hold it."""
    held = socket.create_server(("127.0.0.1", 0), backlog=4096)
    held.set_inheritable(False)
    return held


@pytest.mark.timeout(60 + 10 * RESTARTS)
async def test_with_a_handed_over_socket_restarts_refuse_and_lose_nobody(place: Place) -> None:
    place.write()
    with listening() as public, contextlib.ExitStack() as started:
        port = public.getsockname()[1]
        process = started.enter_context(await asyncio.to_thread(Process, place, sockets=[public], names="webhooks"))
        assert process.url == f"http://127.0.0.1:{port}"
        async with load(process.url) as state:
            for _ in range(RESTARTS):
                await state.some_more()
                assert await asyncio.to_thread(process.terminate) == 0
                process = started.enter_context(
                    await asyncio.to_thread(Process, place, sockets=[public], names="webhooks")
                )
            await state.some_more()
        assert await asyncio.to_thread(process.terminate) == 0
    nothing_went_wrong(place, state)


@pytest.mark.timeout(60 + 10 * RESTARTS)
async def test_with_reuse_port_the_next_process_takes_over_and_nobody_is_refused(place: Place) -> None:
    with reserved() as public, reserved() as admin, contextlib.ExitStack() as started:
        place.write(
            server=f"port = {public.getsockname()[1]}\nreuse_port = true", admin=f"port = {admin.getsockname()[1]}"
        )
        process = started.enter_context(await asyncio.to_thread(Process, place))
        bound = "waiting_for_predecessor" if place.store_url.startswith("sqlite") else "listening"
        async with load(process.url) as state:
            for _ in range(RESTARTS):
                await state.some_more()
                following = started.enter_context(await asyncio.to_thread(Process, place, ready=bound))
                assert await asyncio.to_thread(process.terminate) == 0
                process = following
                await asyncio.to_thread(process.listening)
            await state.some_more()
        assert await asyncio.to_thread(process.terminate) == 0
    nothing_went_wrong(place, state)


def reserved() -> socket.socket:
    """A port that nobody else is given; it is bound, and takes no connections."""
    held = socket.socket()
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    held.bind(("127.0.0.1", 0))
    return held
