"""The mirror: what we last sent of each user, and at which state of user and settings we last compared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

import sqlalchemy as sa
from msgspec.structs import astuple
from sqlalchemy.engine import Connection

from connector.records import EVERYTHING, CustomerId, Mirror
from connector.settings import Settings
from connector.store import database, documents, guarded, pending, segments
from connector.store.schema import identifiers, mirror, users
from connector.store.schema import pending as pending_rows

CHUNK = 1000
_COLUMNS = tuple(column.name for column in mirror.columns)
_NO_VERSION = -1  # that no user has


def record(connection: Connection, people: Sequence[Mirror], renamed: Collection[str] = ()) -> None:
    """Writes what was sent; the customer id of a new person, or of a `renamed` user's, also becomes an identifier of
    the user. Deletes, and creates that the guard let go, count for it from now on."""
    if not people:
        return
    new = [person for person in people if person.created_at == person.synced_at or person.user_id in renamed]
    survivors = _survivors(connection, [person.user_id for person in new])
    if survivors:
        handed_over = _handed_over(connection, new, survivors)
        people = [person for person in people if person.user_id not in handed_over]
        new = [person for person in new if person.user_id not in handed_over]
    _count(connection, people)
    documents.upsert(connection, mirror, _COLUMNS, list(map(astuple, people)), ("user_id",))
    named = [person for person in new if person.id_kind == "id" and person.deleted_at is None]
    # A webhook may have been read before this: the customer id then names a user whom only it told us of.
    naming = [("customer_id", each.customer_id, survivors.get(each.user_id, each.user_id)) for each in named]
    documents.upsert(connection, identifiers, ("kind", "value", "user_id"), naming, ("kind", "value"))
    for person in new:
        if person.user_id in survivors:
            _hand_over(connection, person, survivors[person.user_id])


def begin(connection: Connection, people: Sequence[Mirror]) -> None:
    """Whoever is created is a person of whom nothing is sure from the moment on in which a call may go out: were nobody
    to hear of it, they would be there and nobody's. IntegrityError when somebody else has the customer id by now."""
    documents.upsert(connection, mirror, _COLUMNS, list(map(astuple, people)), ("user_id",))


def withdraw(connection: Connection, begun: Mapping[str, Mirror | None]) -> None:
    """These, by user, are not there after all: they are what they were before, if anything."""
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
    if new := [each for each in new if each.deleted_at is None and each.unsure != EVERYTHING]:
        sure = mirror.c.deleted_at.is_(None), mirror.c.unsure != EVERYTHING
        live = mirror.c.user_id.in_(database.texts(connection)), *sure
        chosen = sa.select(mirror.c.user_id).where(*live)
        theirs = {"texts": database.dumps([each.user_id for each in new])}
        there = set(connection.execute(chosen, theirs).scalars())
        happened.update(("create", each.created_at) for each in new if each.user_id not in there)
    guarded.count(connection, happened)


def _survivors(connection: Connection, user_ids: Sequence[str]) -> dict[str, str]:
    """Of users who were created just now: those who were merged while the call was under way, and who they are now."""
    if not user_ids:
        return {}
    merged = users.c.id.in_(database.texts(connection)), users.c.merged_into.is_not(None)
    rows = connection.execute(sa.select(users.c.id).where(*merged), {"texts": database.dumps(user_ids)})
    return {user_id: _survivor(connection, user_id) for user_id in rows.scalars().all()}


def _handed_over(connection: Connection, people: Sequence[Mirror], survivors: Mapping[str, str]) -> set[str]:
    """Whose person the merge has given to the survivor already, who has to be sent what is theirs."""
    merged = {each.user_id: each.customer_id for each in people if each.user_id in survivors}
    having = owners(connection, merged.values())
    found = {user_id for user_id, customer_id in merged.items() if having.get(customer_id) == survivors[user_id]}
    doubt(connection, sorted({survivors[user_id] for user_id in found}))
    return found


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
    """What these people have there may not be what we last sent them: all of it is due."""
    for start in range(0, len(user_ids), CHUNK):
        chosen = database.among(connection, mirror.c.user_id, sorted(user_ids[start : start + CHUNK]))
        unknown = sa.update(mirror).where(chosen, mirror.c.deleted_at.is_(None))
        connection.execute(unknown.values(unsure=EVERYTHING, version=_NO_VERSION))


class Looked(NamedTuple):
    """At which state a user was looked at, with nothing to send; `left_at` while they are on their way out."""

    user_id: str
    segment_bits: str
    mapping_hash: str
    version: int
    left_at: datetime | None


def touch(connection: Connection, people: Sequence[Looked]) -> None:
    """Notes that nothing was due for them, so that the pass is content."""
    if people:
        connection.execute(
            sa.update(mirror)
            .where(mirror.c.user_id == sa.bindparam("of_user"))
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
                }
                for each in people
            ],
        )


def leave(connection: Connection, user_ids: Sequence[str], now: datetime) -> None:
    """From now on these people are in no whitelisted segment."""
    chosen = mirror.c.user_id.in_(user_ids), mirror.c.left_at.is_(None), mirror.c.deleted_at.is_(None)
    connection.execute(sa.update(mirror).where(*chosen).values(left_at=now))


def look_again(connection: Connection, after: str, limit: int) -> str | None:
    """The next pass looks at these people, whatever they were compared with: so many after that user, in the order of
    the ids. The last of them; None when there were none."""
    some = sa.select(mirror.c.user_id).where(mirror.c.user_id > after).order_by(mirror.c.user_id).limit(limit)
    user_ids: Sequence[str] = connection.execute(some).scalars().all()
    if not user_ids:
        return None
    theirs = mirror.c.user_id > after, mirror.c.user_id <= user_ids[-1]
    connection.execute(sa.update(mirror).where(*theirs).values(mapping_hash=""))
    return user_ids[-1]


def stay(connection: Connection, limit: int) -> int:
    """Nobody leaves while nobody is deleted; so many of them at a time, and how many that was."""
    some = sa.select(mirror.c.user_id).where(mirror.c.left_at.is_not(None)).limit(limit)
    return connection.execute(sa.update(mirror).where(mirror.c.user_id.in_(some)).values(left_at=None)).rowcount


def come_back(connection: Connection, user_ids: Sequence[str]) -> None:
    """These people are in a whitelisted segment again: who leaves once more has their whole grace before them."""
    connection.execute(sa.update(mirror).where(mirror.c.user_id.in_(user_ids)).values(left_at=None))


def owners(connection: Connection, customer_ids: Iterable[str]) -> dict[str, str]:
    """Which user's live mirror has each of these customer ids; those that nobody has are absent."""
    wanted = list(customer_ids)
    found: dict[str, str] = {}
    for start in range(0, len(wanted), CHUNK):
        named = database.among(connection, mirror.c.customer_id, wanted[start : start + CHUNK])
        chosen = sa.and_(named, mirror.c.deleted_at.is_(None))
        rows = connection.execute(sa.select(mirror.c.customer_id, mirror.c.user_id).where(chosen)).all()
        found.update((customer_id, user_id) for customer_id, user_id in rows)
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


class Standing(NamedTuple):
    """Where users stand with a pass, as expressions over `users` and their `mirror`: they are people at Customer.io;
    they are such people, but in no whitelisted segment, and people are deleted; they differ from when they were last
    compared; they are users of our own in such a segment, but nobody there, and nobody has let their create go."""

    whitelisted: sa.ColumnElement[bool]
    is_person: sa.ColumnElement[bool]
    outside: sa.ColumnElement[bool]
    changed: sa.ColumnElement[bool]
    missing: sa.ColumnElement[bool]


def standing(settings: Settings, dialect: str, now: datetime) -> Standing:
    """Under these settings, at this moment. Who was merged into another stands nowhere; that is the caller's to ask."""
    bits = segments.bits(settings, dialect, now)
    whitelisted = segments.whitelisted(settings, dialect, now)
    is_person = sa.and_(mirror.c.user_id.is_not(None), mirror.c.deleted_at.is_(None))
    changed = sa.or_(
        mirror.c.version != users.c.version,
        mirror.c.mapping_hash != settings.mapping_hash(),
        mirror.c.segment_bits != bits,
    )
    outside = sa.not_(whitelisted) if settings.people.delete.enabled else sa.false()
    let_go = pending_rows.c.user_id == users.c.id, pending_rows.c.release.is_not(None)
    released = sa.exists().where(*let_go).correlate(users)
    missing = sa.and_(
        sa.or_(mirror.c.user_id.is_(None), mirror.c.deleted_at.is_not(None)),
        mirror.c.suppressed_at.is_(None),
        users.c.known_by == "own",
        whitelisted,
        sa.not_(released),
    )
    if settings.people.require_email:
        missing = sa.and_(missing, users.c.email.is_not(None))
    if settings.people.customer_id in {("external_id",), ("email",)}:
        column = users.c.external_id if settings.people.customer_id == ("external_id",) else users.c.email
        missing = sa.and_(missing, column.is_not(None))
    return Standing(whitelisted, is_person, sa.and_(is_person, outside), sa.and_(is_person, changed), missing)


class Differing(NamedTuple):
    """Someone whom a pass has to look at: a person at Customer.io or not; `outside` are those in no whitelisted
    segment, since `left_at` as far as is known, and `let_go` those of them whose delete somebody has let go."""

    user_id: str
    is_person: bool
    outside: bool
    left_at: datetime | None
    changed: bool
    let_go: bool = False


def differing(connection: Connection, settings: Settings, now: datetime) -> Iterator[Differing]:
    """Everyone whom a full pass has to look at, streamed: people who have changed or, where people are deleted, are
    outside, and who is missing there."""
    their = standing(settings, connection.dialect.name, now)
    let_go = pending_rows.c.user_id == users.c.id, pending_rows.c.release.in_(sorted(pending.DELETES))
    query = (
        sa.select(
            users.c.id,
            their.is_person.label("is_person"),
            their.outside.label("outside"),
            mirror.c.left_at,
            their.changed.label("changed"),
            sa.and_(their.outside, sa.exists().where(*let_go).correlate(users)).label("let_go"),
        )
        .select_from(users.outerjoin(mirror, mirror.c.user_id == users.c.id))
        .where(users.c.merged_into.is_(None), sa.or_(their.missing, their.changed, their.outside))
    )
    database.all_of_it(connection)
    for row in connection.execution_options(yield_per=CHUNK).execute(query):
        yield Differing(row[0], bool(row[1]), bool(row[2]), row[3], bool(row[4]), bool(row[5]))


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
