"""The log of everything that was not plain success: refusals, failures, attributes left out."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from connector.store.schema import attempts


class Attempt(NamedTuple):
    """What was tried for a user and why it did not, or not wholly, happen."""

    user_id: str
    what: str
    calls: int
    status: int | None
    reason: str
    message: str


def add(connection: Connection, rows: Sequence[Attempt], now: datetime) -> None:
    """Appends to the log."""
    if rows:
        connection.execute(sa.insert(attempts), [{**row._asdict(), "at": now} for row in rows])


def of_user(connection: Connection, user_id: str) -> list[dict[str, Any]]:
    """A user's attempts, oldest first."""
    rows = connection.execute(sa.select(attempts).where(attempts.c.user_id == user_id).order_by(attempts.c.id))
    return [dict(row._mapping) for row in rows]
