"""What the guard judges by, gathered from the store: for the pass, which lets go or holds, and for the plan, which
says what a pass would do.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy.engine import Connection

from connector.core import guard, mapping
from connector.records import CustomerId, Seen
from connector.settings import Settings
from connector.store import backlog, facts, guarded, mirror, users
from connector.store.database import Database

OTHER_ID = "other_customer_id"  # `guard.suspicion`'s word

_DAY = timedelta(hours=24)
_LOOKED_AT = 1000


def forget(db: Database, now: datetime) -> None:
    """What counts no more."""
    db.write(guarded.forget, now - _DAY)


def look(db: Database, settings: Settings) -> tuple[Seen, str | None]:
    """What the next pass may compare with, and what is odd about store and settings by what earlier ones noted."""
    before, now = db.read(facts.seen), Seen(db.read(users.count), settings.people.customer_id)
    if before is None:
        return now, OTHER_ID if known_otherwise(db, settings) else None
    return guard.noted(before, now), guard.suspicion(before, now)


def known_otherwise(db: Database, settings: Settings) -> bool:
    """Whether people were sent under ids from elsewhere than `people.customer_id`, by a look at the first of them."""
    sent = db.read(mirror.known_as, _LOOKED_AT)
    found = db.read(users.load, list(sent))
    today = {user_id: mapping.customer_id(user, settings) for user_id, user in found.items()}
    other = sum(isinstance(each, CustomerId) and each != sent[user_id] for user_id, each in today.items())
    return guard.known_otherwise(other=other, people=len(sent))


def creates(db: Database, settings: Settings, waiting: int, suspicion: str | None, now: datetime) -> guard.Verdict:
    """On creates of so many users who were in the store before."""
    released = db.read(let_go_since, now - _DAY)
    return guard.creates(waiting=waiting, released=released, limit=settings.guard.max_creates, suspicion=suspicion)


def deletes(db: Database, settings: Settings, outside: int, suspicion: str | None, now: datetime) -> guard.Verdict:
    """On so many people who are outside, also within their grace, beside those whose deletes were let go before."""
    # First those on their way: who is deleted between the two questions is counted twice, not never.
    on_their_way = db.read(backlog.leaving)
    deleted = db.read(guarded.since, "delete", now - _DAY)
    return guard.deletes(
        outside=outside,
        released=on_their_way + deleted,
        people=db.read(mirror.count) + deleted,
        share=settings.guard.max_delete_share,
        limit=settings.guard.max_deletes,
        whitelisted=len(settings.people.segments),
        suspicion=suspicion,
    )


def let_go_since(connection: Connection, since: datetime) -> int:
    """Creates that the guard itself let go: those that happened since then, and those that are on their way."""
    # First those on their way: one who arrives between the two questions is counted twice, not never.
    return backlog.guarded(connection) + guarded.since(connection, "create", since)
