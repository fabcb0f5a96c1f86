"""Who could not be delivered: how many and why, one user's story, and trying them again."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from connector import errors
from connector.admin import status
from connector.commands import person, person_text, replay_parked, status_text
from connector.settings import Customerio, Everyone, Log, People, Settings
from connector.store import attempts, backlog, leases, merging, pending, schema
from connector.store.attempts import Attempt
from connector.store.database import Database
from tests.store import given
from tests.store.given import NOW

LATER = NOW + timedelta(hours=1)
SETTINGS = Settings(
    customerio=Customerio(site_id="s", api_key="k", region="us"),
    segments={"all": Everyone()},
    people=People(segments=["all"], attributes=["plan"]),
)


@pytest.fixture(autouse=True)
def _everyone(db: Database) -> None:
    given.have(
        db,
        *(
            given.user(f"U{number}", external_id=str(number), email=f"u{number}@b.co", attributes={"plan": "pro"})
            for number in range(1, 6)
        ),
    )


def park(db: Database, *user_ids: str, reason: str = "refused", status: int | None = 400, at: datetime = NOW) -> None:
    """They are given up, as the worker does it: with an attempt each, in one transaction."""
    tried = [Attempt(each, "update", 1, status, reason, "plan: too\nlong") for each in user_ids]

    def record(connection: Connection) -> None:
        pending.mark(connection, user_ids, at, pending.CHANGED)
        leases.claim(connection, f"lease at {at}", at, at + timedelta(minutes=1), 10)
        attempts.add(connection, tried, at)
        given_up = [leases.Parked(each, reason, 1) for each in user_ids]
        leases.park(connection, f"lease at {at}", given_up, SETTINGS.mapping_hash(), at)

    db.write(record)


def still_parked(db: Database) -> list[str]:
    return sorted(user_id for user_id, at in given.rows(db, schema.pending, "user_id", "parked_at") if at is not None)


def replayed(
    db: Database, *given_ids: str, reason: str | None = None, since: datetime | None = None
) -> tuple[dict[str, Any], list[str]]:
    found = replay_parked.parked(db, LATER, since, reason, list(given_ids) or None)
    told = found.as_json()
    assert (told.pop("events"), told.pop("parked_events")) == (0, {})
    return told, list(replay_parked.describe(found))


def told(db: Database, given_id: str, settings: Settings = SETTINGS) -> dict[str, Any]:
    return person.tell(db, settings, given_id, 20, LATER)


def said(db: Database, given_id: str, settings: Settings = SETTINGS) -> list[str]:
    return list(person_text.describe(told(db, given_id, settings)))


def test_status_counts_who_is_parked_by_reason_with_the_next_command(db: Database) -> None:
    park(db, "U1", reason="timeout")
    park(db, "U2", "U3")
    found = db.read(status.collect, SETTINGS, LATER)
    assert (found["backlog"]["parked"], found["parked"]) == (3, {"refused": 2, "timeout": 1})
    assert list(found["parked"]) == ["refused", "timeout"]
    (line,) = [line for line in status_text.describe(found, LATER) if line.startswith("PARKED")]
    assert line.startswith("PARKED    2 refused, 1 timeout: ")
    assert "connector export attempts" in line
    assert "connector replay parked" in line


def test_status_tells_the_newest_attempt_of_each_reason(db: Database) -> None:
    shows = SETTINGS.model_copy(update={"log": Log(personal_data=True)})
    park(db, "U1", reason="timeout", status=None)
    park(db, "U2")
    park(db, "U3", at=NOW + timedelta(minutes=10), status=422)
    of_an_event = Attempt("U3", "event", 1, 413, "refused", "too large")
    db.write(attempts.add, [of_an_event], NOW + timedelta(minutes=20))
    found = db.read(status.collect, shows, LATER)
    assert found["parked_newest"] == {
        "refused": {"what": "update", "status": 422, "message": "plan: too\nlong", "at": NOW + timedelta(minutes=10)},
        "timeout": {"what": "update", "status": None, "message": "plan: too\nlong", "at": NOW},
    }
    lines = list(status_text.describe(found, LATER))
    assert '          refused, newest 50 min ago: update: 422 "plan: too\\nlong"' in lines
    assert '          timeout, newest 1 h ago: update: "plan: too\\nlong"' in lines
    hidden = db.read(status.collect, SETTINGS, LATER)
    assert [each["message"] for each in hidden["parked_newest"].values()] == ["…", "…"]
    assert '          refused, newest 50 min ago: update: 422 "…"' in status_text.describe(hidden, LATER)


def test_status_tells_of_a_reason_whose_attempt_is_not_known_what_it_can(db: Database) -> None:
    park(db, "U1")
    db.write(lambda connection: connection.execute(sa.delete(schema.attempts)))
    found = db.read(status.collect, SETTINGS, LATER)
    assert (found["parked"], found["parked_newest"]) == ({"refused": 1}, {})
    assert not any("newest" in line for line in status_text.describe(found, LATER))


def test_where_nobody_is_parked_status_has_no_line_of_them(db: Database) -> None:
    db.write(pending.mark, ["U1"], NOW, pending.CHANGED)
    found = db.read(status.collect, SETTINGS, LATER)
    assert (found["backlog"]["parked"], found["parked"], found["parked_newest"]) == (0, {}, {})
    assert not any("arked" in line or "ARKED" in line for line in status_text.describe(found, LATER))


def test_all_are_tried_again(db: Database) -> None:
    park(db, "U1", "U2")
    park(db, "U3", reason="timeout")
    data, words = replayed(db)
    assert data == {"replayed": 3, "passed_over": 0, "parked": {}}
    assert words == ["3 parked users are tried again: a running connector sends them now, else connector sync"]
    claimed = db.write(leases.claim, "a", LATER, LATER + timedelta(minutes=1), 9)
    assert sorted((each.user_id, each.attempts, each.failing_since) for each in claimed) == [
        (each, 0, None) for each in ("U1", "U2", "U3")
    ]
    assert replayed(db) == ({"replayed": 0, "passed_over": 0, "parked": {}}, ["0 parked users are tried again"])


def test_a_reason_and_a_time_choose_and_who_is_left_is_told(db: Database) -> None:
    park(db, "U1", reason="timeout")
    park(db, "U2")
    park(db, "U3", "U4", at=LATER)
    assert replayed(db, reason="unheard_of")[0]["replayed"] == 0
    assert replayed(db, reason="refused", since=LATER)[0] == {
        "replayed": 2,
        "passed_over": 0,
        "parked": {"refused": 1, "timeout": 1},
    }
    assert still_parked(db) == ["U1", "U2"]
    data, words = replayed(db, reason="timeout")
    assert data == {"replayed": 1, "passed_over": 0, "parked": {"refused": 1}}
    assert words[0].startswith("1 parked user is tried again: ")
    assert words[1:] == ["still parked: 1 refused"]


def test_users_are_named_by_whatever_names_them_and_who_is_not_parked_is_passed_over(db: Database) -> None:
    park(db, "U1", "U2", "U3", "U4")
    db.write(pending.mark, ["U5"], NOW, pending.FULL_PASS)
    before = given.rows(db, schema.pending)[-1]
    data, words = replayed(db, "U1", "2", "U3@B.co", "3", "5")
    assert data == {"replayed": 3, "passed_over": 1, "parked": {"refused": 1}}
    assert words[1] == "1 of those named not: not parked, or for another reason, or before"
    assert still_parked(db) == ["U4"]
    assert given.rows(db, schema.pending)[-1] == before


def test_who_was_merged_means_who_is_left(db: Database) -> None:
    given.sent(db, given.person("U1"), given.person("U2"))
    db.write(merging.merge, {"U1": "U2"}, NOW)
    park(db, "U2")
    assert replayed(db, "U1")[0]["replayed"] == 1


def test_an_id_that_names_nobody_is_named_and_nobody_is_tried_again(db: Database) -> None:
    park(db, "U1")
    with pytest.raises(errors.Failed, match=r"nobody is known as 77, nobody@b\.co; tried as user_id, external_id"):
        replayed(db, "1", "77", "nobody@b.co")
    assert still_parked(db) == ["U1"]


@pytest.mark.parametrize("store_kind", ["postgresql"], indirect=True)  # SQLite has one writer at a time
@pytest.mark.parametrize(
    ("fn", "arguments"), [(replay_parked._replay, (LATER, None, None, None)), (backlog.look_again, ("new", LATER))]
)
def test_trying_again_and_a_change_at_the_same_time_do_not_block_each_other(
    db: Database, fn: Callable[..., Any], arguments: tuple[Any, ...]
) -> None:
    """Both lock several rows. These lie in the table in another order than everyone locks them in."""
    for user_id in ("U3", "U2", "U1"):
        park(db, user_id)
    waits = sa.text("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%pending%'")
    other = threading.Thread(target=db.write, args=(fn, *arguments))
    with db.transaction() as connection:
        pending.mark(connection, ["U1"], NOW, pending.FULL_PASS)
        other.start()
        while not db.read(lambda reading: reading.execute(waits).scalar_one()):
            assert other.is_alive()
        pending.mark(connection, ["U3"], NOW, pending.FULL_PASS)
    other.join(20)
    assert still_parked(db) == []


def test_person_tells_since_when_and_why_what_was_answered_and_what_to_do(db: Database) -> None:
    given.sent(db, given.person("U1", customer_id="1", attributes={"plan": "free"}))
    park(db, "U1")
    found = told(db, "1")
    remedy = found["parked"].pop("remedy")
    assert found["parked"] == {
        "since": NOW,
        "reason": "refused",
        "what": "update",
        "calls": 1,
        "status": 400,
        "message": "plan: too\nlong",
    }
    assert "connector replay parked --user U1" in remedy
    assert "correct what its answer names" in remedy
    assert (found["decision"]["decision"], found["decision"]["remedy"]) == ("update", remedy)
    assert found["decision"]["changes"]["plan"] == ["free", "pro"]  # what would be sent now
    lines = said(db, "1")
    at = lines.index("parked      2026-03-01 12:00:00 UTC, 1 failed try since 2026-03-01 12:00:00 UTC: refused")
    assert lines[at + 1] == r'  answer    update: 400 "plan: too\nlong"'
    assert sum("connector replay parked" in line for line in lines) == 1
    assert not any(line.startswith("pending") for line in lines)


def test_who_failed_for_too_long_hears_of_the_setting_that_says_how_long(db: Database) -> None:
    park(db, "U1", reason="timeout", status=None)
    remedy = told(db, "1")["parked"]["remedy"]
    assert "retry.give_up_after" in remedy
    assert "(timeout)" in remedy
    assert "connector replay parked --user U1" in remedy
    assert r'  answer    update: "plan: too\nlong"' in said(db, "1")


def test_who_has_nothing_to_send_any_more_hears_both(db: Database) -> None:
    park(db, "U1")
    nowhere = Settings(customerio=SETTINGS.customerio, segments=SETTINGS.segments)
    found = told(db, "1", nowhere)
    assert found["decision"]["reason"] == "not_in_segment"
    lines = said(db, "1", nowhere)
    assert sum(line.startswith("  remedy") for line in lines) == 2
    assert f"  remedy    {found['parked']['remedy']}" in lines


def test_a_parked_user_whose_log_is_gone_is_told_all_the_same(db: Database) -> None:
    park(db, "U1")
    db.write(lambda connection: connection.execute(sa.delete(schema.attempts)))
    db.write(attempts.add, [Attempt("U1", "create", 1, 500, "server_error", "of before")], NOW - timedelta(days=40))
    found = told(db, "1")["parked"]
    assert (found["reason"], found["what"], found["status"], found["message"]) == ("refused", None, None, None)
    assert not any(line.startswith("  answer") for line in said(db, "1"))


def test_who_is_tried_again_is_pending_as_everybody_else(db: Database) -> None:
    park(db, "U1")
    replayed(db, "1")
    assert told(db, "1")["parked"] is None
    assert "pending     due 2026-03-01 13:00:00 UTC" in said(db, "1")
