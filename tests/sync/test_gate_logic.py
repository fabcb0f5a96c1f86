"""The gate as workers meet it: who may claim, who makes the probe, what each process learns and logs."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from structlog.testing import capture_logs

from connector.core import outage
from connector.core.outcome import Answer
from connector.outbound.gate import Gate
from connector.store import gate as stored
from connector.store import schema
from connector.store.database import Database
from tests.sync.clock import Clock

BAD = Answer(503, calls=3)
GOOD = Answer(200, b"{}", calls=1)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def gate(db: Database, clock: Clock) -> Gate:
    return Gate(db, clock)


@pytest.fixture
def other(store_url: str, clock: Clock) -> Iterator[Gate]:
    """The gate of another process on the same store."""
    db = Database(store_url)
    yield Gate(db, clock)
    db.close()


async def test_who_finds_it_open_claims(gate: Gate) -> None:
    assert await gate.passage() == "open"
    assert (gate.closed, gate.wait) == (None, 0)


async def test_what_one_process_closes_is_closed_for_all(gate: Gate, other: Gate) -> None:
    await gate.close("unauthorized", "Unauthorized request")
    assert [await gate.passage(), await other.passage()] == ["closed", "closed"]
    assert gate.closed == other.closed
    assert other.closed is not None
    assert (other.closed.reason, other.closed.message) == ("unauthorized", "Unauthorized request")


async def test_the_first_probe_comes_after_five_seconds_more_or_less(gate: Gate, clock: Clock) -> None:
    await gate.close("unreachable", "no answer")
    assert 4 <= gate.wait <= 6
    clock.move(seconds=3.9)
    assert await gate.passage() == "closed"
    clock.move(seconds=2.2)
    assert gate.wait == 0
    assert await gate.passage() == "probe"


async def test_one_process_probes_and_what_it_finds_opens_it_for_all(gate: Gate, other: Gate, clock: Clock) -> None:
    await gate.close("unreachable", "no answer")
    clock.move(seconds=6)
    assert [await other.passage(), await gate.passage(), await other.passage()] == ["probe", "closed", "closed"]
    await other.opened()
    assert [await gate.passage(), await other.passage()] == ["open", "open"]


async def test_many_claimers_of_one_process_get_one_probe(gate: Gate, clock: Clock) -> None:
    await gate.close("unreachable", "no answer")
    clock.move(seconds=6)
    passages = await asyncio.gather(*(gate.passage() for _ in range(10)))
    assert sorted(passages) == [*["closed"] * 9, "probe"]


class SlowToRead(Database):
    """Reads, and keeps what it read to itself until it may tell."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.has_read = asyncio.Event()
        self.may_tell = asyncio.Event()

    async def run_read(self, fn: Any, *args: Any, **kwargs: Any) -> Any:
        found = await super().run_read(fn, *args, **kwargs)
        self.has_read.set()
        await self.may_tell.wait()
        return found


async def test_what_was_read_before_it_closed_does_not_pass_for_newer(store_url: str, clock: Clock) -> None:
    db = SlowToRead(store_url)
    gate = Gate(db, clock)
    try:
        passing = asyncio.create_task(gate.passage())
        await db.has_read.wait()
        closing = asyncio.create_task(gate.close("unreachable", "no answer"))
        await asyncio.wait([closing], timeout=0.2)  # were nothing in its way, it would be done
        db.may_tell.set()
        assert await passing == "open"
        await closing
        assert gate.closed is not None
    finally:
        db.close()


async def test_a_probe_that_finds_it_as_bad_waits_twice_as_long(gate: Gate, clock: Clock) -> None:
    await gate.close("unauthorized", "Unauthorized request")
    clock.move(seconds=6)
    assert await gate.passage() == "probe"
    await gate.failed("redirected", "HTTP 301")
    assert await gate.passage() == "closed"
    assert gate.closed is not None
    assert (gate.closed.reason, gate.closed.probes) == ("redirected", 1)
    assert 8 <= gate.wait <= 12


async def test_a_probe_that_made_no_call_is_there_for_the_next_who_ask(gate: Gate, other: Gate, clock: Clock) -> None:
    await gate.close("unauthorized", "")
    clock.move(seconds=6)
    assert await gate.passage() == "probe"
    await gate.unused()
    assert await other.passage() == "probe"


@pytest.mark.parametrize(
    ("answer", "taken", "next_passage"),
    [
        (GOOD, True, "open"),
        (Answer(400, b'{"meta":{"error":"no"}}', calls=1), True, "open"),
        (Answer(429, retry_after=60, calls=1), True, "open"),
        (BAD, False, "closed"),
        (Answer(401, calls=1), False, "closed"),
        (Answer(None, problem="timeout", calls=1), False, "closed"),
        (Answer(None, problem="lease_ran_out"), False, "probe"),
    ],
)
async def test_the_answer_to_the_probe_decides(
    gate: Gate, clock: Clock, answer: Answer, taken: bool, next_passage: str
) -> None:
    await gate.close("unreachable", "no answer")
    clock.move(seconds=6)
    assert await gate.passage() == "probe"
    assert await gate.probed(answer) is taken
    assert await gate.passage() == next_passage


async def test_an_answer_to_a_probe_that_is_anothers_by_now_lets_nobody_claim(
    gate: Gate, other: Gate, clock: Clock
) -> None:
    await gate.close("unreachable", "no answer")
    clock.move(seconds=6)
    await gate.passage()
    await other.ask()
    assert await other.passage() == "probe"
    assert not await gate.probed(GOOD)
    assert await other.probed(GOOD)


async def test_after_an_edit_of_the_settings_the_next_passage_is_a_probe(gate: Gate, other: Gate, clock: Clock) -> None:
    await gate.close("unauthorized", "")
    await other.ask()
    assert await gate.passage() == "probe"
    await gate.opened()
    assert await other.passage() == "open"


async def test_asking_of_an_open_gate_changes_nothing(gate: Gate) -> None:
    await gate.ask()
    assert await gate.passage() == "open"


async def test_a_probe_of_before_the_edit_opens_nothing(gate: Gate, other: Gate, clock: Clock) -> None:
    await gate.close("unauthorized", "")
    clock.move(seconds=6)
    assert await gate.passage() == "probe"
    await other.ask()
    await gate.opened()
    assert gate.closed is not None
    assert await other.passage() == "probe"


async def test_a_process_that_starts_while_it_is_closed_waits_like_the_others(gate: Gate, other: Gate) -> None:
    await gate.close("server_errors", "")
    assert await other.passage() == "closed"


async def test_failing_calls_of_two_people_say_what_to_close_it_with(gate: Gate) -> None:
    assert gate.saw(BAD, "u1") is None
    found = gate.saw(BAD, "u2")
    assert found == outage.Outage("server_errors", "6 of the last 6 tries failed, the last one: HTTP 503")
    await gate.close(*found)
    assert await gate.passage() == "closed"


async def test_what_failed_before_it_opened_is_forgotten_in_every_process(
    gate: Gate, other: Gate, clock: Clock
) -> None:
    for each in (gate, other):
        each.saw(BAD, "u1")
        each.saw(BAD, "u2")
    await gate.close("server_errors", "")
    assert await other.passage() == "closed"
    clock.move(seconds=6)
    assert await gate.passage() == "probe"
    await gate.opened()
    assert await other.passage() == "open"
    assert [each.saw(Answer(503, calls=1), "u3") for each in (gate, other)] == [None, None]


async def test_each_process_logs_once_that_it_closed_why_and_for_how_long(
    gate: Gate, other: Gate, clock: Clock
) -> None:
    with capture_logs() as logged:
        await gate.close("server_errors", "6 of the last 6 tries failed")
        since = clock.now.isoformat()
        for _ in range(3):
            await gate.close("server_errors", "7 of the last 7 tries failed")
            await gate.passage()
            await other.passage()
    said: dict[str, Any] = {"component": "worker", "reason": "server_errors", "since": since, "log_level": "error"}
    assert logged == [
        {"event": "gate_closed", "what": "6 of the last 6 tries failed", **said},
        {"event": "gate_closed", "what": "7 of the last 7 tries failed", **said},
    ]
    with capture_logs() as logged:
        clock.move(seconds=90)
        await gate.passage()
        await gate.opened()
        for _ in range(3):
            await gate.passage()
            await other.passage()
    opened = {"component": "worker", "reason": "server_errors", "after_seconds": 90.0, "log_level": "info"}
    assert logged == [{"event": "gate_opened", **opened}] * 2


async def test_another_reason_is_logged_too(gate: Gate, clock: Clock) -> None:
    with capture_logs() as logged:
        await gate.close("unreachable", "no answer")
        clock.move(seconds=6)
        await gate.passage()
        await gate.failed("unreachable", "no answer")
        clock.move(seconds=12)
        await gate.passage()
        await gate.failed("unauthorized", "Unauthorized request")
    assert [each["reason"] for each in logged] == ["unreachable", "unauthorized"]


async def test_a_store_that_cannot_be_asked_is_the_callers_to_see(db: Database, gate: Gate) -> None:
    db.write(schema.gate.drop)
    try:
        with pytest.raises(sa.exc.DBAPIError):
            await gate.passage()
        with pytest.raises(sa.exc.DBAPIError):
            await gate.close("unreachable", "")
        assert gate.closed is None
    finally:
        db.write(schema.gate.create)


async def test_a_process_that_dies_with_the_probe_holds_the_others_up_for_a_minute(
    gate: Gate, other: Gate, clock: Clock
) -> None:
    await gate.close("unreachable", "")
    clock.move(seconds=6)
    assert await gate.passage() == "probe"
    clock.now += stored.LEASE - timedelta(seconds=1)
    assert await other.passage() == "closed"
    clock.move(seconds=1)
    assert await other.passage() == "probe"
    await gate.opened()
    assert await gate.passage() == "closed", "it was another's to tell by then"
