"""The mirror: what we last sent of each user, and at which state of user and settings we last compared."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from connector.records import Mirror
from connector.settings import Settings
from connector.store import database, pending, segments
from connector.store.schema import identifiers, mirror, users
from connector.store.schema import pending as pending_rows

CHUNK = 1000


def record(connection: Connection, people: Sequence[Mirror]) -> None:
    """Writes what was sent; the customer id of a new person also becomes an identifier of the user."""
    if not people:
        return
    statement = database.insert(connection, mirror)
    columns = [column.name for column in mirror.columns if column.name != "user_id"]
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=[mirror.c.user_id], set_={name: statement.excluded[name] for name in columns}
        ),
        [_values(person) for person in people],
    )
    new = [person for person in people if person.created_at == person.synced_at]
    survivors = _survivors(connection, [person.user_id for person in new])
    named = [person for person in new if person.id_kind == "id"]
    if named:
        naming = database.insert(connection, identifiers)
        # A webhook may have been read before this: the customer id then names a user whom only it told us of.
        naming = naming.on_conflict_do_update(
            index_elements=[identifiers.c.kind, identifiers.c.value], set_={"user_id": naming.excluded.user_id}
        )
        connection.execute(
            naming,
            [
                {
                    "kind": "customer_id",
                    "value": each.customer_id,
                    "user_id": survivors.get(each.user_id, each.user_id),
                }
                for each in named
            ],
        )
    for person in new:
        if person.user_id in survivors:
            _hand_over(connection, person, survivors[person.user_id])


def _survivors(connection: Connection, user_ids: Sequence[str]) -> dict[str, str]:
    """Of users who were created just now: those who were merged while the call was under way, and who they are now."""
    if not user_ids:
        return {}
    merged = users.c.id.in_(database.texts(connection)), users.c.merged_into.is_not(None)
    rows = connection.execute(sa.select(users.c.id).where(*merged), {"texts": database.dumps(user_ids)})
    return {user_id: _survivor(connection, user_id) for user_id in rows.scalars().all()}


def _survivor(connection: Connection, user_id: str) -> str:
    merged_into = sa.select(users.c.merged_into)
    while (following := connection.execute(merged_into.where(users.c.id == user_id)).scalar()) is not None:
        user_id = following
    return user_id


def _hand_over(connection: Connection, person: Mirror, survivor: str) -> None:
    """The person is the survivor's, if they are nobody at Customer.io yet; else nobody could ever be created under that
    customer id. What was sent is not what they are now, so they are due."""
    there = sa.select(mirror.c.user_id).where(mirror.c.user_id == survivor)
    if connection.execute(there).first() is None:
        connection.execute(sa.update(mirror).where(mirror.c.user_id == person.user_id).values(user_id=survivor))
        pending.mark_mirrored(connection, [survivor], person.synced_at)


def touch(connection: Connection, people: Sequence[tuple[str, str, str, int]]) -> None:
    """Notes that nothing was due for (user_id, segment_bits, mapping_hash, version), so that the pass is content."""
    if people:
        connection.execute(
            sa.update(mirror)
            .where(mirror.c.user_id == sa.bindparam("of_user"))
            .values(
                segment_bits=sa.bindparam("bits"),
                mapping_hash=sa.bindparam("hash"),
                version=sa.bindparam("seen"),
            ),
            [{"of_user": user, "bits": bits, "hash": digest, "seen": seen} for user, bits, digest, seen in people],
        )


def owners(connection: Connection, customer_ids: Iterable[str]) -> dict[str, str]:
    """Which user's mirror has each of these customer ids; those that nobody has are absent."""
    wanted = list(customer_ids)
    found: dict[str, str] = {}
    for start in range(0, len(wanted), CHUNK):
        chosen = mirror.c.customer_id.in_(wanted[start : start + CHUNK])
        rows = connection.execute(sa.select(mirror.c.customer_id, mirror.c.user_id).where(chosen))
        found.update((customer_id, user_id) for customer_id, user_id in rows)
    return found


def differing(connection: Connection, settings: Settings, now: datetime) -> Iterator[tuple[str, bool]]:
    """(user_id, is_mirrored) of everyone whom a full pass has to look at, streamed.

    Mirrored users whose version, segment bits or mapping hash differ from when they were last compared; and users
    of our own in a whitelisted segment who are nobody at Customer.io yet and whose create nobody has let go.
    """
    dialect = connection.dialect.name
    bits = segments.bits(settings, dialect, now)
    changed = sa.or_(
        mirror.c.version != users.c.version,
        mirror.c.mapping_hash != settings.mapping_hash(),
        mirror.c.segment_bits != bits,
    )
    released = sa.exists().where(pending_rows.c.user_id == users.c.id, pending_rows.c.release.is_not(None))
    missing = sa.and_(
        mirror.c.user_id.is_(None),
        users.c.known_by == "own",
        segments.whitelisted(settings, dialect, now),
        sa.not_(released),
    )
    if settings.people.require_email:
        missing = sa.and_(missing, users.c.email.is_not(None))
    if settings.people.customer_id in {("external_id",), ("email",)}:
        column = users.c.external_id if settings.people.customer_id == ("external_id",) else users.c.email
        missing = sa.and_(missing, column.is_not(None))
    query = (
        sa.select(users.c.id, mirror.c.user_id.is_not(None))
        .select_from(users.outerjoin(mirror, mirror.c.user_id == users.c.id))
        .where(users.c.merged_into.is_(None), sa.or_(missing, sa.and_(mirror.c.user_id.is_not(None), changed)))
    )
    for row in connection.execution_options(yield_per=CHUNK).execute(query):
        yield row[0], bool(row[1])


def guarded_since(connection: Connection, since: datetime) -> int:
    """People created since then whom the guard had let through; fresh arrivals and approved ones don't count."""
    return connection.execute(
        sa.select(sa.func.count())
        .select_from(mirror)
        .where(mirror.c.release == sa.literal_column("'guard'"), mirror.c.created_at > since)
    ).scalar_one()


def count(connection: Connection) -> int:
    """How many people we keep at Customer.io."""
    return connection.execute(sa.select(sa.func.count()).select_from(mirror)).scalar_one()


def _values(person: Mirror) -> dict[str, Any]:
    return {column.name: getattr(person, column.name) for column in mirror.columns}
