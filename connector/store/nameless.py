"""Users of our own whom not everything names that should: plain SQL wrote them, or changed who they are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from connector.records import Identifier
from connector.store import database
from connector.store.schema import conflicts, identifiers, users

CHUNK = 1000
LONGEST = 500  # characters: an index of PostgreSQL takes no entry of more than 2.7 KB


def found(connection: Connection) -> Iterator[list[str]]:
    """Their ids, streamed in chunks. Whoever has nothing but a conflict that is noted already is left out.

    Addresses are compared as far as the database knows lower case: some with letters beyond ASCII come in vain.
    """
    database.all_of_it(connection)
    rows = connection.execution_options(yield_per=CHUNK).execute(query())
    for chunk in rows.scalars().partitions():
        yield list(chunk)


def query() -> sa.Select[str]:
    """Two look-ups for each user. Not only for those who changed lately: who was written in a long transaction has
    changed before anybody could see it."""
    by_id, by_email = identifiers.alias(), identifiers.alias()
    of_id = sa.and_(by_id.c.kind == "external_id", by_id.c.value == users.c.external_id)
    of_email = sa.and_(by_email.c.kind == "email", by_email.c.value == sa.func.lower(users.c.email))
    return (
        sa.select(users.c.id)
        .select_from(users.outerjoin(by_id, of_id).outerjoin(by_email, of_email))
        .where(
            users.c.known_by == "own",
            users.c.merged_into.is_(None),
            sa.or_(_lacking(users.c.external_id, by_id), _lacking(users.c.email, by_email)),
        )
    )


def _lacking(given: sa.Column[str], named: sa.FromClause) -> sa.ColumnElement[bool]:
    noted = sa.exists().where(
        conflicts.c.user_id == users.c.id, conflicts.c.kind == named.c.kind, conflicts.c.value == named.c.value
    )
    # What is too long comes in vain: a condition on the length would lead PostgreSQL's planner astray.
    return sa.and_(given != "", named.c.user_id.is_distinct_from(users.c.id), sa.not_(noted))


def named_so_far(connection: Connection, user_ids: Sequence[str]) -> list[tuple[Identifier, str]]:
    """All that names these users by now."""
    # Not by kind as well: SQLite would go through everything of that kind.
    theirs = identifiers.c.user_id.in_(database.texts(connection))
    rows = connection.execute(sa.select(identifiers).where(theirs), {"texts": database.dumps(user_ids)})
    return [(Identifier(row.kind, row.value), row.user_id) for row in rows]
