"""Whatever is signed is kept byte for byte; whatever is changed on the way is refused."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from typing import Any

import aiohttp
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from connector import app
from connector.core import normalize, signature
from connector.store import schema
from tests.core.given import values
from tests.places import KEY, Place, example

JSON = values.map(lambda value: json.dumps(value).encode())
NEARLY = st.fixed_dictionaries(
    {},
    optional=dict.fromkeys(
        ("event_id", "object_type", "metric", "timestamp", "data", "event_type", "object_type_type"), values
    ),
).map(lambda value: json.dumps(value).encode())
BODIES = JSON | NEARLY | st.binary()

Send = Callable[[bytes, dict[str, str]], int]


def many(check: Callable[[Send], set[bytes]]) -> Callable[[Place], Coroutine[Any, Any, None]]:
    """Runs a property's examples, which are synchronous, beside one running connector; `check` tells what it keeps."""

    async def test(place: Place) -> None:
        place.write()
        loop = asyncio.get_running_loop()
        async with app.running(place.path, place.settings()) as connector, aiohttp.ClientSession() as session:
            url = f"{connector.public_url}/webhooks/customerio"

            async def post(body: bytes, headers: dict[str, str]) -> int:
                async with session.post(url, data=body, headers=headers) as response:
                    return response.status

            def send(body: bytes, headers: dict[str, str]) -> int:
                return asyncio.run_coroutine_threadsafe(post(body, headers), loop).result(30)

            sent = await asyncio.to_thread(check, send)
            await connector.reader.read_outstanding()
            kept = await connector.db.run_read(lambda connection: connection.execute(schema.inbox.select()).all())
            assert "new" not in {row.state for row in kept}
            assert {bytes(row.body) for row in kept} == sent

    return test


def signed(body: bytes, key: str, timestamp: str) -> dict[str, str]:
    return {"X-CIO-Timestamp": timestamp, "X-CIO-Signature": signature.sign(key, timestamp, body)}


def _anything_signed_is_kept(send: Send) -> set[bytes]:
    by_id: dict[str, bytes] = {}

    @settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
    @given(BODIES)
    def check(body: bytes) -> None:
        assert send(body, signed(body, KEY, "1613063090")) == 200
        # Of two bodies with one event id the first is kept: the second is the vendor's repeat.
        by_id.setdefault(normalize.glance(body).source_id, body)

    check()
    return set(by_id.values())


def _anything_changed_is_refused(send: Send) -> set[bytes]:
    body, timestamp = example(), "1613063090"

    @settings(max_examples=150, deadline=None)
    @given(st.sampled_from(["body", "timestamp", "key"]), st.integers(0), st.integers(1, 255))
    def check(what: str, position: int, change: int) -> None:
        def changed(given: bytes) -> bytes:
            at = position % len(given)
            return given[:at] + bytes([given[at] ^ change]) + given[at + 1 :]

        headers = signed(body, KEY, timestamp)
        sent = body
        if what == "body":
            sent = changed(body)
        elif what == "timestamp":
            digits = changed(timestamp.encode()).decode("latin-1")
            # What no header may hold never gets as far as a signature.
            headers["X-CIO-Timestamp"] = digits if digits.isascii() and digits.isprintable() else "1"
        else:
            headers = {
                "X-CIO-Timestamp": timestamp,
                "X-CIO-Signature": signature.sign(changed(KEY.encode()).decode("latin-1"), timestamp, body),
            }
        assert send(sent, headers) == 401

    check()
    return set()


test_any_json_and_any_bytes_under_a_right_signature_get_200_and_are_kept = many(_anything_signed_is_kept)
test_one_changed_byte_of_body_timestamp_or_key_gets_401 = many(_anything_changed_is_refused)
