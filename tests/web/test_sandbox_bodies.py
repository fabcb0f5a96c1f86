"""Bodies and targets that no client should send: each is refused in words, and none is a fault of the sandbox."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from yarl import URL

from connector.sandbox import compressed_body, json_body, track_api
from connector.sandbox.faults import FAULTS, Wanted
from connector.sandbox.state import State
from tests.track_client import CREDENTIALS, EVENT, Client, Reply, identify, sandbox

MALFORMED_V1 = Reply(400, {"meta": {"error": "malformed JSON in the request body"}})
MALFORMED_COMPONENT = Reply(400, {"meta": {"errors": ["malformed JSON in the request body"]}})
MALFORMED_V2 = Reply(
    400, {"errors": [{"reason": "invalid", "field": "body", "message": "request body is not valid JSON"}]}
)


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    async with sandbox() as running:
        yield running


def nested(depth: int) -> bytes:
    return b"[" * depth + b"]" * depth


# Reading


@pytest.mark.parametrize("body", [nested(100), b'{"a":' * 99 + b"[]" + b"}" * 99, b'"' + b"[{" * 300 + b'"'])
def test_a_body_may_be_nested_100_deep_and_brackets_in_text_are_no_nesting(body: bytes) -> None:
    assert json_body.read(body) == json.loads(body)


@pytest.mark.parametrize(
    "body",
    [
        *(nested(101), b'{"a":' * 100 + b"[]" + b"}" * 100, nested(1100), nested(100_000), b"[" * 100_000),
        *(b"", b" ", b"{", b"\xff", b'{"a":"\xff"}', b'"\\ud800"', b"1e400", b"9" * 400, b"NaN", b"\xef\xbb\xbf{}"),
    ],
)
def test_what_cannot_be_read_is_malformed(body: bytes) -> None:
    with pytest.raises(json_body.Malformed):
        json_body.read(body)


def test_of_a_name_that_comes_twice_the_last_counts_and_huge_integers_are_doubles() -> None:
    assert json_body.read(b'{"a":1,"a":2}') == {"a": 2}
    assert json_body.read(b"18446744073709551615") == 2**64 - 1
    assert repr(json_body.read(b"18446744073709551616")) == "1.8446744073709552e+19"


# Track API


DEEP = [{"x": json.loads(nested(253))}, {"x": json.loads(nested(300))}]


@pytest.mark.parametrize("deep", DEEP)
async def test_a_value_nested_too_deep_is_a_400(client: Client, deep: dict[str, Any]) -> None:
    assert await client.put("/api/v1/customers/42", deep) == MALFORMED_COMPONENT
    assert await client.post("/api/v1/customers/42/events", {"name": "n", "data": deep}) == MALFORMED_V1
    assert await client.post("/api/v2/entity", identify(**deep)) == MALFORMED_V2
    assert await client.batch(identify("1"), {**EVENT, "attributes": deep}) == MALFORMED_V2
    assert await client.people() == {}


async def test_a_value_that_is_nested_as_deep_as_is_read_can_be_read_back(client: Client) -> None:
    value = json.loads(nested(95))
    await client.batch(identify(x=value), {**EVENT, "attributes": {"x": value}})
    assert (await client.person())["attributes"] == {"x": value}
    assert [each["data"] for each in await client.get("/sandbox/activities")] == [{"x": value}]


@pytest.mark.parametrize(
    "body",
    [
        b'{"batch":%b}' % nested(1100),
        b'{"batch":[%b]}' % nested(5000),
        b'{"x":%b,"batch":[]}' % nested(5000),
        b'{"x":"\xff","batch":[]}',
        b'{"\xff":1,"batch":[]}',
    ],
    ids=["deep batch", "deep item", "deep beside the batch", "no UTF-8 beside the batch", "a name that is no UTF-8"],
)
async def test_a_batch_whose_body_cannot_be_read_is_a_400(client: Client, body: bytes) -> None:
    assert await client.call("POST", "/api/v2/batch", body) == MALFORMED_V2


@pytest.mark.parametrize("segment_id", ["9" * 5000, str(2**63), "0" * 5000, "-1", "%D9%A3"])
async def test_a_segment_id_that_is_no_64_bit_integer_is_a_400(client: Client, segment_id: str) -> None:
    reply = await client.post(f"/api/v1/segments/{segment_id}/add_customers", {"ids": ["42"]})
    assert reply == Reply(400, {"meta": {"errors": ["segment_id must be an integer"]}})


async def test_the_largest_segment_id_can_be_read_back(client: Client) -> None:
    await client.batch(identify())
    assert (await client.post(f"/api/v1/segments/{2**63 - 1}/add_customers", {"ids": ["42"]})).status == 200
    assert (await client.person())["segments"] == [2**63 - 1]


GZIP = {"Content-Encoding": "gzip"}


@pytest.mark.parametrize(
    ("method", "path", "answer"),
    [
        ("PUT", "/api/v1/customers/42", MALFORMED_V1),
        ("POST", "/api/v2/batch", MALFORMED_V2),
        ("PUT", "/sandbox/faults", Reply(400, {"error": "the body can't be decoded"})),
    ],
)
async def test_a_compressed_body_is_read_and_a_broken_one_is_a_400(
    client: Client, method: str, path: str, answer: Reply
) -> None:
    assert await client.call(method, path, b"no gzip at all", headers=GZIP) == answer
    body = json.dumps({"batch": [identify()]} if path.endswith("batch") else {})
    assert (await client.call(method, path, gzip.compress(body.encode(), mtime=0), headers=GZIP)).status == 200


# The sandbox's own


@pytest.mark.parametrize(("method", "path"), [("PUT", "/sandbox/faults"), ("POST", "/sandbox/edit")])
@pytest.mark.parametrize("body", [b"\xff", b'{"script":"\xff"}', nested(5000), b"", b"[]", b'{"identifiers":1e400}'])
async def test_what_the_sandbox_is_asked_in_bytes_that_are_no_json_is_a_400(
    client: Client, method: str, path: str, body: bytes
) -> None:
    reply = await client.call(method, path, body)
    assert (reply.status, list(reply.body)) == (400, ["error"])


@pytest.mark.parametrize(
    "attributes",
    [
        {"anonymous_id": ["anon"]},
        {"anonymous_id": 7},
        {"email": ["a@b.co"]},
        {"id": ["42"]},
        {"phone": ["+15551234567"]},
    ],
)
async def test_an_edit_with_an_identifier_that_is_no_text_is_a_400(client: Client, attributes: object) -> None:
    await client.batch(identify(plan="pro"))
    reply = await client.post("/sandbox/edit", {"identifiers": {"id": "42"}, "attributes": attributes})
    assert (reply.status, list(reply.body)) == (400, ["error"])


@pytest.mark.parametrize("timestamp", [2**64 - 1, 2**63, -(2**63)])
async def test_an_edit_at_any_time_leaves_people_who_can_be_read_back(client: Client, timestamp: int) -> None:
    await client.batch(identify())
    edit = {"identifiers": {"id": "42"}, "attributes": {"x": 1}}
    assert (await client.post("/sandbox/edit", {**edit, "timestamp": timestamp})).status == 200
    assert (await client.post("/sandbox/edit", edit)).status == 200
    assert list(await client.people()) == ["42"]


@pytest.mark.parametrize("timestamp", [2**64, 10**400, 1.5, "5"])
async def test_an_edit_at_a_time_that_is_no_64_bit_integer_is_a_400(client: Client, timestamp: object) -> None:
    await client.batch(identify())
    edit = {"identifiers": {"id": "42"}, "attributes": {"x": 1}, "timestamp": timestamp}
    assert (await client.post("/sandbox/edit", edit)).status == 400
    assert list(await client.people()) == ["42"]


# Bodies that are too large


LARGE = b" " * (16 * 1024 * 1024 + 1)


async def put_large(client: Client) -> int | None:
    """The status, None when the connection was cut."""
    try:
        async with client.session.put(client.url + "/api/v1/customers/42", data=chunks(LARGE)) as response:
            return response.status
    except (aiohttp.ClientConnectionError, ConnectionResetError):
        return None


async def chunks(body: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(body), 1024 * 1024):
        yield body[start : start + 1024 * 1024]


@pytest.mark.parametrize("word", ["cut", "apply-cut"])
async def test_the_connection_is_cut_when_that_was_asked_for_also_under_a_body_that_is_too_large(
    client_with_faults: tuple[Client, Any], word: str
) -> None:
    client, faults = client_with_faults
    faults.put(Wanted(script=word))
    assert await put_large(client) is None
    assert [(call.status, call.fault) for call in client.state.calls] == [(None, word)]
    assert len(client.state.people) == 0


async def test_the_status_that_was_asked_for_answers_a_body_that_is_too_large(
    client_with_faults: tuple[Client, Any],
) -> None:
    client, faults = client_with_faults
    faults.put(Wanted(script="503, 429:2"))
    assert await put_large(client) == 503
    assert await put_large(client) == 429
    assert await put_large(client) == 413
    assert [call.fault for call in client.state.calls] == ["503", "429:2", ""]


@asynccontextmanager
async def request_begun(client: Client, headers: bytes, body: bytes) -> AsyncIterator[asyncio.StreamReader]:
    """A PUT of the person 42 with these headers more and so much of its body; the connection is closed at the end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", URL(client.url).port)
    head = f"PUT /api/v1/customers/42 HTTP/1.1\r\nHost: x\r\nAuthorization: {CREDENTIALS['Authorization']}\r\n"
    writer.write(head.encode() + headers + b"\r\n" + body)
    await writer.drain()
    yield reader
    writer.close()
    await writer.wait_closed()


async def test_a_body_that_its_sender_does_not_finish_is_a_call_without_an_answer(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    async with request_begun(client, b"Content-Length: 20\r\n", b'{"plan": '):
        pass
    while not client.state.calls:
        await asyncio.sleep(0.01)
    assert [call.status for call in client.state.calls] == [None]
    assert len(client.state.people) == 0
    assert not caplog.records


async def test_an_encoding_that_is_no_text_can_be_read_back(client: Client) -> None:
    async with request_begun(client, b"Content-Encoding: \xff\r\nContent-Length: 2\r\n", b"{}") as answer:
        assert (await answer.readline()).startswith(b"HTTP/1.1 200 ")
    assert [call["encoding"] for call in await client.get("/sandbox/calls")] == ["\ufffd"]
    assert (await client.call("GET", "/")).status == 200


@pytest.fixture
async def client_with_faults() -> AsyncIterator[tuple[Client, Any]]:
    app = track_api.create_app(State(lambda: 1000.5), site_id="site", api_key="key")
    async with track_api.serve(app) as running, aiohttp.ClientSession(headers=CREDENTIALS) as session:
        yield Client(session, running.url, app[track_api.STATE]), app[FAULTS]


# Targets with a scheme and a host, as clients send them to a proxy


async def sent_to(client: Client, target: str, method: str = "PUT") -> str:
    """The head of the answer to a request whose target is exactly this."""
    port = URL(client.url).port
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = f"{method} {target} HTTP/1.1\r\nHost: x\r\nAuthorization: {CREDENTIALS['Authorization']}\r\n"
    writer.write(f"{head}Connection: close\r\nContent-Length: 2\r\n\r\n{{}}".encode())
    answer = (await reader.read()).decode()
    writer.close()
    await writer.wait_closed()
    return answer.partition("\r\n\r\n")[0]


@pytest.mark.parametrize(
    ("target", "customer_id"),
    [
        ("http://track.example/api/v1/customers/1", "1"),
        ("http://track.example:9000/api/v1/customers/a%2Fb?x=/1/2/3", "a/b"),
        ("/api/v1/customers/1#fragment", "1"),
    ],
)
async def test_a_target_with_a_host_names_the_same_person(client: Client, target: str, customer_id: str) -> None:
    assert (await sent_to(client, target)).startswith("HTTP/1.1 200 ")
    assert list(await client.people()) == [customer_id]


async def test_a_target_with_a_host_is_noted_by_its_path_and_deletes_the_right_device(client: Client) -> None:
    device = {"device": {"id": "a/b", "platform": "ios"}}
    await client.put("/api/v1/customers/42/devices", device)
    await sent_to(client, "http://h/api/v1/customers/42/devices/a%2Fb?x=1", "DELETE")
    assert (await client.person())["devices"] == []
    assert (await client.get("/sandbox/calls"))[0]["path"] == "/api/v1/customers/42/devices/a%2Fb?x=1"


async def test_a_target_with_the_other_regions_host_is_redirected_to_a_path_of_this_machine() -> None:
    async with sandbox(region="eu") as client:
        head = await sent_to(client, "http://track.customer.io/api/v1/customers/1?x=1")
        assert head.startswith("HTTP/1.1 301 ")
        assert f"Location: {client.url}/api/v1/customers/1?x=1\r\n" in head


def test_a_body_of_very_many_compressed_parts_is_refused_before_it_takes_long() -> None:
    part = gzip.compress(b"{}", mtime=0)

    assert compressed_body.inflated(part * 64, 1000) == b"{}" * 64
    with pytest.raises(compressed_body.Broken, match="too many parts"):
        compressed_body.inflated(part * 65, 1000)
