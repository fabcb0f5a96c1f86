"""Requests that were refused reach the store, also when it fails at first."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
import sqlalchemy as sa

from connector.inbound.refused import BAD_SIGNATURE, Refused
from connector.store import refusals
from connector.store.database import Database
from connector.store.refusals import Refusal
from tests.store.given import NOW

LATER = NOW + timedelta(hours=1)


class Noted:
    """Requests as a server notes them, at a time that a test moves."""

    def __init__(self, db: Database) -> None:
        self.now = NOW
        self.refused = Refused(db, lambda: self.now)

    async def bad(self, count: int = 1) -> None:
        for _ in range(count):
            self.refused.note(BAD_SIGNATURE)
        await self.refused.flush()


@pytest.fixture
def noted(db: Database) -> Noted:
    return Noted(db)


def rename(db: Database, before: str, after: str) -> None:
    db.write(lambda connection: connection.execute(sa.text(f"ALTER TABLE {before} RENAME TO {after}")))


async def test_refused_requests_add_up_in_the_store(db: Database, noted: Noted) -> None:
    await noted.bad(3)
    noted.now = LATER
    await noted.bad()
    assert db.read(refusals.load) == [Refusal(BAD_SIGNATURE, 4, NOW, LATER)]
    assert (noted.refused.count, noted.refused.last_at) == (4, LATER)


async def test_what_the_store_could_not_take_is_written_when_it_can(db: Database, noted: Noted) -> None:
    rename(db, "refusals", "away")
    with pytest.raises(sa.exc.DBAPIError):
        await noted.bad(2)
    rename(db, "away", "refusals")
    keeping = asyncio.create_task(noted.refused.keep())
    async with asyncio.timeout(10):
        while not db.read(refusals.load):
            await asyncio.sleep(0.01)
    keeping.cancel()
    assert db.read(refusals.load) == [Refusal(BAD_SIGNATURE, 2, NOW, NOW)]
