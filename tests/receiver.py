"""An endpoint for webhooks on a port: keeps what it gets, answers as told, and checks signatures on its own."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

KEY = "signing-key-ü"


@dataclass
class Post:
    """One request to /hook."""

    headers: dict[str, str]
    body: bytes

    @property
    def event_id(self) -> str:
        return str(self.json["event_id"])

    @property
    def json(self) -> dict[str, Any]:
        decoded = json.loads(self.body)
        assert isinstance(decoded, dict)
        return decoded

    @property
    def at(self) -> int:
        return int(self.headers["X-CIO-Timestamp"])

    def is_signed(self, key: str = KEY) -> bool:
        message = f"v0:{self.headers['X-CIO-Timestamp']}:".encode() + self.body
        return self.headers["X-CIO-Signature"] == hmac.new(key.encode("utf-8"), message, hashlib.sha256).hexdigest()


@dataclass
class Receiver:
    """`answers` has a status for the nth request (the first is 1); all others get 200. None: no answer at all."""

    url: str = ""
    answers: dict[int, int | None] = field(default_factory=dict)
    received: list[Post] = field(default_factory=list)
    elsewhere: int = 0
    _closing: asyncio.Event = field(default_factory=asyncio.Event)

    async def handle(self, request: web.Request) -> web.Response:
        self.received.append(Post(dict(request.headers), await request.read()))
        status = self.answers.get(len(self.received), 200)
        if status is None:
            await self._closing.wait()
        return web.Response(status=status or 200, headers={"Location": "/elsewhere"})

    async def handle_elsewhere(self, request: web.Request) -> web.Response:
        self.elsewhere += 1
        return web.Response()

    @property
    def tries(self) -> list[str]:
        return [post.event_id for post in self.received]

    def close(self) -> None:
        self._closing.set()


@asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    """For as long as the block lasts."""
    receiver = Receiver()
    app = web.Application()
    app.add_routes([web.post("/hook", receiver.handle), web.route("*", "/elsewhere", receiver.handle_elsewhere)])
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        receiver.url = f"http://127.0.0.1:{runner.addresses[0][1]}/hook"
        yield receiver
    finally:
        receiver.close()
        await runner.cleanup()
