"""Whatever is sent, to whichever path, is no fault of the sandbox: no 500, all can be read back, a restart finds it."""

from __future__ import annotations

import asyncio
import copy
import json
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connector.sandbox import track_api
from connector.sandbox.state_file import KeptState, StateFile
from tests.track_client import CREDENTIALS, Client, Time

ULID = "01E4C4CT6YDC7Y5M7FE1GWWPQJ"
PREFERENCES = "cio_subscription_preferences"
ACME = {"object_type_id": "1", "object_id": "acme"}
RELATED = {"identifiers": ACME, "relationship_attributes": {"role": "admin"}}
DEVICE = {"token": "t", "id": "t", "platform": "ios", "last_used": 1, "attributes": {"push_enabled": "true"}}
ATTRIBUTES = {
    "id": "42",
    "email": "a@b.co",
    "phone": "+15551234567",
    "anonymous_id": "anon",
    "unsubscribed": True,
    "plan": "pro",
    PREFERENCES: {"topics": {"topic_1": True}},
    f"{PREFERENCES}.topics.topic_2": False,
    "_update": False,
    "_timestamp": 5,
}
PERSON = {"type": "person", "identifiers": {"id": "42"}, "timestamp": 1_700_000_000}
EVENT = {"name": "bought", "timestamp": 1_700_000_000, "attributes": {"total": 12, "recipient": "a@b.co"}}
OPERATIONS: list[dict[str, Any]] = [
    {**PERSON, "action": "identify", "attributes": ATTRIBUTES, "cio_relationships": [RELATED]},
    {**PERSON, **EVENT, "action": "event"},
    {**PERSON, **EVENT, "action": "page", "id": ULID, "identifiers": {"anonymous_id": "anon"}},
    {**PERSON, "action": "add_relationships", "cio_relationships": [RELATED]},
    {**PERSON, "action": "delete_relationships", "cio_relationships": [RELATED]},
    {**PERSON, "action": "add_device", "device": DEVICE},
    {**PERSON, "action": "delete_device", "device": DEVICE},
    {"type": "person", "action": "merge", "primary": {"id": "42"}, "secondary": {"email": "b@b.co"}},
    {**PERSON, "action": "suppress", "identifiers": {"phone": "+15550000000"}},
    {**PERSON, "action": "unsuppress", "identifiers": {"id": "42"}},
    {**PERSON, "action": "delete", "identifiers": {"email": "a@b.co"}},
    {
        "type": "object",
        "action": "identify_anonymous",
        "identifiers": ACME,
        "attributes": {"plan": "pro"},
        "cio_relationships": [{"identifiers": {"anonymous_id": "anon"}, "relationship_attributes": {"role": "x"}}],
    },
    {"type": "object", "action": "delete", "identifiers": ACME},
    {
        "type": "delivery",
        "action": "event",
        "identifiers": {"id": "d=="},
        "name": "opened",
        "attributes": {"device_token": "t"},
    },
]
V1_EVENT = {"name": "bought", "type": "page", "timestamp": 5, "data": {"total": 12}, "anonymous_id": "anon"}
REQUESTS: list[tuple[str, str, Any]] = [
    ("POST", "/api/v2/batch", {"batch": OPERATIONS}),
    *(("POST", "/api/v2/entity", operation) for operation in OPERATIONS),
    (
        "PUT",
        "/api/v1/customers/42",
        {**ATTRIBUTES, "cio_relationships": {"action": "add_relationships", "relationships": [RELATED]}},
    ),
    ("PUT", "/api/v1/customers/42/devices", {"device": DEVICE}),
    ("POST", "/api/v1/customers/42/events", V1_EVENT),
    ("POST", "/api/v1/events", V1_EVENT),
    ("POST", "/api/v1/merge_customers", {"primary": {"id": "42"}, "secondary": {"cio_id": "d9c1"}}),
    ("POST", "/api/v1/segments/7/add_customers", {"ids": ["42"]}),
    ("POST", "/api/v1/segments/7/remove_customers?id_type=email", {"ids": ["a@b.co"]}),
    ("POST", "/sandbox/edit", {"identifiers": {"id": "42"}, "attributes": ATTRIBUTES, "timestamp": 1_700_000_000}),
    ("PUT", "/sandbox/faults", {"latency": "0", "rate_limit": 7, "retry_after": 1, "seed": 5, "shares": {"503": 0.5}}),
    ("POST", "/sandbox/webhooks", {"count": 1, "kinds": {"email.sent": 1.0}, "people": ["42"], "per_second": 1.0}),
]
READ_BACK = ("", "/people", "/objects", "/activities", "/calls", "/log", "/faults", "/webhooks")


# What may stand in any place


NUMBERS = [0, -1, 1.5, 1e300, -0.0, 2**53, 2**63, 2**64 - 1, 2**64, -(2**63), -(2**63) - 1, 10**30, 10**15, 10**400]
TEXTS = ["", " ", "42", "a@b.co", "cio_1", "\x00", "\ud800", "ü" * 80, "x" * 1001, "١", "a/b", ULID, "true", "9" * 5000]
ODD_NAMES = [
    "",
    "id",
    f"{PREFERENCES}." + "." * 100,
    f"{PREFERENCES}.topics",
    "x" * 151,
    "_update",
    "__class__",
    "\ud800",
]


@st.composite
def nested(draw: st.DrawFn) -> Any:
    """Deep enough to be too deep for one or the other reader or writer of JSON."""
    value: Any = draw(st.sampled_from([None, 1, "x"]))
    for _ in range(draw(st.sampled_from([90, 99, 100, 120, 250, 260]))):
        value = [value]
    return {"x": value} if draw(st.booleans()) else value


SCALARS = st.none() | st.booleans() | st.sampled_from(NUMBERS) | st.sampled_from(TEXTS) | st.integers() | st.text()
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(ODD_NAMES) | st.text(), inner, max_size=4)
    ),
    max_leaves=8,
)
ANY_VALUE = VALUES | nested() | st.just([1] * 1001) | st.just({f"a{number}": 1 for number in range(301)})


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to each value inside of this one; `None` at its end is another name, beside those there are."""
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield (*path, key)
            yield from places(inner, (*path, key))
    if isinstance(value, dict):
        yield (*path, None)


def changed(value: Any, path: tuple[Any, ...], into: Any) -> Any:
    result = copy.copy(value)
    result[path[0]] = changed(value[path[0]], path[1:], into) if len(path) > 1 else into
    return result


@st.composite
def requests(draw: st.DrawFn) -> tuple[str, str, Any]:
    """A good request with one or two values in another's place, or beside them."""
    method, path, sent = draw(st.sampled_from(REQUESTS))
    for _ in range(draw(st.integers(1, 2))):
        way = draw(st.sampled_from(list(places(sent))))
        if way[-1] is None:
            way = (*way[:-1], draw(st.sampled_from(ODD_NAMES) | st.text()))
        sent = changed(sent, way, draw(ANY_VALUE))
    return method, path, sent


@st.composite
def spoiled(draw: st.DrawFn) -> bytes:
    """Bytes that were JSON until some of them were replaced."""
    body = json.dumps(draw(st.sampled_from(REQUESTS))[2]).encode()
    start = draw(st.integers(0, len(body)))
    return body[:start] + draw(st.binary(max_size=6)) + body[draw(st.integers(start, len(body))) :]


BODIES = st.binary() | spoiled() | st.sampled_from([b"[" * 3000, b'{"a":' * 3000 + b"1" + b"}" * 3000, b'{"x":"\xff"}'])


# The sandbox, kept in a file


@dataclass
class Sandbox:
    """A sandbox on a port, for calls from outside of its loop."""

    file: Path
    runner: asyncio.Runner
    stack: AsyncExitStack = field(default_factory=AsyncExitStack)

    def start(self) -> None:
        self.runner.run(self._start())

    async def _start(self) -> None:
        kept = StateFile(self.file)
        self.stack.callback(kept.close)
        app = track_api.create_app(KeptState(kept, Time()), site_id="site", api_key="key")
        running = await self.stack.enter_async_context(track_api.serve(app))
        session = await self.stack.enter_async_context(aiohttp.ClientSession(headers=CREDENTIALS))
        self.client = Client(session, running.url, app[track_api.STATE])

    def stop(self) -> None:
        self.runner.run(self.stack.aclose())

    def send(self, method: str, path: str, sent: object, headers: dict[str, str] | None = None) -> None:
        self.runner.run(self._send(method, path, sent, headers or {}))

    async def _send(self, method: str, path: str, sent: object, headers: dict[str, str]) -> None:
        body = sent if isinstance(sent, bytes) else json.dumps(sent).encode()
        reply = await self.client.call(method, path, body, headers=headers)
        assert reply.status != 500, (method, path, reply.body)
        assert reply.status < 500 or path.startswith("/sandbox/")
        await self.client.call("DELETE", "/sandbox/faults")

    def read_back(self) -> dict[str, Any]:
        return self.runner.run(self._read_back())

    async def _read_back(self) -> dict[str, Any]:
        replies = {path: await self.client.call("GET", f"/sandbox{path}") for path in READ_BACK}
        replies["/"] = await self.client.call("GET", "/")
        assert {path: reply.body for path, reply in replies.items() if reply.status != 200} == {}
        of_the_file = ("/people", "/objects", "/activities", "/log")
        return {path: replies[path].body for path in of_the_file}


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    with asyncio.Runner() as runner:
        running = Sandbox(tmp_path_factory.mktemp("any body") / "sandbox.db", runner)
        running.start()
        yield running
        running.stop()


EXAMPLES = settings(max_examples=150, deadline=None, derandomize=True, database=None)


@EXAMPLES
@given(request=requests())
def test_any_value_in_any_place_of_a_request_is_no_500(sandbox: Sandbox, request: tuple[str, str, Any]) -> None:
    sandbox.send(*request)
    sandbox.read_back()


@EXAMPLES
@given(
    where=st.sampled_from([request[:2] for request in REQUESTS]),
    body=BODIES,
    encoding=st.sampled_from(["", "", "", "gzip", "deflate", "br", "zstd", "compress"]),
)
def test_any_bytes_as_a_body_are_no_500(sandbox: Sandbox, where: tuple[str, str], body: bytes, encoding: str) -> None:
    sandbox.send(*where, body, {"Content-Encoding": encoding} if encoding else {})
    sandbox.read_back()


@EXAMPLES
@given(name=st.text(min_size=1), segment=st.text("0123456789٣-ab", min_size=1, max_size=30), query=st.text())
def test_any_text_in_a_path_is_no_500(sandbox: Sandbox, name: str, segment: str, query: str) -> None:
    raw = quote(name.encode(errors="surrogatepass"), safe="")
    for method, path in (
        ("PUT", f"/api/v1/customers/{raw}"),
        ("POST", f"/api/v1/customers/{raw}/suppress"),
        ("DELETE", f"/api/v1/customers/42/devices/{raw}"),
        ("POST", f"/api/v1/segments/{quote(segment)}/add_customers?id_type={quote(query, errors='replace')}"),
    ):
        sandbox.send(method, path, {"ids": ["42"], "plan": "pro"})
    sandbox.read_back()


def test_after_all_that_a_restarted_sandbox_has_what_it_had(sandbox: Sandbox) -> None:
    before = sandbox.read_back()
    sandbox.stop()
    sandbox.start()
    assert sandbox.read_back() == before
