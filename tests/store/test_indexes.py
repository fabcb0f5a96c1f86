"""Every hot query uses its index, on a store with rows in it: the statements are explained as they are sent."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
import sqlalchemy as sa
from msgspec.structs import asdict
from sqlalchemy.engine import Connection

from connector.records import Identifier
from connector.settings import Event, Settings
from connector.store import (
    asked_events,
    backlog,
    due_events,
    event_counts,
    events_again,
    export,
    inbox,
    leases,
    merging,
    mirror,
    pending,
    retention,
    schema,
    segments,
    users,
)
from connector.store.database import Database
from tests.store import given
from tests.store.given import NOW

ROWS = 3000
LATER = NOW + timedelta(minutes=1)

Plan = Callable[..., str]


COUNTING = {
    "postgresql": f"SELECT generate_series(0, {ROWS - 1}) AS i",
    "sqlite": f"WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < {ROWS - 1}) SELECT i FROM n",
}


_EVENT = {
    "source": inbox.CUSTOMERIO,
    "type": "track",
    "name": "Email Opened",
    "properties": {},
    "context": {},
    "occurred_at": NOW,
    "received_at": NOW,
    "activity_id": "",
    "outbound": "none",
}


def _fate(number: sa.ColumnElement[int]) -> dict[str, Any]:
    """One in a hundred is due, another is asked for, others are skipped or parked; some are sent, and most are none."""
    each = number % 100
    outbound = sa.case(
        (each < 2, "due"), (each < 3, "skipped"), (each < 4, "parked"), (each < 10, "sent"), else_="none"
    )
    at = sa.literal(NOW, schema.events.c.due_at.type)
    return {
        "outbound": outbound,
        "due_at": sa.case((each < 1, at)),
        "settled_at": sa.case((sa.and_(each > 1, each < 10), at)),
    }


@pytest.fixture(autouse=True)
def _plenty(db: Database) -> None:
    """Enough rows that reading them all would be the slower way, and the planner knows it."""
    number = sa.text(COUNTING[db.dialect]).columns(i=sa.Integer).subquery().c.i
    name = sa.literal("U") + sa.cast(number + 10_000, sa.Text)
    received: dict[str, Any] = {
        "source": inbox.CUSTOMERIO,
        "source_id": name,
        "received_at": NOW,
        "body": b"{}",
        "state": sa.case((number < ROWS - 5, "read"), else_="new"),
    }
    due = {"user_id": name, "due_at": NOW, "priority": 0, "changed": False, "attempts": 0}
    filled: list[tuple[sa.Table, dict[str, Any]]] = [
        (schema.users, given.user("") | {"id": name, "email": name + "@b.co"}),
        (schema.identifiers, {"kind": "email", "value": name + "@b.co", "user_id": name}),
        (schema.mirror, asdict(given.person("")) | {"user_id": name, "customer_id": name}),
        (schema.pending, due),
        (schema.inbox, received),
        (schema.events, {**_EVENT, "source_id": name}),
        (schema.events, {**_EVENT, "source_id": name, "source": "intake", "user_id": name, **_fate(number)}),
        (schema.attempts, {"user_id": name, "what": "update", "calls": 1, "reason": "", "message": "", "at": NOW}),
    ]

    def fill(connection: Connection) -> None:
        for table, values in filled:
            columns = [
                value if isinstance(value, sa.ColumnElement) else sa.literal(value, table.c[name].type)
                for name, value in values.items()
            ]
            connection.execute(sa.insert(table).from_select(list(values), sa.select(*columns)))

    db.write(fill)
    with db.writer.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("ANALYZE")


@pytest.fixture
def plan(db: Database) -> Iterator[Plan]:
    """Runs a store function; returns how the database goes about its statements."""
    plans: list[str] = []
    explain = "EXPLAIN QUERY PLAN " if db.dialect == "sqlite" else "EXPLAIN "

    def explained(_: Connection, cursor: Any, statement: str, parameters: Any, context: Any, many: bool) -> None:
        if statement.lstrip().upper().startswith(("SELECT", "UPDATE", "WITH", "DELETE")):
            cursor.execute(explain + statement, parameters[0] if many else parameters)
            plans.extend(" ".join(map(str, row)) for row in cursor.fetchall())

    sa.event.listen(db.writer, "before_cursor_execute", explained)

    def of(fn: Callable[..., Any], *arguments: Any) -> str:
        plans.clear()
        db.write(fn, *arguments)
        assert plans
        return "\n".join(plans)

    yield of
    sa.event.remove(db.writer, "before_cursor_execute", explained)


def primary_key(db: Database, table: str) -> str:
    return f"sqlite_autoindex_{table}_1" if db.dialect == "sqlite" else f"pk_{table}"


def reads_whole(plan: str, table: str) -> bool:
    """True when the table itself is read from end to end."""
    lines = [line.strip() for line in plan.splitlines()]
    by_index = ("USING INDEX", "USING COVERING INDEX")
    scanned = any(f"SCAN {table}" in line and not any(each in line for each in by_index) for line in lines)
    return scanned or f"Seq Scan on {table}" in plan


def test_the_claim_goes_by_priority_and_due_time(plan: Plan) -> None:
    found = plan(leases.claim, "lease", NOW, LATER, 10)
    assert "ix_pending_due" in found
    assert "TEMP B-TREE FOR ORDER BY" not in found, found
    assert "Sort" not in found, found


def test_of_named_users_nobody_else_is_looked_at(db: Database, plan: Plan) -> None:
    named = frozenset({"U10004", "U10005"})
    for fn, *arguments in (
        (leases.claim, "lease", NOW, LATER, 10),
        (backlog.counts, NOW),
        (backlog.look_again, "other", NOW),
        (event_counts.held, 1, NOW),
    ):
        found = plan(partial(fn, only=named), *arguments)
        assert not reads_whole(found, "pending"), found
        assert not reads_whole(found, "events"), found
    assert "ix_pending_due" not in plan(partial(leases.claim, only=named), "lease", NOW, LATER, 10)
    assert not reads_whole(plan(event_counts.parked, named), "events")


def test_the_rows_of_a_lease_are_found_by_the_lease(db: Database, plan: Plan) -> None:
    claimed = [each.user_id for each in db.write(leases.claim, "lease", NOW, LATER, 10)]
    for fn, *arguments in (
        (leases.still_ours, dict.fromkeys(claimed, "lease")),
        (leases.renew, "another", NOW, LATER),
        (leases.give_back, "another", NOW),
        (leases.finish, "lease", claimed, NOW),
    ):
        found = plan(fn, *arguments)
        assert "ix_pending_lease" in found or primary_key(db, "pending") in found
        assert not reads_whole(found, "pending"), found


def test_who_is_parked_is_counted_and_found_by_their_index(plan: Plan) -> None:
    tried = partial(backlog.replay, reason="refused", user_ids=None, since=NOW)
    for fn, *arguments in (
        (backlog.parked_reasons,),
        (tried, NOW),
        (backlog.look_again, "another hash", NOW),
        (backlog.parked_newest,),
    ):
        found = plan(fn, *arguments)
        assert "ix_pending_parked" in found
        assert not reads_whole(found, "pending"), found


def test_the_reader_takes_new_messages_without_passing_those_that_were_read(plan: Plan) -> None:
    found = plan(inbox.take, 100, 10**6)
    assert "ix_inbox_new" in found
    assert not reads_whole(found, "inbox"), found


def test_unread_messages_are_counted_by_their_index(plan: Plan) -> None:
    found = plan(inbox.counts)
    assert "ix_inbox_new" in found
    assert "ix_inbox_unread" in found
    assert not reads_whole(found, "inbox"), found
    for fn, *arguments in ((inbox.unread_reasons,), (inbox.unread, 0, 100, NOW, "not_json")):
        found = plan(fn, *arguments)
        assert "ix_inbox_unread" in found
        assert not reads_whole(found, "inbox"), found


def test_a_walk_for_old_rows_goes_up_by_the_key(db: Database, plan: Plan) -> None:
    page = retention.Page(0, retention.PAGE, 1)
    for table, fn, *arguments in (
        ("inbox", retention.old_webhooks, NOW, 0),
        ("attempts", retention.old_attempts, NOW, 0),
        ("events", retention.old_events, NOW, 0),
        ("inbox", retention.delete_webhooks, NOW, page),
        ("attempts", retention.delete_attempts, NOW, page),
        ("events", retention.delete_events, NOW, page),
    ):
        found = plan(fn, *arguments)
        assert ("INTEGER PRIMARY KEY" if db.dialect == "sqlite" else f"pk_{table}") in found, found
        assert not reads_whole(found, table), found
        assert "TEMP B-TREE" not in found, found
        assert "Sort" not in found, found


def test_the_raw_webhook_of_an_event_is_found_by_its_key(db: Database, plan: Plan) -> None:
    found = plan(export._customerio_events, 0)
    assert ("sqlite_autoindex_inbox_1" if db.dialect == "sqlite" else "uq_inbox_source_source_id") in found, found
    assert not reads_whole(found, "inbox"), found
    assert not reads_whole(found, "events"), found


@pytest.mark.parametrize("number", [1, 50])
def test_identifiers_are_looked_up_by_the_primary_key(db: Database, plan: Plan, number: int) -> None:
    wanted = [Identifier("email", f"U{each + 10_000}@b.co") for each in range(number)]
    found = plan(users.find, wanted)
    assert primary_key(db, "identifiers") in found
    assert not reads_whole(found, "identifiers"), found


def test_users_and_their_mirrors_are_loaded_by_their_keys(db: Database, plan: Plan) -> None:
    found = plan(users.subjects, ["U10001", "U10002"], given.SETTINGS, NOW)
    assert primary_key(db, "users") in found
    assert primary_key(db, "mirror") in found
    assert not reads_whole(found, "users"), found
    assert not reads_whole(found, "mirror"), found


def test_who_may_be_sent_is_marked_by_their_keys(db: Database, plan: Plan) -> None:
    found = plan(pending.mark_mirrored, [f"U{10_000 + number}" for number in range(0, ROWS, 50)], NOW)
    for table in ("mirror", "pending"):
        assert not reads_whole(found, table), found


@pytest.mark.parametrize("store_kind", ["postgresql"], indirect=True)
def test_users_are_locked_by_their_key(db: Database, plan: Plan) -> None:
    found = plan(users.lock, [f"U{10_000 + number}" for number in range(0, ROWS, 50)])
    assert primary_key(db, "users") in found
    assert not reads_whole(found, "users"), found


@pytest.mark.parametrize("condition", [Event("Email Opened", 2), Event("Email Opened", None, 0, timedelta(days=1))])
def test_events_are_counted_by_user_name_and_time(plan: Plan, condition: Event) -> None:
    settings = Settings(segments={"s": condition})
    for fn, *arguments in (
        (users.subjects, ["U10001"], settings, NOW),
        (segments.holding, "U10001", [condition], settings, NOW),
    ):
        found = plan(fn, *arguments)
        assert "ix_events_name" in found, found
        assert not reads_whole(found, "events"), found


def test_what_is_due_is_found_by_user_and_read_in_its_order(db: Database, plan: Plan) -> None:
    users_ = [f"U{10_000 + number}" for number in range(0, ROWS, 10)]
    for fn, *arguments in (
        (due_events.of_users, users_, 50),
        (due_events.having, users_),
        (due_events.waiting, "U10100", 500),
        (due_events.oldest, users_),
        (due_events.skip_waited, {"U10100": "left_kept"}, NOW, NOW),
    ):
        found = plan(fn, *arguments)
        assert "ix_events_due" in found, found
        assert not reads_whole(found, "events"), found
    found = plan(due_events.of_users, ["U10001"], 50)
    key = "INTEGER PRIMARY KEY" if db.dialect == "sqlite" else "ix_events_due"
    assert key in found, found
    if db.dialect == "sqlite":
        assert "USING INDEX ix_events_due (user_id=?)" in found, found
        assert found.count("TEMP B-TREE") == 1, found  # of what was found, by user; not of all that is due
    else:
        assert "Index Cond: (user_id = chosen.value)" in found, found


def test_what_becomes_of_due_events_finds_them_by_their_numbers(db: Database, plan: Plan) -> None:
    for fn, *arguments in (
        (due_events.sent, [3001, 3101], NOW),
        (due_events.skipped, [3201], "left_kept", NOW),
        (due_events.parked, {3301: "no_name"}, NOW),
        (events_again.make_due, [3001], NOW),
        (events_again.nameless, [3001]),
    ):
        found = plan(fn, *arguments)
        assert not reads_whole(found, "events"), found


def test_what_was_sent_is_counted_by_user_and_time(plan: Plan) -> None:
    for fn, *arguments in ((due_events.sent_lately, ["U10004", "U10005"], NOW), (event_counts.held, 1, NOW)):
        found = plan(fn, *arguments)
        assert "ix_events_sent" in found, found
        assert not reads_whole(found, "events"), found


def test_what_sql_asks_for_what_is_parked_and_all_counts_have_an_index_each(db: Database, plan: Plan) -> None:
    assert "ix_events_asked" in plan(asked_events.ids, 0, 500)
    counting = plan(event_counts.counts)
    for each in ("due", "asked", "sent", "skipped", "parked"):
        assert f"ix_events_{each}" in counting, counting
    assert not reads_whole(counting, "events"), counting
    assert not reads_whole(plan(event_counts.outlook, NOW), "events")
    newest = plan(event_counts.parked_newest)
    assert "ix_events_parked" in newest, newest
    assert not reads_whole(newest, "events"), newest
    assert not reads_whole(newest, "attempts"), newest
    assert "ix_events_parked" in plan(events_again._parked_ids, 0, "no_name", None, NOW)


def test_who_has_a_customer_id_is_found_by_its_index(db: Database, plan: Plan) -> None:
    found = plan(mirror.owners, ["U10001", "U10002"])
    assert not reads_whole(found, "mirror"), found


def test_who_leaves_is_found_by_the_index_when_nobody_is_to(db: Database, plan: Plan) -> None:
    assert "ix_mirror_left_at" in plan(mirror.stay, 5000)


def test_a_touch_finds_its_row_by_the_key(db: Database, plan: Plan) -> None:
    found = plan(mirror.touch, [mirror.Looked("U10001", "1", "hash", 1, None, 1)])
    assert primary_key(db, "mirror") in found


def test_who_was_deleted_lately_is_found_by_when(db: Database, plan: Plan) -> None:
    assert "ix_mirror_deleted_at" in plan(mirror.deleted, ["c1", "c2"], NOW)


def test_a_merge_and_what_is_recorded_meanwhile_find_their_rows_by_index(db: Database, plan: Plan) -> None:
    given.have(db, given.user("nobody there yet"))
    assert "ix_users_merged_into" in plan(merging.merge, {"nobody there yet": "U10002"}, NOW)
    assert not reads_whole(plan(mirror.record, [given.person("U10003", customer_id="c-1")]), "users")
