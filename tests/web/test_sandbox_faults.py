"""Faults on demand, as a connection meets them.

The clients here are bare connections: an HTTP library sends some requests again on its own when a connection breaks.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import aiohttp
import pytest
from yarl import URL

from connector.sandbox import faults, track_api
from connector.sandbox.faults import Faults, Wanted
from connector.sandbox.state import State

TOKEN = base64.b64encode(b"site:key").decode()


@dataclass
class Reply:
    """What a connection got; `status` is None when it was closed without a byte."""

    status: int | None
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Sandbox:
    """A sandbox on a port, and one request on a connection of its own."""

    url: str
    state: State
    faults: Faults

    async def identify(self, customer_id: int | str, token: str = TOKEN) -> Reply:
        return await self.send("PUT", f"/api/v1/customers/{customer_id}", {"plan": "pro"}, token)

    async def put(self, **wanted: object) -> Reply:
        return await self.send("PUT", "/sandbox/faults", wanted)

    async def send(self, method: str, path: str, sent: object = None, token: str = TOKEN) -> Reply:
        connection = await self.connect()
        try:
            return await connection.send(method, path, sent, token)
        finally:
            connection.close()

    async def connect(self) -> Connection:
        target = URL(self.url)
        return Connection(*await asyncio.open_connection(target.host, target.port))


@dataclass
class Connection:
    """A connection that is kept open."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, method: str, path: str, sent: object = None, token: str = TOKEN) -> Reply:
        body = b"" if sent is None else json.dumps(sent).encode()
        head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Basic {token}\r\nContent-Length: {len(body)}\r\n"
        self.writer.write(f"{head}\r\n".encode() + body)
        try:
            received = await self.reader.readuntil(b"\r\n\r\n")
        except ConnectionResetError:
            return Reply(None, {}, b"")
        except asyncio.IncompleteReadError as error:
            if error.partial:
                raise
            return Reply(None, {}, b"")
        status, *lines = received.decode().removesuffix("\r\n\r\n").split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines)
        return Reply(int(status.split()[1]), headers, await self.reader.readexactly(int(headers["Content-Length"])))

    def close(self) -> None:
        self.writer.close()


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    state, faulty = State(lambda: 1000.5), Faults(seed=7)
    app = track_api.create_app(state, site_id="site", api_key="key", faulty=faulty)
    async with track_api.serve(app) as running:
        yield Sandbox(running.url, state, faulty)


# On the wire


async def test_a_script_as_connections_meet_it(sandbox: Sandbox) -> None:
    await sandbox.put(script="3x500, 429:2, 503:120, 400, cut, apply-cut, hang:0.01, 200")
    replies = [await sandbox.identify(number) for number in range(11)]
    assert [reply.status for reply in replies] == [500, 500, 500, 429, 503, 400, None, None, 200, 200, 200]
    assert [reply.headers.get("Retry-After") for reply in replies[2:6]] == [None, "2", "120", None]
    assert {reply.headers["Content-Type"].partition(";")[0] for reply in replies[:5]} == {"text/html"}
    assert replies[5].json == {"meta": {"error": "the sandbox was asked to answer 400"}}
    assert [person.id for person in sandbox.state.people] == ["7", "8", "9", "10"]
    calls = [(call.status, call.fault, call.body) for call in islice(sandbox.state.calls, 6, 10)]
    assert calls == [
        (None, "cut", b'{"plan": "pro"}'),
        (None, "apply-cut", b'{"plan": "pro"}'),
        (200, "hang:0.01", b'{"plan": "pro"}'),
        (200, "", b'{"plan": "pro"}'),
    ]


async def test_apply_and_cut_applies_a_batch_and_an_event_once(sandbox: Sandbox) -> None:
    await sandbox.put(script="2xapply-cut")
    event = {"type": "person", "action": "event", "identifiers": {"id": "42"}, "name": "bought"}
    batch = {"batch": [{**event, "id": f"01E4C4CT6YDC7Y5M7FE1GWWP{n:02}"} for n in range(40)]}
    assert (await sandbox.send("POST", "/api/v2/batch", batch)).status is None
    assert (await sandbox.send("POST", "/api/v1/customers/42/events", {"name": "x"})).status is None
    assert sandbox.state.applied == {"created": 1, "event": 41}
    assert (await sandbox.send("POST", "/api/v2/batch", batch)).status == 200
    assert sandbox.state.refused == {"repeated_event": 40}


async def test_apply_and_cut_cuts_what_would_be_refused_too(sandbox: Sandbox) -> None:
    await sandbox.put(script="3xapply-cut")
    assert (await sandbox.identify(42, token="wrong")).status is None
    assert (await sandbox.send("GET", "/api/none")).status is None
    assert (await sandbox.send("POST", "/api/v2/batch", {"batch": 1})).status is None
    assert len(sandbox.state.people) == 0


async def test_the_script_is_followed_exactly_by_32_connections_at_once(sandbox: Sandbox) -> None:
    kinds = ["500", "429:2", "cut", "apply-cut", "200", "503", "404"]
    script = [kinds[(number * number + number // 3) % len(kinds)] for number in range(960)]
    await sandbox.put(script=", ".join(script))
    assert sandbox.faults.on()["script"].count(",") > 600

    async def client(number: int) -> list[tuple[str, int | None]]:
        connection, seen = await sandbox.connect(), []
        for turn in range(40):
            customer_id = f"{number}-{turn}"
            reply = await connection.send("PUT", f"/api/v1/customers/{customer_id}", {"plan": "pro"})
            seen.append((customer_id, reply.status))
            if reply.status is None:
                connection.close()
                connection = await sandbox.connect()
        connection.close()
        return seen

    seen = {
        customer_id: status for each in await asyncio.gather(*map(client, range(32))) for customer_id, status in each
    }
    calls = list(sandbox.state.calls)
    assert len(calls) == len(seen) == 1280
    assert [call.fault for call in calls] == [
        "" if word == "200" else word for word in [*script, *["200"] * (1280 - len(script))]
    ]
    asked = {call.path.rpartition("/")[2]: call for call in calls}
    assert {customer_id: call.status for customer_id, call in asked.items()} == seen
    applied = {customer_id for customer_id, call in asked.items() if call.status == 200 or call.fault == "apply-cut"}
    assert {person.id for person in sandbox.state.people} == applied
    assert sandbox.faults.given == Counter(word for word in script if word != "200")


async def test_a_hang_is_over_in_its_time_and_holds_nobody_else(sandbox: Sandbox) -> None:
    await sandbox.put(script="hang:0.3")
    loop = asyncio.get_running_loop()
    began = loop.time()
    hung = asyncio.create_task(sandbox.identify("slow"))
    while sandbox.faults.given["hang:0.3"] == 0:
        await asyncio.sleep(0)
    assert (await sandbox.identify("quick")).status == 200
    assert not hung.done()
    assert [person.id for person in sandbox.state.people] == ["quick"]
    assert (await hung).status == 200
    assert loop.time() - began >= 0.3
    assert [person.id for person in sandbox.state.people] == ["quick", "slow"]


async def test_a_server_stops_while_a_request_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(track_api, "_SHUTDOWN_SECONDS", 0.1)
    state, faulty = State(lambda: 1000.5), Faults(Wanted(script="hang:3600"))
    app = track_api.create_app(state, site_id="site", api_key="key", faulty=faulty)
    async with track_api.serve(app) as running:
        hung = asyncio.create_task(Sandbox(running.url, state, faulty).identify("slow"))
        while not faulty.given:
            await asyncio.sleep(0)
    assert (await hung).status is None
    assert [(call.status, call.fault) for call in state.calls] == [(None, "hang:3600")]


async def test_latency_comes_on_top_for_every_request(sandbox: Sandbox) -> None:
    await sandbox.put(latency="120ms", script="500, cut")
    loop = asyncio.get_running_loop()
    for expected in (500, None, 200):
        began = loop.time()
        assert (await sandbox.identify(1)).status == expected
        assert loop.time() - began >= 0.12


async def test_an_outage_leaves_only_the_sandboxs_own_pages(sandbox: Sandbox) -> None:
    await sandbox.put(outage="cut")
    assert [(await sandbox.identify(number)).status for number in range(3)] == [None] * 3
    await sandbox.put(outage="503:60")
    reply = await sandbox.identify(3)
    assert (reply.status, reply.headers["Retry-After"]) == (503, "60")
    assert (await sandbox.send("GET", "/sandbox")).json["calls"] == 4
    assert (await sandbox.send("DELETE", "/sandbox/faults")).status == 200
    assert (await sandbox.identify(3)).status == 200


async def test_good_credentials_are_refused_on_demand(sandbox: Sandbox) -> None:
    await sandbox.put(unauthorized=True)
    for path in ("/auth", "/api/v1/accounts/region"):
        reply = await sandbox.send("GET", path)
        assert (reply.status, reply.json) == (401, {"meta": {"error": "Unauthorized request"}})


@pytest.mark.parametrize("region", ["us", "eu"])
async def test_in_the_wrong_region_all_but_the_question_for_it_is_redirected_and_never_off_the_machine(
    region: Any,
) -> None:
    faulty = Faults(Wanted(wrong_region=True))
    app = track_api.create_app(State(lambda: 1000.5), site_id="site", api_key="key", region=region, faulty=faulty)
    async with track_api.serve(app) as running:
        sandbox = Sandbox(running.url, app[track_api.STATE], faulty)
        reply = await sandbox.send("PUT", "/api/v1/customers/a%2Fb?x=1", {})
        assert (reply.status, reply.headers["Location"]) == (301, f"{running.url}/api/v1/customers/a%2Fb?x=1")
        assert (await sandbox.send("GET", "/api/v1/accounts/region")).status == 200
        assert len(sandbox.state.people) == 0


# Over HTTP


async def test_faults_are_put_read_and_taken_off_over_http(sandbox: Sandbox) -> None:
    off = (await sandbox.send("GET", "/sandbox/faults")).json
    assert off == {**all_off(), "given": {}}
    some = {"shares": {"429:2": 0.5}, "latency": "1ms", "rate_limit": 9, "retry_after": 1, "seed": 5}
    assert (await sandbox.put(script="2x500, cut", **some)).status == 200
    await sandbox.identify(1)
    assert (await sandbox.send("GET", "/sandbox/faults")).json == {
        **all_off(),
        **some,
        "script": "500, cut",
        "given": {"500": 1},
    }
    assert (await sandbox.put(script="404")).json["shares"] == {}
    assert (await sandbox.send("DELETE", "/sandbox/faults")).json == off
    assert (await sandbox.identify(1)).status == 200


@pytest.mark.parametrize(
    ("sent", "named"),
    [
        ({"script": "3x500, cutt"}, "'cutt'"),
        ({"scrip": "3x500"}, "scrip"),
        ({"script": 500}, "$.script"),
        ({"shares": {"500": "x"}}, "$.shares"),
        ([], "array"),
        (None, "not valid JSON"),
    ],
)
async def test_faults_that_cannot_be_read_are_answered_400(sandbox: Sandbox, sent: object, named: str) -> None:
    await sandbox.put(script="500")
    reply = await sandbox.send("PUT", "/sandbox/faults", sent)
    assert reply.status == 400
    assert named in reply.json["error"]
    assert (await sandbox.identify(1)).status == 500


async def test_an_http_library_meets_a_cut_as_a_broken_connection(sandbox: Sandbox) -> None:
    await sandbox.put(script="cut")
    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.ServerDisconnectedError):
            await session.post(f"{sandbox.url}/api/v2/batch", data=b"{}")


def all_off() -> dict[str, Any]:
    return {field: getattr(faults.Wanted(), field) for field in faults.Wanted.__struct_fields__}
