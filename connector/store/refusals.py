"""Webhooks that were refused: one row for each reason, how many of them and since when."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from connector.store import database
from connector.store.schema import refusals

QUIET = timedelta(hours=24)
"""Without a refusal for so long, the trouble is over; a later one is another trouble."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """How many were refused for one reason: the first of them at `since`, the last at `last_at`."""

    reason: str
    count: int
    since: datetime
    last_at: datetime


def add(connection: Connection, reason: str, count: int, now: datetime) -> None:
    """`count` more were refused. `since` stays what it was, unless there was none for QUIET before."""
    new = database.insert(connection, refusals).values(reason=reason, count=count, since=now, last_at=now)
    goes_on = refusals.c.last_at >= now - QUIET
    grown = {
        "count": sa.case((goes_on, refusals.c.count), else_=0) + new.excluded.count,
        "since": sa.case((goes_on, refusals.c.since), else_=new.excluded.since),
        "last_at": new.excluded.last_at,
    }
    connection.execute(new.on_conflict_do_update(index_elements=["reason"], set_=grown))


def load(connection: Connection) -> list[Refusal]:
    """All of them, by reason."""
    return [Refusal(*row) for row in connection.execute(sa.select(refusals).order_by(refusals.c.reason))]
