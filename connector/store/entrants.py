"""Users who may be created: how many, and no more of each than tells whether they can be. So a million are counted in
seconds.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from connector.records import Mirror, Subject, User
from connector.settings import Settings
from connector.store import database, standing
from connector.store.pending import DELETES
from connector.store.schema import mirror, pending, users

CHUNK = 1000

# Sources of customer ids that need no look at the attributes.
_COLUMNS = frozenset({"external_id", "email", "id"})


def subjects(connection: Connection, user_ids: Sequence[str], settings: Settings) -> list[Subject]:
    """Those of a thousand users at most who are nobody at Customer.io and may become somebody there, for
    `decide.entering`: without their memberships, and without attributes where no customer id is among them."""
    query = _light(settings).where(
        database.among(connection, users.c.id, user_ids),
        sa.or_(mirror.c.user_id.is_(None), mirror.c.deleted_at.is_not(None)),
        mirror.c.suppressed_at.is_(None),
    )
    return list(_subjects(connection.execute(query).all()))


def missing(connection: Connection, settings: Settings, now: datetime) -> Generator[Subject, None, None]:
    """Likewise everybody who is missing at Customer.io at this moment, streamed as a pass finds them. To be closed by
    whoever doesn't read it to the end."""
    their = standing.standing(settings, connection.dialect.name, now)
    database.all_of_it(connection)
    query = _light(settings).where(their.missing)
    with connection.execution_options(yield_per=CHUNK).execute(query) as rows:
        yield from _subjects(rows)


class Counted(NamedTuple):
    """What a pass would find: users who are `missing` at Customer.io, be it that some of them can't be created; people
    `outside` whose deletes nobody has let go, of whom `leaving` are within their grace; others who are `changed`, or
    are compared anew because the settings say so."""

    missing: int
    outside: int
    leaving: int
    changed: int


def count(connection: Connection, settings: Settings, now: datetime) -> Counted:
    """Under these settings, at this moment."""
    their = standing.standing(settings, connection.dialect.name, now)
    let_go = sa.exists().where(pending.c.user_id == users.c.id, pending.c.release.in_(sorted(DELETES)))
    outside = sa.and_(their.outside, sa.not_(let_go.correlate(users)))
    since = sa.func.coalesce(mirror.c.left_at, sa.literal(now, mirror.c.left_at.type))
    chosen = (
        their.missing,
        outside,
        sa.and_(outside, since > now - settings.people.delete.grace),
        sa.and_(their.changed, sa.not_(their.outside)),
    )
    query = (
        sa.select(*(sa.func.count().filter(each) for each in chosen))
        .select_from(users.outerjoin(mirror, mirror.c.user_id == users.c.id))
        .where(users.c.merged_into.is_(None))
    )
    return Counted(*tuple(connection.execute(query).one()))


def _light(settings: Settings) -> sa.Select[Any]:
    reads = not _COLUMNS.issuperset(settings.people.customer_id)
    attributes = users.c.attributes if reads else sa.null()
    return (
        sa.select(users.c.id, users.c.external_id, users.c.email, users.c.known_by, attributes, *mirror.columns)
        .select_from(users.outerjoin(mirror, mirror.c.user_id == users.c.id))
        .where(users.c.merged_into.is_(None))
    )


def _subjects(rows: Iterable[Any]) -> Iterator[Subject]:
    for user_id, external_id, email, known_by, attributes, *sent in rows:
        user = User(
            user_id, external_id, email, {} if attributes is None else attributes, known_by, None, False, None, 0
        )
        yield Subject(user, "", Mirror(*sent) if sent[0] is not None else None)
