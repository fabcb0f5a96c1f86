"""Raw messages, appended before they are answered and read afterwards.

new      not read yet
read     became an event
unread   authentic, but can't be read (`reason` says why); kept
"""

from __future__ import annotations

import binascii
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from connector.records import InboxRow, Received
from connector.store import database
from connector.store.schema import inbox

CUSTOMERIO = "customerio"

# One statement and one document for the whole group: arrays and executemany are slower through psycopg.
_APPEND_POSTGRES = sa.text("""
    INSERT INTO inbox (source, source_id, received_at, body, state, reason)
    SELECT :source, source_id, received_at, decode(body, 'base64'),
           CASE WHEN reason IS NULL THEN 'new' ELSE 'unread' END, reason
    FROM json_to_recordset(:rows) AS r(source_id text, received_at timestamptz, body text, reason text)
    -- A repeat of what is stored, or of what stands earlier in this group, is the vendor's retry.
    ON CONFLICT (source, source_id) DO NOTHING
""")

# Ids as one parameter: hundreds of parameters take PostgreSQL's driver longer than the database needs to update.
_IDS_SQLITE = sa.text("SELECT value FROM json_each(:ids)").columns(id=sa.BigInteger)
_IDS_POSTGRES = sa.text("SELECT CAST(value AS bigint) FROM json_array_elements_text(:ids)").columns(id=sa.BigInteger)


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
        document = database.dumps(
            [
                {
                    "source_id": row.source_id,
                    "received_at": row.received_at,
                    "body": binascii.b2a_base64(row.body, newline=False).decode(),
                    "reason": row.unread_reason,
                }
                for row in rows
            ]
        )
        return connection.execute(_APPEND_POSTGRES, {"source": source, "rows": document}).rowcount
    statement = database.insert(connection, inbox).on_conflict_do_nothing()
    return connection.execute(
        statement,
        [
            {
                "source": source,
                "source_id": row.source_id,
                "received_at": row.received_at,
                "body": row.body,
                "state": "unread" if row.unread_reason else "new",
                "reason": row.unread_reason,
            }
            for row in rows
        ],
    ).rowcount


def take(connection: Connection, limit: int) -> list[InboxRow]:
    """The oldest messages that are still new, in arrival order."""
    rows = connection.execute(
        sa.select(inbox.c.id, inbox.c.source, inbox.c.source_id, inbox.c.received_at, inbox.c.body)
        .where(inbox.c.state == sa.literal_column("'new'"))
        .order_by(inbox.c.id)
        .limit(limit)
    )
    return [InboxRow(*row) for row in rows]


def mark(connection: Connection, marks: Iterable[Mark]) -> None:
    """Says what became of messages that were taken."""
    groups: defaultdict[tuple[str, str | None, str | None], list[int]] = defaultdict(list)
    for each in marks:
        groups[each.state, each.reason, each.kind].append(each.id)
    chosen = inbox.c.id.in_(_IDS_POSTGRES if connection.dialect.name == "postgresql" else _IDS_SQLITE)
    for (state, reason, kind), ids in groups.items():
        statement = sa.update(inbox).where(chosen).values(state=state, reason=reason, kind=kind)
        connection.execute(statement, {"ids": database.dumps(ids)})


def counts(connection: Connection) -> dict[str, int]:
    """How many messages are new and how many unread."""
    found = {}
    for state in ("new", "unread"):
        where = inbox.c.state == sa.literal_column(f"'{state}'")
        found[state] = connection.execute(sa.select(sa.func.count()).select_from(inbox).where(where)).scalar_one()
    return found


def last_received_at(connection: Connection) -> datetime | None:
    """When the newest message arrived."""
    newest = sa.select(inbox.c.received_at).order_by(inbox.c.id.desc()).limit(1)
    return connection.execute(newest).scalar_one_or_none()


def count(connection: Connection) -> int:
    """How many messages are stored, in whatever state."""
    return connection.execute(sa.select(sa.func.count()).select_from(inbox)).scalar_one()
