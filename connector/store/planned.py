"""All users in stretches of their ids, as a plan needs them: who may be sent or was, and where they stand with a pass.

One stretch is one short transaction, so a plan over a million users delays nobody and holds nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from connector.settings import Settings
from connector.store import standing
from connector.store.database import Database
from connector.store.pending import DELETES
from connector.store.schema import mirror, pending, users

STRETCH = 2000


class Someone(NamedTuple):
    """A user who is in a whitelisted segment, or whom Customer.io has or had of us; as `standing.Standing` says it.

    `release` is that of the pending row; `waits` when there is one, `is_due` when they are looked at after a pass: it
    finds them, or a worker does.
    """

    user_id: str
    changed: bool
    missing: bool
    outside: bool
    release: str | None
    waits: bool
    is_due: bool

    @property
    def let_go(self) -> bool:
        """Whether somebody has let their delete go."""
        return self.release in DELETES


class Stretch(NamedTuple):
    """So many users, and those of them whom a plan looks at."""

    users: int
    some: list[Someone]


def stretches(db: Database, settings: Settings, now: datetime) -> Iterator[Stretch]:
    """The whole store, in the order of the ids."""
    after = ""
    while ids := db.read(_ids, after):
        yield Stretch(len(ids), db.read(_some, after, ids[-1], settings, now))
        after = ids[-1]


def _ids(connection: Connection, after: str) -> list[str]:
    query = sa.select(users.c.id).where(users.c.id > after).order_by(users.c.id).limit(STRETCH)
    return list(connection.execute(query).scalars())


def _some(connection: Connection, after: str, last: str, settings: Settings, now: datetime) -> list[Someone]:
    their = standing.standing(settings, connection.dialect.name, now)
    # Who was merged into another one is nobody to the pass.
    apart = users.c.merged_into.is_(None)
    joined = users.outerjoin(mirror, sa.and_(mirror.c.user_id == users.c.id, mirror.c.user_id > after))
    query = (
        sa.select(
            users.c.id,
            sa.and_(apart, their.changed),
            sa.and_(apart, their.missing),
            sa.and_(apart, their.outside),
            pending.c.release,
            pending.c.user_id.is_not(None),
            pending.c.due_at <= now,
            sa.or_(pending.c.attempts > 0, pending.c.lease.is_not(None)),
            pending.c.parked_at.is_not(None),
            sa.or_(pending.c.parked_hash != settings.mapping_hash(), pending.c.parked_version != users.c.version),
        )
        .select_from(joined.outerjoin(pending, pending.c.user_id == users.c.id))
        .where(users.c.id > after, users.c.id <= last, sa.or_(their.whitelisted, mirror.c.user_id.is_not(None)))
        .order_by(users.c.id)
    )
    found = []
    for user_id, changed, missing, outside, release, waits, is_time, tried, parked, different in connection.execute(
        query
    ):
        if not waits:
            is_due = changed or missing
        elif parked:
            is_due = different
        else:
            # Who waits without having failed, and is found by the pass, is due then.
            is_due = is_time or (changed and not tried)
        found.append(Someone(user_id, bool(changed), bool(missing), bool(outside), release, bool(waits), bool(is_due)))
    return found
