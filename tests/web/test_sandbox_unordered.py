"""The sandbox notes calls that leave the order of what they say of one person to chance, and none that don't."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from connector.sandbox import track_api
from connector.sandbox.read_back import STATE
from connector.sandbox.state import State
from connector.sandbox.unordered import UNORDERED
from tests.track_client import CREDENTIALS, EVENT, Client, Reply, Time, identify

DOOR = web.AppKey("DOOR", asyncio.Queue["Held"])


class Held:
    """A call that waits where it would be handled. `request` is there once it has arrived."""

    def __init__(self, call: Coroutine[Any, Any, Reply]) -> None:
        self.request: asyncio.Future[web.Request] = asyncio.get_running_loop().create_future()
        self.goes_on = asyncio.Event()
        self.answer = asyncio.create_task(call)


@pytest.fixture
async def app() -> web.Application:
    """A sandbox with a door behind its own: `held_up` says who waits there."""
    application = track_api.create_app(State(Time()), site_id="site", api_key="key")
    application[DOOR] = asyncio.Queue()

    @web.middleware
    async def wait(
        request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        if not application[DOOR].empty():
            held = application[DOOR].get_nowait()
            held.request.set_result(request)
            await held.goes_on.wait()
        return await handler(request)

    application.middlewares.append(wait)
    return application


@pytest.fixture
async def client(app: web.Application) -> AsyncIterator[Client]:
    async with track_api.serve(app) as running, aiohttp.ClientSession(headers=CREDENTIALS) as session:
        yield Client(session, running.url, app[STATE])


@asynccontextmanager
async def held_up(app: web.Application, call: Coroutine[Any, Any, Reply]) -> AsyncIterator[Held]:
    """The call has arrived; it is handled when the block is over, and then it has its answer."""
    held = Held(call)
    app[DOOR].put_nowait(held)
    await held.request
    try:
        yield held
    finally:
        held.goes_on.set()
        await asyncio.gather(held.answer, return_exceptions=True)


async def noted(client: Client) -> list[tuple[str, dict[str, str], str]]:
    return [(each["what"], each["who"], each["detail"]) for each in await client.get("/sandbox/unordered")]


def event(ulid: str, who: str = "42") -> dict[str, Any]:
    return {**EVENT, "id": ulid, "identifiers": {"id": who}}


async def test_two_events_of_a_person_in_a_call_are_noted(client: Client) -> None:
    await client.batch(event("one"), event("other", "43"), event("two"))
    assert await noted(client) == [("twice_in_a_call", {"id": "42"}, "event one, event two")]


async def test_an_event_beside_the_identify_before_it_is_noted(client: Client) -> None:
    await client.batch({**identify(), "timestamp": 5}, event("one"))
    assert await noted(client) == [("twice_in_a_call", {"id": "42"}, "identify 5, event one")]


async def test_the_parts_of_one_identify_come_together_and_two_identifies_do_not(client: Client) -> None:
    await client.batch({**identify(a=1), "timestamp": 5}, {**identify(b=1), "timestamp": 5}, identify("43"))
    assert await noted(client) == []
    await client.batch({**identify(a=1), "timestamp": 6}, {**identify(b=1), "timestamp": 7})
    assert await noted(client) == [("twice_in_a_call", {"id": "42"}, "identify 6, identify 7")]


async def test_two_calls_of_a_person_at_once_are_noted(app: web.Application, client: Client) -> None:
    async with held_up(app, client.batch(identify("41"), event("one"))):
        await client.put("/api/v1/customers/42", {})
        await client.put("/api/v1/customers/43", {})
    assert await noted(client) == [("calls_overlap", {"id": "42"}, "identify None, event one")]


async def test_one_call_after_the_other_is_as_it_has_to_be(app: web.Application, client: Client) -> None:
    """Also while somebody else's is under way, and so nothing is forgotten."""
    async with held_up(app, client.batch(identify("41"))):
        for number in range(3):
            await client.batch(identify(), event(str(number), "43"))
            await client.call("DELETE", "/api/v1/customers/42")
    assert await noted(client) == []


async def test_a_call_that_its_client_gave_up_overlaps_with_none(app: web.Application, client: Client) -> None:
    """As with a hang that is longer than the client's patience, and its next try meanwhile."""
    async with held_up(app, client.batch(event("one"))) as first:
        first.answer.cancel()
        while (transport := (await first.request).transport) is not None and not transport.is_closing():
            await asyncio.sleep(0)
        await client.batch(event("one"))
    while client.state.calls_received < 2:
        await asyncio.sleep(0)
    assert client.names() == ["bought", "bought"], "the first one went on"
    assert await noted(client) == []


async def test_a_call_that_was_turned_away_overlaps_with_none(app: web.Application, client: Client) -> None:
    async with held_up(app, client.batch(event("one"))):
        await client.put("/sandbox/faults", {"outage": "500"})
        assert (await client.batch(event("one"))).status == 500
    assert await noted(client) == []


async def test_they_come_in_pages_the_newest_first(client: Client) -> None:
    await client.batch(*(event(str(number)) for number in range(4)))
    page = await client.get("/sandbox/unordered?limit=2")
    assert [each["number"] for each in page] == [3, 2]
    assert [each["number"] for each in await client.get("/sandbox/unordered?after=2")] == [1]
    assert page[0]["at"] == client.state.clock()


async def test_what_no_call_can_overlap_any_more_is_forgotten(app: web.Application, client: Client) -> None:
    kept = app[UNORDERED]
    async with held_up(app, client.batch(event("one"))):
        await client.batch(identify("41"), identify("42"))
        assert len(kept._handled) == 2
    assert (kept._handled, list(kept._in_turn)) == ({}, [])
