"""SIGTERM ends calls in flight and records them; SIGKILL leaves leases that run out. Nobody is lost either way."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator

import pytest
import sqlalchemy as sa

from connector import app
from connector.sandbox.faults import Wanted
from connector.store import backlog, schema
from connector.store.database import Database
from tests.places import Give, Place, Process
from tests.slow_customerio import Slow, let_leases_run_out, slow, until

PEOPLE = 60
IDS = {f"u{number}" for number in range(PEOPLE)}


@pytest.fixture
async def customerio() -> AsyncIterator[Slow]:
    async with slow("1s") as running:
        yield running


@pytest.fixture(params=["batch", "single"])
def sending(request: pytest.FixtureRequest, place: Place, customerio: Slow, give: Give) -> Place:
    """A store full of people who are due, and settings that send them."""
    place.track_url = customerio.url
    place.write(
        customerio=place.customerio(f'api = "{request.param}"'),
        people='segments = ["All"]',
        segments='"All" = { everyone = true }',
    )
    rows = [{"external_id": each, "email": f"{each}@example.com"} for each in sorted(IDS)]
    give(place.settings(), *rows)
    return place


async def calls_are_in_flight(customerio: Slow) -> None:
    """Once it has answered where the credentials lead; and long before it answers the first of them."""
    await until(customerio.asked)
    await asyncio.sleep(0.4)


async def started(place: Place, *command: str) -> Process:
    return await asyncio.to_thread(Process, place, command=command or ("run",))


async def test_sigterm_ends_what_is_in_flight_and_nobody_is_sent_twice(
    sending: Place, customerio: Slow, db: Database
) -> None:
    with await started(sending) as process:
        await calls_are_in_flight(customerio)
        began = time.monotonic()
        assert await asyncio.to_thread(process.terminate) == 0
        assert time.monotonic() - began < 6
    counts = await db.run_read(backlog.counts, app.now())
    assert counts.leased == 0
    taken = customerio.taken()
    assert counts.due == PEOPLE - len(taken), "who was sent is recorded, and everybody else is due"
    if sending.settings().customerio.api == "single":
        assert 0 < len(taken) < PEOPLE, "what had begun ended, and no more began"
    customerio.faults.put(Wanted())
    with await started(sending) as process:
        await until(lambda: customerio.taken().keys() == IDS)
        assert await asyncio.to_thread(process.terminate) == 0
    assert set(customerio.taken().values()) == {1}


async def test_a_second_signal_ends_it_at_once_and_all_is_sent_when_the_leases_have_run_out(
    sending: Place, customerio: Slow, db: Database
) -> None:
    with await started(sending) as process:
        await calls_are_in_flight(customerio)
        process.ask_to_stop()
        await asyncio.to_thread(process.wait_for, "stopping")
        began = time.monotonic()
        assert await asyncio.to_thread(process.terminate) == 128 + 15
        assert time.monotonic() - began < 2
        assert process.wait_for("stopped_at_once")["reason"] == "asked_again"
    customerio.faults.put(Wanted())
    await db.run(let_leases_run_out)
    with await started(sending) as process:
        await until(lambda: customerio.taken().keys() == IDS)
        assert await asyncio.to_thread(process.terminate) == 0
    assert (await db.run_read(backlog.counts, app.now())).leased == 0


async def test_after_kill_minus_9_leases_run_out_and_all_is_sent_again_under_the_same_ids(
    sending: Place, customerio: Slow, db: Database
) -> None:
    with await started(sending) as process:
        await calls_are_in_flight(customerio)
        process.kill()
    await asyncio.sleep(1.2)  # Customer.io takes what it has got, and nobody is there to hear of it
    before = customerio.taken()
    assert before.keys() <= IDS
    assert before
    with await started(sending) as process:
        await asyncio.sleep(1)
        assert customerio.taken() == before, "leases hold also after their holder died"
        customerio.faults.put(Wanted())
        await db.run(let_leases_run_out)
        await until(lambda: customerio.taken() == before + Counter(IDS))
        assert await asyncio.to_thread(process.terminate) == 0
    assert (await db.run_read(backlog.counts, app.now()))[:2] == (0, 0)
    assert {row["customer_id"] for row in sending.export("people")} == IDS


async def test_a_pass_that_is_under_way_is_cut_short_and_the_next_process_makes_it_anew(
    place: Place, customerio: Slow, give: Give, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In this process, so that the stop comes in the middle of it."""
    place.track_url = customerio.url
    place.write(people='segments = ["All"]', segments='"All" = { everyone = true }')
    give(place.settings(), {"external_id": "u1", "email": "u1@example.com"})
    began, go_on = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def slowly(_connection: sa.Connection, *_arguments: object) -> bool:
        loop.call_soon_threadsafe(began.set)
        asyncio.run_coroutine_threadsafe(go_on.wait(), loop).result()
        return False

    with monkeypatch.context() as patched:
        patched.setattr("connector.store.mirror.stay", slowly)
        async with app.running(place.path, place.settings()):
            await began.wait()
            loop.call_later(0.3, go_on.set)
    states = sa.select(schema.runs.c.state).order_by(schema.runs.c.state)
    found = await db.run_read(lambda connection: connection.execute(states).scalars().all())
    assert found == ["asked", "stopped"], "what was asked for is not answered by what was cut short"
    async with app.running(place.path, place.settings()):
        await until(lambda: customerio.taken().keys() == {"u1"})
