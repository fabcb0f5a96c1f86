"""Calls to a sandbox, in a process of its own: `connector SETTINGS` or `raw URL CALLS CONNECTIONS`.

    connector   the worker, until nobody is due: claims, decides, encodes, sends, records
    raw         the calls of a file again, as they were: built before the first is sent, by no HTTP library

Prints a `Burst` as JSON.
"""

from __future__ import annotations

import asyncio
import base64
import gc
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import msgspec
import uvloop
from yarl import URL

from connector import app, log, settings_file
from connector.outbound import full_pass
from connector.outbound.client import TrackClient
from connector.outbound.worker import Worker
from connector.store.database import Database

SITE_ID, API_KEY = "bench-site", "bench-key"

_WARM_UP_CALLS = 200


class Call(msgspec.Struct, array_like=True):
    """One call as the sandbox received it; the body is text."""

    method: str
    path: str
    body: str


class Burst(msgspec.Struct):
    """How many calls went out, in how many seconds, of which the sender was busy so many."""

    calls: int
    seconds: float
    busy: float


async def _connector(path: Path) -> Burst:
    settings = settings_file.load(path)
    log.configure("warning", "json", personal_data=False)
    db = Database(settings.store.url.get_secret_value())
    try:
        await db.on_thread(lambda: full_pass.run(db, settings, app.now))
        async with TrackClient(settings.customerio) as client:
            await client.region()
            busy, began = time.process_time(), time.perf_counter()
            tally = await Worker(db, app.now).work_off(settings, client)
            burst = Burst(tally.calls, time.perf_counter() - began, time.process_time() - busy)
    finally:
        db.close()
    if tally.failed or tally.skipped:
        raise RuntimeError(f"not everybody was sent: {tally}")
    return burst


class _Sender(asyncio.Protocol):
    """One connection: a request, its answer, the next request. Anything but a 200 ends the burst."""

    def __init__(self) -> None:
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, error: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(ConnectionError("the sandbox closed the connection"))

    def send_all(self, requests: Iterator[bytes]) -> asyncio.Future[None]:
        self.done = asyncio.get_running_loop().create_future()
        self._requests = requests
        self._send()
        return self.done

    def data_received(self, data: bytes) -> None:
        self._received += data
        if not self._received.endswith(b"\r\n\r\n{}"):
            if b"\r\n\r\n" in self._received and not self._received.startswith(b"HTTP/1.1 200 "):
                self.done.set_exception(AssertionError(f"not a 200: {self._received!r}"))
            return
        self._received = b""
        self._send()

    def _send(self) -> None:
        request = next(self._requests, None)
        if request is None:
            self.done.set_result(None)
        else:
            self._transport.write(request)


async def _raw(url: URL, calls: list[Call], connections: int) -> Burst:
    requests = [_request(call) for call in calls]
    gc.freeze()
    gc.disable()
    loop = asyncio.get_running_loop()
    senders = [(await loop.create_connection(_Sender, url.host, url.port))[1] for _ in range(connections)]
    warm_up = _request(Call("PUT", "/api/v1/customers/warm", "{}"))
    await _send(senders, iter([warm_up] * _WARM_UP_CALLS))
    busy, began = time.process_time(), time.perf_counter()
    await _send(senders, iter(requests))
    return Burst(len(requests), time.perf_counter() - began, time.process_time() - busy)


async def _send(senders: list[_Sender], requests: Iterator[bytes]) -> None:
    await asyncio.gather(*(sender.send_all(requests) for sender in senders))


def _request(call: Call) -> bytes:
    token = base64.b64encode(f"{SITE_ID}:{API_KEY}".encode()).decode()
    body = call.body.encode()
    head = (
        f"{call.method} {call.path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Basic {token}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def main(which: str, *arguments: str) -> None:
    """Prints what was measured."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        if which == "connector":
            burst = runner.run(_connector(Path(arguments[0])))
        else:
            url, path, connections = arguments
            calls = msgspec.json.decode(Path(path).read_bytes(), type=list[Call])
            burst = runner.run(_raw(URL(url), calls, int(connections)))
    print(msgspec.json.encode(burst).decode(), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
