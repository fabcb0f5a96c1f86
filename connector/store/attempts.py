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


class Attempted(NamedTuple):
    """What was tried, what Customer.io answered, and when."""

    what: str
    status: int | None
    message: str
    at: datetime


def newest(connection: Connection, parked: sa.Select[Any], *, of_events: bool) -> dict[str, Attempted]:
    """The newest attempt by reason, of the user who is `parked` for it in the first `turn`: rows of `reason`, `user_id`
    and `turn`."""
    each, is_of_event = parked.subquery("parked"), attempts.c.what == "event"
    found: dict[str, Attempted] = {}
    for reason, user_id in connection.execute(sa.select(each.c.reason, each.c.user_id).where(each.c.turn == 1)).all():
        of_this = attempts.c.user_id == user_id, attempts.c.reason == reason, is_of_event if of_events else ~is_of_event
        query = sa.select(*(attempts.c[name] for name in Attempted._fields)).where(*of_this)
        row = connection.execute(query.order_by(attempts.c.id.desc()).limit(1)).one_or_none()
        if row is not None:
            found[reason] = Attempted(*row)
    return found


def of_user(connection: Connection, user_id: str) -> list[dict[str, Any]]:
    """A user's attempts, oldest first."""
    rows = connection.execute(sa.select(attempts).where(attempts.c.user_id == user_id).order_by(attempts.c.id))
    return [dict(row._mapping) for row in rows]
