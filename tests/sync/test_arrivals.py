"""From an SDK's call to a person at Customer.io: who has only just come does not wait for the full pass."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from typing import Any

import aiohttp
import pytest

from connector import app
from connector.commands import sync as syncing
from connector.store.database import Database
from tests.places import Give, Place, Sandbox
from tests.store import told

PEOPLE = 'segments = ["Everyone"]\nattributes = ["plan"]'
SEGMENTS = '"Everyone" = { everyone = true }'


@pytest.fixture
def sending(place: Place, sandbox: Sandbox) -> Place:
    """Settings under which a pass comes once an hour."""
    place.track_url = sandbox.url
    place.more = {
        "people": PEOPLE,
        "segments": SEGMENTS,
        "sync": 'every = "1h"\nlatency = "20ms"',
        "intake": 'write_keys = ["env:API_KEY"]',
    }
    return place.write()


async def identify(session: aiohttp.ClientSession, url: str, user_id: str, **traits: Any) -> None:
    body = {"userId": user_id, "messageId": f"{user_id}-{json.dumps(traits)}", "traits": traits}
    key = {"Authorization": aiohttp.encode_basic_auth("test-key", "")}
    async with session.post(f"{url}/v1/identify", json=body, headers=key) as response:
        assert (response.status, await response.json()) == (200, {"success": True})


async def becomes(sandbox: Sandbox, people: dict[str, dict[str, Any]]) -> None:
    async with asyncio.timeout(20):
        while sandbox.people() != people:
            await asyncio.sleep(0.02)


async def test_who_signs_up_and_changes_is_at_customerio_without_a_pass(sending: Place, sandbox: Sandbox) -> None:
    ann = {"email": "ann@b.co", "hull_segments": ["Everyone"]}
    async with app.running(sending.path, sending.settings()) as connector, aiohttp.ClientSession() as session:
        await identify(session, connector.public_url, "1", email="ann@b.co", plan="free")
        await becomes(sandbox, {"1": {**ann, "plan": "free"}})
        await identify(session, connector.public_url, "1", plan="pro")
        await becomes(sandbox, {"1": {**ann, "plan": "pro"}})


async def test_arrivals_count_for_nothing_in_the_guard_and_others_count_as_ever(
    db: Database, sending: Place, sandbox: Sandbox, give: Give
) -> None:
    settings = sending.write(guard="max_creates = 1").settings()
    arrived = [
        told.message("identify", f"i{number}", user=f"new-{number}", traits={"email": f"new{number}@b.co"})
        for number in range(5)
    ]
    told.tell(db, *arrived, settings=settings, now=app.now())
    give(settings, *({"external_id": f"old-{number}", "email": f"old{number}@b.co"} for number in range(2)))
    summary = await syncing.sync(db, settings, app.now)
    assert sorted(sandbox.people()) == [f"new-{number}" for number in range(5)]
    assert summary.exit_status == 3


async def test_who_came_more_than_an_hour_ago_is_let_go_by_the_pass(
    db: Database, sending: Place, sandbox: Sandbox
) -> None:
    settings = sending.settings()
    earlier = app.now() - timedelta(hours=2)
    told.tell(db, told.message("identify", "i1", user="1", traits={"email": "a@b.co"}), settings=settings, now=earlier)
    summary = await syncing.sync(db, settings, app.now)
    assert summary.tally.created == 1
    assert list(sandbox.people()) == ["1"]
