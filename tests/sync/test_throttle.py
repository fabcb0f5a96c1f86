"""Whoever calls Customer.io waits for their turn, over all processes of a store."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest
import sqlalchemy as sa
import structlog

from connector.outbound.throttle import Throttle
from connector.store import throttle as bucket
from connector.store.database import Database
from tests.store import given

ROOT = Path(__file__).parents[2]
# Its own process: calls as often as it may for so many seconds, and prints when, on the clock that all processes share.
WORKER = """
import asyncio, json, sys, time
from connector.outbound.throttle import Throttle
from connector.store.database import Database

async def main(url, rate, seconds, callers):
    db, sent = Database(url), []
    throttle = Throttle(db, float(rate))
    async def call():
        while time.monotonic() < until:
            if await throttle.slot():
                sent.append(time.monotonic())
                await asyncio.sleep(0.002)
    print("ready", flush=True)
    sys.stdin.readline()
    until = time.monotonic() + float(seconds)
    await asyncio.gather(*(call() for _ in range(int(callers))))
    db.close()
    print(json.dumps(sent), flush=True)

if sys.argv[1] == "uvloop":
    import uvloop
    uvloop.run(main(*sys.argv[2:]))
else:
    asyncio.run(main(*sys.argv[2:]))
"""


def sent_by(url: str, rate: float, seconds: float, *loops: str, callers: int = 16) -> list[float]:
    """When processes with these event loops called, all at once."""
    running = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, loop, url, str(rate), str(seconds), str(callers)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for loop in loops
    ]
    for process in running:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in running:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    sent = []
    for process in running:
        out, _ = process.communicate(timeout=60)
        assert process.returncode == 0
        sent.append(json.loads(out))
    assert all(sent), "one of them never had a turn"
    return sorted(moment for each in sent for moment in each)


def test_three_processes_together_call_no_more_often_than_the_rate_says(store_url: str) -> None:
    rate = 100
    sent = sent_by(store_url, rate, 4.5, "asyncio", "uvloop", "asyncio")
    for first, beyond in zip(sent, sent[3 * rate :], strict=False):
        assert beyond - first >= 3
    assert len(sent) >= 0.5 * rate * 4.5, "and not much less often either, however busy the machine is"


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_one_process_can_call_far_more_than_a_thousand_times_a_second(store_url: str, loop: str) -> None:
    # Three tries, because other tests may have the machine meanwhile.
    assert any(len(sent_by(store_url, 2000, 1, loop)) > 1200 for _ in range(3))


async def test_who_came_first_is_first_in_turn(db: Database) -> None:
    throttle, served = Throttle(db, 200), []

    async def caller(number: int) -> None:
        assert await throttle.slot()
        served.append(number)

    await asyncio.gather(*(caller(number) for number in range(40)))
    assert served == list(range(40))


async def test_who_gives_up_waiting_holds_nobody_else_up(db: Database) -> None:
    throttle = Throttle(db, 50)
    waiting = [asyncio.create_task(throttle.slot()) for _ in range(10)]
    await asyncio.sleep(0)
    for task in waiting[:9]:
        task.cancel()
    assert await asyncio.wait_for(waiting[9], 5)
    assert await asyncio.wait_for(throttle.slot(), 5)


async def test_a_429_sends_away_who_waits_and_pauses_everybody(db: Database) -> None:
    throttle, other = Throttle(db, 5), Throttle(db, 5)
    waiting = [asyncio.create_task(throttle.slot()) for _ in range(10)]
    assert await waiting[0]
    with structlog.testing.capture_logs() as logged:
        await throttle.rest(40, is_limited=True)
        await throttle.rest(None, is_limited=True)
    assert await asyncio.wait_for(asyncio.gather(*waiting[1:]), 5) == [False] * 9
    assert 35 < throttle.paused_for <= 40
    assert not await asyncio.wait_for(throttle.slot(), 5)
    assert other.paused_for == 0
    assert not await asyncio.wait_for(other.slot(), 5)
    assert 35 < other.paused_for <= 40
    assert [(each["event"], each["seconds"], each["rate_then"]) for each in logged] == [("rate_limited", 40, 2.5)]


async def test_slots_that_were_reserved_before_a_429_are_not_used_after_it(db: Database) -> None:
    throttle = Throttle(db, 10)
    await throttle.slot()  # and reserves ahead
    behind = [asyncio.create_task(throttle.slot()) for _ in range(5)]
    await asyncio.sleep(0.05)
    began = time.monotonic()
    await throttle.rest(1, is_limited=True)
    assert False in await asyncio.gather(*behind)
    await asyncio.sleep(throttle.paused_for)
    while not await throttle.slot():
        await asyncio.sleep(throttle.paused_for)
    assert time.monotonic() - began >= 1


@pytest.mark.parametrize("said", [None, 0])
async def test_a_429_pauses_for_a_second_at_least(db: Database, said: float | None) -> None:
    throttle = Throttle(db, 100)
    assert throttle.paused_for == 0
    await throttle.rest(said, is_limited=True)
    assert 0.5 < throttle.paused_for <= 1


async def test_without_the_store_nobody_calls_and_it_is_said_once(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("connector.outbound.throttle._TRY_AGAIN", 0.05)
    throttle = Throttle(db, 100)
    hide(db, "throttle", "gone")
    with structlog.testing.capture_logs() as logged:
        waiting = asyncio.create_task(throttle.slot())
        await asyncio.sleep(0.3)
        assert not waiting.done()
        hide(db, "gone", "throttle")
        assert await asyncio.wait_for(waiting, 5)
    assert [each["event"] for each in logged] == ["throttle_waits", "throttle_goes_on"]
    assert logged[0]["reason"] == "store_unreachable"


async def test_a_429_that_the_store_can_not_be_told_of_pauses_this_process_at_least(db: Database) -> None:
    throttle = Throttle(db, 100)
    hide(db, "throttle", "gone")
    await throttle.rest(30, is_limited=True)
    assert 25 < throttle.paused_for <= 30
    hide(db, "gone", "throttle")


async def test_a_store_that_is_busy_for_a_moment_costs_turns_but_stops_nobody(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each reservation takes longer than a slot can wait for its use."""
    reserve = bucket.reserve

    def slow(*arguments: object) -> bucket.Run:
        run = reserve(*arguments)  # type: ignore[arg-type]
        time.sleep(0.1)
        return run

    monkeypatch.setattr(bucket, "reserve", slow)
    throttle = Throttle(db, 1000)
    for _ in range(3):
        assert await asyncio.wait_for(throttle.slot(), 5)


async def test_how_long_a_reservation_takes_is_counted_from_when_it_was_asked_for(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the row is locked too: the connection may be long in coming."""
    reserve, wishes = bucket.reserve, []

    def slow(connection: sa.Connection, rate: float, wish: bucket.Wish, clock: Callable[[], datetime]) -> bucket.Run:
        wishes.append(wish)
        time.sleep(0.06)
        return reserve(connection, rate, wish, clock)

    monkeypatch.setattr(bucket, "reserve", slow)
    throttle = Throttle(db, 100)
    while len(wishes) < 2:
        assert await asyncio.wait_for(throttle.slot(), 5)
    assert wishes[1].seconds >= 3 * 0.06


async def test_a_clock_that_was_put_back_is_told_and_holds_nobody_up(db: Database) -> None:
    throttle, other = Throttle(db, 100), Throttle(db, 100)
    assert await throttle.slot()
    with structlog.testing.capture_logs() as logged:
        for seconds in (40, 0.5):  # half a second is not worth telling
            given.put_back(db, seconds)
            assert await asyncio.wait_for(Throttle(db, 100).slot(), 5)
        given.put_back(db, 40)
        await other.rest(1, is_limited=True)
    told = [(each["event"], each["log_level"]) for each in logged if each["event"] != "rate_limited"]
    assert told == [("clock_set_back", "warning")] * 2
    assert logged[0]["seconds"] == pytest.approx(40, abs=5)


async def test_a_fault_of_ours_is_raised_where_somebody_waits(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_arguments: object) -> bucket.Run:
        raise KeyError("not the store's doing")

    monkeypatch.setattr(bucket, "reserve", broken)
    with pytest.raises(KeyError):
        await asyncio.wait_for(Throttle(db, 100).slot(), 5)


def hide(db: Database, table: str, name: str) -> None:
    db.write(lambda connection: connection.execute(sa.text(f"ALTER TABLE {table} RENAME TO {name}")))
