"""A running connector that takes messages, and what it keeps of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

import sqlalchemy as sa

from connector import app
from connector.core import tracking_message
from connector.records import Message, Unread
from connector.store import inbox
from connector.store.database import Database
from connector.store.schema import inbox as table
from tests.places import Place
from tests.tracking_corpus import SERVER_KEY, WEB_KEY

KEYS = f'write_keys = ["file:write.key"]\nbrowser_keys = ["{WEB_KEY}"]'


class Kept(NamedTuple):
    """A row of the inbox."""

    source_id: str
    state: str
    reason: str | None
    body: bytes
    message: Message | Unread


@asynccontextmanager
async def running(place: Place, intake: str = KEYS) -> AsyncIterator[app.Running]:
    """With these lines under [intake]."""
    (place.folder / "write.key").write_text(SERVER_KEY)
    place.write(intake=intake)
    async with app.running(place.path, place.settings()) as connector:
        yield connector


def kept(db: Database) -> list[Kept]:
    """All messages in the inbox, in the order in which they came."""

    def load(connection: sa.Connection) -> list[Kept]:
        rows = connection.execute(sa.select(table).where(table.c.source == inbox.INTAKE).order_by(table.c.id))
        return [
            Kept(
                row.source_id,
                row.state,
                row.reason,
                row.body,
                tracking_message.read(row.source_id, row.body, row.received_at),
            )
            for row in rows
        ]

    return db.read(load)
