"""A burst is received before it is read; but however long it lasts, reading goes on, and ends soon after it."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

from connector.inbound.reader import Reader
from connector.records import Received
from connector.settings import Settings
from connector.store import events, inbox
from connector.store.database import Database
from tests.places import example

NOW = datetime(2026, 2, 3, tzinfo=UTC)


async def test_messages_that_never_pause_are_read_meanwhile_and_the_rest_afterwards(db: Database) -> None:
    reader = Reader(db, Settings, lambda: NOW)
    running = asyncio.create_task(reader.run())
    sent = 0
    while await db.run_read(events.count) < 50:
        source_id = f"event-{sent}"
        await db.run(inbox.append, inbox.CUSTOMERIO, [Received(source_id, NOW, example(source_id))])
        reader.wake()
        sent += 1
    while await db.run_read(events.count) < sent:
        await asyncio.sleep(0.01)
    running.cancel()
    assert (await db.run_read(inbox.counts))["new"] == 0
