"""What has just happened in a store is told once, and as a line without anybody's ids."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from connector.commands import tail
from connector.records import Event
from connector.store import attempts, decided, due_events, events, gate, inbox, recent, schema
from connector.store.attempts import Attempt
from connector.store.database import Database
from connector.store.recent import Watch
from tests.store import given, told
from tests.store.given import NOW, webhook
from tests.store.told import message

SECOND = timedelta(seconds=1)


def event(number: int, **more: Any) -> Event:
    values: dict[str, Any] = {
        "source": "intake", "source_id": str(number), "user_id": "U1", "type": "track", "name": "Clicked",
        "properties": {}, "context": {}, "occurred_at": NOW, "received_at": NOW, "activity_id": str(number),
    }  # fmt: skip
    return Event(**values | more)


@pytest.fixture
def watch(db: Database) -> Watch:
    """A store in which much has happened already."""
    given.have(db, given.user("U1", external_id="1"), given.user("U2", external_id="2"))
    given.read(db, webhook("before"))
    db.write(events.add, [event(1), event(2, outbound="due", due_at=NOW)])
    db.write(attempts.add, [Attempt("U1", "create", 1, 400, "refused", "no")], NOW)
    db.write(decided.count, {("create", "entered"): 7, ("skip", "no_email"): 7}, NOW)
    given.sent(db, given.person("U1"))
    return db.read(Watch, NOW + SECOND)


def look(db: Database, watch: Watch, at: datetime = NOW + 2 * SECOND, *, people: bool = True) -> list[dict[str, Any]]:
    return list(tail.lines(db.read(watch.look, at, people=people), shows=True))


def kinds(lines: list[dict[str, Any]]) -> list[str]:
    return [line["what"] for line in lines]


def test_what_was_there_before_is_not_told(db: Database, watch: Watch) -> None:
    assert look(db, watch) == []


def test_a_webhook_is_told_when_it_arrives_and_its_event_when_it_was_read(db: Database, watch: Watch) -> None:
    db.write(inbox.append, inbox.CUSTOMERIO, given.received(webhook("new", "email.clicked")))
    (arrived,) = look(db, watch)
    assert (arrived["what"], arrived["kind"]) == ("webhook", "email.clicked")
    given.read(db)
    (happened,) = look(db, watch)
    assert (happened["what"], happened["source"], happened["name"]) == ("event", "customerio", "Email Link Clicked")
    assert look(db, watch) == []


def test_a_message_is_told_by_its_type_and_one_that_is_bad_with_its_reason(db: Database, watch: Watch) -> None:
    db.write(inbox.append, inbox.INTAKE, told.received(message("identify", "m1", user="1")))
    db.write(inbox.append, inbox.CUSTOMERIO, given.received(b"not json"))
    db.write(
        lambda c: c.execute(sa.update(schema.inbox).where(schema.inbox.c.body == b"not json").values(
            state="unread", reason="not_json", body=b"x" * (recent.MOST_BODY + 1),
        ))
    )  # fmt: skip
    one, other = look(db, watch)
    assert (one["what"], one["kind"]) == ("message", "identify")
    assert (other["what"], other["kind"], other["state"], other["reason"]) == ("webhook", None, "unread", "not_json")


def test_what_gets_the_id_of_a_deleted_row_is_told_as_well(db: Database, watch: Watch) -> None:
    db.write(inbox.append, inbox.CUSTOMERIO, given.received(webhook("one"), webhook("two")))
    assert len(look(db, watch)) == 2
    db.write(lambda c: c.execute(sa.delete(schema.inbox)))
    assert look(db, watch) == []
    db.write(inbox.append, inbox.CUSTOMERIO, given.received(webhook("three", "email.clicked")))
    (arrived,) = look(db, watch)
    assert arrived["kind"] == "email.clicked"
    assert look(db, watch) == []


def test_an_event_on_its_way_out_is_told_when_it_is_settled(db: Database, watch: Watch) -> None:
    db.write(events.add, [event(3, outbound="due", due_at=NOW), event(4, outbound="due", due_at=NOW)])
    assert kinds(look(db, watch)) == ["event", "event"]
    numbers = {row.source_id: row.id for row in db.read(lambda c: c.execute(sa.select(schema.events)).all())}
    db.write(due_events.sent, [numbers["2"], numbers["3"]], NOW + 3 * SECOND)
    db.write(due_events.parked, {numbers["4"]: "refused"}, NOW + 4 * SECOND)
    found = look(db, watch)
    assert kinds(found) == ["event_sent", "event_sent", "event_parked"]
    assert found[-1]["reason"] == "refused"
    assert look(db, watch) == []


def test_what_did_not_succeed_is_told_with_the_answer(db: Database, watch: Watch) -> None:
    db.write(attempts.add, [Attempt("U2", "update", 2, 503, "server_error", "try later")], NOW)
    (line,) = look(db, watch)
    assert line == {
        "at": NOW, "what": "attempt", "of": "update", "status": 503, "reason": "server_error", "message": "try later",
        "user_id": "U2",
    }  # fmt: skip


def sync(connection: Connection, at: datetime, verb: str, *people: Any) -> None:
    schema_rows = [{"of": each.user_id, "at": at} for each in people]
    for row in schema_rows:
        values: dict[str, Any] = {"synced_at": row["at"]}
        if verb == "delete":
            values["deleted_at"] = row["at"]
        connection.execute(sa.update(schema.mirror).where(schema.mirror.c.user_id == row["of"]).values(values))
    decided.count(connection, {(verb, "changed"): len(people)}, at)


def test_people_are_told_as_they_are_sent_with_what_was_decided(db: Database, watch: Watch) -> None:
    at = NOW + 5 * SECOND
    given.sent(db, given.person("U2", created_at=at, synced_at=at))
    db.write(decided.count, {("create", "entered"): 1, ("skip", "unchanged"): 3}, at)
    created, *rest = look(db, watch, at)
    assert (created["what"], created["customer_id"], created["user_id"]) == ("create", "U2", "U2")
    assert [(each["decision"], each["reason"], each["users"]) for each in rest] == [
        ("create", "entered", 1), ("skip", "unchanged", 3),
    ]  # fmt: skip
    assert look(db, watch, at) == []
    db.write(sync, at + SECOND, "update", given.person("U1"))
    db.write(sync, at + 2 * SECOND, "delete", given.person("U2"))
    assert kinds(look(db, watch, at + 3 * SECOND)) == ["update", "delete", "decided", "decided"]


def test_people_wait_for_a_look_that_takes_them_and_are_told_then(db: Database, watch: Watch) -> None:
    at = NOW + 5 * SECOND
    db.write(sync, at, "update", given.person("U1"))
    assert look(db, watch, at, people=False) == []
    assert kinds(look(db, watch, at)) == ["update", "decided"]


def test_more_people_than_a_look_takes_come_with_the_next(
    db: Database, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recent, "MOST", 3)
    names = [f"P{number}" for number in range(8)]
    given.have(db, *(given.user(name, external_id=name) for name in names))
    at = NOW + 5 * SECOND
    people = [
        given.person(name, created_at=at + number * SECOND, synced_at=at + number * SECOND)
        for number, name in enumerate(names)
    ]
    given.sent(db, *people)
    db.write(decided.count, {("create", "entered"): 8}, at)
    found = []
    for _ in range(4):
        found += [line["user_id"] for line in look(db, watch, at + 10 * SECOND) if line["what"] == "create"]
    assert found == names


def test_the_hour_that_ends_takes_no_decision_away(db: Database, watch: Watch) -> None:
    hour = timedelta(hours=1)
    db.write(decided.count, {("skip", "no_email"): 2}, NOW + hour)
    (line,) = look(db, watch, NOW + hour)
    assert line["users"] == 2
    db.write(decided.count, {("skip", "no_email"): 3}, NOW + 2 * hour)
    (line,) = look(db, watch, NOW + 2 * hour)
    assert line["users"] == 3


@pytest.mark.parametrize("store_kind", ["postgresql"], indirect=True)  # SQLite has one writer at a time
def test_rows_that_appear_late_below_the_highest_are_told(db: Database, watch: Watch) -> None:
    """On PostgreSQL whoever took the lower number may commit last."""
    with db.writer.connect() as slow, slow.begin():
        attempts.add(slow, [Attempt("U1", "create", 1, 500, "slow", "")], NOW)
        db.write(attempts.add, [Attempt("U1", "create", 1, 500, "fast", "")], NOW)
        assert [line["reason"] for line in look(db, watch)] == ["fast"]
    assert [line["reason"] for line in look(db, watch)] == ["slow"]
    assert look(db, watch) == []


def test_the_gate_is_told_when_it_closes_and_when_it_opens(db: Database, watch: Watch) -> None:
    db.write(gate.close, "unauthorized", "Unauthorized", NOW, 1.0)
    at = NOW + 10 * SECOND
    assert look(db, watch, at) == [{"at": at, "what": "gate", "state": "closed", "reason": "unauthorized"}]
    assert look(db, watch, at) == []
    assert db.write(gate.take_probe, "token", at)
    assert db.write(gate.open_again, "token")
    assert look(db, watch, at) == [{"at": at, "what": "gate", "state": "open", "reason": None}]


def test_nobodys_ids_are_in_a_line_unless_they_may_be(db: Database, watch: Watch) -> None:
    at = NOW + 5 * SECOND
    db.write(attempts.add, [Attempt("U1", "update", 1, 400, "refused", "canary")], at)
    given.sent(db, given.person("U2", customer_id="canary@b.co", created_at=at, synced_at=at))
    db.write(decided.count, {("create", "entered"): 1}, at)
    db.write(inbox.append, inbox.CUSTOMERIO, given.received(webhook("new", recipient="canary@b.co")))
    given.read(db)
    found = db.read(watch.look, at)
    told_ones = [tail.described(line) for line in tail.lines(found, shows=False)]
    assert len(told_ones) == 5
    assert "canary" not in "".join(told_ones)
    assert "U2" not in "".join(told_ones)
    assert "canary" in "".join(tail.described(line) for line in tail.lines(found, shows=True))


def test_a_name_of_others_can_not_move_the_cursor() -> None:
    line = tail.described({"at": NOW, "what": "event", "type": "track", "name": "a\x1b[2J\nb", "user_id": None})
    assert line == '12:00:00  event         type=track name="a\\u001b[2J\\nb"'
