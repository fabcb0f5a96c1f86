"""An edit of the settings that is held, and what is approved with it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from connector import errors
from connector.commands import approve as approving
from connector.store import approvals, revisions
from connector.store.database import Database
from tests.store.given import NOW, SETTINGS
from tests.store.meanwhile import other

HOLDS = {"holds": [{"what": "create", "reason": "max_creates", "count": 5, "allowed": 2}], "calls": 1}


def held(db: Database, hash_: str = "abcdef012345", counts: dict[str, Any] = HOLDS) -> int:
    return db.write(
        revisions.add, "held", hash_, f"# {hash_}", NOW, counts=counts, reason="5 users would be created"
    ).number


def test_what_is_held_is_listed_and_approved_by_the_beginning_of_its_hash(db: Database) -> None:
    number = held(db)
    (listed,) = approving.listed(db)
    assert listed["hash"] == "abcdef012345"
    assert (listed["what"], listed["count"], listed["reason"]) == ("settings", 5, "5 users would be created")
    first, second = approving.describe([listed])
    assert "an edit of the settings: 5 users would be created" in first
    assert second.strip() == "connector approve abcdef012345"
    with pytest.raises(errors.Misconfigured, match="as a whole"):
        approving.approve(db, SETTINGS, "abcdef", 1, NOW)
    with pytest.raises(errors.Misconfigured, match="at least its first"):
        approving.approve(db, SETTINGS, "abc", None, NOW)
    assert approving.approve(db, SETTINGS, "abcdef", None, NOW) == 5
    in_force = db.read(revisions.newest_applied)
    assert in_force is not None
    assert (in_force.number, in_force.reason) == (number, "approved")
    assert approving.listed(db) == []
    with pytest.raises(errors.Misconfigured, match="nothing is held"):
        approving.approve(db, SETTINGS, "abcdef", None, NOW)


def test_a_newer_revision_takes_its_place_but_not_one_that_could_not_be_read(db: Database) -> None:
    number = held(db)
    db.write(revisions.add, "refused", None, None, NOW, reason="line 1")
    waiting = db.read(approvals.waiting)
    assert waiting is not None
    assert waiting.number == number
    db.write(revisions.add, "applied", "other", "# other", NOW)
    assert db.read(approvals.waiting) is None
    assert not db.write(approvals.approve, number, NOW), "the other one would stay in force"
    assert [each.state for each in db.read(revisions.history)] == ["applied", "refused", "held"]


def test_it_counts_once_and_for_a_day(db: Database) -> None:
    number = held(db)
    assert db.read(approvals.counted, "abcdef012345", "create", NOW) == 0
    assert db.write(approvals.approve, number, NOW)
    assert not db.write(approvals.approve, number, NOW), "it is not held any more"
    assert not db.write(approvals.approve, 77, NOW)
    assert db.read(approvals.counted, "abcdef012345", "create", NOW + timedelta(hours=23)) == 5
    assert db.read(approvals.counted, "abcdef012345", "create", NOW + timedelta(hours=24)) == 0
    assert db.read(approvals.counted, "abcdef012345", "delete", NOW) == 0
    assert db.read(approvals.counted, "other", "create", NOW) == 0
    db.write(approvals.used, "other", "create")
    db.write(approvals.used, "abcdef012345", "create", 2)
    assert db.read(approvals.counted, "abcdef012345", "create", NOW) == 3, "two of them went"
    db.write(approvals.used, "abcdef012345", "create")
    assert db.read(approvals.counted, "abcdef012345", "create", NOW) == 0


@pytest.mark.parametrize("store_kind", ["postgresql"], indirect=True)
def test_of_two_kinds_that_go_at_the_same_time_each_is_used(store_url: str, db: Database) -> None:
    kinds = [{"what": what, "reason": "max", "count": 5, "allowed": 0} for what in ("create", "delete")]
    assert db.write(approvals.approve, held(db, counts={"holds": kinds}), NOW)
    with other(db, store_url) as process:
        with process.db.transaction() as connection:
            approvals.used(connection, "abcdef012345", "create", 2)
            process.begin(lambda: db.write(approvals.used, "abcdef012345", "delete", 1))
        process.results()
    assert [db.read(approvals.counted, "abcdef012345", what, NOW) for what in ("create", "delete")] == [3, 4]
