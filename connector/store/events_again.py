"""Events to be sent once more, under the ids that they have: those that were parked, and those with a name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from connector.store import database, due_events, schema
from connector.store.database import Database
from connector.store.due_events import TRIGGERS, VIEWS
from connector.store.schema import events

_CHUNK = 1000
_STRETCH = 20_000
_REPORTED = "customerio"


class Nameless(NamedTuple):
    """An event of which SQL has written no activity id, and what one is derived from."""

    id: int
    source: str
    source_id: str
    occurred_at: datetime


class Again(NamedTuple):
    """How many events were made due, and how many of them trigger campaigns."""

    events: int
    triggering: int


def parked_ids(
    db: Database, *, reason: str | None, user_ids: Sequence[str] | None, since: datetime | None
) -> Iterator[Sequence[int]]:
    """Parked events in chunks, as they came: all, or those with that reason, of these users, parked since then."""
    after = 0
    while found := db.read(_parked_ids, after, reason, user_ids, since):
        yield found
        after = found[-1]


def _parked_ids(
    connection: Connection, after: int, reason: str | None, user_ids: Sequence[str] | None, since: datetime | None
) -> list[int]:
    chosen = [schema.EVENT_IS_PARKED, events.c.id > after]
    if reason is not None:
        chosen.append(events.c.reason == reason)
    if user_ids is not None:
        chosen.append(events.c.user_id.in_(user_ids))
    if since is not None:
        chosen.append(events.c.settled_at >= since)
    return _numbers(connection, sa.select(events.c.id).where(*chosen).order_by(events.c.id).limit(_CHUNK))


def named_ids(
    db: Database, name: str, since: datetime, until: datetime | None, user_ids: Sequence[str] | None
) -> Iterator[Sequence[int]]:
    """Events of our own with that name that happened since then and, if it is given, before `until`, in chunks; of
    these users, or of all. "page" and "screen" are all views of that type, under any name."""
    own: list[sa.ColumnElement[bool]] = [
        events.c.type == name if name in VIEWS else (events.c.name == name) & events.c.type.not_in(VIEWS),
        events.c.source != _REPORTED,
        events.c.user_id.is_not(None),
        events.c.occurred_at >= since,
    ]
    if until is not None:
        own.append(events.c.occurred_at < until)
    if user_ids is not None:
        if name not in VIEWS and len(name) <= schema.LONGEST_INDEXED_NAME:
            own.append(schema.EVENT_NAME_IS_INDEXED)
        for user_id in user_ids:
            theirs = db.read(_numbers, sa.select(events.c.id).where(events.c.user_id == user_id, *own))
            yield from database.chunks(theirs, _CHUNK)
        return
    # By stretches of the key: no index has all names, and one read of a large table would go on for long.
    after, last = 0, db.read(_last)
    while after < last:
        stretch = events.c.id.between(after + 1, after + _STRETCH)
        found = db.read(_numbers, sa.select(events.c.id).where(stretch, *own).order_by(events.c.id))
        yield from database.chunks(found, _CHUNK)
        after += _STRETCH


def nameless(connection: Connection, ids: Sequence[int]) -> list[Nameless]:
    """Those of the events that have no activity id."""
    chosen = database.among(connection, events.c.id, ids), events.c.activity_id.is_(None)
    query = sa.select(*(events.c[name] for name in Nameless._fields)).where(*chosen)
    return [Nameless(*row) for row in connection.execute(query)]


def name(connection: Connection, activity_ids: Mapping[int, str]) -> None:
    """Gives events their activity ids."""
    if activity_ids:
        naming = sa.update(events).where(events.c.id == sa.bindparam("number"))
        rows = [{"number": number, "derived": derived} for number, derived in activity_ids.items()]
        connection.execute(naming.values(activity_id=sa.bindparam("derived")), rows)


def make_due(connection: Connection, ids: Sequence[int], now: datetime, *, only_parked: bool = False) -> Again:
    """Makes those due that are not, under the ids that they have. Expects the identity lock to be held."""
    is_wanted = schema.EVENT_IS_PARKED if only_parked else events.c.outbound != "due"
    due = sa.update(events).where(database.among(connection, events.c.id, ids), is_wanted)
    due = due.values(outbound="due", reason=None, due_at=now, settled_at=None)
    rows = connection.execute(due.returning(events.c.user_id, events.c.occurred_at)).all()
    due_events.mark(connection, {row.user_id for row in rows if row.user_id is not None}, now)
    return Again(len(rows), sum(row.occurred_at > now - TRIGGERS for row in rows))


def _numbers(connection: Connection, query: sa.Select[int]) -> list[int]:
    return list(connection.execute(query).scalars())


def _last(connection: Connection) -> int:
    return connection.execute(sa.select(sa.func.max(events.c.id))).scalar_one() or 0
