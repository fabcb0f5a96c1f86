"""SIGTERM ends calls in flight and records them; SIGKILL leaves leases that run out. Nobody is lost either way."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest
import sqlalchemy as sa

from connector import app
from connector.sandbox import state, track_api
from connector.sandbox.faults import Faults, Wanted
from connector.store import pending, schema
from connector.store.database import Database
from tests.places import API_KEY, SITE_ID, Give, Place, Process

PEOPLE = 60
IDS = {f"u{number}" for number in range(PEOPLE)}


class Slow:
    """A local Customer.io that takes its time."""

    def __init__(self, url: str, customerio: state.State, faults: Faults) -> None:
        self.url = url
        self.faults = faults
        self._state = customerio

    def asked(self) -> bool:
        """Whether any call was answered."""
        return self._state.calls_received > 0

    def taken(self) -> Counter[str]:
        """How often each person was sent, and accepted."""
        found: Counter[str] = Counter()
        for call in self._state.calls:
            if call.status == 200 and call.path == "/api/v2/batch":
                found.update(item["identifiers"]["id"] for item in json.loads(call.body)["batch"])
            elif call.status == 200 and call.method == "PUT":
                found[call.path.rpartition("/")[2]] += 1
        return found


@asynccontextmanager
async def slow(**faults: str) -> AsyncIterator[Slow]:
    customerio, faulty = state.State(time.time), Faults(Wanted(**faults))
    application = track_api.create_app(customerio, site_id=SITE_ID, api_key=API_KEY, faulty=faulty)
    async with track_api.serve(application) as running:
        yield Slow(running.url, customerio, faulty)


@pytest.fixture
async def customerio() -> AsyncIterator[Slow]:
    async with slow(latency="1s") as running:
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


async def until(condition: Callable[[], object], seconds: float = 40) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.02)


async def calls_are_in_flight(customerio: Slow) -> None:
    """Once it has answered where the credentials lead; and long before it answers the first of them."""
    await until(customerio.asked)
    await asyncio.sleep(0.4)


def let_leases_run_out(connection: sa.Connection) -> None:
    """As if the minute were over."""
    ours = sa.update(schema.pending).where(schema.pending.c.lease.is_not(None))
    connection.execute(ours.values(due_at=app.now() - timedelta(seconds=1)))


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
    counts = await db.run_read(pending.counts, app.now())
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
    assert (await db.run_read(pending.counts, app.now())).leased == 0


async def test_after_kill_minus_9_leases_run_out_and_all_is_sent_again_under_the_same_ids(
    sending: Place, customerio: Slow, db: Database
) -> None:
    with await started(sending) as process:
        await calls_are_in_flight(customerio)
        process.kill()
    assert (await db.run_read(pending.counts, app.now())).leased > 0
    with await started(sending) as process:
        await asyncio.sleep(1)
        assert customerio.taken().keys() != IDS, "leases hold also after their holder died"
        customerio.faults.put(Wanted())
        await db.run(let_leases_run_out)
        await until(lambda: customerio.taken().keys() == IDS)
        assert await asyncio.to_thread(process.terminate) == 0
    assert (await db.run_read(pending.counts, app.now()))[:2] == (0, 0)
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
    ended = sa.select(schema.runs.c.state)
    assert await db.run_read(lambda connection: connection.execute(ended).scalars().all()) == ["stopped"]
    async with app.running(place.path, place.settings()):
        await until(lambda: customerio.taken().keys() == {"u1"})
