"""What the guard held, and the list of users it is about.

A hold has a hash by which a person approves it, and a list that is frozen then: a user's row names the hold in
which they first stood, so the list of a hold is everyone who entered in it or in an older one and is still held.
A pass that finds more users opens a new hold; the older hashes stay good for what they listed, for 24 hours and
as long as the settings are the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from connector.store import database
from connector.store.schema import held, holds

VALID = timedelta(hours=24)
CREATE = "create"
DELETE = "delete"
RENAME = "rename"  # everybody at Customer.io, under another `people.customer_id`; its list is empty


@dataclass(frozen=True, slots=True)
class Hold:
    """Something that waits for a person: `count` users now, where `allowed` would have gone by themselves."""

    id: int
    hash: str
    what: str
    reason: str
    count: int
    allowed: int
    settings_hash: str
    since: datetime

    def valid(self, settings_hash: str, now: datetime) -> bool:
        """An approval counts for the settings it was asked under, and for a day."""
        return self.settings_hash == settings_hash and now < self.since + VALID


def listed(connection: Connection, what: str, after: str, limit: int) -> list[str]:
    """So many of those who are held, after that user, in the order of the ids."""
    some = sa.select(held.c.user_id).where(held.c.what == what, held.c.user_id > after)
    return list(connection.execute(some.order_by(held.c.user_id).limit(limit)).scalars())


def among(connection: Connection, what: str, user_ids: Sequence[str]) -> set[str]:
    """Those of the users who are held; at most a thousand are asked about."""
    named = database.among(connection, held.c.user_id, user_ids)
    return set(connection.execute(sa.select(held.c.user_id).where(held.c.what == what, named)).scalars())


def came_since(connection: Connection, hold: Hold) -> bool:
    """Whether anybody is held who isn't on this hold's list."""
    others = sa.exists().where(held.c.what == hold.what, held.c.hold_id > hold.id)
    return connection.execute(sa.select(others)).scalar_one()


def next_id(connection: Connection) -> int:
    """The id of the hold that would come next."""
    entered = sa.select(sa.func.max(held.c.hold_id)).scalar_subquery()
    newest = sa.select(sa.func.max(holds.c.id)).scalar_subquery()
    a, b = connection.execute(sa.select(entered, newest)).one()
    return int(max(a or 0, b or 0)) + 1


def enter(connection: Connection, what: str, user_ids: Sequence[str], hold_id: int) -> None:
    """Adds users to the list."""
    if user_ids:
        connection.execute(
            sa.insert(held), [{"what": what, "user_id": user_id, "hold_id": hold_id} for user_id in user_ids]
        )


def leave(connection: Connection, what: str, user_ids: Sequence[str]) -> int:
    """Takes users off the list: approved, or no longer due. Returns how many were on it."""
    return connection.execute(sa.delete(held).where(held.c.what == what, held.c.user_id.in_(user_ids))).rowcount


def take_off(connection: Connection, what: str, user_ids: Sequence[str]) -> None:
    """They leave, and the newest hold of the kind is about those who are left; without anybody it is over. Who is still
    listed then stays so: a pass has entered them for the hold that it opens next."""
    gone = leave(connection, what, user_ids)
    for hold in current(connection, what):
        if (left := hold.count - gone) > 0:
            recount(connection, hold.id, left, hold.allowed)
        else:
            connection.execute(sa.delete(holds).where(holds.c.what == what))


def open_hold(
    connection: Connection,
    *,
    hold_id: int,
    what: str,
    reason: str,
    count: int,
    allowed: int,
    settings_hash: str,
    now: datetime,
) -> Hold:
    """A new hold over everyone who is listed now; holds that are too old to be approved go."""
    digest = hashlib.blake2b(f"{what}\0{settings_hash}\0{hold_id}\0{now.isoformat()}".encode(), digest_size=4)
    hold = Hold(hold_id, digest.hexdigest(), what, reason, count, allowed, settings_hash, now)
    connection.execute(sa.delete(holds).where(holds.c.what == what, holds.c.since <= now - VALID))
    connection.execute(
        sa.insert(holds).values(
            id=hold.id,
            hash=hold.hash,
            what=what,
            reason=reason,
            count=count,
            allowed=allowed,
            settings_hash=settings_hash,
            since=now,
        )
    )
    return hold


def recount(connection: Connection, hold_id: int, count: int, allowed: int) -> None:
    """Nobody came: the list is as long as it was or shorter, and so many would go by themselves now."""
    connection.execute(sa.update(holds).where(holds.c.id == hold_id).values(count=count, allowed=allowed))


def clear(connection: Connection, what: str) -> None:
    """Nothing of the kind is held any more."""
    connection.execute(sa.delete(held).where(held.c.what == what))
    connection.execute(sa.delete(holds).where(holds.c.what == what))


def current(connection: Connection, what: str | None = None) -> list[Hold]:
    """The newest hold of each kind, or of one kind."""
    newest = sa.select(sa.func.max(holds.c.id)).group_by(holds.c.what)
    if what is not None:
        newest = newest.where(holds.c.what == what)
    rows = connection.execute(_HOLDS.where(holds.c.id.in_(newest)).order_by(holds.c.id))
    return [Hold(*row) for row in rows]


def by_hash(connection: Connection, prefix: str) -> list[Hold]:
    """The holds whose hash begins so."""
    rows = connection.execute(_HOLDS.where(sa.func.substr(holds.c.hash, 1, len(prefix)) == prefix))
    return [Hold(*row) for row in rows]


def approvable(connection: Connection, hold: Hold, limit: int) -> list[str]:
    """Up to `limit` users of this hold's list who are still held."""
    rows = connection.execute(
        sa.select(held.c.user_id)
        .where(held.c.what == hold.what, held.c.hold_id <= hold.id)
        .order_by(held.c.user_id)
        .limit(limit)
    )
    return list(rows.scalars())


_HOLDS = sa.select(
    holds.c.id,
    holds.c.hash,
    holds.c.what,
    holds.c.reason,
    holds.c.count,
    holds.c.allowed,
    holds.c.settings_hash,
    holds.c.since,
)
