"""Events: immutable, one per source and source id."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from connector.records import Event
from connector.store import database
from connector.store.schema import events


def add(connection: Connection, batch: Sequence[Event]) -> None:
    """Stores events; one that is there already stays as it is."""
    if batch:
        statement = database.insert(connection, events).on_conflict_do_nothing()
        connection.execute(statement, [asdict(event) for event in batch])


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
