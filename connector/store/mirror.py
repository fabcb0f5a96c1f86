"""The mirror: what we last sent of each user, and at which state of user and settings we last compared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import sqlalchemy as sa
from msgspec.structs import astuple
from sqlalchemy.engine import Connection

from connector.records import EVERYTHING, CustomerId, Mirror
from connector.store import database, documents, guarded, pending
from connector.store.schema import identifiers, mirror, users
from connector.store.schema import pending as pending_rows

CHUNK = 1000
_COLUMNS = tuple(column.name for column in mirror.columns)
NO_VERSION = -1  # that no user has, so there is more to send; with each doubt it is lower


def record(connection: Connection, people: Sequence[Mirror], renamed: Collection[str] = ()) -> None:
    """Writes what was sent; the customer id of a new person, or of a `renamed` user's, also becomes an identifier of
    the user. Deletes, and creates that the guard let go, count for it from now on."""
    if not people:
        return
    new = [person for person in people if person.created_at == person.synced_at or person.user_id in renamed]
    found = survivors(connection, [person.user_id for person in new])
    _count(connection, people)
    rows = [astuple(each) for each in sorted(people, key=lambda each: each.user_id)]  # as everyone locks them
    documents.upsert(connection, mirror, _COLUMNS, rows, ("user_id",))
    named = [person for person in new if person.id_kind == "id" and person.deleted_at is None]
    # A webhook may have been read before this: the customer id then names a user whom only it told us of.
    naming = [("customer_id", each.customer_id, found.get(each.user_id, each.user_id)) for each in named]
    documents.upsert(connection, identifiers, ("kind", "value", "user_id"), naming, ("kind", "value"))
    for person in new:
        if person.user_id in found:
            _hand_over(connection, person, found[person.user_id])


def begin(connection: Connection, people: Sequence[Mirror]) -> None:
    """Whoever is created is a person of whom nothing is sure from the moment on in which a call may go out: were nobody
    to hear of it, they would be there and nobody's. IntegrityError when somebody else has the customer id by now."""
    # In one order, or two workers that both want two ids wait for each other.
    rows = [astuple(each) for each in sorted(people, key=lambda each: each.customer_id)]
    documents.upsert(connection, mirror, _COLUMNS, rows, ("user_id",))


def withdraw(connection: Connection, begun: Mapping[str, Mirror | None]) -> None:
    """These, by user, are not there after all: they are what they were before, if anything. Whoever a merge has given
    such a person meanwhile keeps them: nobody heard of them, so they are made sure of."""
    ordered = sorted(begun)
    for start in range(0, len(ordered), CHUNK):
        chosen = database.among(connection, mirror.c.user_id, ordered[start : start + CHUNK])
        connection.execute(sa.delete(mirror).where(chosen, mirror.c.unsure == EVERYTHING))
    if before := [each for each in begun.values() if each is not None]:
        begin(connection, before)


def _count(connection: Connection, people: Sequence[Mirror]) -> None:
    """Before they are written: who is a person there already is not created, and who may be one is counted when they
    are heard of."""
    happened: Counter[tuple[guarded.What, datetime]] = Counter()
    happened.update(("delete", person.deleted_at) for person in people if person.deleted_at is not None)
    new = [each for each in people if each.release == "guard" and each.created_at == each.synced_at]
    if new := [each for each in new if each.deleted_at is None and not each.was_never_heard_of]:
        sure = mirror.c.deleted_at.is_(None), mirror.c.unsure != EVERYTHING
        live = mirror.c.user_id.in_(database.texts(connection)), *sure
        chosen = sa.select(mirror.c.user_id).where(*live)
        theirs = {"texts": database.dumps([each.user_id for each in new])}
        there = set(connection.execute(chosen, theirs).scalars())
        happened.update(("create", each.created_at) for each in new if each.user_id not in there)
    guarded.count(connection, happened)


def survivors(connection: Connection, user_ids: Sequence[str]) -> dict[str, str]:
    """Of these users, those who were merged into others, and who they are now."""
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
    """The person is the survivor's, if they are nobody at Customer.io now; else nobody could ever be created under that
    customer id. What was sent is not what they are now, so they are due."""
    if person.deleted_at is None and not is_person(connection, survivor):
        inherit(connection, person.user_id, survivor)
        pending.mark_mirrored(connection, [survivor], person.synced_at)


def is_person(connection: Connection, user_id: str) -> bool:
    """Whether the user is somebody at Customer.io now: who was deleted there is nobody."""
    live = mirror.c.user_id == user_id, mirror.c.deleted_at.is_(None)
    return connection.execute(sa.select(mirror.c.user_id).where(*live)).first() is not None


def inherit(connection: Connection, loser: str, survivor: str) -> None:
    """The loser's person is the survivor's from now on, in the place of one who was deleted."""
    connection.execute(sa.delete(mirror).where(mirror.c.user_id == survivor, mirror.c.deleted_at.is_not(None)))
    connection.execute(sa.update(mirror).where(mirror.c.user_id == loser).values(user_id=survivor))


def doubt(connection: Connection, user_ids: Sequence[str]) -> None:
    """What these people, whose pending rows are locked, have there may not be what we last sent them: all of it is due.
    Whoever has them in flight sees that by the version when they are recorded, and leaves it so."""
    for start in range(0, len(user_ids), CHUNK):
        chosen = database.among(connection, mirror.c.user_id, sorted(user_ids[start : start + CHUNK]))
        lower = sa.case((mirror.c.version <= NO_VERSION, mirror.c.version - 1), else_=NO_VERSION - 1)
        unknown = sa.update(mirror).where(chosen, mirror.c.deleted_at.is_(None))
        connection.execute(unknown.values(unsure=EVERYTHING, version=lower))


def is_doubted(version: int) -> bool:
    """Whether that is the version of somebody who was doubted."""
    return version < NO_VERSION


class Looked(NamedTuple):
    """At which state a user was looked at, with nothing to send; `left_at` while they are on their way out. `before` is
    the version that the mirror had then."""

    user_id: str
    segment_bits: str
    mapping_hash: str
    version: int
    left_at: datetime | None
    before: int


def touch(connection: Connection, people: Sequence[Looked]) -> None:
    """Notes that nothing was due for them, so that the pass is content, unless they were doubted since."""
    if people:
        is_as_it_was = sa.or_(mirror.c.version >= NO_VERSION, mirror.c.version == sa.bindparam("before"))
        connection.execute(
            sa.update(mirror)
            .where(mirror.c.user_id == sa.bindparam("of_user"), is_as_it_was)
            .values(
                segment_bits=sa.bindparam("bits"),
                mapping_hash=sa.bindparam("hash"),
                version=sa.bindparam("seen"),
                left_at=sa.bindparam("left", type_=mirror.c.left_at.type),
            ),
            [
                {
                    "of_user": each.user_id,
                    "bits": each.segment_bits,
                    "hash": each.mapping_hash,
                    "seen": each.version,
                    "left": each.left_at,
                    "before": each.before,
                }
                for each in people
            ],
        )


def lock(connection: Connection, user_ids: Iterable[str]) -> None:
    """For what is written of many people whom nobody has claimed. Whoever has claimed some writes of them, in any
    order, under a lock on their pending rows; so those come first."""
    for column in (pending_rows.c.user_id, mirror.c.user_id):
        database.lock(connection, column, user_ids)


def leave(connection: Connection, user_ids: Sequence[str], now: datetime) -> None:
    """From now on these people, who are locked, are in no whitelisted segment."""
    chosen = mirror.c.user_id.in_(user_ids), mirror.c.left_at.is_(None), mirror.c.deleted_at.is_(None)
    connection.execute(sa.update(mirror).where(*chosen).values(left_at=now))


def look_again(connection: Connection, after: str, limit: int) -> str | None:
    """The next pass looks at these people, whatever they were compared with, or are just being compared with: so many
    after that user, in the order of the ids. The last of them; None when there were none."""
    some = sa.select(mirror.c.user_id).where(mirror.c.user_id > after).order_by(mirror.c.user_id).limit(limit)
    user_ids: Sequence[str] = connection.execute(some).scalars().all()
    if not user_ids:
        return None
    lock(connection, user_ids)
    # Who is in flight was looked at before, and what they were compared with is written later.
    pending.look_afresh(connection, user_ids)
    _set(connection, user_ids, mapping_hash="")
    return user_ids[-1]


def stay(connection: Connection, limit: int) -> int:
    """Nobody leaves while nobody is deleted; so many of them at a time, and how many that was."""
    some = sa.select(mirror.c.user_id).where(mirror.c.left_at.is_not(None)).limit(limit)
    user_ids = connection.execute(some).scalars().all()
    lock(connection, user_ids)
    _set(connection, user_ids, left_at=None)
    return len(user_ids)


def _set(connection: Connection, user_ids: Sequence[str], **values: Any) -> None:
    theirs = mirror.c.user_id.in_(database.texts(connection))
    connection.execute(sa.update(mirror).where(theirs).values(values), {"texts": database.dumps(user_ids)})


def come_back(connection: Connection, user_ids: Sequence[str]) -> None:
    """These people, who are locked, are in a whitelisted segment again: who leaves once more has their whole grace
    before them."""
    connection.execute(sa.update(mirror).where(mirror.c.user_id.in_(user_ids)).values(left_at=None))


def owners(connection: Connection, customer_ids: Iterable[str]) -> dict[str, str]:
    """Which user's live mirror has each of these customer ids; those that nobody has are absent."""
    return {customer_id: user_id for customer_id, user_id, _ in there(connection, customer_ids)}


def there(connection: Connection, customer_ids: Iterable[str]) -> list[tuple[str, str, int]]:
    """Of these customer ids, those that somebody's live mirror has: with that user, and the mirror's version."""
    found: list[tuple[str, str, int]] = []
    for some in database.chunks(list(customer_ids), CHUNK):
        chosen = database.among(connection, mirror.c.customer_id, some), mirror.c.deleted_at.is_(None)
        query = sa.select(mirror.c.customer_id, mirror.c.user_id, mirror.c.version).where(*chosen)
        found.extend((customer_id, user_id, version) for customer_id, user_id, version in connection.execute(query))
    return found


def people(connection: Connection, user_ids: Collection[str]) -> set[str]:
    """Those of these users who are somebody at Customer.io, or may be."""
    found: set[str] = set()
    for some in database.chunks(sorted(user_ids), CHUNK):
        chosen = database.among(connection, mirror.c.user_id, some), mirror.c.deleted_at.is_(None)
        found.update(connection.execute(sa.select(mirror.c.user_id).where(*chosen)).scalars())
    return found


def deleted(connection: Connection, customer_ids: Iterable[str], since: datetime) -> dict[str, datetime]:
    """When, after that moment, the last person with each of these customer ids was deleted; absent are the others."""
    wanted = list(customer_ids)
    found: dict[str, datetime] = {}
    for start in range(0, len(wanted), CHUNK):
        named = database.among(connection, mirror.c.customer_id, wanted[start : start + CHUNK])
        chosen = sa.and_(named, mirror.c.deleted_at > since)
        rows = connection.execute(
            sa.select(mirror.c.customer_id, mirror.c.deleted_at).where(chosen).order_by(mirror.c.deleted_at)
        )
        found.update((customer_id, deleted_at) for customer_id, deleted_at in rows)
    return found


def lives(connection: Connection, user_ids: Collection[str]) -> dict[str, datetime | None]:
    """Since when each of these users is the person that they are at Customer.io now; None for who was deleted. Absent
    are those whom we have never sent."""
    found: dict[str, datetime | None] = {}
    ordered = sorted(user_ids)
    for start in range(0, len(ordered), CHUNK):
        chosen = database.among(connection, mirror.c.user_id, ordered[start : start + CHUNK])
        columns = mirror.c.user_id, mirror.c.created_at, mirror.c.deleted_at
        rows = connection.execute(sa.select(*columns).where(chosen)).all()
        found |= {user_id: created_at if deleted_at is None else None for user_id, created_at, deleted_at in rows}
    return found


def count(connection: Connection) -> int:
    """How many people we keep at Customer.io."""
    return connection.execute(
        sa.select(sa.func.count()).select_from(mirror).where(mirror.c.deleted_at.is_(None))
    ).scalar_one()


def known_as(connection: Connection, limit: int) -> dict[str, CustomerId]:
    """What so many of the people are known by at Customer.io, by user."""
    columns = mirror.c.user_id, mirror.c.id_kind, mirror.c.customer_id
    some = sa.select(*columns).where(mirror.c.deleted_at.is_(None)).order_by(mirror.c.user_id).limit(limit)
    return {user_id: CustomerId(kind, value) for user_id, kind, value in connection.execute(some)}
