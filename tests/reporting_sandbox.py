"""A sandbox that reports, and a client of its routes about webhooks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import aiohttp

from connector.sandbox import track_api
from connector.sandbox.state import State
from connector.sandbox.webhooks.reporting import Webhooks

# For whoever tests nothing late: on a busy machine the vendor's four seconds may pass before a receiver has its turn.
patient = partial(Webhooks, timeout_seconds=60.0)


@dataclass
class Sandbox:
    """Paths are below /sandbox."""

    session: aiohttp.ClientSession
    url: str
    state: State

    async def call(self, method: str, path: str, sent: object = None) -> tuple[int, Any]:
        data = {"data": sent} if isinstance(sent, bytes) else {"json": sent}
        async with self.session.request(method, f"{self.url}/sandbox{path}", **data) as response:
            return response.status, await response.json()

    async def get(self, path: str) -> Any:
        status, found = await self.call("GET", path)
        assert status == 200, found
        return found

    async def status(self) -> dict[str, Any]:
        found = await self.get("/webhooks")
        assert isinstance(found, dict)
        return found

    async def set(self, **settings: Any) -> dict[str, Any]:
        status, found = await self.call("PUT", "/webhooks", settings)
        assert status == 200, found
        assert isinstance(found, dict)
        return found

    async def send(self, **mix: Any) -> dict[str, Any]:
        status, found = await self.call("POST", "/webhooks", mix)
        assert status == 202, found
        assert isinstance(found, dict)
        return found

    async def until(self, condition: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
        """Reads the status back until it is as wanted."""
        async with asyncio.timeout(90):
            while not condition(status := await self.status()):
                pass
            return status

    async def pages(self, path: str) -> list[list[Any]]:
        """Every page from this one on, as `Link` leads from one to the next."""
        pages, following = [], f"{self.url}/sandbox{path}"
        while following:
            async with self.session.get(following) as response:
                assert response.status == 200, await response.text()
                pages.append(await response.json())
                following = str(response.links["next"]["url"]) if response.links else ""
        return pages


@asynccontextmanager
async def reporting_sandbox(webhooks: Webhooks) -> AsyncIterator[Sandbox]:
    """For as long as the block lasts."""
    app = track_api.create_app(site_id="site", api_key="key", webhooks=webhooks)
    async with track_api.serve(app) as running, aiohttp.ClientSession() as session:
        yield Sandbox(session, running.url, app[track_api.STATE])
