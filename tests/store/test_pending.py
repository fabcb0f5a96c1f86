"""Pending rows: who is due, whose they are while in flight, and what ends that."""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import partial
from typing import Any

import pytest
import sqlalchemy as sa

from connector.store import backlog, leases, pending, schema
from connector.store.database import Database
from connector.store.leases import Failure, Wait
from connector.store.pending import AT_ONCE, CHANGED, FULL_PASS
from tests.store import given
from tests.store.given import NOW
from tests.store.meanwhile import before, other

SECOND = timedelta(seconds=1)
LEASE = timedelta(seconds=60)
LATER = NOW + 10 * SECOND


@pytest.fixture(autouse=True)
def _everyone(db: Database) -> None:
    given.have(db, *(given.user(f"U{number}") for number in range(10)))


def mark(db: Database, *user_ids: str, at: datetime = NOW, priority: int = CHANGED) -> None:
    db.write(pending.mark, user_ids, at, priority)


def claim(db: Database, lease: str, at: datetime = NOW, limit: int = 100) -> list[str]:
    """Whom this lease got, by name."""
    return sorted(each.user_id for each in db.write(leases.claim, lease, at, at + LEASE, limit))


def rows(db: Database, *names: str) -> list[Any]:
    return given.rows(db, schema.pending, *names)


def test_a_claim_takes_the_most_urgent_first_then_the_oldest(db: Database) -> None:
    mark(db, "U1", at=NOW, priority=FULL_PASS)
    mark(db, "U2", at=NOW + 2 * SECOND)
    mark(db, "U3", at=NOW + 1 * SECOND)
    mark(db, "U4", at=NOW - 5 * SECOND, priority=FULL_PASS)
    assert [claim(db, f"lease {number}", LATER, 1) for number in range(5)] == [["U3"], ["U2"], ["U4"], ["U1"], []]


def test_a_claim_takes_no_more_than_its_limit_and_nobody_who_is_not_due(db: Database) -> None:
    mark(db, "U1", "U2", "U3")
    mark(db, "U4", at=NOW + SECOND)
    assert len(claim(db, "a", NOW, 2)) == 2
    assert len(claim(db, "b", NOW, 2)) == 1
    assert claim(db, "c", NOW) == []
    assert claim(db, "d", NOW + SECOND) == ["U4"]


def test_a_claim_tells_what_a_delivery_must_know(db: Database) -> None:
    mark(db, "U1")
    db.write(pending.release, ["U2"], "guard", NOW)
    claim(db, "a")
    db.write(leases.postpone, "a", [Failure("U1", LATER, "bad_request"), Failure("U2", LATER, "timeout")], NOW)
    found = {each.user_id: each for each in db.write(leases.claim, "b", LATER, LATER + LEASE, 10)}
    assert (found["U1"].attempts, found["U1"].failing_since, found["U1"].release) == (1, NOW, None)
    assert (found["U2"].attempts, found["U2"].failing_since, found["U2"].release) == (1, NOW, "guard")


def test_a_lease_hides_its_users_until_it_runs_out(db: Database) -> None:
    mark(db, "U1", "U2")
    assert claim(db, "a") == ["U1", "U2"]
    assert claim(db, "b", NOW + LEASE - timedelta(microseconds=1)) == []
    assert claim(db, "b", NOW + LEASE) == ["U1", "U2"]
    assert db.write(leases.still_ours, {"U1": "a", "U2": "a"}) == set()
    assert db.write(leases.still_ours, {"U1": "a", "U2": "b", "U3": "b"}) == {"U2"}
    assert db.write(leases.still_ours, {"U1": "b", "U2": "b"}) == {"U1", "U2"}


def test_whether_all_are_ours_is_said_at_once(db: Database) -> None:
    mark(db, "U1", "U2", "U3")
    assert claim(db, "a") == ["U1", "U2", "U3"]
    assert db.write(leases.all_ours, "a", ["U1", "U3"])
    assert not db.write(leases.all_ours, "b", ["U1"])
    db.write(leases.give_back, "a", NOW, ["U3"])
    assert not db.write(leases.all_ours, "a", ["U1", "U3"])


def test_who_is_finished_leaves_the_backlog(db: Database) -> None:
    mark(db, "U1", "U2")
    claim(db, "a")
    db.write(leases.finish, "a", ["U1"], LATER)
    assert rows(db, "user_id", "lease") == [("U2", "a")]


def test_a_change_in_flight_survives_the_finish_and_is_due_at_once(db: Database) -> None:
    mark(db, "U1", "U2", priority=FULL_PASS)
    claim(db, "a")
    mark(db, "U1", at=NOW + SECOND)
    assert claim(db, "b", NOW + 2 * SECOND) == []
    db.write(leases.finish, "a", ["U1", "U2"], LATER)
    expected = given_row("U1", due_at=LATER, priority=CHANGED)
    assert rows(db) == [expected]
    assert claim(db, "c", LATER) == ["U1"]
    db.write(leases.finish, "c", ["U1"], LATER)
    assert rows(db) == []


def given_row(user_id: str, **more: Any) -> dict[str, Any]:
    """A row of someone who is due, with nothing behind them."""
    return {
        "user_id": user_id,
        "due_at": NOW,
        "priority": CHANGED,
        "lease": None,
        "changed": False,
        "attempts": 0,
        "failing_since": None,
        "reason": None,
        "release": None,
        "alone": False,
        "parked_at": None,
        "parked_version": None,
        "parked_hash": None,
        **more,
    }


def test_a_change_in_flight_survives_a_failure_too(db: Database) -> None:
    mark(db, "U1")
    claim(db, "a")
    mark(db, "U1", at=NOW + SECOND)
    db.write(leases.postpone, "a", [Failure("U1", NOW + LEASE, "timeout")], LATER)
    assert [(each["user_id"], each["due_at"], each["attempts"]) for each in rows(db)] == [("U1", NOW + LEASE, 1)]


def test_who_failed_is_due_again_when_told_with_the_reason_and_since_when(db: Database) -> None:
    mark(db, "U1", "U2")
    claim(db, "a")
    failures = [Failure("U1", NOW + 30 * SECOND, "timeout"), Failure("U2", NOW + 90 * SECOND, "bad_request")]
    db.write(leases.postpone, "a", failures, NOW + SECOND)
    assert rows(db, "user_id", "due_at", "reason", "attempts", "failing_since", "lease") == [
        ("U1", NOW + 30 * SECOND, "timeout", 1, NOW + SECOND, None),
        ("U2", NOW + 90 * SECOND, "bad_request", 1, NOW + SECOND, None),
    ]
    assert claim(db, "b", NOW + 40 * SECOND) == ["U1"]
    db.write(leases.postpone, "b", [Failure("U1", NOW + 99 * SECOND, "server_error")], NOW + 41 * SECOND)
    [first, _] = rows(db, "user_id", "reason", "attempts", "failing_since")
    assert first == ("U1", "server_error", 2, NOW + SECOND)


def test_finishing_forgets_past_failures(db: Database) -> None:
    mark(db, "U1")
    claim(db, "a")
    db.write(leases.postpone, "a", [Failure("U1", LATER, "timeout")], NOW)
    claim(db, "b", LATER)
    mark(db, "U1", at=LATER)
    db.write(leases.finish, "b", ["U1"], LATER)
    assert rows(db) == [given_row("U1", due_at=LATER)]


def test_a_new_change_does_not_bring_forward_a_retry(db: Database) -> None:
    mark(db, "U1", priority=FULL_PASS)
    claim(db, "a")
    db.write(leases.postpone, "a", [Failure("U1", NOW + LEASE, "timeout")], NOW)
    mark(db, "U1", at=NOW + SECOND)
    assert rows(db, "due_at", "changed", "priority", "attempts") == [(NOW + LEASE, True, CHANGED, 1)]
    assert claim(db, "b", NOW + LEASE - SECOND) == []


def test_a_less_urgent_mark_leaves_the_urgency(db: Database) -> None:
    mark(db, "U1", priority=CHANGED)
    mark(db, "U1", at=LATER, priority=FULL_PASS)
    assert rows(db, "priority", "due_at") == [(CHANGED, NOW)]


def test_ten_changes_are_one_row(db: Database) -> None:
    for _ in range(10):
        mark(db, "U1", "U2", "U1")
    assert rows(db, "user_id") == ["U1", "U2"]


def test_marking_nobody_does_nothing(db: Database) -> None:
    mark(db)
    db.write(pending.mark_mirrored, [], NOW)
    db.write(pending.release, [], "guard", NOW)
    db.write(leases.finish, "a", [], NOW)
    db.write(leases.postpone, "a", [], NOW)
    assert rows(db) == []


@pytest.mark.parametrize("ending", ["finish", "postpone", "give_back"])
def test_an_ending_applies_only_where_the_lease_is_still_ours(db: Database, ending: str) -> None:
    mark(db, "U1", "U2")
    claim(db, "late")
    assert claim(db, "new", NOW + LEASE) == ["U1", "U2"]
    taken = rows(db)
    if ending == "finish":
        db.write(leases.finish, "late", ["U1", "U2"], LATER)
    elif ending == "postpone":
        db.write(leases.postpone, "late", [Failure("U1", NOW, "timeout"), Failure("U2", NOW, "timeout")], LATER)
    else:
        db.write(leases.give_back, "late", LATER)
    assert rows(db) == taken


def test_a_finish_concerns_nobody_who_was_given_up_meanwhile(db: Database) -> None:
    mark(db, "U1")
    claim(db, "a")
    db.write(leases.give_back, "a", NOW + SECOND)
    db.write(leases.finish, "a", ["U1"], LATER)
    assert rows(db, "user_id", "lease", "due_at") == [("U1", None, NOW + SECOND)]


def test_a_claim_that_is_given_back_is_due_again_as_if_nothing_had_been(db: Database) -> None:
    mark(db, "U1", "U2")
    mark(db, "U3", at=NOW + LEASE)
    claim(db, "a")
    mark(db, "U1", at=NOW + SECOND)
    db.write(leases.give_back, "a", LATER)
    assert rows(db, "user_id", "due_at", "lease", "attempts", "changed") == [
        ("U1", LATER, None, 0, True),
        ("U2", LATER, None, 0, False),
        ("U3", NOW + LEASE, None, 0, False),
    ]
    assert claim(db, "b", LATER) == ["U1", "U2"]


def test_a_release_makes_a_user_due_and_says_who_let_them_go(db: Database) -> None:
    db.write(pending.release, ["U1"], "guard", NOW)
    assert rows(db) == [given_row("U1", priority=FULL_PASS, release="guard")]
    assert db.read(backlog.guarded) == 1
    db.write(pending.release, ["U1", "U2"], "approved", LATER)
    assert rows(db, "user_id", "release", "due_at") == [("U1", "approved", NOW), ("U2", "approved", LATER)]
    assert db.read(backlog.guarded) == 0


def test_a_release_outlives_failures_and_changes_in_flight_and_goes_with_the_row(db: Database) -> None:
    db.write(pending.release, ["U1"], "guard", NOW)
    claim(db, "a")
    db.write(leases.postpone, "a", [Failure("U1", LATER, "timeout")], NOW)
    mark(db, "U1", at=LATER)
    [found] = db.write(leases.claim, "b", LATER, LATER + LEASE, 10)
    assert found.release == "guard"
    mark(db, "U1", at=LATER)
    db.write(leases.finish, "b", ["U1"], LATER)
    assert rows(db) == [given_row("U1", due_at=LATER, release="guard")]
    claim(db, "c", LATER)
    db.write(leases.finish, "c", ["U1"], LATER)
    assert rows(db) == []


def test_an_approval_that_meets_a_user_in_flight_is_not_lost(db: Database) -> None:
    mark(db, "U1")
    claim(db, "a")
    db.write(pending.release, ["U1"], "approved", NOW)
    db.write(leases.finish, "a", ["U1"], LATER)
    [found] = db.write(leases.claim, "b", LATER, LATER + LEASE, 10)
    assert (found.user_id, found.release) == ("U1", "approved")


@pytest.mark.parametrize("how", ["fresh", "approved", "delete"])
def test_who_is_let_go_in_flight_stays_so_though_the_flight_ends_in_a_wait(db: Database, how: str) -> None:
    mark(db, "U1", "U2")
    claim(db, "a")
    if how == "fresh":
        db.write(pending.arrived, ["U1"], NOW)
    else:
        db.write(pending.release, ["U1"], how, NOW)
    waits = [Wait(user_id, NOW + timedelta(days=1), keeps_release=False) for user_id in ("U1", "U2")]
    db.write(leases.wait, "a", waits, LATER)
    [found] = db.write(leases.claim, "b", LATER, LATER + LEASE, 10)
    assert (found.user_id, found.release) == ("U1", how)


def test_who_let_a_user_go_is_forgotten_by_a_wait_in_which_nothing_came(db: Database) -> None:
    db.write(pending.release, ["U1"], "guard", NOW)
    claim(db, "a")
    db.write(leases.wait, "a", [Wait("U1", LATER, keeps_release=False)], NOW)
    assert rows(db, "release", "due_at") == [(None, LATER)]


def test_a_wait_can_keep_what_is_known_of_failures(db: Database) -> None:
    mark(db, "U1", "U2")
    claim(db, "a")
    db.write(leases.postpone, "a", [Failure(user_id, NOW, "timeout", True) for user_id in ("U1", "U2")], NOW)
    claim(db, "b")
    db.write(leases.wait, "b", [Wait("U1", LATER, keeps_failures=True), Wait("U2", LATER)], LATER)
    known = rows(db, "user_id", "attempts", "failing_since", "reason", "alone", "due_at", "lease")
    assert known == [("U1", 1, NOW, "timeout", True, LATER, None), ("U2", 0, None, None, False, LATER, None)]


def test_only_people_at_customerio_are_marked_as_mirrored(db: Database) -> None:
    given.sent(db, given.person("U1"), given.person("U3"))
    db.write(pending.mark_mirrored, ["U0", "U1", "U2", "U3"], NOW)
    assert rows(db, "user_id") == ["U1", "U3"]


def test_the_backlog_is_counted_with_the_age_of_its_oldest(db: Database) -> None:
    assert db.read(backlog.counts, NOW) == (0, 0, 0, 0, None, 0)
    mark(db, "U1", at=NOW - 3 * SECOND)
    mark(db, "U2", at=NOW - 9 * SECOND)
    assert claim(db, "a", NOW, 1) == ["U2"]
    db.write(leases.postpone, "a", [Failure("U2", LATER, "timeout")], NOW - 8 * SECOND)
    mark(db, "U3", at=NOW - 2 * SECOND)
    assert claim(db, "b", NOW, 1) == ["U1"]
    found = db.read(backlog.counts, NOW)
    assert found == backlog.Counts(due=1, waiting=2, failing=1, leased=1, oldest_at=NOW - 8 * SECOND, parked=0)


def test_concurrent_claims_never_share_a_user(store_url: str, db: Database) -> None:
    numbers = [f"V{number:04}" for number in range(600)]
    given.have(db, *(given.user(each) for each in numbers))
    mark(db, *numbers)

    def work(name: str) -> list[str]:
        own = Database(store_url)
        got: list[str] = []
        turn = 0
        while claimed := own.write(leases.claim, f"{name}-{turn}", NOW, NOW + LEASE, 17):
            got += [each.user_id for each in claimed]
            own.write(leases.finish, f"{name}-{turn}", [each.user_id for each in claimed[::2]], NOW)
            turn += 1
        own.close()
        return got

    everyone = [each for got in given.at_once([partial(work, name) for name in "abcd"]) for each in got]
    assert sorted(everyone) == numbers
    assert 0 < len(rows(db)) < len(numbers) / 2


def test_a_mark_that_meets_a_finish_under_way_is_not_lost(store_url: str, db: Database) -> None:
    """Whichever comes first: the finish sees the change, or the change makes a new row."""
    mark(db, "U1")
    claim(db, "a")
    another = Database(store_url)

    def marked() -> None:
        another.write(pending.mark, ["U1"], LATER, CHANGED)

    def finished() -> None:
        db.write(leases.finish, "a", ["U1"], LATER)

    given.at_once([marked, finished])
    another.close()
    assert rows(db, "user_id", "lease") == [("U1", None)]
    assert claim(db, "b", LATER) == ["U1"]


def fail(db: Database, *user_ids: str, at: datetime = NOW) -> None:
    """They were tried then, and are to be tried again an hour later."""
    lease = f"tried at {at}"
    claim(db, lease, at)
    failures = [Failure(user_id, at + timedelta(hours=1), "server_error") for user_id in user_ids]
    db.write(leases.postpone, lease, failures, at)


def test_what_is_due_at_once_does_not_wait_for_another_try(db: Database) -> None:
    mark(db, "U1", "U2", "U3")
    fail(db, "U1", "U2", "U3")
    mark(db, "U1", at=LATER)
    mark(db, "U2", at=LATER, priority=AT_ONCE)
    db.write(pending.release, ["U3"], "delete", LATER)
    assert claim(db, "a", LATER) == ["U2", "U3"]
    db.write(leases.finish, "a", ["U2", "U3"], LATER)
    assert [each.user_id for each in db.write(leases.claim, "b", NOW + timedelta(hours=1), LATER, 9)] == ["U1"]


def test_what_is_due_at_once_goes_before_everything_else(db: Database) -> None:
    mark(db, "U1", at=NOW - 5 * SECOND)
    mark(db, "U2", at=NOW - 9 * SECOND, priority=FULL_PASS)
    mark(db, "U3", priority=FULL_PASS)
    mark(db, "U3", priority=AT_ONCE)
    mark(db, "U3", priority=CHANGED)
    assert claim(db, "a", limit=1) == ["U3"]


def test_what_is_due_at_once_and_comes_in_flight_is_due_when_the_flight_fails(db: Database) -> None:
    mark(db, "U1", "U2")
    claim(db, "a")
    mark(db, "U1", priority=AT_ONCE)
    mark(db, "U2")
    assert claim(db, "b", LATER) == []
    due_at = NOW + timedelta(hours=1)
    db.write(leases.postpone, "a", [Failure("U1", due_at, "refused"), Failure("U2", due_at, "refused")], LATER)
    assert claim(db, "b", LATER) == ["U1"]
    db.write(leases.postpone, "b", [Failure("U1", due_at, "refused")], LATER)
    assert rows(db, "user_id", "due_at") == [("U1", due_at), ("U2", due_at)]


def test_who_waits_without_having_failed_is_looked_at_when_something_changes(db: Database) -> None:
    db.write(pending.release, ["U1", "U2"], "delete_approved", NOW)
    claim(db, "a")
    db.write(leases.wait, "a", [Wait("U1", NOW + timedelta(days=1)), Wait("U2", NOW + timedelta(days=1))], NOW)
    db.write(leases.wait, "another lease", [Wait("U1", NOW)], NOW)
    assert claim(db, "b", LATER) == []
    assert db.read(backlog.counts, LATER)[:4] == (0, 0, 0, 0)
    mark(db, "U1", at=LATER)
    (claimed,) = db.write(leases.claim, "c", LATER, LATER + LEASE, 9)
    assert (claimed.user_id, claimed.release, claimed.attempts) == ("U1", "delete_approved", 0)
    assert db.read(backlog.leaving) == 2


def test_what_comes_in_flight_is_looked_at_when_the_flight_ends_in_a_wait(db: Database) -> None:
    mark(db, "U1", "U2")
    claim(db, "a")
    mark(db, "U1", priority=AT_ONCE)
    db.write(leases.wait, "a", [Wait("U1", NOW + timedelta(days=30)), Wait("U2", NOW + timedelta(days=30))], LATER)
    assert rows(db, "user_id", "due_at", "changed") == [
        ("U1", LATER, False),
        ("U2", NOW + timedelta(days=30), False),
    ]


def test_a_renewed_lease_holds_for_longer(db: Database) -> None:
    mark(db, "U1", "U2")
    claim(db, "a")
    db.write(leases.finish, "a", ["U2"], NOW)
    assert db.write(leases.renew, "a", NOW, NOW + 2 * LEASE) == {"U1"}
    assert claim(db, "b", NOW + LEASE) == []
    assert claim(db, "b", NOW + 2 * LEASE) == ["U1"]
    assert not db.write(leases.renew, "a", NOW + 3 * LEASE, NOW + 9 * LEASE)
    assert claim(db, "c", NOW + 3 * LEASE) == ["U1"]


def test_some_of_a_claim_can_be_given_back(db: Database) -> None:
    mark(db, "U1", "U2", "U3")
    claim(db, "a")
    db.write(leases.give_back, "a", LATER, ["U1", "U3"])
    db.write(leases.give_back, "another lease", LATER, ["U2"])
    assert rows(db, "user_id", "lease", "due_at") == [
        ("U1", None, LATER),
        ("U2", "a", NOW + LEASE),
        ("U3", None, LATER),
    ]


def test_who_never_failed_can_be_claimed_before_all_others(db: Database) -> None:
    mark(db, "U1", "U2", priority=AT_ONCE)
    fail(db, "U1", "U2")
    mark(db, "U3", at=NOW + timedelta(hours=1), priority=FULL_PASS)
    due = NOW + timedelta(hours=2)
    [found] = db.write(leases.claim, "a", due, due + LEASE, 1, untried_first=True)
    assert found.user_id == "U3"


def test_who_fails_with_nobody_else_in_the_call_goes_alone_until_it_is_delivered(db: Database) -> None:
    mark(db, "U1")
    claim(db, "a")
    db.write(leases.postpone, "a", [Failure("U1", LATER, "timeout", alone=True)], NOW)
    [found] = db.write(leases.claim, "b", LATER, LATER + LEASE, 9)
    assert (found.alone, found.lease) == (True, "b")
    mark(db, "U1", at=LATER)
    db.write(leases.finish, "b", ["U1"], LATER)
    [found] = db.write(leases.claim, "c", LATER, LATER + LEASE, 9)
    assert not found.alone


def park(db: Database, *user_ids: str, at: datetime = NOW, reason: str = "refused", mapping_hash: str = "hash") -> None:
    """They are given up, with everything as it is."""
    mark(db, *user_ids, at=at)
    lease = f"given up at {at}"
    claim(db, lease, at)
    db.write(leases.park, lease, [leases.Parked(user_id, reason, 1) for user_id in user_ids], mapping_hash, at)


def test_who_is_parked_is_kept_with_the_reason_and_not_claimed(db: Database) -> None:
    park(db, "U1", "U2")
    mark(db, "U3")
    assert claim(db, "a", NOW + timedelta(days=400)) == ["U3"]
    assert rows(db, "user_id", "parked_at", "reason", "attempts", "lease")[:2] == [
        ("U1", NOW, "refused", 1, None),
        ("U2", NOW, "refused", 1, None),
    ]
    found = db.read(backlog.counts, NOW + timedelta(days=400))
    assert (found.due, found.waiting, found.failing, found.parked) == (0, 1, 0, 2)


@pytest.mark.parametrize("priority", [AT_ONCE, CHANGED])
def test_a_change_of_who_is_parked_is_a_new_try(db: Database, priority: int) -> None:
    park(db, "U1", "U2")
    mark(db, "U1", at=LATER, priority=priority)
    assert claim(db, "a", LATER) == ["U1"]
    db.write(leases.finish, "a", ["U1"], LATER)
    assert rows(db, "user_id") == ["U2"]


def test_a_release_is_a_new_try_of_who_is_parked(db: Database) -> None:
    park(db, "U1", "U2", "U3")
    db.write(pending.release, ["U1"], "delete", LATER)
    db.write(pending.arrived, ["U2"], LATER)
    claimed = db.write(leases.claim, "a", LATER, LATER + LEASE, 9)
    assert sorted((each.user_id, each.attempts) for each in claimed) == [("U1", 0), ("U2", 0)]


def test_a_pass_leaves_alone_who_is_parked_unless_they_are_others_by_now(db: Database) -> None:
    park(db, "U1", "U2")
    mark(db, "U1", "U2", at=LATER, priority=FULL_PASS)
    db.write(backlog.look_again, "hash", LATER)
    assert claim(db, "a", LATER) == []
    changed = sa.update(schema.users).where(schema.users.c.id == "U1").values(version=2)
    db.write(lambda connection: connection.execute(changed))
    db.write(backlog.look_again, "hash", LATER)
    assert claim(db, "b", LATER) == ["U1"]
    db.write(backlog.look_again, "another hash", LATER)
    assert claim(db, "c", LATER) == ["U2"]


def test_who_changed_in_flight_is_not_parked(db: Database) -> None:
    mark(db, "U1", "U2")
    claim(db, "a")
    mark(db, "U1", at=NOW + SECOND)
    db.write(leases.park, "a", [leases.Parked("U1", "refused", 1), leases.Parked("U2", "refused", 1)], "hash", LATER)
    assert rows(db, "user_id", "parked_at", "due_at") == [("U1", None, LATER), ("U2", LATER, LATER)]


def test_parking_applies_only_where_the_lease_is_still_ours(db: Database) -> None:
    mark(db, "U1")
    claim(db, "late")
    claim(db, "new", NOW + LEASE)
    taken = rows(db)
    db.write(leases.park, "late", [leases.Parked("U1", "refused", 1)], "hash", LATER)
    db.write(leases.park, "new", [], "hash", LATER)
    assert rows(db) == taken


def test_parked_users_are_replayed_by_reason_user_and_time(db: Database) -> None:
    park(db, "U1", "U2")
    park(db, "U3", reason="timeout")
    park(db, "U4", at=LATER)

    def replay(reason: str | None = None, user_ids: list[str] | None = None, since: datetime | None = None) -> int:
        return db.write(backlog.replay, LATER, reason=reason, user_ids=user_ids, since=since)

    assert replay(reason="timeout") == 1
    assert claim(db, "a", LATER) == ["U3"]
    assert replay(since=LATER) == 1
    assert claim(db, "b", LATER) == ["U4"]
    assert replay(user_ids=["U2", "U9"]) == 1
    assert claim(db, "c", LATER) == ["U2"]
    assert replay() == 1
    assert claim(db, "d", LATER) == ["U1"]
    assert replay() == 0


def test_a_parked_create_does_not_count_as_on_its_way(db: Database) -> None:
    db.write(pending.release, ["U1", "U2"], "guard", NOW)
    claim(db, "a")
    db.write(leases.park, "a", [leases.Parked("U1", "refused", 1)], "hash", NOW)
    assert db.read(backlog.guarded) == 1


def test_a_lease_that_ran_out_is_not_renewed_for_those_whom_nobody_has_taken_yet(db: Database) -> None:
    mark(db, "U1", "U2")
    claim(db, "a")
    assert len(claim(db, "b", NOW + LEASE, limit=1)) == 1
    assert not db.write(leases.renew, "a", NOW + LEASE, NOW + 2 * LEASE)
    assert len(claim(db, "c", NOW + LEASE)) == 1


def test_of_whom_a_lease_ran_out_nobody_knows_what_was_sent(db: Database) -> None:
    given.sent(db, given.person("U1"), given.person("U2"))
    mark(db, "U1", "U2", "U3")
    claim(db, "a")
    db.write(leases.give_back, "a", NOW, ["U2"])
    claim(db, "b", NOW + LEASE)
    assert given.rows(db, schema.mirror, "user_id", "unsure") == [("U1", "*"), ("U2", "")]


@pytest.mark.parametrize("store_kind", ["postgresql"], indirect=True)
def test_whose_lease_ran_out_while_somebody_marked_them_is_not_taken_without_a_word_of_it(
    store_url: str, db: Database
) -> None:
    """The row is locked when it is looked for leases that ran out, and free when it is looked for who is due."""
    given.sent(db, given.person("U1"), given.person("U2"))
    mark(db, "U1", "U2")
    claim(db, "a")
    with other(db, store_url) as process, process.db.transaction() as marking:
        pending.mark(marking, ["U1"], NOW + LEASE, CHANGED)
        with before(db, "WITH due AS", marking.commit):
            assert claim(db, "b", NOW + LEASE) == ["U2"]
    assert claim(db, "c", NOW + LEASE) == ["U1"]
    assert given.rows(db, schema.mirror, "user_id", "unsure") == [("U1", "*"), ("U2", "*")]


@pytest.mark.parametrize("store_kind", ["postgresql"], indirect=True)
def test_a_lease_that_ran_out_waits_for_nobody_who_has_locked_whom_its_user_was_merged_into(
    store_url: str, db: Database
) -> None:
    given.have(db, given.user("S"), given.user("L", merged_into="S"))
    given.sent(db, given.person("S"), given.person("U1"))
    mark(db, "S", at=LATER + LEASE)
    mark(db, "L", "U1")
    claim(db, "a")
    another = Database(store_url)
    with another.transaction() as marking:
        pending.mark(marking, ["S"], LATER + LEASE, FULL_PASS)
        assert claim(db, "b", NOW + LEASE) == ["U1"]
    another.close()
    assert given.rows(db, schema.mirror, "user_id", "unsure") == [("S", ""), ("U1", "*")]
    assert claim(db, "c", NOW + LEASE) == ["L"]
    assert given.rows(db, schema.mirror, "user_id", "unsure") == [("S", "*"), ("U1", "*")]


def test_giving_back_and_marking_do_not_wait_for_each_other(store_url: str, db: Database) -> None:
    """Whoever locks several rows does so in one order."""
    names = [f"W{number:03}" for number in range(300)]
    given.have(db, *(given.user(each) for each in reversed(names)))
    another = Database(store_url)

    def marked() -> None:
        for _ in range(10):
            another.write(pending.mark, names, NOW, CHANGED)

    def given_back() -> None:
        for number in range(10):
            db.write(leases.claim, f"L{number}", LATER, LATER + LEASE, 300)
            db.write(leases.renew, f"L{number}", LATER, LATER + 2 * LEASE)
            db.write(leases.give_back, f"L{number}", NOW)

    given.at_once([marked, given_back])
    another.close()
    assert len(rows(db)) == 300
