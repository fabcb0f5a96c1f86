"""What the last pass saw, as the next one finds it."""

from __future__ import annotations

from connector.records import Seen
from connector.store import facts
from connector.store.database import Database


def test_before_the_first_pass_nothing_was_seen(db: Database) -> None:
    assert db.read(facts.seen) is None


def test_what_was_seen_last_is_what_counts(db: Database) -> None:
    for seen in (Seen(3, ("external_id",)), Seen(2, ("crm.id", "email"))):
        db.write(facts.see, seen)
        assert db.read(facts.seen) == seen
