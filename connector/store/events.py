"""Events: immutable, one per source and source id."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from connector.records import Event
from connector.store import database, documents
from connector.store.schema import events

_FIELDS = tuple(field.name for field in fields(Event))


def add(connection: Connection, batch: Sequence[Event]) -> None:
    """Stores events, so that ids rise in their order; one that is there already stays as it is."""
    # dataclasses.asdict would copy every property deeply, which took longer than storing them.
    rows = [{name: getattr(event, name) for name in _FIELDS} for event in batch]
    documents.insert(connection, events, rows, keep_old=True)


def present(connection: Connection, source: str, source_ids: Sequence[str]) -> set[str]:
    """Those of the source's ids whose events are stored."""
    ids = database.texts(connection)
    query = sa.select(events.c.source_id).where(events.c.source == source, events.c.source_id.in_(ids))
    return set(connection.execute(query, {"texts": database.dumps(source_ids)}).scalars())


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
