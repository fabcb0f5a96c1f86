"""What the last pass saw, as the next one finds it."""

from __future__ import annotations

from datetime import timedelta

from connector.records import Seen
from connector.store import facts
from connector.store.database import Database
from tests.store.given import NOW


def test_before_the_first_pass_nothing_was_seen(db: Database) -> None:
    assert db.read(facts.seen) is None


def test_what_was_seen_last_is_what_counts(db: Database) -> None:
    for seen in (Seen(3, ("external_id",)), Seen(2, ("crm.id", "email"))):
        db.write(facts.see, seen)
        assert db.read(facts.seen) == seen


def test_what_events_wait_for_is_kept_with_the_time_of_the_next_look(db: Database) -> None:
    assert db.read(facts.waited_for) == (None, None)
    for terms in (facts.Waiting(3, 60.0, False), facts.Waiting(None, 5.0, True)):
        for again_at in (NOW + timedelta(minutes=2), None):
            db.write(facts.wait_for, terms, again_at)
            assert db.read(facts.waited_for) == (terms, again_at)
