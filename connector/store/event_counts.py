"""How many events are on their way out, and what became of the others: what `status` and `plan` tell of them."""

from __future__ import annotations

from datetime import datetime
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from connector.store import schema
from connector.store.due_events import DAY, TRIGGERS, VIEWS
from connector.store.schema import events
from connector.store.schema import pending as pending_rows

USER_PARKED = "user_parked"


class Held(NamedTuple):
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


def outlook(connection: Connection, now: datetime) -> Outlook:
    """What is due by now, to everybody but those who are parked."""
    parked = sa.select(pending_rows.c.user_id).where(pending_rows.c.parked_at.is_not(None))
    is_due = sa.and_(schema.EVENT_IS_DUE, events.c.user_id.not_in(parked))
    named = sa.case((events.c.type.in_(VIEWS), events.c.type), else_=events.c.name)
    young = sa.select(sa.func.count()).select_from(events).where(is_due)
    triggering = connection.execute(young.where(events.c.occurred_at > now - TRIGGERS)).scalar_one()
    return Outlook(_by(connection, named, is_due), triggering)


def held(connection: Connection, limit: int, now: datetime) -> Held:
    """Who has events that wait because `limit` of theirs were sent in the last 24 hours."""
    theirs = sa.select(events.c.user_id, sa.func.count().label("number")).where(schema.EVENT_IS_DUE)
    waiting = theirs.group_by(events.c.user_id).subquery("waiting")
    lately = sa.select(sa.func.count()).where(
        events.c.user_id == waiting.c.user_id, schema.EVENT_IS_SENT, events.c.settled_at > now - DAY
    )
    query = sa.select(sa.func.count(), sa.func.coalesce(sa.func.sum(waiting.c.number), 0))
    found = connection.execute(query.select_from(waiting).where(lately.scalar_subquery() >= limit)).one()
    return Held(found[0], int(found[1]))


def _by(connection: Connection, what: sa.ColumnElement[Any], chosen: sa.ColumnElement[bool]) -> dict[str, int]:
    """How many there are of each, the most first."""
    each, number = what.label("each"), sa.func.count().label("number")
    rows = connection.execute(sa.select(each, number).where(chosen).group_by(each).order_by(number.desc(), each))
    return {row.each: row.number for row in rows}
