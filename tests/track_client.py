"""A plain HTTP client of the sandbox's Track API, and operations to send with it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
from yarl import URL

from connector.sandbox import track_api
from connector.sandbox.state import State

CREDENTIALS = {"Authorization": aiohttp.encode_basic_auth("site", "key")}
EVENT = {"type": "person", "action": "event", "identifiers": {"id": "42"}, "name": "bought"}


@dataclass
class Time:
    """A clock that stands still until it is set."""

    now: float = 1_700_000_000.25

    def __call__(self) -> float:
        return self.now


@dataclass
class Reply:
    status: int
    body: Any


@dataclass
class Client:
    """An HTTP client of the sandbox with good credentials; paths go out exactly as written."""

    session: aiohttp.ClientSession
    url: str
    state: State

    async def call(self, method: str, path: str, sent: object = None, **options: Any) -> Reply:
        data = sent if isinstance(sent, bytes) else None if sent is None else json.dumps(sent).encode()
        target = URL(self.url + path, encoded=True)
        async with self.session.request(method, target, data=data, **options) as response:
            text = await response.text()
            return Reply(response.status, json.loads(text) if response.content_type == "application/json" else text)

    async def put(self, path: str, sent: object) -> Reply:
        return await self.call("PUT", path, sent)

    async def post(self, path: str, sent: object = None) -> Reply:
        return await self.call("POST", path, sent)

    async def entity(self, action: str, *, type: str = "person", **fields: object) -> Reply:  # noqa: A002 - its name
        return await self.post("/api/v2/entity", {"type": type, "action": action, **fields})

    async def get(self, path: str) -> Any:
        return (await self.call("GET", path)).body

    async def batch(self, *operations: object) -> Reply:
        return await self.call("POST", "/api/v2/batch", {"batch": operations})

    async def people(self) -> dict[str, Any]:
        return {person["id"] or person["email"]: person for person in await self.get("/sandbox/people")}

    async def person(self, customer_id: str = "42") -> Any:
        return (await self.people())[customer_id]

    def names(self, customer_id: str = "42") -> list[str]:
        """Of the person's activities, in the order they were attached."""
        found = self.state.find("id", customer_id)
        return [activity.name for activity in found.activities] if found else []

    @property
    def refusals(self) -> list[str]:
        return [entry.reason for entry in self.state.log]


@asynccontextmanager
async def sandbox(time: Time | None = None, **options: Any) -> AsyncIterator[Client]:
    """A sandbox on a port, and a client of it."""
    state = State(time or Time())
    app = track_api.create_app(state, site_id="site", api_key="key", **options)
    async with track_api.serve(app) as running, aiohttp.ClientSession(headers=CREDENTIALS) as session:
        yield Client(session, running.url, state)


def identify(customer_id: str = "42", /, **attributes: object) -> dict[str, Any]:
    return {
        "type": "person",
        "action": "identify",
        "identifiers": {"id": customer_id},
        "attributes": attributes,
    }
