"""`kill -9` of a running connector loses nothing that it had answered with 200."""

from __future__ import annotations

import asyncio

import aiohttp

from tests.places import Place, Process, example, post

ENOUGH = 150


async def test_every_webhook_that_got_200_is_an_event_after_kill_minus_9(place: Place) -> None:
    place.write()
    acknowledged: list[str] = []
    killed = asyncio.Event()

    async def client(session: aiohttp.ClientSession, url: str, name: int) -> None:
        for number in range(10_000):
            event_id = f"event-{name}-{number}"
            try:
                status, _ = await post(session, url, example(event_id))
            except aiohttp.ClientError:
                assert killed.is_set()
                return
            if status == 200:
                acknowledged.append(event_id)

    for round_number in range(3):
        killed.clear()
        process = await asyncio.to_thread(Process, place)
        async with aiohttp.ClientSession() as session:
            clients = [
                asyncio.create_task(client(session, process.url, round_number * 100 + name)) for name in range(8)
            ]
            before = len(acknowledged)
            async with asyncio.timeout(60):
                while len(acknowledged) < before + ENOUGH:
                    await asyncio.wait(clients, timeout=0.01)
            killed.set()
            process.kill()
            await asyncio.gather(*clients)
    events = place.export("events")
    assert len(acknowledged) >= 3 * ENOUGH
    assert set(acknowledged) <= {event["source_id"] for event in events}
    assert len({event["source_id"] for event in events}) == len(events)
    assert {event["occurred_at"] for event in events} == {"2021-02-11T17:04:49Z"}
    assert len(place.export("users")) == 1
