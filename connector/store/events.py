"""Events: immutable, one per source and source id."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from connector.records import Event
from connector.store import database
from connector.store.schema import events

_FIELDS = tuple(field.name for field in fields(Event))

# One document for the whole batch, as for the inbox. It keeps the order, so ids rise as messages arrived.
_ADD_POSTGRES = sa.text("""
    INSERT INTO events (source, source_id, user_id, type, name, properties, context, occurred_at, received_at,
                        activity_id, outbound, reason)
    SELECT source, source_id, user_id, type, name, properties, context, occurred_at, received_at,
           activity_id, outbound, reason
    FROM json_to_recordset(:events) AS e(
        source text, source_id text, user_id text, type text, name text, properties jsonb, context jsonb,
        occurred_at timestamptz, received_at timestamptz, activity_id text, outbound text, reason text
    )
    ON CONFLICT DO NOTHING
""")


def add(connection: Connection, batch: Sequence[Event]) -> None:
    """Stores events; one that is there already stays as it is."""
    if not batch:
        return
    if connection.dialect.name == "postgresql":
        connection.execute(_ADD_POSTGRES, {"events": database.dumps(batch)})
        return
    statement = database.insert(connection, events).on_conflict_do_nothing()
    # dataclasses.asdict would copy every property deeply, which took longer than storing them.
    connection.execute(statement, [{name: getattr(event, name) for name in _FIELDS} for event in batch])


def count(connection: Connection) -> int:
    """How many events are stored."""
    return connection.execute(sa.select(sa.func.count()).select_from(events)).scalar_one()


def count_by_name(connection: Connection) -> dict[str, int]:
    """How many events there are of each name, the most frequent first."""
    number = sa.func.count().label("number")
    rows = connection.execute(
        sa.select(events.c.name, number).group_by(events.c.name).order_by(number.desc(), events.c.name)
    )
    return {row.name: row.number for row in rows}
