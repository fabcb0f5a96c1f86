"""How many users were decided about, by verb and reason, each hour. The hours that are over long ago are forgotten."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from connector.store import database
from connector.store.schema import decided

KEPT = timedelta(hours=48)


def count(connection: Connection, users: Mapping[tuple[str, str], int], now: datetime) -> None:
    """Adds so many users, by verb and reason. The rows of an hour are everybody's, so it comes last in a transaction:
    whoever else counts waits for its end."""
    # Everyone who counts does so in this order; else two transactions wait for each other.
    rows = [
        {"hour": _hour(now), "verb": verb, "reason": reason, "count": number}
        for (verb, reason), number in sorted(users.items())
        if number
    ]
    if not rows:
        return
    statement = database.insert(connection, decided)
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=[decided.c.hour, decided.c.verb, decided.c.reason],
            set_={"count": decided.c["count"] + statement.excluded["count"]},
        ),
        rows,
    )


def since(connection: Connection, at: datetime) -> dict[str, dict[str, int]]:
    """How many, by verb and reason, the most first; the hour of `at` counts as a whole."""
    number = sa.func.sum(decided.c["count"])
    rows = connection.execute(
        sa.select(decided.c.verb, decided.c.reason, sa.cast(number, sa.BigInteger))
        .where(decided.c.hour >= _hour(at))
        .group_by(decided.c.verb, decided.c.reason)
        .order_by(decided.c.verb, number.desc(), decided.c.reason)
    )
    found: dict[str, dict[str, int]] = {}
    for verb, reason, users in rows:
        found.setdefault(verb, {})[reason] = users
    return found


def forget(connection: Connection, now: datetime) -> int:
    """Deletes the hours that are no longer kept; how many rows that was."""
    return connection.execute(sa.delete(decided).where(decided.c.hour < now - KEPT)).rowcount


def _hour(at: datetime) -> datetime:
    return at.replace(minute=0, second=0, microsecond=0)
