"""The sandbox notes calls that leave the order of what they say of one person to chance, and none that don't."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from connector.sandbox import track_api
from connector.sandbox.state import State
from connector.sandbox.unordered import UNORDERED
from tests.track_client import CREDENTIALS, EVENT, Client, Time, identify, sandbox


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    async with sandbox() as running:
        yield running


async def noted(client: Client) -> list[tuple[str, dict[str, str], str]]:
    return [(each["what"], each["who"], each["detail"]) for each in await client.get("/sandbox/unordered")]


def event(ulid: str, who: str = "42") -> dict[str, Any]:
    return {**EVENT, "id": ulid, "identifiers": {"id": who}}


async def hanging(client: Client, call: Any, seconds: float) -> asyncio.Task[Any]:
    """The call, once it has arrived; it is handled so many seconds later."""
    await client.put("/sandbox/faults", {"script": f"hang:{seconds}"})
    task = asyncio.create_task(call)
    while not (await client.get("/sandbox/faults"))["given"]:
        await asyncio.sleep(0)
    return task


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


async def test_two_calls_of_a_person_at_once_are_noted(client: Client) -> None:
    first = await hanging(client, client.batch(identify("41"), event("one")), 0.1)
    await client.put("/api/v1/customers/42", {})
    await client.put("/api/v1/customers/43", {})
    await first
    assert await noted(client) == [("calls_overlap", {"id": "42"}, "identify None, event one")]


async def test_one_call_after_the_other_is_as_it_has_to_be(client: Client) -> None:
    for number in range(3):
        await client.batch(identify(), event(str(number), "43"))
        await client.call("DELETE", "/api/v1/customers/42")
    assert await noted(client) == []


async def test_a_call_that_its_client_gave_up_overlaps_with_none(client: Client) -> None:
    """As with a hang that is longer than the client's patience, and its next try meanwhile."""
    first = await hanging(client, client.batch(event("one")), 0.2)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    await client.batch(event("one"))
    while client.state.calls_received < 2:
        await asyncio.sleep(0)
    assert client.names() == ["bought", "bought"], "the first one went on"
    assert await noted(client) == []


async def test_a_call_that_was_turned_away_overlaps_with_none(client: Client) -> None:
    first = await hanging(client, client.batch(event("one")), 0.1)
    await client.put("/sandbox/faults", {"outage": "500"})
    assert (await client.batch(event("one"))).status == 500
    await first
    assert await noted(client) == []


async def test_they_come_in_pages_the_newest_first(client: Client) -> None:
    await client.batch(*(event(str(number)) for number in range(4)))
    page = await client.get("/sandbox/unordered?limit=2")
    assert [each["number"] for each in page] == [3, 2]
    assert [each["number"] for each in await client.get("/sandbox/unordered?after=2")] == [1]
    assert page[0]["at"] == client.state.clock()


async def test_what_no_call_can_overlap_any_more_is_forgotten() -> None:
    state = State(Time())
    app = track_api.create_app(state, site_id="site", api_key="key")
    kept = app[UNORDERED]
    async with track_api.serve(app) as running, aiohttp.ClientSession(headers=CREDENTIALS) as session:
        client = Client(session, running.url, state)
        first = await hanging(client, client.batch(event("one")), 0.1)
        await client.batch(identify("41"), identify("42"))
        assert len(kept._handled) == 2
        await first
        while state.calls_received < 2:
            await asyncio.sleep(0)
    assert (kept._handled, list(kept._in_turn)) == ({}, [])
