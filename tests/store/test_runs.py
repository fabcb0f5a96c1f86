"""Full passes: asked for, one at a time in a store, and taken over from whoever died."""

from __future__ import annotations

from datetime import timedelta
from functools import partial

import pytest

from connector.store import runs, schema
from connector.store.database import Database
from tests.store import given
from tests.store.given import NOW
from tests.store.meanwhile import other

MINUTE = timedelta(minutes=1)


def states(db: Database) -> list[tuple[str, str | None]]:
    found = given.rows(db, schema.runs, "state", "lease")
    return [(state, lease) for state, lease in found]


def test_asking_twice_is_asking_once(db: Database) -> None:
    assert not db.read(runs.asked, NOW)
    db.write(runs.ask, NOW)
    db.write(runs.ask, NOW + MINUTE)
    assert db.read(runs.asked, NOW)
    assert states(db) == [("asked", None)]


def test_a_pass_that_begins_answers_what_was_asked_and_not_what_is_asked_later(db: Database) -> None:
    db.write(runs.ask, NOW)
    assert db.write(runs.begin, "a", NOW)
    assert not db.read(runs.asked, NOW)
    db.write(runs.ask, NOW)
    assert db.read(runs.asked, NOW)
    db.write(runs.finish, "a", "done", {}, NOW)
    assert db.read(runs.asked, NOW)
    assert db.write(runs.begin, "b", NOW)
    assert not db.read(runs.asked, NOW)
    db.write(runs.finish, "b", "held", {}, NOW)
    assert states(db) == [("done", "a"), ("held", "b")]


@pytest.mark.parametrize("end", ["stopped", "failed", "killed"])
def test_what_was_asked_is_asked_still_after_a_pass_that_did_not_get_to_its_end(db: Database, end: str) -> None:
    db.write(runs.ask, NOW)
    db.write(runs.begin, "a", NOW)
    after = NOW
    if end == "killed":
        after += runs.LEASE + MINUTE
    else:
        db.write(runs.finish, "a", end, {}, NOW)
    assert db.read(runs.asked, after)
    assert db.write(runs.begin, "b", after)
    assert not db.read(runs.asked, after)
    db.write(runs.finish, "a", "done", {}, after)
    assert ("asked", "b") in states(db), "of the pass that was given up as lost it is no more"
    db.write(runs.finish, "b", "done", {}, after)
    assert not db.read(runs.asked, after)


def test_a_pass_for_some_users_answers_nothing(db: Database) -> None:
    db.write(runs.ask, NOW)
    assert db.write(runs.begin, "a", NOW, answers=False)
    db.write(runs.finish, "a", "done", {}, NOW)
    assert db.read(runs.asked, NOW)


@pytest.mark.parametrize("store_kind", ["postgresql"], indirect=True)
def test_what_is_asked_again_is_not_answered_by_a_pass_that_begins_before_it_is_committed(
    store_url: str, db: Database
) -> None:
    db.write(runs.ask, NOW)
    with other(db, store_url) as process:
        with process.db.transaction() as asking:
            runs.ask(asking, NOW)
            begins = process.begin(lambda: db.write(runs.begin, "a", NOW))
            has_begun = begins.done()
        assert process.results() == [True]
    db.write(runs.finish, "a", "done", {}, NOW)
    assert db.read(runs.asked, NOW) == has_begun, "what begins afterwards has seen what the asker wrote"


def test_one_pass_runs_at_a_time(db: Database) -> None:
    assert db.write(runs.begin, "a", NOW)
    db.write(runs.ask, NOW)
    assert not db.write(runs.begin, "b", NOW + runs.LEASE)
    assert db.read(runs.asked, NOW), "a pass that did not begin answers nothing"
    db.write(runs.finish, "a", "done", {"changed": 3}, NOW + MINUTE)
    assert db.write(runs.begin, "b", NOW + MINUTE)


def test_a_pass_that_died_is_taken_over_when_its_lease_ran_out(db: Database) -> None:
    db.write(runs.begin, "died", NOW)
    after = NOW + runs.LEASE + MINUTE
    assert db.write(runs.begin, "next", after)
    assert states(db) == [("lost", "died"), ("running", "next")]
    db.write(runs.finish, "next", "done", {}, after)
    assert [run["state"] for run in db.read(runs.last, 9)] == ["done", "lost"]


def test_a_pass_that_was_taken_over_does_not_end_the_one_that_runs(db: Database) -> None:
    db.write(runs.begin, "slow", NOW)
    after = NOW + runs.LEASE + MINUTE
    db.write(runs.begin, "next", after)
    db.write(runs.finish, "slow", "done", {}, after)
    assert states(db) == [("lost", "slow"), ("running", "next")]
    assert not db.write(runs.begin, "third", after + runs.LEASE / 2)


def test_a_pass_that_renews_its_lease_is_not_taken_over(db: Database) -> None:
    db.write(runs.begin, "a", NOW)
    assert db.write(runs.renew, "a", NOW + runs.LEASE)
    assert not db.write(runs.begin, "b", NOW + runs.LEASE + MINUTE / 2)
    after = NOW + 2 * runs.LEASE + MINUTE
    assert db.write(runs.begin, "b", after)
    assert not db.write(runs.renew, "a", after), "it was given up as lost, and has to stop"


def test_the_last_passes_are_told_newest_first_with_what_they_found(db: Database) -> None:
    for number in range(3):
        at = NOW + number * MINUTE
        db.write(runs.begin, str(number), at)
        db.write(runs.finish, str(number), "held" if number else "done", {"changed": number}, at + MINUTE)
    db.write(runs.ask, NOW)
    found = db.read(runs.last, 2)
    assert [(run["state"], run["counts"], run["started_at"], run["finished_at"]) for run in found] == [
        ("held", {"changed": 2}, NOW + 2 * MINUTE, NOW + 3 * MINUTE),
        ("held", {"changed": 1}, NOW + 1 * MINUTE, NOW + 2 * MINUTE),
    ]


def test_of_those_who_begin_at_once_one_does(store_url: str, db: Database) -> None:
    stores = [Database(store_url) for _ in range(6)]
    begun = given.at_once(
        [partial(each.write, runs.begin, f"lease {number}", NOW) for number, each in enumerate(stores)]
    )
    for each in stores:
        each.close()
    assert begun.count(True) == 1
    assert [state for state, _ in states(db)] == ["running"]
