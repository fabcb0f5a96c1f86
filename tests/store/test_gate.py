"""The gate: one row for all workers of a store, and one probe at a time."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import hypothesis
import pytest
import sqlalchemy as sa
from hypothesis import stateful
from hypothesis import strategies as st

from connector.outbound.gate import Gate
from connector.store import gate, schema
from connector.store.database import Database
from tests.store import given
from tests.store.given import NOW

SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
FIRST = gate.FIRST_WAIT


def close(db: Database, reason: str = "unauthorized", at: datetime = NOW) -> gate.Closed:
    return db.write(gate.close, reason, f"said of {reason}", at, 1.0)


def fail(db: Database, token: str, at: datetime) -> gate.Closed | None:
    return db.write(gate.keep_closed, token, "unauthorized", "still", at, 1.0)


def later(at: datetime) -> datetime:
    """A clock at which the first probe is due."""
    return at + FIRST


def passage(process: Gate) -> str:
    return asyncio.run(process.passage())


def test_a_store_that_knows_of_no_gate_has_an_open_one(db: Database) -> None:
    assert db.read(gate.look) is None
    assert not db.write(gate.take_probe, "t", NOW)
    assert not db.write(gate.ask, NOW)


def test_it_says_why_and_since_when_and_the_first_probe_is_due_soon(db: Database) -> None:
    closed = close(db)
    assert closed == gate.Closed("unauthorized", "said of unauthorized", NOW, NOW + FIRST, 0)
    assert db.read(gate.look) == closed


def test_closing_again_changes_the_reason_and_keeps_the_rest(db: Database) -> None:
    close(db)
    assert db.write(gate.take_probe, "t", NOW + FIRST)
    fail(db, "t", NOW + FIRST)
    before = db.read(gate.look)
    assert before is not None
    after = close(db, "redirected", NOW + MINUTE)
    assert after == gate.Closed("redirected", "said of redirected", NOW, before.probe_at, 1)


def test_closing_again_leaves_a_probe_to_whom_it_belongs(db: Database) -> None:
    close(db)
    db.write(gate.take_probe, "t", NOW + FIRST)
    close(db, "unreachable", NOW + FIRST + SECOND)
    assert db.write(gate.open_again, "t")


def test_a_probe_is_taken_when_it_is_due_and_by_one(db: Database) -> None:
    close(db)
    assert not db.write(gate.take_probe, "early", NOW + FIRST - SECOND)
    assert db.write(gate.take_probe, "first", NOW + FIRST)
    assert not db.write(gate.take_probe, "second", NOW + FIRST)


def test_a_probe_whose_process_died_is_taken_after_its_lease_and_its_late_word_does_not_count(db: Database) -> None:
    close(db)
    db.write(gate.take_probe, "died", NOW + FIRST)
    after = NOW + FIRST + gate.LEASE
    assert not db.write(gate.take_probe, "next", after - SECOND)
    assert db.write(gate.take_probe, "next", after)
    assert not db.write(gate.open_again, "died")
    assert fail(db, "died", after) is None
    assert not db.write(gate.give_back, "died", after)
    assert db.write(gate.open_again, "next")


def test_what_opens_forgets_why_it_was_closed_and_the_next_time_begins_anew(db: Database) -> None:
    close(db)
    db.write(gate.take_probe, "a", NOW + FIRST)
    fail(db, "a", NOW + FIRST)
    db.write(gate.take_probe, "b", NOW + MINUTE)
    assert db.write(gate.open_again, "b")
    assert db.read(gate.look) is None
    nothing = dict.fromkeys(("reason", "message", "since", "probe_at", "probe_token"))
    assert given.rows(db, schema.gate) == [{"id": 1, "state": "open", "probes": 0, **nothing}]
    assert not db.write(gate.open_again, "b")
    later = NOW + 60 * MINUTE
    assert close(db, "unreachable", later) == gate.Closed("unreachable", "said of unreachable", later, later + FIRST, 0)


def test_probes_that_fail_come_at_twice_the_distance_up_to_five_minutes(db: Database) -> None:
    waits = []
    closed: gate.Closed | None = close(db)
    for number in range(9):
        assert closed is not None
        at = closed.probe_at
        assert db.write(gate.take_probe, str(number), at)
        closed = fail(db, str(number), at)
        assert closed is not None
        assert (closed.reason, closed.message, closed.since, closed.probes) == (
            "unauthorized",
            "still",
            NOW,
            number + 1,
        )
        waits.append((closed.probe_at - at).total_seconds())
    assert waits == [10, 20, 40, 80, 160, 300, 300, 300, 300]
    assert gate.wait(10**9) == gate.LAST_WAIT


def test_jitter_spreads_probes(db: Database) -> None:
    assert db.write(gate.close, "unreachable", "", NOW, 0.8).probe_at == NOW + 4 * SECOND
    db.write(gate.take_probe, "t", NOW + FIRST)
    kept = db.write(gate.keep_closed, "t", "unreachable", "", NOW, 1.2)
    assert kept is not None
    assert kept.probe_at == NOW + 12 * SECOND


def test_a_probe_that_made_no_call_is_given_back_and_changes_nothing(db: Database) -> None:
    close(db)
    db.write(gate.take_probe, "t", NOW + FIRST)
    assert db.write(gate.give_back, "t", NOW + FIRST)
    found = db.read(gate.look)
    assert found is not None
    assert (found.probes, found.probe_at) == (0, NOW + FIRST)
    assert db.write(gate.take_probe, "next", NOW + FIRST)


def test_asking_makes_a_probe_due_at_once_and_begins_the_waits_anew(db: Database) -> None:
    close(db)
    for number in range(4):
        at = NOW + number * 5 * MINUTE + FIRST
        assert db.write(gate.take_probe, str(number), at)
        fail(db, str(number), at)
    asked = at + SECOND
    assert not db.write(gate.take_probe, "early", asked)
    assert db.write(gate.ask, asked)
    assert db.write(gate.take_probe, "asked", asked)
    kept = fail(db, "asked", asked)
    assert kept is not None
    assert (kept.since, kept.probe_at) == (NOW, asked + 2 * FIRST)


def test_asking_makes_no_account_of_a_probe_under_way(db: Database) -> None:
    close(db)
    db.write(gate.take_probe, "with the old key", NOW + FIRST)
    db.write(gate.ask, NOW + FIRST)
    assert fail(db, "with the old key", NOW + FIRST) is None
    assert db.write(gate.take_probe, "with the new key", NOW + FIRST)


def test_of_many_who_reach_for_the_probe_at_once_one_gets_it(db: Database) -> None:
    for round_ in range(10):
        at = NOW + round_ * 10 * MINUTE
        close(db, at=at)
        got = given.at_once([partial(db.write, gate.take_probe, str(number), at + FIRST) for number in range(4)])
        assert Counter(got) == {True: 1, False: 3}
        assert db.write(gate.open_again, str(got.index(True)))


def test_two_processes_race_for_the_probe_and_one_makes_it(db: Database, store_url: str) -> None:
    another = Database(store_url)
    try:
        for round_ in range(10):
            at = NOW + round_ * 10 * MINUTE
            close(db, at=at)
            gates = [Gate(store, partial(later, at)) for store in (db, another)]
            passages = given.at_once([partial(passage, each) for each in gates])
            assert sorted(passages) == ["closed", "probe"]
            winner = gates[passages.index("probe")]
            asyncio.run(winner.opened())
            assert [passage(each) for each in gates] == ["open", "open"]
    finally:
        another.close()


def test_those_who_close_it_at_once_close_it_once(db: Database) -> None:
    reasons = ("unauthorized", "redirected", "unreachable", "server_errors")
    closed = given.at_once([partial(close, db, reason) for reason in reasons])
    assert {each.reason for each in closed} == set(reasons)
    assert len(given.rows(db, schema.gate)) == 1
    found = db.read(gate.look)
    assert found in closed


@dataclass
class Process:
    """What one process holds; a token of a probe it took."""

    token: str | None = None


@dataclass
class Expected:
    """The gate as its rules say; `holder` is the token that counts."""

    reason: str | None = None
    since: datetime = NOW
    probe_at: datetime = NOW
    holder: str | None = None
    probes: int = 0


@dataclass
class Rules(stateful.RuleBasedStateMachine):
    """Three processes that close, probe, die, wake up late and are edited, in any order."""

    db: Database
    now: datetime = NOW
    expected: Expected = field(default_factory=Expected)
    processes: list[Process] = field(default_factory=lambda: [Process() for _ in range(3)])
    tokens: int = 0

    def __post_init__(self) -> None:
        super().__init__()
        self.db.write(lambda connection: connection.execute(sa.delete(schema.gate)))

    __hash__ = object.__hash__

    @stateful.rule(seconds=st.sampled_from([1, 5, 10, 59, 60, 61, 300]))
    def time_goes_by(self, seconds: int) -> None:
        self.now += seconds * SECOND

    @stateful.rule(reason=st.sampled_from(["unauthorized", "unreachable", "server_errors"]))
    def somebody_closes(self, reason: str) -> None:
        self.db.write(gate.close, reason, "", self.now, 1.0)
        if self.expected.reason is None:
            self.expected = Expected(since=self.now, probe_at=self.now + FIRST)
        self.expected.reason = reason

    @stateful.rule(number=st.integers(0, 2))
    def one_reaches_for_the_probe(self, number: int) -> None:
        self.tokens += 1
        token = str(self.tokens)
        got = self.db.write(gate.take_probe, token, self.now)
        assert got is (self.expected.reason is not None and self.expected.probe_at <= self.now)
        if got:
            self.processes[number].token = self.expected.holder = token
            self.expected.probe_at = self.now + gate.LEASE

    @stateful.rule(number=st.integers(0, 2), what=st.sampled_from(["open_again", "keep_closed", "give_back"]))
    def one_tells_what_its_probe_found(self, number: int, what: str) -> None:
        process, expected = self.processes[number], self.expected
        if process.token is None:
            return
        token, process.token = process.token, None
        counts = expected.reason is not None and expected.holder == token
        more: dict[str, tuple[Any, ...]] = {
            "open_again": (),
            "keep_closed": ("redirected", "", self.now, 1.0),
            "give_back": (self.now,),
        }
        assert bool(self.db.write(getattr(gate, what), token, *more[what])) is counts
        if not counts:
            return
        expected.holder = None
        if what == "open_again":
            self.expected = Expected()
        elif what == "give_back":
            expected.probe_at = self.now
        else:
            expected.reason, expected.probes = "redirected", expected.probes + 1
            expected.probe_at = self.now + min(FIRST * 2**expected.probes, gate.LAST_WAIT)

    @stateful.rule(number=st.integers(0, 2))
    def one_dies(self, number: int) -> None:
        self.processes[number].token = None

    @stateful.rule()
    def the_settings_are_edited(self) -> None:
        assert self.db.write(gate.ask, self.now) is (self.expected.reason is not None)
        self.expected.probe_at, self.expected.holder, self.expected.probes = self.now, None, 0

    @stateful.invariant()
    def it_is_as_the_rules_say(self) -> None:
        found, expected = self.db.read(gate.look), self.expected
        if expected.reason is None:
            assert found is None
        else:
            assert found is not None
            assert (found.reason, found.since) == (expected.reason, expected.since)
            assert (found.probe_at, found.probes) == (expected.probe_at, expected.probes)

    @stateful.invariant()
    def nobody_waits_for_a_probe_longer_than_five_minutes(self) -> None:
        found = self.db.read(gate.look)
        assert found is None or found.probe_at - self.now <= gate.LAST_WAIT


@pytest.mark.timeout(300)
def test_whatever_happens_in_whatever_order_it_follows_its_rules(db: Database) -> None:
    stateful.run_state_machine_as_test(  # type: ignore[no-untyped-call]
        lambda: Rules(db),
        settings=hypothesis.settings(
            max_examples=25, stateful_step_count=30, deadline=None, derandomize=True, database=None
        ),
    )
