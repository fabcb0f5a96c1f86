"""Claims: users who are due are ours until the lease runs out, or what came of them is written.

A claim writes a fresh lease token and moves `due_at` past the lease, so the users of a worker that died come due again
by themselves; a worker that lives renews it. Everything that ends a claim applies only where the lease is still ours.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from connector.records import Claim
from connector.store import database, mirror
from connector.store.pending import AT_ONCE, CHUNK, NO_FAILURES, NOT_PARKED
from connector.store.schema import pending


class Failure(NamedTuple):
    """A claimed user who could not be delivered: due again when, and why; `alone` from now on, or not. `is_first` is
    true where what failed before is not what failed now."""

    user_id: str
    due_at: datetime
    reason: str
    alone: bool = False
    is_first: bool = False


class Wait(NamedTuple):
    """A claimed user for whom there is nothing to do before `due_at`; who has let them go is known on, or forgotten,
    and so is what failed of them before."""

    user_id: str
    due_at: datetime
    keeps_release: bool = True
    keeps_failures: bool = False


class Parked(NamedTuple):
    """A claimed user who is given up: why, and of which version of them that is said."""

    user_id: str
    reason: str
    version: int


def claim(
    connection: Connection,
    lease: str,
    now: datetime,
    until: datetime,
    limit: int,
    *,
    untried_first: bool = False,
    only: Collection[str] | None = None,
) -> list[Claim]:
    """Takes up to `limit` users who are due, the most urgent first; ours until `until`. With `untried_first`, those
    who never failed come before all others: for a call that is to show whether calls are taken at all. With `only`,
    nobody but these users is taken."""
    _run_out(connection, now)
    chosen = database.only(connection, pending.c.user_id, only)
    untried = [sa.case((pending.c.attempts > 0, 1), else_=0)] if untried_first else []
    due = (
        sa.select(pending.c.user_id)
        # Who was locked when the leases ran out, and isn't any more, keeps theirs until the next claim says so.
        .where(pending.c.due_at <= now, pending.c.lease.is_(None), NOT_PARKED, *chosen)
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
    return [Claim(row[0], row[1], row[2], row[3], row[4], lease) for row in connection.execute(statement).all()]


def _run_out(connection: Connection, now: datetime) -> None:
    """Whose worker has died, or stands still, may have been sent something of which nobody will hear. Whoever is locked
    just now, or whose person has come to somebody who is, keeps the lease until the next claim."""
    over = sa.select(pending.c.user_id).where(pending.c.lease.is_not(None), pending.c.due_at <= now)
    # In no order: it waits for nobody.
    user_ids = connection.execute(over.with_for_update(skip_locked=True)).scalars().all()
    heirs = mirror.survivors(connection, user_ids)
    busy = _locked_by_others(connection, set(heirs.values())) if heirs else set()
    user_ids = [each for each in user_ids if heirs.get(each) not in busy]
    mirror.doubt(connection, [*user_ids, *(heirs[each] for each in user_ids if each in heirs)])
    for some in database.chunks(user_ids, CHUNK):
        chosen = database.among(connection, pending.c.user_id, some)
        connection.execute(sa.update(pending).where(chosen).values(lease=None))


def _locked_by_others(connection: Connection, user_ids: Collection[str]) -> set[str]:
    """Those of the users whose rows are; the others' are ours from now on."""
    rows = sa.select(pending.c.user_id).where(database.among(connection, pending.c.user_id, sorted(user_ids)))
    there = set(connection.execute(rows).scalars())
    return there - set(connection.execute(rows.with_for_update(skip_locked=True)).scalars())


def renew(connection: Connection, lease: str, now: datetime, until: datetime) -> set[str]:
    """Whoever is left in the claim is ours until then; who that is. Nobody when it ran out: others may have taken some
    of them, as they may while this waits for somebody who has locked another one."""
    ours = sa.select(pending.c.user_id).where(pending.c.lease == lease, pending.c.due_at > now)
    in_order = ours.order_by(database.lock_order(connection, pending.c.user_id))
    user_ids = connection.execute(in_order.with_for_update()).scalars().all()
    for some in database.chunks(user_ids, CHUNK):
        chosen = database.among(connection, pending.c.user_id, some)
        connection.execute(sa.update(pending).where(chosen).values(due_at=until))
    return {*user_ids}


def still_ours(connection: Connection, leases: Mapping[str, str]) -> set[str]:
    """Of leases by user, those who are still ours, locked to the end of the transaction."""
    found: set[str] = set()
    for some in database.chunks(sorted(leases), CHUNK):
        chosen = database.among(connection, pending.c.user_id, some)
        query = sa.select(pending.c.user_id, pending.c.lease).where(chosen, pending.c.lease.is_not(None))
        in_order = query.order_by(database.lock_order(connection, pending.c.user_id))
        rows = connection.execute(in_order.with_for_update())
        found.update(user_id for user_id, lease in rows.all() if lease == leases[user_id])
    return found


def all_ours(connection: Connection, lease: str, user_ids: Sequence[str]) -> bool:
    """Whether all of these users are, by that one lease; locked then as by `still_ours`, which takes longer to say who.
    So is whoever of them is ours, if not all are."""
    chosen = pending.c.user_id.in_(database.texts(connection)), pending.c.lease == lease
    ours = sa.select(pending.c.user_id).where(*chosen).order_by(database.lock_order(connection, pending.c.user_id))
    number = sa.select(sa.func.count()).select_from(ours.with_for_update().subquery())
    return connection.execute(number, {"texts": database.dumps(user_ids)}).scalar_one() == len(user_ids)


def changed(connection: Connection, user_ids: Collection[str]) -> set[str]:
    """Those of claimed users who changed in flight: they are due again as soon as they are finished."""
    found: set[str] = set()
    for some in database.chunks(sorted(user_ids), CHUNK):
        chosen = database.among(connection, pending.c.user_id, some)
        found.update(connection.execute(sa.select(pending.c.user_id).where(chosen, pending.c.changed)).scalars())
    return found


def finish(connection: Connection, lease: str, user_ids: Sequence[str], now: datetime) -> None:
    """Done with these users: their rows go, but for those that changed in flight, which are due again now.

    Those keep their release: a change must not take back what was approved.
    """
    for chosen_ids in database.chunks(user_ids, CHUNK):
        ours = sa.and_(pending.c.lease == lease, database.among(connection, pending.c.user_id, chosen_ids))
        gone = connection.execute(sa.delete(pending).where(ours, pending.c.changed.is_(False))).rowcount
        if gone == len(chosen_ids):
            continue
        connection.execute(
            sa.update(pending)
            .where(ours)
            .values(
                lease=None,
                changed=False,
                due_at=now,
                **NO_FAILURES,
            )
        )


def postpone(connection: Connection, lease: str, failures: Sequence[Failure], now: datetime) -> None:
    """Could not deliver these users: they stay, each with its due time and reason. What has to go at once, and came
    while they were in flight, is due now."""
    if not failures:
        return
    came_in_flight = sa.and_(pending.c.changed, pending.c.priority <= AT_ONCE)
    moment = sa.bindparam("now", now, pending.c.due_at.type)
    is_first = sa.bindparam("afresh", type_=pending.c.alone.type)
    statement = (
        sa.update(pending)
        .where(pending.c.lease == lease, pending.c.user_id == sa.bindparam("of_user"))
        .values(
            lease=None,
            changed=False,
            due_at=sa.case(
                (came_in_flight, moment),
                else_=sa.bindparam("at", type_=pending.c.due_at.type),
            ),
            reason=sa.bindparam("why"),
            alone=sa.bindparam("by_themselves", type_=pending.c.alone.type),
            attempts=sa.case((is_first, 1), else_=pending.c.attempts + 1),
            failing_since=sa.case(
                (sa.or_(is_first, pending.c.failing_since.is_(None)), moment), else_=pending.c.failing_since
            ),
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
                "afresh": each.is_first,
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


def wait(connection: Connection, lease: str, waits: Sequence[Wait], now: datetime) -> None:
    """Nothing can be done for these users before their time, unless something changed while they were in flight: then
    they are due now, and whoever has let them go may have done so just then. No attempt is counted, and what failed
    before is over where whatever there was to do has been done."""
    if not waits:
        return
    at = pending.c.due_at.type
    keeps_release = sa.bindparam("keeps_release", type_=pending.c.changed.type)
    keeps_failures = sa.bindparam("keeps_failures", type_=pending.c.changed.type)
    failures = {
        name: sa.case((keeps_failures, pending.c[name]), else_=sa.literal(value, pending.c[name].type))
        for name, value in NO_FAILURES.items()
    }
    statement = (
        sa.update(pending)
        .where(pending.c.lease == lease, pending.c.user_id == sa.bindparam("of_user"))
        .values(
            lease=None,
            changed=False,
            due_at=sa.case((pending.c.changed, sa.literal(now, at)), else_=sa.bindparam("at", type_=at)),
            release=sa.case((sa.or_(keeps_release, pending.c.changed), pending.c.release), else_=None),
            **failures,
        )
    )
    rows = [
        {
            "of_user": each.user_id,
            "at": each.due_at,
            "keeps_release": each.keeps_release,
            "keeps_failures": each.keeps_failures,
        }
        for each in waits
    ]
    connection.execute(statement, rows)


def give_back(connection: Connection, lease: str, due_at: datetime, user_ids: Sequence[str] | None = None) -> None:
    """Ends our claim of these users, or of whoever is left in it, without having tried: they are due at `due_at`, no
    attempt counted."""
    ours = sa.select(pending.c.user_id).where(pending.c.lease == lease)
    ordered = sorted(user_ids) if user_ids is not None else []
    # In one order, as everybody who locks several of these rows; else two transactions wait for each other.
    chosen = [
        *([ours] if user_ids is None else []),
        *(ours.where(database.among(connection, pending.c.user_id, some)) for some in database.chunks(ordered, CHUNK)),
    ]
    for some in chosen:
        in_order = some.order_by(database.lock_order(connection, pending.c.user_id))
        locked = connection.execute(in_order.with_for_update()).scalars().all()
        for few in database.chunks(locked, CHUNK):
            each = database.among(connection, pending.c.user_id, few)
            connection.execute(sa.update(pending).where(each).values(lease=None, due_at=due_at))
