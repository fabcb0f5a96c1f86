"""What the guard judges by, gathered from the store: for the pass, which lets go or holds, and for the plan, which
says what a pass would do.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy.engine import Connection

from connector.core import guard
from connector.records import Seen
from connector.settings import Settings
from connector.store import facts, mirror, pending, users
from connector.store.database import Database

_DAY = timedelta(hours=24)


def look(db: Database, settings: Settings) -> tuple[Seen, str | None]:
    """Store and settings as the guard compares them with those of the last pass, and what is odd about them."""
    seen = Seen(db.read(users.count), settings.people.customer_id)
    return seen, guard.suspicion(db.read(facts.seen), seen)


def creates(db: Database, settings: Settings, waiting: int, suspicion: str | None, now: datetime) -> guard.Verdict:
    """On creates of so many users who were in the store before."""
    released = db.read(let_go_since, now - _DAY)
    return guard.creates(waiting=waiting, released=released, limit=settings.guard.max_creates, suspicion=suspicion)


def deletes(
    db: Database, settings: Settings, outside: int, on_their_way: int, suspicion: str | None, now: datetime
) -> guard.Verdict:
    """On so many people who are outside, also within their grace, beside those whose deletes were let go before."""
    deleted = db.read(mirror.deleted_since, now - _DAY)
    return guard.deletes(
        outside=outside,
        released=deleted + on_their_way,
        people=db.read(mirror.count) + deleted,
        share=settings.guard.max_delete_share,
        limit=settings.guard.max_deletes,
        whitelisted=len(settings.people.segments),
        suspicion=suspicion,
    )


def let_go_since(connection: Connection, since: datetime) -> int:
    """Creates that the guard itself let go: those that happened since then, and those that are on their way."""
    # First those on their way: one who arrives between the two questions is counted twice, not never.
    return pending.guarded(connection) + mirror.guarded_since(connection, since)
