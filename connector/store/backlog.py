"""The backlog as a whole: how many are due, on their way or given up; and those who were given up, tried anew."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from connector.store import attempts, database
from connector.store.pending import DELETES, NO_FAILURES, NOT_PARKED
from connector.store.schema import pending, users


class Counts(NamedTuple):
    """`due` now, `waiting` for a later moment (a retry, or a lease of another worker; not who waits out the grace of
    a delete that was let go), and since when the oldest has been due, or failing: nobody else is late. Who is `parked`
    is in none of the others."""

    due: int
    waiting: int
    failing: int
    leased: int
    oldest_at: datetime | None
    parked: int


def counts(connection: Connection, now: datetime, only: Collection[str] | None = None) -> Counts:
    """The size and age of the backlog; of `only` these users, where they are given."""
    due = sa.and_(pending.c.due_at <= now, NOT_PARKED)
    untried = sa.and_(pending.c.attempts == 0, pending.c.lease.is_(None))
    leaves = sa.and_(untried, sa.func.coalesce(pending.c.release, "").in_(sorted(DELETES)))
    late = sa.and_(NOT_PARKED, sa.or_(pending.c.due_at <= now, pending.c.failing_since.is_not(None)))
    row = connection.execute(
        sa.select(
            sa.func.count().filter(due),
            sa.func.count().filter(pending.c.due_at > now, NOT_PARKED, sa.not_(leaves)),
            sa.func.count().filter(pending.c.attempts > 0, NOT_PARKED),
            sa.func.count().filter(pending.c.due_at > now, pending.c.lease.is_not(None)),
            sa.func.min(
                sa.func.coalesce(pending.c.failing_since, pending.c.due_at), type_=pending.c.due_at.type
            ).filter(late),
            sa.func.count().filter(pending.c.parked_at.is_not(None)),
        )
        .select_from(pending)
        .where(*database.only(connection, pending.c.user_id, only))
    ).one()
    return Counts(*row)


def guarded(connection: Connection) -> int:
    """Creates that the guard has let go and that have not happened yet, but may."""
    let_go = pending.c.release == sa.literal_column("'guard'"), NOT_PARKED
    return connection.execute(sa.select(sa.func.count()).select_from(pending).where(*let_go)).scalar_one()


def leaving(connection: Connection) -> int:
    """Deletes that have been let go and have not happened yet."""
    let_go = pending.c.release.in_(sorted(DELETES))
    return connection.execute(sa.select(sa.func.count()).select_from(pending).where(let_go)).scalar_one()


def parked_reasons(connection: Connection) -> dict[str, int]:
    """How many are parked, by reason, the most first."""
    number = sa.func.count().label("number")
    query = sa.select(pending.c.reason, number).where(pending.c.parked_at.is_not(None)).group_by(pending.c.reason)
    return {row.reason: row.number for row in connection.execute(query.order_by(number.desc(), pending.c.reason))}


def parked_newest(connection: Connection) -> dict[str, attempts.Attempted]:
    """What was tried last, by the reason why users are parked, of who was parked last for it; without reasons of whom
    no such attempt is known."""
    turn = sa.func.row_number().over(
        partition_by=pending.c.reason, order_by=(pending.c.parked_at.desc(), pending.c.user_id)
    )
    parked = sa.select(pending.c.reason, pending.c.user_id, turn.label("turn")).where(pending.c.parked_at.is_not(None))
    return attempts.newest(connection, parked, of_events=False)


def look_again(connection: Connection, mapping_hash: str, now: datetime, only: Collection[str] | None = None) -> None:
    """Who was parked when they, or what is made of them, were different, is tried anew; of `only` these users, where
    they are given."""
    versions = sa.select(users.c.version).where(users.c.id == pending.c.user_id).scalar_subquery()
    different = sa.or_(pending.c.parked_hash != mapping_hash, pending.c.parked_version != versions)
    parked = pending.c.parked_at.is_not(None)
    _try_anew(connection, [parked, different, *database.only(connection, pending.c.user_id, only)], now)


def replay(
    connection: Connection, now: datetime, *, reason: str | None, user_ids: Sequence[str] | None, since: datetime | None
) -> int:
    """Tries parked users anew: all, or those with that reason, of these, parked since then. How many they were."""
    chosen = [pending.c.parked_at.is_not(None), *database.only(connection, pending.c.user_id, user_ids)]
    if reason is not None:
        chosen.append(pending.c.reason == reason)
    if since is not None:
        chosen.append(pending.c.parked_at >= since)
    return _try_anew(connection, chosen, now)


def _try_anew(connection: Connection, chosen: Sequence[sa.ColumnElement[bool]], now: datetime) -> int:
    theirs = sa.select(pending.c.user_id).where(*chosen)
    if connection.dialect.name == "postgresql":
        # In the order in which everyone locks several pending rows. SQLite would read all of them for that order.
        theirs = theirs.order_by(database.lock_order(connection, pending.c.user_id)).with_for_update()
    anew = sa.update(pending).where(pending.c.user_id.in_(theirs))
    return connection.execute(anew.values(due_at=now, **NO_FAILURES)).rowcount
