"""Pending rows say "look at this user again"; they point, they carry no payload.

A worker claims them (`leases`); a change while a user is in flight sets `changed`.

Who can't be delivered is parked: kept with the reason, and not claimed. A change of the user's own data, or of what is
made of them, is a new try; so is `replay`. An event of theirs is none, and waits with them. `alone` are those whose
last call failed with nobody else in it: they may be what makes calls fail, so nobody else goes with them.

`release` says who let a create go: `guard` (within the limit, it counts there), `approved`, or nobody, because the
user has only just come through the intake: `fresh`. Or who let a delete go: `delete` (the guard), `delete_approved`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from connector.store import database
from connector.store.schema import mirror, pending

# Priorities. What is due at once doesn't wait for another try's time either. A visitor's event is a call of its own,
# others share one: they would stand behind thousands.
AT_ONCE = -1
CHANGED = 0
VISITS = 1
FULL_PASS = 2
CHUNK = 1000

NOT_PARKED = pending.c.parked_at.is_(None)
NO_FAILURES: dict[str, Any] = {
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


def mark(
    connection: Connection,
    user_ids: Iterable[str],
    now: datetime,
    priority: int,
    *,
    visitors: Collection[str] = (),
    is_new_try: bool = True,
) -> None:
    """Makes users due, the visitors among them with VISITS. One who is in flight, or waits for another try, keeps that
    due time, and is then looked at afresh; with AT_ONCE nobody waits for another try. A pass leaves alone who is
    parked, and so does what is no reason for a new try."""
    # Everyone who locks several pending rows does so in this order; else two transactions wait for each other.
    rows = [_row(user_id, now, VISITS if user_id in visitors else priority) for user_id in sorted(user_ids)]
    if rows:
        connection.execute(_marking(connection, priority, is_new_try=is_new_try and priority < FULL_PASS), rows)


def lock(connection: Connection, user_ids: Iterable[str]) -> None:
    """What is written of these users below, in any order, waits for nobody any more: their rows are locked to the end
    of the transaction, in the order in which everyone does so. On SQLite the whole store is."""
    database.lock(connection, pending.c.user_id, user_ids)


def look_afresh(connection: Connection, user_ids: Sequence[str]) -> None:
    """Those of the users, who are locked, that are in flight are due once more when they have landed."""
    in_flight = pending.c.user_id.in_(database.texts(connection)), pending.c.lease.is_not(None)
    statement = sa.update(pending).where(*in_flight).values(changed=True)
    connection.execute(statement, {"texts": database.dumps(user_ids)})


def mark_mirrored(connection: Connection, user_ids: Sequence[str], now: datetime, priority: int = CHANGED) -> None:
    """Makes those of the users due who are people at Customer.io, or may be just becoming it; the others are found by
    the full pass."""
    for some in database.chunks(sorted(user_ids), CHUNK):
        people = sa.select(mirror.c.user_id).where(database.among(connection, mirror.c.user_id, some))
        in_flight = sa.select(pending.c.user_id).where(
            database.among(connection, pending.c.user_id, some), pending.c.lease.is_not(None)
        )
        mark(connection, connection.execute(people.union(in_flight)).scalars().all(), now, priority)


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
    """Makes users due who have only just come, and lets their creates go, unless somebody has done so already. One who
    is in flight, or waits for another try, keeps that due time."""
    statement = database.insert(connection, pending)
    statement = statement.on_conflict_do_update(
        index_elements=[pending.c.user_id],
        set_={
            "release": sa.func.coalesce(pending.c.release, "fresh"),
            "changed": True,
            "due_at": _sooner(statement, _only_waits()),
            "priority": CHANGED,
            **_unparked(),
        },
    )
    rows = [_row(user_id, now, CHANGED, "fresh") for user_id in sorted(user_ids)]
    if rows:
        connection.execute(statement, rows)


def _row(user_id: str, now: datetime, priority: int, release: str | None = None) -> dict[str, object]:
    return {
        "user_id": user_id,
        "due_at": now,
        "priority": priority,
        "lease": None,
        "changed": False,
        "release": release,
        **NO_FAILURES,
    }


def _marking(connection: Connection, priority: int, *, is_new_try: bool) -> sa.Insert:
    statement = database.insert(connection, pending)
    waits = _only_waits() if priority > AT_ONCE else pending.c.lease.is_(None)
    changes = {
        "changed": True,
        "due_at": _sooner(statement, waits),
        "priority": sa.case(
            (pending.c.priority > statement.excluded.priority, statement.excluded.priority), else_=pending.c.priority
        ),
    }
    if is_new_try:
        changes |= _unparked()
    return statement.on_conflict_do_update(index_elements=[pending.c.user_id], set_=changes)


def _unparked() -> dict[str, sa.ColumnElement[Any]]:
    """What is known of failures, forgotten for who was parked: they are due since then."""
    was_parked = pending.c.parked_at.is_not(None)
    return {
        name: sa.case((was_parked, sa.literal(value, pending.c[name].type)), else_=pending.c[name])
        for name, value in NO_FAILURES.items()
    }


def _only_waits() -> sa.ColumnElement[bool]:
    """Who waits without having failed waits for something that may be over now."""
    return sa.and_(pending.c.lease.is_(None), pending.c.attempts == 0)


def _sooner(statement: Any, waits: sa.ColumnElement[bool]) -> sa.ColumnElement[datetime]:
    """The new due time where a row only waits and it is sooner; else the one it has."""
    given = statement.excluded.due_at
    return sa.case((sa.and_(waits, pending.c.due_at > given), given), else_=pending.c.due_at)
