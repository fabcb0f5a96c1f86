"""Raw messages, appended before they are answered and read afterwards.

new      not read yet
read     became an event
ignored  read, and of a kind that `webhooks.ignore` lists; or about somebody who was erased, and then empty
unread   authentic, but can't be read (`reason` says why); kept until it can
"""

from __future__ import annotations

import functools
import itertools
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from connector.records import InboxRow, Received
from connector.store import database, documents
from connector.store.schema import inbox

CUSTOMERIO = "customerio"
INTAKE = "intake"

# A message that could not be taken when it came, by its content: its sender was told, and may send it mended under the
# same id. All other unread rows are ours to mend; their sender heard that all is well.
REFUSED = "bad:"
was_refused = (inbox.c.source == sa.literal_column("'intake'")) & inbox.c.source_id.startswith(
    sa.literal_column(f"'{REFUSED}'")
)

# An expression, so that no index by source is taken: nearly all rows are of one.
_source = inbox.c.source.concat(sa.literal_column("''"))

# One statement and one document for the whole group: arrays and executemany are slower through psycopg.
_APPEND_POSTGRES = sa.text("""
    INSERT INTO inbox (source, source_id, received_at, body, state, reason)
    SELECT :source, source_id, received_at, decode(body, 'base64'),
           CASE WHEN unread_reason IS NULL THEN 'new' ELSE 'unread' END, unread_reason
    FROM json_to_recordset(:rows) AS r(source_id text, received_at timestamptz, body text, unread_reason text)
    -- A repeat of what is stored, or of what stands earlier in this group, is the vendor's retry.
    ON CONFLICT (source, source_id) DO NOTHING
""")

# One statement here too: row by row, this thread and the one that answers would hand the interpreter's lock to and
# fro for each. Bodies may be any bytes, so they come as one blob that is cut up.
_APPEND_SQLITE = sa.text("""
    INSERT INTO inbox (source, source_id, received_at, body, state, reason)
    SELECT :source, json_extract(value, '$[0]'), json_extract(value, '$[1]'),
           coalesce(substr(:bodies, json_extract(value, '$[2]'), json_extract(value, '$[3]')), x''),
           CASE WHEN json_extract(value, '$[4]') IS NULL THEN 'new' ELSE 'unread' END, json_extract(value, '$[4]')
    FROM json_each(:rows)
    WHERE true -- without it the parser takes ON for a part of a join
    ON CONFLICT (source, source_id) DO NOTHING
""").bindparams(sa.bindparam("bodies", type_=sa.LargeBinary))


class UnreadRow(NamedTuple):
    """A message that could not be read; `size` in bytes."""

    id: int
    kind: str | None
    size: int


# Sizes first: bodies are loaded only as far as they are taken.
_TAKE = """
    SELECT inbox.id, inbox.source, inbox.source_id, inbox.received_at, inbox.body
    FROM (SELECT id, sum(size) OVER (ORDER BY id) - size AS before
          FROM (SELECT id, {length}(body) AS size FROM inbox WHERE state = 'new' ORDER BY id LIMIT :limit) AS oldest
         ) AS sized
    JOIN inbox ON inbox.id = sized.id
    WHERE sized.before < :most_bytes
    ORDER BY inbox.id
"""
_TAKEN = (inbox.c.id, inbox.c.source, inbox.c.source_id, inbox.c.received_at, inbox.c.body)
_TAKE_SQLITE = sa.text(_TAKE.format(length="length")).columns(*_TAKEN)
_TAKE_POSTGRES = sa.text(_TAKE.format(length="octet_length")).columns(*_TAKEN)


class Mark(NamedTuple):
    """What became of an inbox row."""

    id: int
    state: str
    reason: str | None
    kind: str | None


def append(connection: Connection, source: str, rows: Sequence[Received]) -> int:
    """Stores the messages that are not there yet; returns how many those were."""
    if not rows:
        return 0
    if connection.dialect.name == "postgresql":
        # Bodies become base64 in it.
        return connection.execute(_APPEND_POSTGRES, {"source": source, "rows": database.dumps(rows)}).rowcount
    starts = itertools.accumulate((len(row.body) for row in rows), initial=1)
    document = database.dumps(
        [
            (row.source_id, documents.sqlite_time(row.received_at), start, len(row.body), row.unread_reason)
            for row, start in zip(rows, starts, strict=False)
        ]
    )
    bodies = b"".join(row.body for row in rows)
    return connection.execute(_APPEND_SQLITE, {"source": source, "rows": document, "bodies": bodies}).rowcount


def take(connection: Connection, limit: int, most_bytes: int) -> list[InboxRow]:
    """The oldest messages that are still new, in arrival order: at most `limit`, and no more once they are
    `most_bytes` or larger together."""
    rows = connection.execute(
        _TAKE_POSTGRES if connection.dialect.name == "postgresql" else _TAKE_SQLITE,
        {"limit": limit, "most_bytes": most_bytes},
    )
    return [InboxRow(*row) for row in rows]


def mark(connection: Connection, marks: Sequence[Mark]) -> None:
    """Says what became of messages that were taken."""
    if marks:
        ids = [each.id for each in marks]
        document = documents.encoded(connection, inbox, [each._asdict() for each in marks])
        connection.execute(
            _mark(connection.dialect.name), {"document": document, "lowest": min(ids), "highest": max(ids)}
        )


@functools.cache
def _mark(dialect: str) -> sa.TextClause:
    source = documents.records(inbox, Mark._fields, dialect)
    # The range keeps PostgreSQL at the primary key, whatever it guesses of the document and of a table that grows.
    return sa.text(
        f"UPDATE inbox SET state = records.state, reason = records.reason, kind = records.kind FROM {source} "  # noqa: S608
        "WHERE inbox.id = records.id AND inbox.id BETWEEN :lowest AND :highest"
    )


def unread(
    connection: Connection, after: int, limit: int, since: datetime | None = None, reason: str | None = None
) -> list[UnreadRow]:
    """Messages behind the id `after` that could not be read, in arrival order, but for those whose sender was told:
    those that came at `since` or later, and for this reason, where that is given."""
    query = (
        sa.select(inbox.c.id, inbox.c.kind, sa.func.length(inbox.c.body))
        .where(inbox.c.state == sa.literal_column("'unread'"), sa.not_(was_refused), inbox.c.id > after)
        .order_by(inbox.c.id)
        .limit(limit)
    )
    if since is not None:
        query = query.where(inbox.c.received_at >= since)
    if reason is not None:
        query = query.where(inbox.c.reason == reason)
    return [UnreadRow(*row) for row in connection.execute(query)]


def put_back(connection: Connection, ids: Sequence[int]) -> list[int]:
    """Makes unread messages new again; returns the ids of those that were unread still."""
    chosen = inbox.c.id.in_(database.ids(connection)), inbox.c.state == sa.literal_column("'unread'")
    statement = sa.update(inbox).where(*chosen).values(state="new", reason=None, kind=None).returning(inbox.c.id)
    return sorted(connection.execute(statement, {"ids": database.dumps(ids)}).scalars())


def states(connection: Connection, ids: Sequence[int]) -> Counter[tuple[str, str | None]]:
    """How many of these messages are in which state, for which reason; those that are gone are not counted."""
    number = sa.func.count()
    chosen = inbox.c.id.in_(database.ids(connection))
    query = sa.select(inbox.c.state, inbox.c.reason, number).where(chosen).group_by(inbox.c.state, inbox.c.reason)
    found = connection.execute(query, {"ids": database.dumps(ids)})
    return Counter({(state, reason): count for state, reason, count in found})


def unread_reasons(connection: Connection, *, refused: bool = False) -> Counter[str]:
    """How many messages are unread, by reason: those whose sender was told, or all others."""
    unread_ones = inbox.c.state == sa.literal_column("'unread'"), was_refused if refused else sa.not_(was_refused)
    found = connection.execute(sa.select(inbox.c.reason, sa.func.count()).where(*unread_ones).group_by(inbox.c.reason))
    return Counter({str(reason): count for reason, count in found})


def counts(connection: Connection) -> dict[str, int]:
    """How many messages are new and how many unread."""
    found = {}
    for state in ("new", "unread"):
        where = inbox.c.state == sa.literal_column(f"'{state}'")
        found[state] = connection.execute(sa.select(sa.func.count()).select_from(inbox).where(where)).scalar_one()
    return found


def newest(
    connection: Connection, source: str, before: int | None, limit: int, most_bytes: int
) -> list[tuple[int, bytes | None]]:
    """Ids and bodies from behind, those in front of the id `before` where that is given; a body that is larger than
    `most_bytes` is None."""
    body = sa.case((sa.func.length(inbox.c.body) <= most_bytes, inbox.c.body))
    query = sa.select(inbox.c.id, body).where(inbox.c.source == source).order_by(inbox.c.id.desc()).limit(limit)
    if before is not None:
        query = query.where(inbox.c.id < before)
    return [(row[0], row[1]) for row in connection.execute(query)]


def last_received_at(connection: Connection, source: str | None = None) -> datetime | None:
    """When the newest message arrived, of all or of one source."""
    newest = sa.select(inbox.c.received_at).order_by(inbox.c.id.desc()).limit(1)
    if source is not None:
        newest = newest.where(_source == source)
    return connection.execute(newest).scalar_one_or_none()


def oldest_new_at(connection: Connection) -> datetime | None:
    """When the oldest message arrived that is still new."""
    is_new = inbox.c.state == sa.literal_column("'new'")
    oldest = sa.select(inbox.c.received_at).where(is_new).order_by(inbox.c.id).limit(1)
    return connection.execute(oldest).scalar_one_or_none()


def count(connection: Connection) -> int:
    """How many messages are stored, in whatever state."""
    return connection.execute(sa.select(sa.func.count()).select_from(inbox)).scalar_one()
