"""Pending rows say "look at this user again"; they point, they carry no payload.

A claim writes a fresh lease token and moves `due_at` past the lease, so the users of a worker that died come
due again by themselves. A change while a user is in flight sets `changed`. Everything that ends a claim applies
only to rows whose lease is still ours.

`release` says who let a create go: `guard` (within the limit, it counts there), `approved`, or nobody, because the
user has only just come through the intake: `fresh`. Or who let a delete go: `delete` (the guard), `delete_approved`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from connector.records import Claim
from connector.store import database
from connector.store.schema import mirror, pending

# Priorities. What is due at once doesn't wait for another try's time either.
AT_ONCE = -1
CHANGED = 0
FULL_PASS = 1
CHUNK = 1000

CREATES = frozenset({"guard", "approved", "fresh"})
DELETES = frozenset({"delete", "delete_approved"})


class Failure(NamedTuple):
    """A claimed user who could not be delivered: due again when, and why."""

    user_id: str
    due_at: datetime
    reason: str


class Counts(NamedTuple):
    """`due` now, `waiting` for a later moment (a retry, or a lease of another worker; not who waits out the grace of
    a delete that was let go), and the oldest's age."""

    due: int
    waiting: int
    failing: int
    leased: int
    oldest_at: datetime | None


def mark(connection: Connection, user_ids: Iterable[str], now: datetime, priority: int) -> None:
    """Makes users due. One who is in flight, or waits for another try, keeps that due time, and is then looked at
    afresh; with AT_ONCE nobody waits for another try."""
    # Everyone who locks several pending rows does so in this order; else two transactions wait for each other.
    rows = [_row(user_id, now, priority) for user_id in sorted(user_ids)]
    if rows:
        connection.execute(_marking(connection, priority), rows)


def mark_mirrored(connection: Connection, user_ids: Sequence[str], now: datetime, priority: int = CHANGED) -> None:
    """Makes those of the users due who are people at Customer.io; the others are found by the full pass."""
    ordered = sorted(user_ids)
    for start in range(0, len(ordered), CHUNK):
        chosen = mirror.c.user_id.in_(ordered[start : start + CHUNK])
        found = connection.execute(sa.select(mirror.c.user_id).where(chosen)).scalars().all()
        mark(connection, found, now, priority)


def release(connection: Connection, user_ids: Sequence[str], how: str, now: datetime) -> None:
    """Lets the creates, or the deletes, of these users go; what else failed of them doesn't keep them waiting."""
    statement = database.insert(connection, pending)
    statement = statement.on_conflict_do_update(
        index_elements=[pending.c.user_id],
        set_={
            "release": statement.excluded.release,
            "changed": True,
            "due_at": _sooner(statement, pending.c.lease.is_(None)),
        },
    )
    rows = [_row(user_id, now, FULL_PASS, how) for user_id in sorted(user_ids)]
    if rows:
        connection.execute(statement, rows)


def arrived(connection: Connection, user_ids: Sequence[str], now: datetime) -> None:
    """Makes users due who have only just come, and lets their creates go, unless somebody has done so already."""
    statement = database.insert(connection, pending)
    statement = statement.on_conflict_do_update(
        index_elements=[pending.c.user_id],
        set_={"release": sa.func.coalesce(pending.c.release, "fresh"), "changed": True, "priority": CHANGED},
    )
    rows = [_row(user_id, now, CHANGED, "fresh") for user_id in sorted(user_ids)]
    if rows:
        connection.execute(statement, rows)


def claim(connection: Connection, lease: str, now: datetime, until: datetime, limit: int) -> list[Claim]:
    """Takes up to `limit` users who are due, the most urgent first; ours until `until`."""
    due = (
        sa.select(pending.c.user_id)
        .where(pending.c.due_at <= now)
        .order_by(pending.c.priority, pending.c.due_at)
        .limit(limit)
        # Without SKIP LOCKED two workers wait for each other's claim, then take the same users.
        .with_for_update(skip_locked=True)
        # As a CTE, because PostgreSQL may run a plain subquery with LIMIT more than once.
        .cte("due")
    )
    statement = (
        sa.update(pending)
        .where(pending.c.user_id.in_(sa.select(due.c.user_id)))
        .values(lease=lease, due_at=until, changed=False)
        .returning(pending.c.user_id, pending.c.attempts, pending.c.failing_since, pending.c.release)
    )
    return [Claim(*row) for row in connection.execute(statement)]


def still_ours(connection: Connection, lease: str) -> set[str]:
    """The users whose lease this still is, locked to the end of the transaction."""
    rows = connection.execute(
        sa.select(pending.c.user_id).where(pending.c.lease == lease).order_by(pending.c.user_id).with_for_update()
    )
    return set(rows.scalars())


def finish(connection: Connection, lease: str, user_ids: Sequence[str], now: datetime) -> None:
    """Done with these users: their rows go, but for those that changed in flight, which are due again now.

    Those keep their release: a change must not take back what was approved.
    """
    for start in range(0, len(user_ids), CHUNK):
        ours = sa.and_(pending.c.lease == lease, pending.c.user_id.in_(user_ids[start : start + CHUNK]))
        connection.execute(sa.delete(pending).where(ours, pending.c.changed.is_(False)))
        connection.execute(
            sa.update(pending)
            .where(ours)
            .values(
                lease=None,
                changed=False,
                due_at=now,
                attempts=0,
                failing_since=None,
                reason=None,
            )
        )


def postpone(connection: Connection, lease: str, failures: Sequence[Failure], now: datetime) -> None:
    """Could not deliver these users: they stay, each with its due time and reason. What has to go at once, and came
    while they were in flight, is due now."""
    if not failures:
        return
    came_in_flight = sa.and_(pending.c.changed, pending.c.priority <= AT_ONCE)
    statement = (
        sa.update(pending)
        .where(pending.c.lease == lease, pending.c.user_id == sa.bindparam("of_user"))
        .values(
            lease=None,
            changed=False,
            due_at=sa.case(
                (came_in_flight, sa.bindparam("now", now, pending.c.due_at.type)),
                else_=sa.bindparam("at", type_=pending.c.due_at.type),
            ),
            reason=sa.bindparam("why"),
            attempts=pending.c.attempts + 1,
            failing_since=sa.func.coalesce(pending.c.failing_since, sa.bindparam("now", now, pending.c.due_at.type)),
        )
    )
    connection.execute(
        statement,
        [{"of_user": each.user_id, "at": each.due_at, "why": each.reason, "now": now} for each in failures],
    )


def wait(connection: Connection, lease: str, due: Sequence[tuple[str, datetime]]) -> None:
    """Nothing can be done for these users before their time; no attempt is counted, and what was let go stays so."""
    for user_id, due_at in due:
        ours = pending.c.lease == lease, pending.c.user_id == user_id
        connection.execute(sa.update(pending).where(*ours).values(lease=None, changed=False, due_at=due_at))


def give_back(connection: Connection, lease: str, due_at: datetime) -> None:
    """Ends our claim of whoever is left in it, without having tried: they are due at `due_at`, no attempt counted."""
    connection.execute(sa.update(pending).where(pending.c.lease == lease).values(lease=None, due_at=due_at))


def counts(connection: Connection, now: datetime) -> Counts:
    """The size and age of the backlog."""
    due = pending.c.due_at <= now
    untried = sa.and_(pending.c.attempts == 0, pending.c.lease.is_(None))
    leaves = sa.and_(untried, sa.func.coalesce(pending.c.release, "").in_(sorted(DELETES)))
    row = connection.execute(
        sa.select(
            sa.func.count().filter(due),
            sa.func.count().filter(sa.not_(due), sa.not_(leaves)),
            sa.func.count().filter(pending.c.attempts > 0),
            sa.func.count().filter(sa.and_(sa.not_(due), pending.c.lease.is_not(None))),
            sa.func.min(sa.func.coalesce(pending.c.failing_since, pending.c.due_at), type_=pending.c.due_at.type),
        ).select_from(pending)
    ).one()
    return Counts(*row)


def guarded(connection: Connection) -> int:
    """Creates that the guard has let go and that have not happened yet."""
    let_go = pending.c.release == sa.literal_column("'guard'")
    return connection.execute(sa.select(sa.func.count()).select_from(pending).where(let_go)).scalar_one()


def leaving(connection: Connection) -> set[str]:
    """Users whose deletes have been let go and have not happened yet."""
    return set(connection.execute(sa.select(pending.c.user_id).where(pending.c.release.in_(sorted(DELETES)))).scalars())


def _row(user_id: str, now: datetime, priority: int, release: str | None = None) -> dict[str, object]:
    return {
        "user_id": user_id,
        "due_at": now,
        "priority": priority,
        "lease": None,
        "changed": False,
        "attempts": 0,
        "failing_since": None,
        "reason": None,
        "release": release,
    }


def _marking(connection: Connection, priority: int) -> sa.Insert:
    statement = database.insert(connection, pending)
    waits: sa.ColumnElement[bool] = pending.c.lease.is_(None)
    if priority > AT_ONCE:
        # Who waits without having failed waits for something that may be over now.
        waits = sa.and_(waits, pending.c.attempts == 0)
    return statement.on_conflict_do_update(
        index_elements=[pending.c.user_id],
        set_={
            "changed": True,
            "due_at": _sooner(statement, waits),
            "priority": sa.case((pending.c.priority > priority, priority), else_=pending.c.priority),
        },
    )


def _sooner(statement: Any, waits: sa.ColumnElement[bool]) -> sa.ColumnElement[datetime]:
    """The new due time where a row only waits and it is sooner; else the one it has."""
    given = statement.excluded.due_at
    return sa.case((sa.and_(waits, pending.c.due_at > given), given), else_=pending.c.due_at)
