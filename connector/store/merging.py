"""One user turns out to be another: what was the loser's becomes the survivor's.

Identifiers, events and attempts move; so does what was last sent, when the survivor is nobody at Customer.io: who was
deleted there is nobody, and what is left of that makes room for a person who is there. When
both are people there, the loser stays behind as a bare row with `merged_into`, and their person under its own customer
id: merging people is irreversible, and nothing that we do by ourselves. The same when the loser is in flight just
now. Otherwise the loser's row goes.

What the survivor has of attributes, and what webhooks have taught about the two, is the caller's to write.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from connector.store import mirror as people
from connector.store.schema import attempts, conflicts, events, held, identifiers, mirror, pending, users


def merge(connection: Connection, merged: Mapping[str, str], now: datetime) -> None:
    """`merged` names the survivor of each loser; no survivor is a loser. Expects the identity lock to be held."""
    if not merged:
        return
    # Whoever works on one of them records that under a lock on these rows: first them, then the mirror.
    people.lock(connection, {*merged, *merged.values()})
    for loser, survivor in merged.items():
        _merge(connection, loser, survivor, now)


def _merge(connection: Connection, loser: str, survivor: str, now: datetime) -> None:
    for table in (identifiers, events, attempts):
        connection.execute(sa.update(table).where(table.c.user_id == loser).values(user_id=survivor))
    _move_conflicts(connection, loser, survivor)
    connection.execute(sa.delete(held).where(held.c.user_id == loser))
    _first_seen(connection, loser, survivor)
    if people.is_person(connection, loser) and not people.is_person(connection, survivor):
        people.inherit(connection, loser, survivor)
    elif not _mirrored(connection, survivor):
        connection.execute(sa.update(mirror).where(mirror.c.user_id == loser).values(user_id=survivor))
    connection.execute(sa.delete(pending).where(pending.c.user_id == loser, pending.c.lease.is_(None)))
    # Who was merged into the loser before, and stayed behind, may be in flight with events that are the survivor's now;
    # and the loser's row may go.
    connection.execute(sa.update(users).where(users.c.merged_into == loser).values(merged_into=survivor))
    in_flight = connection.execute(sa.select(pending.c.user_id).where(pending.c.user_id == loser)).first()
    if in_flight is None and not _mirrored(connection, loser):
        connection.execute(sa.delete(users).where(users.c.id == loser))
        return
    connection.execute(
        sa.update(users)
        .where(users.c.id == loser)
        .values(
            merged_into=survivor,
            external_id=None,
            email=None,
            attributes={},
            customerio={},
            preferences={},
            updated_at=now,
            version=users.c.version + 1,
        )
    )


def _mirrored(connection: Connection, user_id: str) -> bool:
    return connection.execute(sa.select(mirror.c.user_id).where(mirror.c.user_id == user_id)).first() is not None


def _move_conflicts(connection: Connection, loser: str, survivor: str) -> None:
    """What both have, and what is no conflict any more now that they are one, goes."""
    theirs = conflicts.alias()
    known = sa.exists().where(
        theirs.c.user_id == survivor, theirs.c.kind == conflicts.c.kind, theirs.c.value == conflicts.c.value
    )
    of_loser = conflicts.c.user_id == loser
    connection.execute(sa.update(conflicts).where(of_loser, sa.not_(known)).values(user_id=survivor))
    connection.execute(sa.delete(conflicts).where(of_loser))
    settled = sa.exists().where(
        identifiers.c.kind == conflicts.c.kind,
        identifiers.c.value == conflicts.c.value,
        identifiers.c.user_id == survivor,
    )
    connection.execute(sa.delete(conflicts).where(conflicts.c.user_id == survivor, settled))


def _first_seen(connection: Connection, loser: str, survivor: str) -> None:
    earlier = sa.select(users.c.first_seen_at).where(users.c.id == loser).scalar_subquery()
    connection.execute(
        sa.update(users).where(users.c.id == survivor, users.c.first_seen_at > earlier).values(first_seen_at=earlier)
    )
