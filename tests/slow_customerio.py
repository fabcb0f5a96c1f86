"""A local Customer.io that takes its time, so that something can happen while calls are in flight."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta

import sqlalchemy as sa

from connector import app
from connector.sandbox import state, track_api
from connector.sandbox.faults import Faults, Wanted
from connector.store import schema
from tests.places import API_KEY, SITE_ID


class Slow:
    """A local Customer.io that takes its time."""

    def __init__(self, url: str, customerio: state.State, faults: Faults) -> None:
        self.url = url
        self.faults = faults
        self._state = customerio

    def asked(self) -> bool:
        """Whether any call was answered."""
        return self._state.calls_received > 0

    def taken(self) -> Counter[str]:
        """How often each person was sent, and accepted."""
        found: Counter[str] = Counter()
        for call in self._state.calls:
            if call.status == 200 and call.path == "/api/v2/batch":
                found.update(item["identifiers"]["id"] for item in json.loads(call.body)["batch"])
            elif call.status == 200 and call.method == "PUT":
                found[call.path.rpartition("/")[2]] += 1
        return found


@asynccontextmanager
async def slow(latency: str) -> AsyncIterator[Slow]:
    customerio, faulty = state.State(time.time), Faults(Wanted(latency=latency))
    application = track_api.create_app(customerio, site_id=SITE_ID, api_key=API_KEY, faulty=faulty)
    async with track_api.serve(application) as running:
        yield Slow(running.url, customerio, faulty)


async def until(condition: Callable[[], object], seconds: float = 40) -> None:
    """Waits for a condition of the sandbox, which lives in this process's event loop."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.02)


def let_leases_run_out(connection: sa.Connection) -> None:
    """As if the minute were over."""
    ours = sa.update(schema.pending).where(schema.pending.c.lease.is_not(None))
    connection.execute(ours.values(due_at=app.now() - timedelta(seconds=1)))
