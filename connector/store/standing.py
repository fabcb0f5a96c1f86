"""Where users stand with a full pass: who differs from what was last sent of them, or is missing there."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from connector.settings import Settings
from connector.store import database, segments
from connector.store.pending import DELETES
from connector.store.schema import mirror, pending, users

_CHUNK = 1000


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
    let_go = pending.c.user_id == users.c.id, pending.c.release.is_not(None)
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
    let_go = pending.c.user_id == users.c.id, pending.c.release.in_(sorted(DELETES))
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
    for row in connection.execution_options(yield_per=_CHUNK).execute(query):
        yield Differing(row[0], bool(row[1]), bool(row[2]), row[3], bool(row[4]), bool(row[5]))
