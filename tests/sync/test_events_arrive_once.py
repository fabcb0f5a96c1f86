"""Events out under every fault at once; at full size: `python -m tests.proofs events`."""

from __future__ import annotations

import pytest

from connector.store.database import Database
from tests.places import Place, Sandbox
from tests.proofs import events
from tests.sync.events_out import Way

SEED = 1


@pytest.mark.parametrize("api", ["batch", "single"])
async def test_every_event_that_was_due_arrives_once_in_order_and_at_its_time(
    db: Database, place: Place, sandbox: Sandbox, api: str
) -> None:
    outcome = await events.prove(Way(db, place, sandbox, api), users=30, events=20, seed=SEED)
    print(f"seed {SEED}: {outcome}")
    assert outcome.holds, outcome
