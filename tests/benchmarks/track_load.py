"""Calls to a sandbox, in a process of its own: `connector SETTINGS`, `raw URL CALLS CONNECTIONS`, or `OTHER URL CALLS`.

    connector   the worker, until nobody is due: claims, decides, encodes, sends, records
    raw         the calls of a file again, as they were: built before the first is sent, by no HTTP library
    bare        again by aiohttp, IN_FLIGHT at once
    sdk         again by the plain SDK, one `batch()` after the other
    sdk-single  operations of a file, by the plain SDK's `identify()`

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
from typing import Any, cast

import aiohttp
import customerio
import msgspec
import uvloop
from yarl import URL

from connector import app, log, settings_file
from connector.outbound import full_pass
from connector.outbound.client import TrackClient
from connector.outbound.throttle import Throttle
from connector.outbound.worker import Worker
from connector.store.database import Database

SITE_ID, API_KEY = "bench-site", "bench-key"
IN_FLIGHT = 32

_WARM_UP_CALLS = 200
_SDK_BATCH = 1500  # operations of these users; its JSON has blanks, and so takes more bytes than ours


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
        throttle = Throttle(db, settings.customerio.rate_per_second)
        async with TrackClient(settings.customerio, throttle) as client:
            await client.region()
            app.tune_the_interpreter()  # as whatever runs for long does
            busy, began = time.process_time(), time.perf_counter()
            tally = await Worker(db, app.now).work_off(settings, client)
            burst = Burst(tally.calls, time.perf_counter() - began, time.process_time() - busy)
    finally:
        db.close()
    if tally.failed or tally.skipped:
        raise RuntimeError(f"not everybody was sent: {tally}")
    return burst


class _Sdk(customerio.CustomerIO):  # type: ignore[misc]
    """As it is, but for https, which is fixed in it."""

    def __init__(self, url: str) -> None:
        super().__init__(SITE_ID, API_KEY)
        self._ours = URL(url)

    def send_request(self, method: str, url: str, data: Any) -> Any:
        return super().send_request(method, str(self._ours.with_path(URL(url).path)), data)


def _sdk(url: str, calls: list[Call]) -> Burst:
    sdk, operations = _Sdk(url), [each for call in calls for each in msgspec.json.decode(call.body)["batch"]]
    batches = [operations[start : start + _SDK_BATCH] for start in range(0, len(operations), _SDK_BATCH)]
    busy, began = time.process_time(), time.perf_counter()
    for batch in batches:
        sdk.batch(batch)
    return Burst(len(batches), time.perf_counter() - began, time.process_time() - busy)


def _sdk_single(url: str, operations: list[dict[str, Any]]) -> Burst:
    sdk = _Sdk(url)
    busy, began = time.process_time(), time.perf_counter()
    for each in operations:
        sdk.identify(each["identifiers"]["id"], **each["attributes"])
    return Burst(len(operations), time.perf_counter() - began, time.process_time() - busy)


async def _bare(url: str, calls: list[Call]) -> Burst:
    headers = {"Authorization": aiohttp.encode_basic_auth(SITE_ID, API_KEY), "Content-Type": "application/json"}
    left = iter(calls)

    async def send(session: aiohttp.ClientSession) -> None:
        for call in left:
            async with session.request(call.method, url + call.path, data=call.body.encode()) as response:
                await response.read()
                response.raise_for_status()

    connector = aiohttp.TCPConnector(limit=IN_FLIGHT)
    async with aiohttp.ClientSession(connector=connector, headers=headers) as session:
        busy, began = time.process_time(), time.perf_counter()
        await asyncio.gather(*(send(session) for _ in range(IN_FLIGHT)))
        return Burst(len(calls), time.perf_counter() - began, time.process_time() - busy)


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
        elif which == "sdk-single":
            burst = _sdk_single(arguments[0], msgspec.json.decode(Path(arguments[1]).read_bytes()))
        else:
            url, path, *connections = arguments
            calls = msgspec.json.decode(Path(path).read_bytes(), type=list[Call])
            match which:
                case "sdk":
                    burst = _sdk(url, calls)
                case "bare":
                    burst = runner.run(_bare(url, calls))
                case _:
                    burst = runner.run(_raw(URL(url), calls, int(connections[0])))
    print(msgspec.json.encode(burst).decode(), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
