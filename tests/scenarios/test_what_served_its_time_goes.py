"""A running connector deletes what the settings no longer keep, and says how much that was."""

from __future__ import annotations

from datetime import timedelta

from connector import app
from connector.store import inbox
from connector.store.database import Database
from tests.places import Place, Process
from tests.store import given
from tests.store.given import webhook


def test_old_bodies_and_older_events_are_deleted_and_unread_webhooks_stay(db: Database, place: Place) -> None:
    now = app.now()
    given.read(db, *(webhook(f"old {number}") for number in range(3)), b"unread", now=now - timedelta(days=8))
    given.read(db, webhook("young"), now=now)
    given.read(db, webhook("oldest"), now=now - timedelta(days=31))
    place.write(store=f'url = "{place.store_url}"\nwebhook_bodies = "7d"\nevents = "30d"')
    process = Process(place)
    try:
        deleted = process.wait_for("retention_deleted")
        assert (deleted["webhooks"], deleted["events"]) == (4, 1)
    finally:
        assert process.terminate() == 0
    assert db.read(inbox.counts) == {"new": 0, "unread": 1}
    assert [each["event_id"] for each in place.export("webhooks")] == [None, "young"]
    assert len(place.export("events")) == 4
