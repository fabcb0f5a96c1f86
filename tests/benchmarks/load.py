"""The load: signed webhooks over a fixed number of connections, each sending its next when the last was answered.

A process of its own, and no HTTP library: it must not be what limits the server. All requests are built before the
first is sent. It warms the server up, prints `warm`, waits for a line, sends the burst, and prints a `Burst` as JSON.
"""

from __future__ import annotations

import asyncio
import gc
import random
import sys
import time
from collections.abc import Iterator
from itertools import islice
from typing import cast

import msgspec
import uvloop
from ulid import ULID

from connector.core import signature
from connector.inbound.webhooks import PATH

CONNECTIONS = 64
KEY = "bench-signing-key"
WARM_UP = 320

_SEED = 20
_TIMESTAMP = 1_760_000_000
_REQUESTS_OF_A_PERSON = 4
# How often each kind comes, in a workspace that sends newsletters, and what it carries besides.
_KINDS: dict[tuple[str, str], tuple[int, dict[str, object]]] = {
    ("email", "sent"): (300, {}),
    ("email", "delivered"): (290, {}),
    ("email", "opened"): (300, {"proxied": False, "prefetched": False}),
    ("email", "clicked"): (80, {"href": "https://example.com/welcome", "link_id": 1, "machine": False}),
    ("email", "bounced"): (20, {"failure_message": "550 5.1.1 user unknown"}),
    ("email", "unsubscribed"): (5, {}),
    ("customer", "unsubscribed"): (5, {}),
}


class Burst(msgspec.Struct):
    """`began` and `ended` are of the system's monotonic clock; latencies in seconds, in no particular order."""

    began: float
    ended: float
    busy: float
    latencies: list[float]


def bodies(count: int, part: int = 0) -> Iterator[bytes]:
    """Distinct webhooks about some thousands of people, in a random order; of each part the same ones every time."""
    rng = random.Random(_SEED + part)
    people = max(1, count // _REQUESTS_OF_A_PERSON)
    kinds = rng.choices(list(_KINDS), [weight for weight, _ in _KINDS.values()], k=count)
    for at, kind in enumerate(kinds, _TIMESTAMP):
        object_type, metric = kind
        yield msgspec.json.encode(
            {
                "event_id": str(ULID.from_bytes((at * 1000).to_bytes(6, "big") + rng.randbytes(10))),
                "object_type": object_type,
                "metric": metric,
                "timestamp": at,
                "data": _data(rng, rng.randrange(people)) | _KINDS[kind][1],
            }
        )


def _data(rng: random.Random, person: int) -> dict[str, object]:
    address = f"person.{person}@example.com"
    return {
        "customer_id": f"customer-{person}",
        "identifiers": {"id": f"customer-{person}", "email": address, "cio_id": f"d9c1{person:08x}"},
        "delivery_id": rng.randbytes(14).hex(),
        "campaign_id": 7,
        "action_id": 42,
        "journey_id": "01HX0000000000000000000000",
        "recipient": address,
        "subject": "Thanks for signing up",
    }


def _request(body: bytes) -> bytes:
    timestamp = str(_TIMESTAMP)
    head = (
        f"POST {PATH} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"X-CIO-Timestamp: {timestamp}\r\nX-CIO-Signature: {signature.sign(KEY, timestamp, body)}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


class _Sender(asyncio.Protocol):
    """One connection. Anything but an empty 200 ends the burst."""

    def __init__(self) -> None:
        self._received = b""
        self._sent_at = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, error: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(ConnectionError("the server closed the connection"))

    def send_all(self, requests: Iterator[bytes], latencies: list[float]) -> asyncio.Future[None]:
        """Sends from what all connections share; done when there are no more and the last is answered."""
        self.done = asyncio.get_running_loop().create_future()
        self._requests, self._latencies = requests, latencies
        self._send()
        return self.done

    def data_received(self, data: bytes) -> None:
        self._received += data
        if not self._received.endswith(b"\r\n\r\n"):
            return
        if not self._received.startswith(b"HTTP/1.1 200 ") or b"Content-Length: 0\r\n" not in self._received:
            self.done.set_exception(AssertionError(f"not an empty 200: {self._received!r}"))
            return
        self._received = b""
        self._latencies.append(time.monotonic() - self._sent_at)
        self._send()

    def _send(self) -> None:
        request = next(self._requests, None)
        if request is None:
            self.done.set_result(None)
            return
        self._sent_at = time.monotonic()
        self._transport.write(request)


async def _load(port: int, count: int, part: int) -> None:
    requests = [_request(body) for body in bodies(WARM_UP + count, part)]
    gc.freeze()
    gc.disable()
    loop = asyncio.get_running_loop()
    senders = [(await loop.create_connection(_Sender, "127.0.0.1", port))[1] for _ in range(CONNECTIONS)]
    await _send(senders, islice(requests, WARM_UP), [])
    print("warm", flush=True)
    sys.stdin.readline()

    latencies: list[float] = []
    busy = time.process_time()
    began = time.monotonic()
    await _send(senders, islice(requests, WARM_UP, None), latencies)
    ended = time.monotonic()
    print(msgspec.json.encode(Burst(began, ended, time.process_time() - busy, latencies)).decode(), flush=True)


async def _send(senders: list[_Sender], requests: Iterator[bytes], latencies: list[float]) -> None:
    await asyncio.gather(*(sender.send_all(requests, latencies) for sender in senders))


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_load(*(int(each) for each in sys.argv[1:4])))
