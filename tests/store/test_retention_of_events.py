"""Retention of events: those go that are old in every way; what may still be sent stays, however old."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from connector.inbound import due, upsert
from connector.records import EventRow
from connector.settings import Events
from connector.store import database, due_events, events, retention, schema
from connector.store.database import Database
from tests.store import given
from tests.store.given import NOW, webhook

YEAR = timedelta(days=400)
OLD, YOUNG = NOW - YEAR - timedelta(seconds=1), NOW - YEAR


@pytest.fixture(autouse=True)
def _a_user(db: Database) -> None:
    given.have(db, given.user("U1", external_id="1"))


def have(db: Database, *rows: dict[str, Any]) -> None:
    """The store holds these events, in this order; they are called 1, 2, …, and are old unless they say something
    else."""

    def fill(connection: Connection) -> None:
        for number, row in enumerate(rows, start=1):
            values = {"source_id": str(number), "user_id": "U1", "name": "Clicked"}
            connection.execute(sa.insert(schema.events).values(values | {"occurred_at": OLD, "received_at": OLD} | row))

    db.write(fill)


def walk(db: Database) -> list[int]:
    """Deletes all that is old; how many rows each page's transaction deleted."""
    deleted = []
    after = 0
    while page := db.read(retention.old_events, YOUNG, after):
        assert db.write(retention.delete_events, YOUNG, page) == page.old
        deleted.append(page.old)
        after = page.last
    return deleted


def left(db: Database) -> list[str]:
    return given.rows(db, schema.events, "source_id")


def test_what_may_still_be_sent_stays_and_the_rest_goes(db: Database) -> None:
    fates = ("none", "sent", "skipped", "parked", "due")
    settled = [{"outbound": each, "due_at": OLD, "settled_at": OLD} for each in fates]
    have(db, *settled, {"outbound": "due"}, {})
    assert walk(db) == [4]
    assert given.rows(db, schema.events, "source_id", "outbound") == [("4", "parked"), ("5", "due"), ("6", "due")]


@pytest.mark.parametrize("at", [YOUNG, NOW + YEAR])
def test_an_event_is_as_young_as_the_newest_of_its_times(db: Database, at: datetime) -> None:
    sent = {"outbound": "sent", "settled_at": at}
    have(db, {"occurred_at": at}, {"received_at": at}, sent, {"outbound": "sent", "settled_at": OLD}, {})
    assert walk(db) == [2]
    assert left(db) == ["1", "2", "3"]


def test_a_walk_goes_on_past_events_that_stay_and_ends_where_none_was_received_before(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "PAGE", 3)
    young = {"received_at": YOUNG, "occurred_at": OLD}
    have(db, *([{"outbound": "parked"}] * 4), *([{}] * 4), young, *([young] * 3), {})
    assert walk(db) == [0, 2, 2]
    assert left(db) == ["1", "2", "3", "4", *(str(number) for number in range(9, 14))]


def test_a_walk_over_nothing_and_over_young_ones_ends_at_once(db: Database) -> None:
    assert walk(db) == []
    have(db, {"received_at": YOUNG})
    assert walk(db) == []


def test_an_event_that_is_made_due_between_the_look_and_the_deletion_stays(db: Database) -> None:
    have(db, {"outbound": "sent", "settled_at": OLD})
    page = db.read(retention.old_events, YOUNG, 0)
    assert page is not None
    db.write(due.again, [page.last], NOW)
    assert db.write(retention.delete_events, YOUNG, page) == 0
    assert left(db) == ["1"]


@pytest.mark.parametrize("store_kind", ["postgresql"], indirect=True)  # SQLite has one writer at a time
def test_a_deletion_waits_for_whoever_changes_identities(db: Database) -> None:
    """A merge moves a user's events, in another order than a page has them."""
    have(db, {})

    def impatient(connection: Connection) -> None:
        connection.execute(sa.text("SET LOCAL lock_timeout = '50ms'"))
        retention.delete_events(connection, YOUNG, retention.Page(0, 500, 1))

    with db.transaction() as merging:
        database.lock_identities(merging)
        with pytest.raises(sa.exc.OperationalError, match="lock timeout"):
            db.write(impatient)
    assert len(left(db)) == 1


def test_an_event_that_was_deleted_and_is_imported_again_is_not_sent_again(db: Database) -> None:
    wanted = Events(names=("Clicked",), max_age=YEAR)
    row = EventRow("a", "1", None, None, "track", "Clicked", NOW - timedelta(hours=1))
    db.write(upsert.events, [row], NOW, wanted)
    assert given.rows(db, schema.events, "outbound") == ["due"]
    db.write(due_events.sent, given.rows(db, schema.events, "id"), NOW)
    later = NOW + YEAR + timedelta(seconds=1)
    page = db.read(retention.old_events, later - YEAR, 0)
    assert page is not None
    assert db.write(retention.delete_events, later - YEAR, page) == 1
    db.write(upsert.events, [row], later, wanted)
    assert given.rows(db, schema.events, "outbound", "reason") == [("skipped", due.TOO_OLD)]


def test_a_webhook_that_is_repeated_after_its_event_went_is_history_again_and_is_never_sent(db: Database) -> None:
    body = webhook("a", at=int(OLD.timestamp()), identifiers={"id": "1"})
    given.read(db, body, now=OLD)
    assert walk(db) == [1]
    db.write(lambda connection: connection.execute(sa.delete(schema.inbox)))
    given.read(db, body)
    assert db.read(events.count) == 1
    assert given.rows(db, schema.events, "outbound") == ["none"]
