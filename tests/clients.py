"""A listener with a small application, and clients that talk to it byte by byte."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web

from connector import listener, problem
from connector.listener.connections import Limits

PROMPT_SECONDS = 2.0
# Long enough for a machine that stands still for a moment: clients in the same process would count as slow.
QUICK = Limits(head_seconds=1.0, body_seconds=0.6, quiet_seconds=0.2, arriving_seconds=5)


@dataclass
class Served:
    """A listener with an application that reads bodies; a request to /wait is answered when `gate` opens."""

    listener: listener.Listener
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    waiting: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))
    clients: list[Client] = field(default_factory=list)

    @property
    def closed(self) -> dict[str, int]:
        return dict(self.listener.connections.closed)

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not condition():
                await asyncio.sleep(0.01)

    async def connect(self) -> Client:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(self.listener.url.rsplit(":", 1)[1]))
        self.clients.append(Client(reader, writer))
        return self.clients[-1]


@dataclass
class Client:
    """One connection, byte by byte."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        async with asyncio.timeout(20):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
            body = await self.reader.readexactly(int(headers.get("content-length", 0)))
        return int(head[0].split()[1]), headers, body

    async def ask(self, data: bytes) -> int:
        await self.send(data)
        return (await self.answer())[0]

    async def is_closed(self) -> bool:
        """True once the other side closed; it fails when that takes long."""
        try:
            async with asyncio.timeout(20):
                while await self.reader.read(65536):
                    pass
        except ConnectionError:
            return True
        return True

    def close(self) -> None:
        self.writer.close()


def request(
    body: bytes = b"", *, path: str = "/", size: int | None = None, method: str = "POST", more: str = ""
) -> bytes:
    length = len(body) if size is None else size
    return f"{method} {path} HTTP/1.1\r\nHost: here\r\nContent-Length: {length}\r\n{more}\r\n".encode() + body


@asynccontextmanager
async def served(limits: Limits = QUICK) -> AsyncIterator[Served]:
    place = listener.Place("webhooks", "127.0.0.1", 0)

    async def read(incoming: web.Request) -> web.Response:
        return web.Response(text=str(len(await incoming.read())))

    async def wait(incoming: web.Request) -> web.Response:
        await incoming.read()
        running.waiting.release()
        await running.gate.wait()
        return web.Response()

    application = web.Application(client_max_size=16 * 1024 * 1024, middlewares=[problem.middleware])
    application.add_routes([web.route("*", "/", read), web.post("/wait", wait)])
    try:
        async with listener.serving(application, place, limits) as serving:
            running = Served(serving)
            yield running
    finally:
        for client in running.clients:
            client.writer.transport.abort()
        await asyncio.sleep(0)


@asynccontextmanager
async def a_client_that_is_served(running: Served) -> AsyncIterator[None]:
    """Meanwhile somebody posts without pause, on kept and on new connections, and each answer must be prompt."""
    over = asyncio.Event()
    answered = 0

    async def posts() -> None:
        nonlocal answered
        kept = await running.connect()
        while not over.is_set():
            for client in (kept, fresh := await running.connect()):
                began = time.monotonic()
                assert await client.ask(request(b"a webhook")) == 200
                assert time.monotonic() - began < PROMPT_SECONDS
                answered += 1
            fresh.close()
            await asyncio.sleep(0.005)
        kept.close()

    posting = asyncio.create_task(posts())
    try:
        yield
    finally:
        over.set()
        await posting
    assert answered > 0
