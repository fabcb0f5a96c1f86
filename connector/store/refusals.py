"""Webhooks that were refused: one row for each reason, how many of them and since when."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from connector.store import database
from connector.store.schema import refusals


@dataclass(frozen=True, slots=True)
class Refusal:
    """How many were refused for one reason: the first of them at `since`, the last at `last_at`."""

    reason: str
    count: int
    since: datetime
    last_at: datetime


def add(connection: Connection, reason: str, count: int, now: datetime) -> None:
    """`count` more were refused. `since` stays what it was, until `clear`."""
    new = database.insert(connection, refusals).values(reason=reason, count=count, since=now, last_at=now)
    grown = {"count": refusals.c.count + new.excluded.count, "last_at": new.excluded.last_at}
    connection.execute(new.on_conflict_do_update(index_elements=["reason"], set_=grown))


def clear(connection: Connection, reason: str) -> None:
    """What was refused for this reason is no trouble any more."""
    connection.execute(sa.delete(refusals).where(refusals.c.reason == reason))


def load(connection: Connection) -> list[Refusal]:
    """All of them, by reason."""
    return [Refusal(*row) for row in connection.execute(sa.select(refusals).order_by(refusals.c.reason))]
