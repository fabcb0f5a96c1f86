"""Segments as SQL: one condition, one predicate, the same for one user, a claimed batch and the whole table.

    settings' conditions -> predicates -> operands (columns; documents) -> one expression for each dialect

No membership is stored: what depends on the time is asked as of `now`, which the caller passes, so that a window is
right at every moment. Segment bits are a text of 0 and 1, one for each segment in the settings' order. Who was merged
into another user is in no segment's listing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from connector.settings import Settings, conditions
from connector.store.schema import users
from connector.store.segments import predicates
from connector.store.segments.operand import Predicate, Scope

PAGE = 1000
_PART = 20

_THEMSELVES = users.c.merged_into.is_(None)


def bits(settings: Settings, dialect: str, now: datetime) -> sa.ColumnElement[str]:
    """The expression over `users` for a user's segment bits."""
    each = [
        sa.case((predicate(segment.condition, settings, dialect, now), "1"), else_="0")
        for segment in settings.segments.values()
    ]
    # In parts, because SQLite takes no expression that is deeper than 1,000.
    parts = [sa.cast(_joined(each[start : start + _PART]), sa.Text) for start in range(0, len(each), _PART)]
    return _joined(parts)


def _joined(texts: Sequence[sa.ColumnElement[str]]) -> sa.ColumnElement[str]:
    expression: sa.ColumnElement[str] = sa.literal_column("''", sa.Text)
    for each in texts:
        expression = expression.concat(each)
    return expression


def whitelisted(settings: Settings, dialect: str, now: datetime) -> Predicate:
    """The predicate over `users`: in at least one whitelisted segment."""
    names = settings.people.segments
    if not names:
        return sa.false()
    # No chain of OR: SQLite takes no expression that is deeper than 1,000.
    inside = (predicate(settings.segments[name].condition, settings, dialect, now) for name in names)
    return sa.case(*((each, sa.true()) for each in inside), else_=sa.false())


def predicate(condition: conditions.Condition, settings: Settings, dialect: str, now: datetime) -> Predicate:
    """The condition as a predicate over `users`. NULL is as good as false: don't negate it, ask for `NoneOf`."""
    return predicates.of(condition, Scope(settings, dialect, now))


def sizes(connection: Connection, settings: Settings, now: datetime) -> dict[str, int]:
    """How many users are in each segment, in the settings' order."""
    return {name: size(connection, name, settings, now) for name in settings.segments}


def size(connection: Connection, name: str, settings: Settings, now: datetime) -> int:
    """How many users are in the segment."""
    return connection.execute(
        sa.select(sa.func.count()).select_from(users).where(*_members(connection, name, settings, now))
    ).scalar_one()


def members(
    connection: Connection, name: str, settings: Settings, now: datetime, after: str = "", limit: int = PAGE
) -> list[tuple[str, str | None, str | None]]:
    """(id, external_id, email) of the segment's users behind `after`, in the order of their ids."""
    query = (
        sa.select(users.c.id, users.c.external_id, users.c.email)
        .where(*_members(connection, name, settings, now), users.c.id > after)
        .order_by(users.c.id)
        .limit(limit)
    )
    return [(user_id, external_id, email) for user_id, external_id, email in connection.execute(query)]


def holding(
    connection: Connection, user_id: str, wanted: Sequence[conditions.Condition], settings: Settings, now: datetime
) -> list[bool]:
    """Which of the conditions hold for one user."""
    dialect = connection.dialect.name
    found: list[bool] = []
    for start in range(0, len(wanted), PAGE):
        asked = wanted[start : start + PAGE]
        columns = [sa.case((predicate(each, settings, dialect, now), 1), else_=0) for each in asked]
        row = connection.execute(sa.select(*columns).where(users.c.id == user_id)).one()
        found += [each == 1 for each in row]
    return found


def _members(connection: Connection, name: str, settings: Settings, now: datetime) -> Iterator[Predicate]:
    yield _THEMSELVES
    yield predicate(settings.segments[name].condition, settings, connection.dialect.name, now)
