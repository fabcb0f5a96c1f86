"""Two users who would get one customer id, prepared at once by two workers: neither mirror says what isn't so."""

from __future__ import annotations

import asyncio
from typing import Any

from aiohttp import web

from connector import app
from connector.outbound import full_pass
from connector.outbound.worker import Worker
from connector.store import mirror, schema
from connector.store.database import Database
from tests.places import Give, Place
from tests.store import given
from tests.sync.test_flights import client_for, track_api


async def test_the_first_is_created_and_nothing_goes_out_for_the_other(
    store_url: str, db: Database, place: Place, give: Give
) -> None:
    """The second is prepared while the first one's call is under way."""
    came: list[dict[str, Any]] = []
    go_on = asyncio.Event()

    async def answer(_request: web.Request, batch: list[dict[str, Any]]) -> web.Response:
        came.extend(batch)
        await go_on.wait()
        return web.json_response({})

    other = Database(store_url)
    async with track_api(answer) as url:
        place.track_url = url
        people = 'segments = ["All"]\ncustomer_id = "code"\nattributes = ["seq"]'
        place.more = {"people": people, "segments": '"All" = { everyone = true }'}
        settings = place.write(customerio=place.customerio("rate_per_second = 10000")).settings()
        give(settings, {"external_id": "a", "email": "a@example.com", "code": "same", "seq": 1})
        full_pass.run(db, settings, app.now)
        async with client_for(db, settings) as one, client_for(other, settings) as two:
            first = asyncio.create_task(Worker(db, app.now).work_off(settings, one))
            while not came:
                await asyncio.sleep(0.01)
            give(settings, {"external_id": "b", "email": "b@example.com", "code": "same", "seq": 2})
            full_pass.run(db, settings, app.now)
            tally = await Worker(other, app.now).work_off(settings, two)
            go_on.set()
            assert (await first).created == 1
        other.close()
    assert (tally.created, tally.calls) == (0, 0)
    assert [each["attributes"]["seq"] for each in came] == [1]
    assert given.rows(db, schema.mirror, "customer_id", "unsure") == [("same", "")]
    assert db.read(mirror.count) == 1
