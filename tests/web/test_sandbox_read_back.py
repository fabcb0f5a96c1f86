"""What the sandbox tells about itself: lists in pages, bodies as they came, and a page that is safe to look at."""

from __future__ import annotations

import asyncio
import base64
import gzip
import io
import json
import zlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from html.parser import HTMLParser
from itertools import pairwise
from typing import Any
from urllib.parse import urljoin

import aiohttp
import pytest

from connector.sandbox import operations, track_api
from connector.sandbox.faults import FAULTS, Wanted
from connector.sandbox.operations import Delete, Identifier, ReportDelivery, Track
from connector.sandbox.state import State
from connector.sandbox.webhooks import reporting
from connector.sandbox.webhooks.clock import Jumping
from connector.sandbox.webhooks.reporting import Webhooks
from connector.sandbox.webhooks.webhook_sender import Endpoint

NOW = 1_700_000_000.25
NASTY = '<script>alert("1")</script>&\'"'


@dataclass
class Sandbox:
    """A sandbox on a port and a client without credentials."""

    url: str
    state: State
    app: Any
    session: aiohttp.ClientSession

    async def get(self, path: str, status: int = 200) -> Any:
        async with self.session.get(self.url + path) as response:
            assert response.status == status, await response.text()
            return await response.json()

    async def pages(self, path: str) -> list[list[Any]]:
        """Every page from this one on, as `Link` leads from one to the next."""
        pages, following = [], self.url + path
        while following:
            async with self.session.get(following) as response:
                pages.append(await response.json())
                following = str(response.links["next"]["url"]) if response.links else ""
        return pages

    async def text(self, path: str) -> str:
        async with self.session.get(self.url + path) as response:
            assert response.status == 200
            return await response.text()

    async def call(self, method: str, path: str, body: bytes, encoding: str | None = None) -> int:
        headers = {"Authorization": aiohttp.encode_basic_auth("site", "key")}
        if encoding is not None:
            headers["Content-Encoding"] = encoding
        async with self.session.request(method, self.url + path, data=io.BytesIO(body), headers=headers) as response:
            return response.status

    def people(self, count: int) -> None:
        for number in range(count):
            self.identify(str(number))

    def identify(self, value: str, **attributes: Any) -> None:
        who = Identifier("id", value)
        self.state.apply(operations.identify(who, attributes, update_only=False, timestamp=None))

    def track(self, value: str, name: str = "bought", kind: operations.Kind = "id") -> None:
        self.state.apply(Track(Identifier(kind, value), "event", name, None, None, {}))


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    state = State(lambda: NOW)
    app = track_api.create_app(state, site_id="site", api_key="key")
    async with track_api.serve(app) as running, aiohttp.ClientSession() as session:
        yield Sandbox(running.url, state, app, session)


class Cells(HTMLParser):
    """The text of every cell, and the name of every element."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.cells: list[str] = []
        self.elements: set[str] = set()
        self.links: list[str] = []
        self._in_cell = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.add(tag)
        self._in_cell = tag == "td"
        self.links += [value or "" for name, value in attrs if name == "href"]
        if self._in_cell:
            self.cells.append("")

    def handle_endtag(self, tag: str) -> None:
        self._in_cell = False

    def handle_data(self, data: str) -> None:
        if self._in_cell:
            self.cells[-1] += data


# Pages of a list


async def test_people_come_in_pages_in_the_order_of_creation(sandbox: Sandbox) -> None:
    sandbox.people(25)
    pages = await sandbox.pages("/sandbox/people?limit=10")
    assert [len(page) for page in pages] == [10, 10, 5]
    assert [person["id"] for page in pages for person in page] == [str(number) for number in range(25)]
    assert [len(page) for page in await sandbox.pages("/sandbox/people?limit=25")] == [25]


async def test_a_page_of_people_goes_on_behind_one_that_is_gone_meanwhile(sandbox: Sandbox) -> None:
    sandbox.people(4)
    first = await sandbox.get("/sandbox/people?limit=2")
    sandbox.state.apply(Delete(Identifier("id", "1")))
    rest = await sandbox.get(f"/sandbox/people?limit=2&after={first[-1]['cio_id']}")
    assert [person["id"] for person in rest] == ["2", "3"]


async def test_a_list_without_a_limit_is_bounded_all_the_same(sandbox: Sandbox) -> None:
    sandbox.people(1001)
    assert [len(page) for page in await sandbox.pages("/sandbox/people")] == [1000, 1]


async def test_activities_come_with_the_newest_first_whoever_they_are_of(sandbox: Sandbox) -> None:
    for number in range(12):
        sandbox.track(str(number % 3), f"event {number}", "anonymous_id" if number % 4 == 0 else "id")
    pages = await sandbox.pages("/sandbox/activities?limit=5")
    assert [len(page) for page in pages] == [5, 5, 2]
    assert [activity["name"] for page in pages for activity in page] == [f"event {n}" for n in range(11, -1, -1)]
    assert [activity["number"] for activity in pages[0]] == [12, 11, 10, 9, 8]


async def test_the_log_comes_with_the_newest_first(sandbox: Sandbox) -> None:
    for number in range(5):
        sandbox.state.apply(Delete(Identifier("id", str(number))))
    pages = await sandbox.pages("/sandbox/log?limit=2")
    assert [[(entry["number"], entry["who"]["id"]) for entry in page] for page in pages] == [
        [(5, "4"), (4, "3")],
        [(3, "2"), (2, "1")],
        [(1, "0")],
    ]


async def test_calls_come_with_the_newest_first_and_with_their_bytes(sandbox: Sandbox) -> None:
    bodies = [b'{"plan": "pro"}', '{"name": "ü"}'.encode(), b"\xff\x00 no text", b""]
    for number, body in enumerate(bodies):
        await sandbox.call("PUT", f"/api/v1/customers/{number}", body)
    pages = await sandbox.pages("/sandbox/calls?limit=3")
    calls = [call for page in pages for call in page]
    assert [call["number"] for call in calls] == [4, 3, 2, 1]
    assert [(call["status"], call["bytes"]) for call in reversed(calls)] == [(200, 15), (200, 14), (400, 10), (400, 0)]
    read = [base64.b64decode(call["body_base64"]) if "body_base64" in call else call["body"].encode() for call in calls]
    assert read[::-1] == bodies


COMPRESSED = gzip.compress(b'{"plan": "pro"}', mtime=0)


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("gzip", COMPRESSED),
        ("GZIP", COMPRESSED),
        ("gzip", gzip.compress(b'{"plan":', mtime=0) + gzip.compress(b'"pro"}', mtime=0)),
        ("deflate", zlib.compress(b'{"plan": "pro"}')),
        ("deflate", zlib.compress(b'{"plan": "pro"}', wbits=-15)),
    ],
    ids=["gzip", "in capitals", "two members", "zlib", "no header"],
)
async def test_a_compressed_call_is_applied_and_its_bytes_are_those_received(
    sandbox: Sandbox, encoding: str, body: bytes
) -> None:
    assert await sandbox.call("PUT", "/api/v1/customers/42", body, encoding) == 200
    assert (await sandbox.get("/sandbox/people"))[0]["attributes"] == {"plan": "pro"}
    (call,) = await sandbox.get("/sandbox/calls")
    assert (call["bytes"], call["encoding"]) == (len(body), encoding)
    assert base64.b64decode(call["body_base64"]) == body


@pytest.mark.parametrize(
    "body", [b"no gzip", COMPRESSED[:-9], COMPRESSED + b"and more", COMPRESSED[:-1] + b"x"], ids=repr
)
async def test_a_call_that_cannot_be_decompressed_is_a_400_and_shown_as_received(sandbox: Sandbox, body: bytes) -> None:
    assert await sandbox.call("PUT", "/api/v1/customers/42", body, "gzip") == 400
    (call,) = await sandbox.get("/sandbox/calls")
    received = base64.b64decode(call["body_base64"]) if "body_base64" in call else call["body"].encode()
    assert (call["status"], received) == (400, body)


async def test_a_call_that_is_too_large_once_decompressed_is_a_413(sandbox: Sandbox) -> None:
    large = b" " * (16 * 1024 * 1024 - 2) + b"{}"
    under, over = gzip.compress(large, mtime=0), gzip.compress(b" " + large, mtime=0)
    assert await sandbox.call("POST", "/api/v2/batch", under, "gzip") == 400
    assert await sandbox.call("POST", "/api/v2/batch", over, "gzip") == 413
    assert [call["bytes"] for call in await sandbox.get("/sandbox/calls")] == [len(over), len(under)]


async def test_the_page_says_of_a_compressed_body_what_it_is(sandbox: Sandbox) -> None:
    await sandbox.call("PUT", "/api/v1/customers/42", COMPRESSED, "gzip")
    assert f"gzip, {len(COMPRESSED)} bytes" in Cells(await sandbox.text("/")).cells


async def test_what_devices_reported_of_deliveries_comes_with_the_newest_first(sandbox: Sandbox) -> None:
    for number in range(3):
        sandbox.state.apply(ReportDelivery(f"delivery {number}", "opened", {"device_id": "token"}))
    pages = await sandbox.pages("/sandbox/delivery_reports?limit=2")
    assert [[each["number"] for each in page] for page in pages] == [[3, 2], [1]]
    assert pages[1][0] == {
        "number": 1,
        "delivery_id": "delivery 0",
        "metric": "opened",
        "data": {"device_id": "token"},
    }


async def test_a_page_of_calls_ends_when_their_bodies_are_large(sandbox: Sandbox) -> None:
    for _ in range(3):
        await sandbox.call("POST", "/api/v2/batch", b" " * (3 * 1024 * 1024))
    assert [len(page) for page in await sandbox.pages("/sandbox/calls")] == [2, 1]


async def test_many_people_make_no_giant_answer(sandbox: Sandbox) -> None:
    sandbox.people(12_000)
    for number in range(12_000):
        sandbox.track(str(number))
    for path in ("/sandbox/people?limit=10000", "/sandbox/activities?limit=10000"):
        assert len(await sandbox.get(path)) == 10_000
    assert len(await sandbox.text("/")) < 100_000


@pytest.mark.parametrize("query", ["limit=0", "limit=10001", "limit=ten", "limit=-1", "limit=", "after=x", "after=٣"])
async def test_what_is_no_number_is_answered_400(sandbox: Sandbox, query: str) -> None:
    name = query.partition("=")[0]
    assert name in (await sandbox.get(f"/sandbox/calls?{query}", status=400))["error"]


# The page


async def test_the_page_shows_counts_people_calls_activities_log_and_faults(sandbox: Sandbox) -> None:
    for number in range(60):
        sandbox.identify(f"person {number}", plan="pro")
    sandbox.track("person 0", "bought a hat")
    sandbox.state.apply(Delete(Identifier("id", "nobody")))
    await sandbox.call("POST", "/api/v1/customers/x/events", b'{"name": "seen"}')
    sandbox.app[FAULTS].put(Wanted(script="cut, 429:7", shares={"503": 0.25}, latency="5ms"))
    shown = Cells(await sandbox.text("/"))
    assert {"person 0", "person 49"} < set(shown.cells)
    assert "person 50" not in shown.cells
    assert {"bought a hat", '{"plan":"pro"}', "unknown_person", "/api/v1/customers/x/events"} < set(shown.cells)
    assert {"script", "cut, 429:7", "shares: 503", "0.25", "latency", "5ms"} < set(shown.cells)
    for link in shown.links:
        assert await sandbox.get(urljoin("/", link)) is not None


async def test_the_page_escapes_what_came_from_outside(sandbox: Sandbox) -> None:
    sandbox.identify(NASTY, **{NASTY: NASTY})
    sandbox.track(NASTY, NASTY)
    sandbox.state.apply(Delete(Identifier("email", f"{NASTY}@x")))
    await sandbox.call("PUT", "/api/v1/customers/%3Cscript%3E", f'["{NASTY}"]'.encode())
    page = await sandbox.text("/")
    assert "<script" not in page
    shown = Cells(page)
    assert "script" not in shown.elements
    assert NASTY in shown.cells
    assert f'["{NASTY}"]' in shown.cells


async def test_the_page_can_load_nothing(sandbox: Sandbox) -> None:
    async with sandbox.session.get(sandbox.url + "/") as response:
        assert response.content_type == "text/html"
        assert response.headers["Content-Security-Policy"].startswith("default-src 'none'")


async def test_an_empty_sandbox_has_a_page_and_looking_is_no_call(sandbox: Sandbox) -> None:
    for _ in range(3):
        assert "nothing" in Cells(await sandbox.text("/")).cells
    assert (await sandbox.get("/sandbox"))["calls"] == 0


async def test_the_page_cuts_off_what_is_long(sandbox: Sandbox) -> None:
    sandbox.identify("42", **{f"name {number}": "x" * 900 for number in range(100)})
    await sandbox.call("PUT", "/api/v1/customers/42", json.dumps({"a": "ü" * 100_000}).encode())
    assert len(await sandbox.text("/")) < 10_000


async def test_the_page_shows_the_backlog_and_the_age_of_its_head() -> None:
    clock = Jumping(NOW, until=NOW)
    nobody = Endpoint("http://127.0.0.1:1/", "key")  # refuses connections: the head waits for an hour
    webhooks = Webhooks(nobody, clock=clock)
    state = State(lambda: NOW)
    app = track_api.create_app(state, site_id="site", api_key="key", webhooks=webhooks)
    async with track_api.serve(app) as running, aiohttp.ClientSession() as session:
        sandbox = Sandbox(running.url, state, app, session)
        sandbox.identify("42", email="a@b.co", unsubscribed=True)
        sandbox.identify("43", email="c@d.co", unsubscribed=True)
        while not app[reporting.WEBHOOKS].status()["next_try_at"]:
            await asyncio.sleep(0.001)
        clock.jump_until(NOW + 60)
        shown = Cells(await sandbox.text("/")).cells
    rows = dict(pairwise(shown))
    assert (rows["backlog"], rows["held_back"], rows["head_kind"]) == ("2", "1", "customer.unsubscribed")
    assert "head_age_seconds" in rows
    assert "waiting" in shown
