"""Pending rows say "look at this user again"; they point, they carry no payload.

A claim writes a fresh lease token and moves `due_at` past the lease, so the users of a worker that died come
due again by themselves; a worker that lives renews it. A change while a user is in flight sets `changed`. Everything
that ends a claim applies only to rows whose lease is still ours.

Who can't be delivered is parked: kept with the reason, and not claimed. A change of the user's own data, or of what is
made of them, is a new try; so is `replay`. `alone` are those whose last call failed with nobody else in it: they may be
what makes calls fail, so nobody else goes with them.

`release` says who let a create go: `guard` (within the limit, it counts there), `approved`, or nobody, because the
user has only just come through the intake: `fresh`. Or who let a delete go: `delete` (the guard), `delete_approved`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from connector.records import Claim
from connector.store import database
from connector.store.schema import mirror, pending, users

# Priorities. What is due at once doesn't wait for another try's time either.
AT_ONCE = -1
CHANGED = 0
FULL_PASS = 1
CHUNK = 1000

_NOT_PARKED = pending.c.parked_at.is_(None)
_NO_FAILURES: dict[str, Any] = {
    "attempts": 0,
    "failing_since": None,
    "reason": None,
    "alone": False,
    "parked_at": None,
    "parked_version": None,
    "parked_hash": None,
}

CREATES = frozenset({"guard", "approved", "fresh"})
DELETES = frozenset({"delete", "delete_approved"})


class Failure(NamedTuple):
    """A claimed user who could not be delivered: due again when, and why; `alone` from now on, or not."""

    user_id: str
    due_at: datetime
    reason: str
    alone: bool = False


class Parked(NamedTuple):
    """A claimed user who is given up: why, and of which version of them that is said."""

    user_id: str
    reason: str
    version: int


class Counts(NamedTuple):
    """`due` now, `waiting` for a later moment (a retry, or a lease of another worker; not who waits out the grace of
    a delete that was let go), and the oldest's age. Who is `parked` is in none of the others."""

    due: int
    waiting: int
    failing: int
    leased: int
    oldest_at: datetime | None
    parked: int


def mark(connection: Connection, user_ids: Iterable[str], now: datetime, priority: int) -> None:
    """Makes users due. One who is in flight, or waits for another try, keeps that due time, and is then looked at
    afresh; with AT_ONCE nobody waits for another try. A pass leaves alone who is parked."""
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
            **_unparked(),
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
        set_={
            "release": sa.func.coalesce(pending.c.release, "fresh"),
            "changed": True,
            "priority": CHANGED,
            **_unparked(),
        },
    )
    rows = [_row(user_id, now, CHANGED, "fresh") for user_id in sorted(user_ids)]
    if rows:
        connection.execute(statement, rows)


def claim(
    connection: Connection, lease: str, now: datetime, until: datetime, limit: int, *, untried_first: bool = False
) -> list[Claim]:
    """Takes up to `limit` users who are due, the most urgent first; ours until `until`. With `untried_first`, those
    who never failed come before all others: for a call that is to show whether calls are taken at all."""
    untried = [sa.case((pending.c.attempts > 0, 1), else_=0)] if untried_first else []
    due = (
        sa.select(pending.c.user_id)
        .where(pending.c.due_at <= now, _NOT_PARKED)
        .order_by(*untried, pending.c.priority, pending.c.due_at)
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
        .returning(pending.c.user_id, pending.c.attempts, pending.c.failing_since, pending.c.release, pending.c.alone)
    )
    return [Claim(row[0], row[1], row[2], row[3], row[4], lease) for row in connection.execute(statement)]


def renew(connection: Connection, lease: str, until: datetime) -> bool:
    """Whoever is left in the claim is ours until then. False when nobody is: it ran out, and others took them."""
    ours = sa.update(pending).where(pending.c.lease == lease).values(due_at=until)
    return connection.execute(ours).rowcount > 0


def still_ours(connection: Connection, leases: Mapping[str, str]) -> set[str]:
    """Of leases by user, those who are still ours, locked to the end of the transaction."""
    found: set[str] = set()
    ordered = sorted(leases)
    for start in range(0, len(ordered), CHUNK):
        chosen = database.among(connection, pending.c.user_id, ordered[start : start + CHUNK])
        query = sa.select(pending.c.user_id, pending.c.lease).where(chosen, pending.c.lease.is_not(None))
        rows = connection.execute(query.order_by(pending.c.user_id).with_for_update())
        found.update(user_id for user_id, lease in rows if lease == leases[user_id])
    return found


def finish(connection: Connection, lease: str, user_ids: Sequence[str], now: datetime) -> None:
    """Done with these users: their rows go, but for those that changed in flight, which are due again now.

    Those keep their release: a change must not take back what was approved.
    """
    for start in range(0, len(user_ids), CHUNK):
        chosen = database.among(connection, pending.c.user_id, user_ids[start : start + CHUNK])
        ours = sa.and_(pending.c.lease == lease, chosen)
        connection.execute(sa.delete(pending).where(ours, pending.c.changed.is_(False)))
        connection.execute(
            sa.update(pending)
            .where(ours)
            .values(
                lease=None,
                changed=False,
                due_at=now,
                **_NO_FAILURES,
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
            alone=sa.bindparam("by_themselves", type_=pending.c.alone.type),
            attempts=pending.c.attempts + 1,
            failing_since=sa.func.coalesce(pending.c.failing_since, sa.bindparam("now", now, pending.c.due_at.type)),
        )
    )
    connection.execute(
        statement,
        [
            {
                "of_user": each.user_id,
                "at": each.due_at,
                "why": each.reason,
                "by_themselves": each.alone,
                "now": now,
            }
            for each in failures
        ],
    )


def park(connection: Connection, lease: str, given_up: Sequence[Parked], mapping_hash: str, now: datetime) -> None:
    """Gives these users up for now. Who changed while they were in flight is tried once more instead, now."""
    if not given_up:
        return
    changed, at = pending.c.changed, pending.c.due_at.type
    statement = (
        sa.update(pending)
        .where(pending.c.lease == lease, pending.c.user_id == sa.bindparam("of_user"))
        .values(
            lease=None,
            changed=False,
            alone=False,
            due_at=sa.bindparam("now", type_=at),
            reason=sa.bindparam("why"),
            attempts=pending.c.attempts + 1,
            failing_since=sa.func.coalesce(pending.c.failing_since, sa.bindparam("now", type_=at)),
            parked_at=sa.case((changed, sa.null()), else_=sa.bindparam("now", type_=at)),
            parked_version=sa.bindparam("version"),
            parked_hash=sa.bindparam("hash"),
        )
    )
    connection.execute(
        statement,
        [
            {
                "of_user": each.user_id,
                "why": each.reason,
                "version": each.version,
                "hash": mapping_hash,
                "now": now,
            }
            for each in given_up
        ],
    )


def look_again(connection: Connection, mapping_hash: str, now: datetime) -> None:
    """Who was parked when they, or what is made of them, were different, is tried anew."""
    versions = sa.select(users.c.version).where(users.c.id == pending.c.user_id).scalar_subquery()
    different = sa.or_(pending.c.parked_hash != mapping_hash, pending.c.parked_version != versions)
    parked = pending.c.parked_at.is_not(None)
    _try_anew(connection, [parked, different], now)


def replay(
    connection: Connection, now: datetime, *, reason: str | None, user_ids: Sequence[str] | None, since: datetime | None
) -> int:
    """Tries parked users anew: all, or those with that reason, of these, parked since then. How many they were."""
    chosen: list[sa.ColumnElement[bool]] = [pending.c.parked_at.is_not(None)]
    if reason is not None:
        chosen.append(pending.c.reason == reason)
    if user_ids is not None:
        chosen.append(pending.c.user_id.in_(user_ids))
    if since is not None:
        chosen.append(pending.c.parked_at >= since)
    return _try_anew(connection, chosen, now)


def _try_anew(connection: Connection, chosen: Sequence[sa.ColumnElement[bool]], now: datetime) -> int:
    theirs = sa.select(pending.c.user_id).where(*chosen)
    if connection.dialect.name == "postgresql":
        # In the order in which everyone locks several pending rows. SQLite would read all of them for that order.
        theirs = theirs.order_by(pending.c.user_id).with_for_update()
    anew = sa.update(pending).where(pending.c.user_id.in_(theirs))
    return connection.execute(anew.values(due_at=now, **_NO_FAILURES)).rowcount


def parked_reasons(connection: Connection) -> dict[str, int]:
    """How many are parked, by reason, the most first."""
    number = sa.func.count().label("number")
    query = sa.select(pending.c.reason, number).where(pending.c.parked_at.is_not(None)).group_by(pending.c.reason)
    return {row.reason: row.number for row in connection.execute(query.order_by(number.desc(), pending.c.reason))}


def wait(connection: Connection, lease: str, due: Sequence[tuple[str, datetime]], now: datetime) -> None:
    """Nothing can be done for these users before their time, unless something changed while they were in flight; no
    attempt is counted, and what was let go stays so."""
    for user_id, due_at in due:
        ours = pending.c.lease == lease, pending.c.user_id == user_id
        at = sa.case((pending.c.changed, sa.literal(now, pending.c.due_at.type)), else_=due_at)
        connection.execute(sa.update(pending).where(*ours).values(lease=None, changed=False, due_at=at))


def give_back(connection: Connection, lease: str, due_at: datetime, user_ids: Sequence[str] | None = None) -> None:
    """Ends our claim of these users, or of whoever is left in it, without having tried: they are due at `due_at`, no
    attempt counted."""
    ours = sa.update(pending).where(pending.c.lease == lease).values(lease=None, due_at=due_at)
    if user_ids is None:
        connection.execute(ours)
        return
    for start in range(0, len(user_ids), CHUNK):
        connection.execute(ours.where(database.among(connection, pending.c.user_id, user_ids[start : start + CHUNK])))


def counts(connection: Connection, now: datetime) -> Counts:
    """The size and age of the backlog."""
    due = sa.and_(pending.c.due_at <= now, _NOT_PARKED)
    untried = sa.and_(pending.c.attempts == 0, pending.c.lease.is_(None))
    leaves = sa.and_(untried, sa.func.coalesce(pending.c.release, "").in_(sorted(DELETES)))
    row = connection.execute(
        sa.select(
            sa.func.count().filter(due),
            sa.func.count().filter(pending.c.due_at > now, _NOT_PARKED, sa.not_(leaves)),
            sa.func.count().filter(pending.c.attempts > 0, _NOT_PARKED),
            sa.func.count().filter(pending.c.due_at > now, pending.c.lease.is_not(None)),
            sa.func.min(
                sa.func.coalesce(pending.c.failing_since, pending.c.due_at), type_=pending.c.due_at.type
            ).filter(_NOT_PARKED),
            sa.func.count().filter(pending.c.parked_at.is_not(None)),
        ).select_from(pending)
    ).one()
    return Counts(*row)


def guarded(connection: Connection) -> int:
    """Creates that the guard has let go and that have not happened yet, but may."""
    let_go = pending.c.release == sa.literal_column("'guard'"), _NOT_PARKED
    return connection.execute(sa.select(sa.func.count()).select_from(pending).where(*let_go)).scalar_one()


def leaving(connection: Connection) -> int:
    """Deletes that have been let go and have not happened yet."""
    let_go = pending.c.release.in_(sorted(DELETES))
    return connection.execute(sa.select(sa.func.count()).select_from(pending).where(let_go)).scalar_one()


def _row(user_id: str, now: datetime, priority: int, release: str | None = None) -> dict[str, object]:
    return {
        "user_id": user_id,
        "due_at": now,
        "priority": priority,
        "lease": None,
        "changed": False,
        "release": release,
        **_NO_FAILURES,
    }


def _marking(connection: Connection, priority: int) -> sa.Insert:
    statement = database.insert(connection, pending)
    waits: sa.ColumnElement[bool] = pending.c.lease.is_(None)
    if priority > AT_ONCE:
        # Who waits without having failed waits for something that may be over now.
        waits = sa.and_(waits, pending.c.attempts == 0)
    changes = {
        "changed": True,
        "due_at": _sooner(statement, waits),
        "priority": sa.case((pending.c.priority > priority, priority), else_=pending.c.priority),
    }
    if priority < FULL_PASS:
        changes |= _unparked()
    return statement.on_conflict_do_update(index_elements=[pending.c.user_id], set_=changes)


def _unparked() -> dict[str, sa.ColumnElement[Any]]:
    """What is known of failures, forgotten for who was parked: they are due since then."""
    was_parked = pending.c.parked_at.is_not(None)
    return {
        name: sa.case((was_parked, sa.literal(value, pending.c[name].type)), else_=pending.c[name])
        for name, value in _NO_FAILURES.items()
    }


def _sooner(statement: Any, waits: sa.ColumnElement[bool]) -> sa.ColumnElement[datetime]:
    """The new due time where a row only waits and it is sooner; else the one it has."""
    given = statement.excluded.due_at
    return sa.case((sa.and_(waits, pending.c.due_at > given), given), else_=pending.c.due_at)
