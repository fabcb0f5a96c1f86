"""A sandbox with a pretend campaign that reports to a receiver, and a client of both sides of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp

from connector.sandbox import track_api
from connector.sandbox.state import State
from connector.sandbox.webhooks.clock import Jumping
from connector.sandbox.webhooks.reporting import Webhooks
from connector.sandbox.webhooks.webhook_bodies import Setup
from connector.sandbox.webhooks.webhook_sender import Endpoint
from tests.receiver import KEY, Receiver, receiving
from tests.reporting_sandbox import patient

START = 1_700_000_000
CREDENTIALS = {"Authorization": aiohttp.encode_basic_auth("site", "key")}


@dataclass
class Sandbox:
    """A sandbox that reports to a receiver; calls to its Track API, and what it reported."""

    session: aiohttp.ClientSession
    url: str
    state: State
    webhooks: Webhooks
    receiver: Receiver
    clock: Jumping

    async def put(self, customer_id: str, **attributes: Any) -> None:
        url = f"{self.url}/api/v1/customers/{customer_id}"
        async with self.session.put(url, json=attributes) as response:
            assert response.status == 200

    async def track(self, customer_id: str, name: str = "signed up", **more: Any) -> None:
        url = f"{self.url}/api/v1/customers/{customer_id}/events"
        async with self.session.post(url, json={"name": name, **more}) as response:
            assert response.status == 200

    async def anonymous(self, anonymous_id: str, name: str = "signed up", **more: Any) -> None:
        event = {"name": name, "anonymous_id": anonymous_id, **more}
        async with self.session.post(f"{self.url}/api/v1/events", json=event) as response:
            assert response.status == 200

    async def get(self, path: str) -> tuple[list[dict[str, Any]], str]:
        """A page, and where the next one is."""
        async with self.session.get(self.url + path) as response:
            assert response.status == 200, await response.text()
            following = response.links["next"]["url"].relative() if response.links else ""
            return await response.json(), str(following)

    async def received(self, count: int) -> None:
        """Waits for so many reports."""
        async with asyncio.timeout(30):
            while len(self.receiver.received) < count:
                await asyncio.sleep(0)

    async def batch(self, *operations: dict[str, Any]) -> None:
        people = [{"type": "person", "identifiers": {"id": "42"}, **operation} for operation in operations]
        async with self.session.post(f"{self.url}/api/v2/batch", json={"batch": people}) as response:
            assert response.status == 200

    async def reported(self, count: int) -> list[dict[str, Any]]:
        """All reports so far; waits until there are so many, and sees to it that there aren't more."""
        await self.put("the last one", unsubscribed=True)
        await self.received(count + 1)
        bodies = [json.loads(post.body) for post in self.receiver.received]
        assert bodies[-1]["data"]["customer_id"] == "the last one", bodies
        assert all(post.is_signed() for post in self.receiver.received)
        return bodies[:-1]

    async def kinds(self, count: int) -> list[str]:
        return [f"{each['object_type']}.{each['metric']}" for each in await self.reported(count)]


@asynccontextmanager
async def campaign_sandbox(setup: Setup = Setup()) -> AsyncIterator[Sandbox]:  # noqa: B008 - frozen
    """Its clock jumps; `signed up` starts the campaign."""
    state = State(lambda: START)
    async with receiving() as receiver:
        clock = Jumping(START)
        webhooks = patient(Endpoint(receiver.url, KEY), clock=clock, setup=setup, campaign_event="signed up")
        app = track_api.create_app(state, site_id="site", api_key="key", webhooks=webhooks)
        async with track_api.serve(app) as running, aiohttp.ClientSession(headers=CREDENTIALS) as session:
            yield Sandbox(session, running.url, state, webhooks, receiver, clock)
