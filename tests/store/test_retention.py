"""Retention: what has served its time goes, in small pages; what still has to be read stays, however old."""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import partial

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from connector.store import attempts, backlog, database, events, inbox, leases, merging, pending, retention, schema
from connector.store.database import Database
from tests.store import given, meanwhile
from tests.store.given import NOW, webhook

MONTH = timedelta(days=30)
OLD, YOUNG = NOW - MONTH - timedelta(seconds=1), NOW - MONTH


def have(db: Database, *rows: tuple[datetime, str]) -> None:
    """The inbox holds messages of these times and states, in this order; they are called 1, 2, …"""

    def fill(connection: Connection) -> None:
        connection.execute(
            sa.insert(schema.inbox),
            [
                {"source": "customerio", "source_id": str(n), "received_at": at, "body": b"{}", "state": state}
                for n, (at, state) in enumerate(rows, start=1)
            ],
        )

    if rows:
        db.write(fill)


def log(db: Database, number: int, at: datetime) -> None:
    db.write(attempts.add, [attempts.Attempt("U1", "update", 1, 400, "refused", "")] * number, at)


def walk(db: Database) -> list[int]:
    """Deletes all that is old; how many rows each page's transaction deleted."""
    deleted = []
    after = 0
    while page := db.read(retention.old_webhooks, NOW - MONTH, after):
        assert db.write(retention.delete_webhooks, NOW - MONTH, page) == page.old
        deleted.append(page.old)
        after = page.last
    return deleted


def looked(db: Database) -> retention.Page:
    """The first page, in which something is old."""
    page = db.read(retention.old_webhooks, NOW - MONTH, 0)
    assert page is not None
    return page


def test_old_messages_go_when_they_are_done_with_and_stay_while_they_are_not(db: Database) -> None:
    states = ("read", "ignored", "new", "unread")
    have(db, *((OLD, state) for state in states), *((YOUNG, state) for state in states))
    assert walk(db) == [2]
    assert given.rows(db, schema.inbox, "source_id", "state") == [
        *(("3", "new"), ("4", "unread")),
        *(("5", "read"), ("6", "ignored"), ("7", "new"), ("8", "unread")),
    ]


def test_a_walk_goes_on_past_messages_that_stay(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "PAGE", 3)
    have(db, *([(OLD, "unread")] * 7), *([(OLD, "read")] * 4), *([(YOUNG, "read")] * 10))
    assert walk(db) == [0, 0, 2, 2]
    assert len(given.rows(db, schema.inbox, "id")) == 17


def test_a_transaction_deletes_at_most_a_page(db: Database) -> None:
    have(db, *([(OLD, "read")] * 1200))
    assert walk(db) == [500, 500, 200]
    assert db.read(inbox.count) == 0


def test_a_walk_over_nothing_ends(db: Database) -> None:
    assert walk(db) == []
    assert db.read(retention.old_attempts, NOW, 0) is None


def test_a_walk_ends_at_the_first_page_in_which_nothing_is_old(db: Database) -> None:
    have(db, *([(YOUNG, "read")] * 1200))
    assert walk(db) == []
    assert db.read(inbox.count) == 1200


def test_a_row_whose_clock_was_ahead_does_not_end_the_walk(db: Database) -> None:
    have(db, (OLD, "read"), (NOW + timedelta(hours=1), "read"), (OLD, "read"))
    assert walk(db) == [2]


def test_a_message_that_is_put_back_between_the_look_and_the_deletion_stays(db: Database) -> None:
    have(db, (OLD, "read"))
    page = looked(db)
    db.write(inbox.mark, [inbox.Mark(page.last, "new", None, None)])
    assert db.write(retention.delete_webhooks, NOW - MONTH, page) == 0
    assert db.read(inbox.count) == 1


def test_connectors_that_delete_the_same_page_at_once_delete_each_row_once(db: Database) -> None:
    have(db, *([(OLD, "read")] * 100))
    page = looked(db)
    jobs = [lambda: db.write(retention.delete_webhooks, NOW - MONTH, page) for _ in range(4)]
    assert sum(given.at_once(jobs)) == 100


def test_old_attempts_go_and_young_ones_stay(db: Database) -> None:
    given.have(db, given.user("U1"))
    log(db, 3, OLD)
    log(db, 2, YOUNG)
    page = db.read(retention.old_attempts, NOW - MONTH, 0)
    assert page is not None
    assert (page.old, db.write(retention.delete_attempts, NOW - MONTH, page)) == (3, 3)
    assert given.rows(db, schema.attempts, "at") == [YOUNG, YOUNG]


def test_what_was_answered_of_who_is_parked_stays_until_they_are_not(db: Database) -> None:
    given.have(db, given.user("U1"), given.user("U2"))
    log(db, 1, OLD - MONTH)  # an earlier try
    log(db, 1, OLD)
    db.write(pending.mark, ["U1", "U2"], OLD, pending.CHANGED)
    db.write(leases.claim, "a", OLD, NOW, 2)
    db.write(leases.park, "a", [leases.Parked("U1", "refused", 1)], "hash", OLD)
    page = db.read(retention.old_attempts, NOW - MONTH, 0)
    assert page is not None
    assert (page.old, db.write(retention.delete_attempts, NOW - MONTH, page)) == (1, 1)
    assert given.rows(db, schema.attempts, "at") == [OLD]
    page = db.read(retention.old_attempts, NOW - MONTH, 0)
    assert page is not None
    assert (page.old, db.write(retention.delete_attempts, NOW - MONTH, page)) == (0, 0)
    db.write(backlog.replay, NOW, reason=None, user_ids=None, since=None)
    page = db.read(retention.old_attempts, NOW - MONTH, 0)
    assert page is not None
    assert (page.old, db.write(retention.delete_attempts, NOW - MONTH, page)) == (1, 1)


def test_a_webhook_that_is_repeated_after_its_body_went_makes_no_second_event(db: Database) -> None:
    body = webhook("a", identifiers={"id": "1", "email": "a@b.co"})
    given.read(db, body, now=OLD)
    assert walk(db) == [1]
    given.read(db, body)
    assert db.read(events.count) == 1
    assert given.rows(db, schema.inbox, "source_id", "state") == [("a", "read")]
    assert len(given.rows(db, schema.users, "id")) == 1


@meanwhile.on_postgresql
def test_the_log_is_shortened_and_users_are_merged_at_once(store_url: str, db: Database) -> None:
    given.have(db, *map(given.user, ("L1", "L2", "S1", "S2")))
    db.write(attempts.add, [attempts.Attempt(each, "update", 1, 400, "refused", "") for each in ("L2", "L1")], OLD)
    page = db.read(retention.old_attempts, YOUNG, 0)
    assert page is not None

    def merge(connection: Connection) -> None:
        database.lock_identities(connection)
        merging.merge(connection, {"L1": "S1", "L2": "S2"}, NOW)

    with meanwhile.other(db, store_url) as other:
        delete = partial(other.db.write, retention.delete_attempts, YOUNG, page)
        with meanwhile.before(db, "UPDATE attempts", lambda: other.begin(delete), number=2):
            db.write(merge)
        assert other.results() == [2]
