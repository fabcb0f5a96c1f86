"""For how long a worker may begin calls for whom it has claimed."""

from __future__ import annotations

import asyncio
import time
from datetime import datetime, timedelta

import pytest

from connector.outbound import claims, preparation
from connector.outbound.claims import LEASE, Claims
from connector.store import leases, pending, schema
from connector.store.database import Database
from tests.store import given
from tests.store.given import NOW, SETTINGS


@pytest.mark.parametrize("store_kind", ["postgresql"], indirect=True)
async def test_a_late_renewal_that_somebody_came_before_is_one_of_none(
    store_url: str, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waits for a user whom somebody marks just then; another worker takes the other one meanwhile."""
    monkeypatch.setattr(claims, "_RENEWED_EACH", 0.01)
    given.have(db, given.user("U1"), given.user("U2"))
    db.write(pending.mark, ["U1", "U2"], NOW, pending.CHANGED)
    claimed = db.write(leases.claim, "a", NOW, NOW + LEASE, 10)
    moments = (NOW + LEASE + timedelta(seconds=number) for number in range(-1, 10**6))
    ours = Claims(db, lambda: next(moments))
    ours.add("a", time.monotonic() - LEASE.total_seconds() + 1, ["U1", "U2"])
    not_after = ours.not_after(preparation.prepare(db, SETTINGS, claimed, NOW))
    before = not_after()
    other = Database(store_url)
    with other.transaction() as marking:
        pending.mark(marking, ["U1"], NOW, pending.CHANGED)
        keeping = asyncio.create_task(ours.keep())
        await asyncio.to_thread(given.until_it_waits, other, keeping)
        [taken] = db.write(leases.claim, "b", NOW + LEASE, NOW + 2 * LEASE, 10)
    assert taken.user_id == "U2"
    other.close()
    for _ in range(2):
        await renewed(db)
    assert not_after() == before
    ours.landed("a", ["U2"])
    while not_after() == before:
        await asyncio.sleep(0)
    keeping.cancel()


async def renewed(db: Database) -> None:
    """Returns when the lease of the first user is written once more."""
    before = due_at(db)
    while due_at(db) == before:
        await asyncio.sleep(0)


def due_at(db: Database) -> datetime:
    found: list[datetime] = given.rows(db, schema.pending, "due_at")
    return found[0]
