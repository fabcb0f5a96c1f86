"""What the guard holds: the list behind each hash stays as it was when a person saw it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from connector.core import guard
from connector.outbound import full_pass, holding
from connector.outbound.many_ids import ManyIds
from connector.store import held, schema
from connector.store.database import Database
from connector.store.held import CREATE
from tests.store import given
from tests.store.given import NOW
from tests.store.meanwhile import before, other

HASH = "settings"


@pytest.fixture(autouse=True)
def _everyone(db: Database) -> None:
    given.have(db, *(given.user(f"U{number}") for number in range(6)))


def enter(db: Database, *user_ids: str) -> int:
    hold_id = db.read(held.next_id)
    db.write(held.enter, CREATE, user_ids, hold_id)
    return hold_id


def hold(db: Database, hold_id: int, count: int, now: datetime = NOW, settings_hash: str = HASH) -> held.Hold:
    return db.write(
        held.open_hold,
        hold_id=hold_id,
        what=CREATE,
        reason="max_creates",
        count=count,
        allowed=1,
        settings_hash=settings_hash,
        now=now,
    )


def listed(db: Database, after: str = "", limit: int = 10) -> list[str]:
    return db.read(held.listed, CREATE, after, limit)


def test_an_empty_store_holds_nothing(db: Database) -> None:
    assert listed(db) == []
    assert db.read(held.current) == []
    assert db.read(held.next_id) == 1


def test_a_hold_comes_back_as_it_was_opened(db: Database) -> None:
    opened = hold(db, enter(db, "U1", "U2"), 2)
    assert db.read(held.current, CREATE) == [opened]
    assert db.read(held.by_hash, opened.hash) == [opened]
    assert db.read(held.by_hash, opened.hash[:3]) == [opened]
    assert db.read(held.by_hash, "%") == []
    assert opened.since == NOW


def test_the_list_behind_a_hash_does_not_grow_with_who_comes_later(db: Database) -> None:
    first = hold(db, enter(db, "U1", "U2"), 2)
    second = hold(db, enter(db, "U3", "U0"), 4, NOW + timedelta(minutes=5))
    assert db.read(held.approvable, first, 10) == ["U1", "U2"]
    assert db.read(held.approvable, second, 10) == ["U0", "U1", "U2", "U3"]
    assert db.read(held.approvable, second, 3) == ["U0", "U1", "U2"]
    assert db.read(held.current) == [second]
    assert listed(db) == ["U0", "U1", "U2", "U3"]


def test_who_left_the_list_is_not_approvable_and_counts_afresh_when_they_come_back(db: Database) -> None:
    first = hold(db, enter(db, "U1", "U2"), 2)
    db.write(held.leave, CREATE, ["U1"])
    assert db.read(held.approvable, first, 10) == ["U2"]
    enter(db, "U1")
    assert db.read(held.approvable, first, 10) == ["U2"]
    db.write(held.leave, CREATE, [])
    assert listed(db) == ["U1", "U2"]


def test_the_next_id_is_past_every_hold_and_everyone_who_entered_for_one_that_never_opened(db: Database) -> None:
    hold(db, enter(db, "U1"), 1)
    assert db.read(held.next_id) == 2
    db.write(held.enter, CREATE, ["U2"], 2)
    assert db.read(held.next_id) == 3


def test_a_hold_is_valid_for_a_day_and_for_the_settings_it_was_made_under(db: Database) -> None:
    opened = hold(db, 1, 0)
    assert opened.valid(HASH, NOW + held.VALID - timedelta(microseconds=1))
    assert not opened.valid(HASH, NOW + held.VALID)
    assert not opened.valid("other settings", NOW)


def test_a_new_hold_sweeps_away_those_that_are_too_old_and_keeps_their_users_listed(db: Database) -> None:
    old = hold(db, enter(db, "U1"), 1)
    young = hold(db, enter(db, "U2"), 2, NOW + timedelta(hours=1))
    newest = hold(db, enter(db, "U3"), 3, NOW + held.VALID)
    assert db.read(held.by_hash, old.hash) == []
    assert db.read(held.by_hash, young.hash) == [young]
    assert db.read(held.approvable, newest, 10) == ["U1", "U2", "U3"]


def test_holds_of_the_same_moment_have_hashes_of_their_own(db: Database) -> None:
    assert len({hold(db, number, 0).hash for number in range(1, 20)}) == 19


def test_a_recount_changes_only_how_many_there_are_and_how_many_may_go(db: Database) -> None:
    opened = hold(db, enter(db, "U1", "U2"), 2)
    db.write(held.recount, opened.id, 1, 5)
    columns = given.rows(db, schema.holds, "hash", "count", "allowed", "since")
    assert columns == [(opened.hash, 1, 5, NOW)]


def test_the_list_comes_in_pages_and_any_of_it_by_name(db: Database) -> None:
    enter(db, *(f"U{number}" for number in range(5)))
    db.write(held.enter, held.DELETE, ["U5"], 9)
    assert (listed(db, limit=2), listed(db, "U1", 2), listed(db, "U4")) == (["U0", "U1"], ["U2", "U3"], [])
    assert db.read(held.among, CREATE, ["U1", "U5", "nobody"]) == {"U1"}


def test_who_has_been_entered_for_the_next_hold_stays_listed_when_the_last_one_is_over(db: Database) -> None:
    first = hold(db, enter(db, "U1", "U2"), 2)
    next_id = enter(db, "U3", "U4")
    db.write(held.take_off, CREATE, ["U1", "U2"])
    assert (db.read(held.by_hash, first.hash), listed(db)) == ([], ["U3", "U4"])
    second = hold(db, next_id, 2)
    assert db.read(held.approvable, second, 10) == ["U3", "U4"]


def held_by_a_pass(db: Database, *user_ids: str, turn: Callable[[], datetime] = lambda: NOW) -> held.Hold:
    wanted = ManyIds()
    wanted.add(user_ids)
    verdict = guard.creates(waiting=len(user_ids), released=0, limit=1, suspicion=None)
    return holding.hold(db, given.SETTINGS, CREATE, wanted, verdict, turn)


def test_whom_a_pass_entered_before_it_was_stopped_is_on_the_list_of_the_next(db: Database) -> None:
    first = held_by_a_pass(db, "U1", "U2")

    def stopped() -> datetime:
        if len(listed(db)) == 4:
            raise full_pass.CutShort
        return NOW

    with pytest.raises(full_pass.CutShort):
        held_by_a_pass(db, "U1", "U2", "U3", "U4", turn=stopped)
    second = held_by_a_pass(db, "U1", "U2", "U3", "U4")
    assert (db.read(held.approvable, second, 9), db.read(held.current)) == (["U1", "U2", "U3", "U4"], [second])
    assert second.hash != first.hash
    assert held_by_a_pass(db, "U1", "U2", "U4") == replace(second, count=3)


@pytest.mark.parametrize("store_kind", ["postgresql"], indirect=True)
def test_a_hold_that_is_approved_while_a_pass_counts_it_anew_stops_no_pass(store_url: str, db: Database) -> None:
    first = held_by_a_pass(db, "U1", "U2")
    with other(db, store_url) as process:

        def approved() -> None:
            process.db.write(held.take_off, CREATE, ["U1", "U2"])

        with before(db, "UPDATE holds", approved):
            assert held_by_a_pass(db, "U1", "U2") == first
    assert db.read(held.current) == []


def test_clear_leaves_nothing_of_the_kind(db: Database) -> None:
    opened = hold(db, enter(db, "U1", "U2"), 2)
    db.write(held.clear, CREATE)
    assert listed(db) == []
    assert db.read(held.by_hash, opened.hash) == []
    assert db.read(held.current) == []
