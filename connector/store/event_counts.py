"""How many events are on their way out, and what became of the others: what `status` and `plan` tell of them."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from connector.settings import Settings
from connector.store import attempts, database, schema, segments
from connector.store.due_events import DAY, TRIGGERS, VIEWS
from connector.store.schema import events, users
from connector.store.schema import pending as pending_rows

USER_PARKED = "user_parked"
EVENT, LIMIT = "event", "max_events_per_user"  # what and why, of those who are held
_PARKED = sa.select(pending_rows.c.user_id).where(pending_rows.c.parked_at.is_not(None))


class HeldEvents(NamedTuple):
    """Users who were sent as many events as they may be, and how many of theirs are due nevertheless."""

    users: int
    events: int


class Outlook(NamedTuple):
    """How many events are due by name, the most first (of views, by type), and how many of all trigger campaigns."""

    by_name: dict[str, int]
    triggering: int


def counts(connection: Connection) -> dict[str, Any]:
    """How many are due, how many of them wait for users who are parked, and how many were sent; how many were skipped
    and parked, by reason, the most first."""
    number = sa.func.count()
    due = sa.select(number).select_from(events).where(schema.EVENT_IS_DUE)
    asked = sa.select(number).select_from(events).where(schema.EVENT_IS_ASKED_FOR)
    was_sent = sa.select(number).select_from(events).where(schema.EVENT_IS_SENT)
    parked_with = sa.select(number).select_from(pending_rows.join(events, events.c.user_id == pending_rows.c.user_id))
    parked_with = parked_with.where(pending_rows.c.parked_at.is_not(None), schema.EVENT_IS_DUE)
    return {
        "due": connection.execute(due).scalar_one() + connection.execute(asked).scalar_one(),
        USER_PARKED: connection.execute(parked_with).scalar_one(),
        "sent": connection.execute(was_sent).scalar_one(),
        "skipped": _by(connection, events.c.reason, schema.EVENT_IS_SKIPPED),
        "parked": _by(connection, events.c.reason, schema.EVENT_IS_PARKED),
    }


def parked(connection: Connection, only: Collection[str]) -> dict[str, int]:
    """How many of these users' are parked, by reason, the most first."""
    theirs = database.among(connection, events.c.user_id, only)
    return _by(connection, events.c.reason, sa.and_(schema.EVENT_IS_PARKED, theirs))


def parked_newest(connection: Connection) -> dict[str, attempts.Attempted]:
    """What was tried last, by the reason why events are parked, of whose event was parked last for it; without reasons
    of which no such attempt is known."""
    turn = sa.func.row_number().over(partition_by=events.c.reason, order_by=(events.c.settled_at.desc(), events.c.id))
    parked = sa.select(events.c.reason, events.c.user_id, turn.label("turn")).where(schema.EVENT_IS_PARKED)
    return attempts.newest(connection, parked, of_events=True)


def outlook(connection: Connection, now: datetime) -> Outlook:
    """What is due by now, to everybody but those who are parked."""
    is_due = sa.and_(schema.EVENT_IS_DUE, events.c.user_id.not_in(_PARKED))
    named = sa.case((events.c.type.in_(VIEWS), events.c.type), else_=events.c.name)
    young = sa.select(sa.func.count()).select_from(events).where(is_due)
    triggering = connection.execute(young.where(events.c.occurred_at > now - TRIGGERS)).scalar_one()
    return Outlook(_by(connection, named, is_due), triggering)


def held(connection: Connection, limit: int, now: datetime, only: Collection[str] | None = None) -> HeldEvents:
    """Who has events that wait because `limit` of theirs were sent in the last 24 hours, but for those who are parked,
    whom no day lets go; of `only` these users, where they are given."""
    waiting = _by_user(events.c.user_id.not_in(_PARKED), *database.only(connection, events.c.user_id, only))
    query = sa.select(sa.func.count(), sa.func.coalesce(sa.func.sum(waiting.c.number), 0))
    found = connection.execute(query.select_from(waiting).where(_sent_lately(waiting, now) >= limit)).one()
    return HeldEvents(found[0], int(found[1]))


def would_hold(connection: Connection, settings: Settings, now: datetime, before: Settings | None = None) -> HeldEvents:
    """Of whom more is due than `guard.max_events_per_user` leaves them, and how much more: of those in a whitelisted
    segment who aren't parked. Of whom else it will be sent, nobody can tell. What would wait under the settings
    `before`, too, doesn't count."""
    if settings.guard.max_events_per_user is None:
        return HeldEvents(0, 0)
    waiting = _by_user()
    dialect = connection.dialect.name
    more = _beyond(settings, waiting, dialect, now)
    if before is not None:
        more -= _beyond(before, waiting, dialect, now)
    theirs = sa.select(more.label("number")).join(users, users.c.id == waiting.c.user_id)
    beyond = theirs.where(users.c.id.not_in(_PARKED)).subquery("beyond")
    query = sa.select(sa.func.count(), sa.func.coalesce(sa.func.sum(beyond.c.number), 0))
    found = connection.execute(query.where(beyond.c.number > 0)).one()
    return HeldEvents(found[0], int(found[1]))


def _beyond(settings: Settings, waiting: sa.Subquery, dialect: str, now: datetime) -> sa.ColumnElement[int]:
    """How many more are due of a user than they have room for."""
    limit = settings.guard.max_events_per_user
    if limit is None:
        return sa.literal(0)
    lately = _sent_lately(waiting, now)
    room = sa.case((lately < limit, limit - lately), else_=0)
    is_sent = segments.whitelisted(settings, dialect, now)
    return sa.case((sa.and_(is_sent, waiting.c.number > room), waiting.c.number - room), else_=0)


def _by_user(*chosen: sa.ColumnElement[bool]) -> sa.Subquery:
    """How many are due of each."""
    theirs = sa.select(events.c.user_id, sa.func.count().label("number")).where(schema.EVENT_IS_DUE, *chosen)
    return theirs.group_by(events.c.user_id).subquery("waiting")


def _sent_lately(waiting: sa.Subquery, now: datetime) -> sa.ScalarSelect[int]:
    lately = schema.EVENT_IS_SENT, events.c.settled_at > now - DAY
    return sa.select(sa.func.count()).where(events.c.user_id == waiting.c.user_id, *lately).scalar_subquery()


def _by(connection: Connection, what: sa.ColumnElement[Any], chosen: sa.ColumnElement[bool]) -> dict[str, int]:
    """How many there are of each, the most first."""
    each, number = what.label("each"), sa.func.count().label("number")
    rows = connection.execute(sa.select(each, number).where(chosen).group_by(each).order_by(number.desc(), each))
    return {row.each: row.number for row in rows}
