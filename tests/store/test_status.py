"""What `/status` and `connector status` tell of a store: the backlog, decisions by reason, the last passes."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from connector import app
from connector.admin import status
from connector.commands import status_text
from connector.settings import Settings
from connector.store import decided, leases, pending, revisions, runs, schema, throttle
from connector.store.database import Database
from tests.store import given
from tests.store.given import NOW, SETTINGS

HOUR = timedelta(hours=1)


def told(db: Database, settings: Settings = SETTINGS, now: datetime = NOW) -> dict[str, Any]:
    return db.read(status.collect, settings, now)


def said(db: Database, settings: Settings = SETTINGS) -> list[str]:
    return list(status_text.describe(told(db, settings), NOW))


def test_decisions_of_the_last_day_are_told_by_verb_and_reason(db: Database) -> None:
    db.write(decided.count, {("create", "entered"): 1204, ("skip", "customer_id_taken"): 2}, NOW - 20 * HOUR)
    db.write(decided.count, {("skip", "no_email"): 31, ("skip", "customer_id_taken"): 1}, NOW)
    db.write(decided.count, {("delete", "left"): 7}, NOW - 25 * HOUR)
    assert told(db)["decisions"] == {"create": {"entered": 1204}, "skip": {"no_email": 31, "customer_id_taken": 3}}
    lines = said(db)
    assert "in 24 h   create: 1,204 entered" in lines
    assert "in 24 h   skip: 31 no_email, 3 customer_id_taken" in lines
    assert not any("delete" in line for line in lines)


def test_a_store_in_which_nothing_was_decided_has_nothing_to_tell(db: Database) -> None:
    assert told(db)["decisions"] == {}
    assert not any(line.startswith(("in 24 h", "settings", "pass")) for line in said(db))


def test_whom_the_last_pass_skipped_is_told_by_reason(db: Database) -> None:
    counts = {"changed": 4, "skipped": {"erased": 1, "bad_customer_id": 1250}}
    for lease, found in (("a", {}), ("b", counts), ("c", {"changed": 1, "skipped": {}})):
        db.write(runs.begin, lease, NOW)
        db.write(runs.finish, lease, "done", found, NOW)
    assert [line for line in said(db) if line.startswith("pass")] == [
        "pass      0 s ago: done, 1 changed",
        "pass      0 s ago: done, 4 changed, skipped 1,250 bad_customer_id, 1 erased",
        "pass      0 s ago: done",
    ]


def test_what_is_odd_about_the_settings_is_told(db: Database) -> None:
    segments = {letter * 600: {"everyone": True} for letter in "ab"}
    settings = Settings.model_validate({"segments": segments})
    (remark,) = told(db, settings)["settings"]["remarks"]
    assert remark["reason"] == "segments_too_long"
    assert f"settings  segments_too_long: {remark['message']}" in said(db, settings)
    assert told(db)["settings"]["remarks"] == []


def test_settings_in_place_of_which_others_were_taken_up_are_told(db: Database) -> None:
    older, newer = Settings(), Settings.model_validate({"guard": {"max_creates": 5}})
    assert told(db, older)["settings"]["state"] == "running"
    db.write(revisions.add, "applied", older.sent_hash(), "[sync]\n", NOW)
    db.write(revisions.add, "applied", newer.sent_hash(), "[guard]\nmax_creates = 5\n", NOW)
    assert told(db, newer)["settings"]["state"] == "running"
    unread = Settings.model_validate({"guard": {"max_creates": 6}})
    assert told(db, unread)["settings"]["state"] == "running", "nobody has read it yet"
    if db.dialect == "sqlite":
        assert told(db, older)["settings"]["state"] == "running", "nobody else sends; it is judged as an edit"
        return
    found = told(db, older)["settings"]
    assert (found["state"], found["revision"]) == ("superseded", 2)
    (line,) = (line for line in said(db, older) if line.startswith("STALE"))
    assert "revision 2 was taken up" in line
    assert "connector settings diff 1 2" in line


def test_the_oldest_of_the_backlog_is_never_ahead_of_now(db: Database) -> None:
    given.have(db, *(given.user(f"U{number}") for number in range(4)))
    db.write(pending.mark, ["U0", "U1"], NOW + HOUR, pending.CHANGED)
    backlog = told(db)["backlog"]
    assert (backlog["due"], backlog["waiting"], backlog["oldest_at"]) == (0, 2, None)
    assert "backlog   0 due, 2 waiting" in said(db)
    db.write(pending.mark, ["U2"], NOW - HOUR, pending.CHANGED)
    assert told(db)["backlog"]["oldest_at"] == NOW - HOUR
    (claim,) = db.write(leases.claim, "a", NOW - HOUR, NOW + HOUR, 1)
    assert told(db)["backlog"]["oldest_at"] is None, "one who is in flight waits for nothing"
    failed = leases.Failure(claim.user_id, NOW + HOUR, "timeout")
    db.write(leases.postpone, "a", [failed], NOW - 2 * HOUR)
    assert told(db)["backlog"]["oldest_at"] == NOW - 2 * HOUR, "one who fails is as old as their failure"


def test_the_rates_are_told_as_they_are_and_as_they_may_be(db: Database) -> None:
    settings = Settings.model_validate({"customerio": {"rate_per_second": 50}})
    now = app.now()
    nothing = {"calls_per_second": None, "rate_per_second": 50, "allowed": 50.0, "paused_until": None}
    assert told(db, settings, now)["rates"] == nothing
    assert not any(line.startswith(("rate", "PAUSED")) for line in said(db, settings))
    db.write(throttle.rest, 50.0, 120.0, app.now, is_limited=True)
    found = told(db, settings, now)
    assert found["rates"]["allowed"] == pytest.approx(25)
    assert found["rates"]["paused_until"] - now == pytest.approx(timedelta(seconds=120), abs=timedelta(seconds=30))
    (line,) = (line for line in status_text.describe(found, now) if line.startswith("rate"))
    assert line.startswith("rate      25 of 50 calls a second, none until ")


@pytest.mark.parametrize("store_kind", ["sqlite"], indirect=True)  # PostgreSQL asks its own clock, not ours
def test_a_rest_that_is_over_is_not_told(db: Database) -> None:
    db.write(throttle.rest, 50.0, 120.0, app.now, is_limited=True)
    assert told(db, now=app.now())["rates"]["paused_until"] is not None
    assert told(db, now=app.now() + HOUR)["rates"]["paused_until"] is None


def test_the_rate_is_looked_at_without_a_word_in_the_store(db: Database) -> None:
    assert db.read(throttle.look, 50.0, app.now) == throttle.Pace(50.0, None)
    assert given.rows(db, schema.throttle) == []
