"""Every limit of the sandbox's Track API, at the limit and one over it, and the words of every refusal."""

from __future__ import annotations

import io
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.track_client import EVENT, Client, Reply, identify, sandbox


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    async with sandbox() as running:
        yield running


# v1


V1_IDENTIFY = [
    ("a" * 150, {}, None),
    ("a" * 151, {}, "id attribute cannot be longer than 150 bytes"),
    ("%C3%BC" * 75, {}, None),
    ("%C3%BC" * 75 + "a", {}, "id attribute cannot be longer than 150 bytes"),
    ("%20", {}, "id attribute cannot be an empty string"),
    ("42", {"id": "42"}, None),
    ("42", {"id": ""}, "id attribute cannot be an empty string"),
    ("42", {"id": 42}, "id attribute must be a string value"),
    ("42", {"id": None}, "id attribute must be a string value"),
    ("42", {"email": 1}, "email attribute must be a string value"),
    ("42", {"n" * 150: 1}, None),
    ("42", {"n" * 151: 1}, "attribute name cannot be longer than 150 bytes"),
    ("42", {"ü" * 75: 1}, None),
    ("42", {"ü" * 75 + "n": 1}, "attribute name cannot be longer than 150 bytes"),
    ("42", {"x": "v" * 1000}, None),
    ("42", {"x": "v" * 1001}, "value for attribute 'x' cannot be longer than 1000 bytes"),
    ("42", {"x": "ü" * 500}, None),
    ("42", {"x": "ü" * 500 + "v"}, "value for attribute 'x' cannot be longer than 1000 bytes"),
    ("42", {"x": ["v" * 996]}, None),
    ("42", {"x": ["v" * 997]}, "value for attribute 'x' cannot be longer than 1000 bytes"),
    ("42", {f"a{n}": n for n in range(300)}, None),
    ("42", {f"a{n}": n for n in range(301)}, "cannot identify more than 300 attributes in one request"),
]


@pytest.mark.parametrize(("segment", "sent", "error"), V1_IDENTIFY)
async def test_limits_of_an_identify_in_v1(
    client: Client, segment: str, sent: dict[str, Any], error: str | None
) -> None:
    if len(sent) == 300:  # control keys aren't attributes
        relationships = {"action": "add_relationships", "relationships": []}
        sent |= {"_update": False, "_timestamp": 5, "cio_relationships": relationships}
    reply = await client.call("PUT", f"/api/v1/customers/{segment}", sent)
    if error is None:
        assert reply == Reply(200, {})
        assert len(client.state.people) == 1
    else:
        assert reply == Reply(400, {"meta": {"errors": [error]}})
        assert len(client.state.people) == 0


async def test_all_that_is_wrong_with_an_identify_is_said_at_once(client: Client) -> None:
    sent = {"x": "v" * 1001, "y": "v" * 1001, "fine": 1}
    reply = await client.call("PUT", "/api/v1/customers/42", sent)
    assert len(reply.body["meta"]["errors"]) == 2


def data_of(size: int) -> dict[str, str]:
    return {"x": "v" * (size - len('{"x":""}'))}


V1_EVENT = [
    ({"name": "n" * 100}, None),
    ({"name": "n" * 101}, "name cannot be longer than 100 bytes"),
    ({"name": "ü" * 50}, None),
    ({"name": "ü" * 50 + "n"}, "name cannot be longer than 100 bytes"),
    ({"name": ""}, "name cannot be blank"),
    ({"name": "  "}, "name cannot be blank"),
    ({}, "name cannot be blank"),
    ({"name": 1}, "name must be a string"),
    ({"name": "n", "data": data_of(100_000)}, None),
    ({"name": "n", "data": data_of(100_001)}, "data cannot be longer than 100000 bytes"),
    ({"name": "n", "data": []}, "data must be a hash"),
    ({"name": "n", "data": None}, None),
    ([], "the request body must be a JSON object"),
    (b"{", "malformed JSON in the request body"),
    (b"", "malformed JSON in the request body"),
    (b'{"name":"\xff"}', "malformed JSON in the request body"),
]


@pytest.mark.parametrize(("sent", "error"), V1_EVENT)
async def test_limits_of_an_event_in_v1(client: Client, sent: object, error: str | None) -> None:
    reply = await client.call("POST", "/api/v1/customers/42/events", sent)
    assert reply == (Reply(200, {}) if error is None else Reply(400, {"meta": {"error": error}}))
    assert client.state.activities_kept() == (1 if error is None else 0)


@pytest.mark.parametrize("path", ["/api/v1/customers/%20", "/api/v1/customers/%20/events"])
async def test_a_blank_identifier_is_refused(client: Client, path: str) -> None:
    reply = await client.call("POST" if path.endswith("events") else "DELETE", path, {"name": "n"})
    assert reply == Reply(400, {"meta": {"error": "id attribute cannot be an empty string"}})


async def test_a_body_over_16_mib_is_a_413(client: Client) -> None:
    large = io.BytesIO(b" " * (16 * 1024 * 1024 + 1))
    async with client.session.put(client.url + "/api/v1/customers/42", data=large) as response:
        assert response.status == 413
    assert [call.status for call in client.state.calls] == [413]


# v2


V2_OPERATIONS = [
    (identify("a" * 150), None, None),
    (identify("a" * 151), "identifiers.id", "id cannot be longer than 150 bytes"),
    (identify(**{"n" * 150: 1}), None, None),
    (
        identify(**{"n" * 151: 1}),
        f"attributes.{'n' * 151}",
        "property name cannot be longer than 150 bytes",
    ),
    (identify(x="ü" * 500), None, None),
    (identify(x="ü" * 500 + "v"), "attributes.x", "property value cannot be longer than 1000 bytes"),
    (identify(**{f"a{n}": n for n in range(300)}, _update=False), None, None),
    (
        identify(**{f"a{n}": n for n in range(301)}),
        "attributes",
        "cannot identify more than 300 attributes in one request",
    ),
    (identify(id=7), "attributes.id", "must be a string"),
    (identify(email=7), "attributes.email", "must be a string"),
    ({**identify(), "attributes": []}, "attributes", "attributes must be an object"),
    ({**identify(), "attributes": None}, None, None),
    ({**EVENT, "name": "n" * 100}, None, None),
    ({**EVENT, "name": "n" * 101}, "name", "name cannot be longer than 100 bytes"),
    ({**EVENT, "name": " "}, "name", "name cannot be blank"),
    ({**EVENT, "attributes": "x"}, "attributes", "attributes must be a hash"),
    ({**EVENT, "identifiers": {}}, "identifiers", "identifiers are required"),
    ({**EVENT, "identifiers": {"id": 42}}, "identifiers.id", "must be a string"),
    ({**EVENT, "identifiers": {"id": ""}}, "identifiers.id", "cannot be empty"),
    (
        {**EVENT, "identifiers": {"id": "1", "email": "a@b.co"}},
        "identifiers",
        "exactly one identifier is allowed, got email, id",
    ),
    ({**EVENT, "identifiers": {"name": "x"}}, "identifiers", "unknown identifier 'name'"),
    (
        {**EVENT, "identifiers": {"cio_id": None}},
        "identifiers.cio_id",
        "cio_id must be a string that isn't empty",
    ),
    ({**identify(), "identifiers": {"anonymous_id": "x"}}, "identifiers", "unknown identifier 'anonymous_id'"),
    ({**EVENT, "action": "no"}, "action", "unknown action 'no'"),
    ({**EVENT, "action": "delete", "identifiers": {}}, "identifiers", "identifiers are required"),
    ({**EVENT, "action": "delete_device"}, "device", "must be an object"),
    ({**EVENT, "action": "add_relationships", "identifiers": {}}, "identifiers", "identifiers are required"),
    ({**identify(), "attributes": {"anonymous_id": 7}}, "attributes.anonymous_id", "must be a string"),
    ({**EVENT, "action": ["event"]}, "action", "unknown action ['event']"),
    ({**EVENT, "type": "planet"}, "type", "unknown type 'planet'"),
    ([], "", "operation must be an object"),
]


@pytest.mark.parametrize(("operation", "field", "message"), V2_OPERATIONS)
async def test_limits_of_an_operation_in_v2(
    client: Client, operation: object, field: str | None, message: str | None
) -> None:
    entity = await client.call("POST", "/api/v2/entity", operation)
    batch = await client.batch(identify("before"), operation, identify("after"))
    if field is None:
        assert (entity, batch) == (Reply(200, {}), Reply(200, {}))
        return
    [error] = entity.body["errors"]
    assert (entity.status, error["field"], error["message"]) == (400, field, message)
    assert error["reason"] in ("invalid", "required")
    assert batch == Reply(207, {"errors": [{"batch_index": 1, **error}]})
    assert (await client.people()).keys() == {"before", "after"}


async def test_one_index_may_have_several_errors(client: Client) -> None:
    reply = await client.batch(identify(x="v" * 1001, y="v" * 1001), {**EVENT, "name": ""})
    assert [error["batch_index"] for error in reply.body["errors"]] == [0, 0, 1]


async def test_a_batch_of_one_bad_item_is_a_207(client: Client) -> None:
    assert (await client.batch({**EVENT, "name": ""})).status == 207


def event_of(size: int) -> bytes:
    empty = json.dumps({**EVENT, "attributes": {"x": ""}}).encode()
    return empty.replace(b'"x": ""', b'"x": "%b"' % (b"v" * (size - len(empty))))


@pytest.mark.parametrize(("size", "entity", "batch"), [(31_999, 200, 200), (32_000, 400, 200), (32_001, 400, 207)])
async def test_an_item_has_32_kb_as_sent_and_a_single_operation_less(
    client: Client, size: int, entity: int, batch: int
) -> None:
    sent = event_of(size)
    assert len(sent) == size
    assert (await client.call("POST", "/api/v2/entity", sent)).status == entity
    assert (await client.call("POST", "/api/v2/batch", b'{"batch": [%b]}' % sent)).status == batch
    assert client.state.activities_kept() == [entity, batch].count(200)


@pytest.mark.parametrize(("size", "status"), [(499_999, 200), (500_000, 400)])
async def test_a_batch_has_less_than_500_kb(client: Client, size: int, status: int) -> None:
    items = b",".join([event_of(25_000)] * 19)
    head, tail = b'{"batch":[', b"]}"
    room = size - len(head) - len(items) - len(tail)
    sent = head + items + b" " * room + tail
    assert len(sent) == size
    reply = await client.call("POST", "/api/v2/batch", sent)
    assert reply.status == status
    assert client.state.activities_kept() == (19 if status == 200 else 0)
    if status == 400:
        assert reply.body["errors"][0]["field"] == "batch"


@pytest.mark.parametrize(
    "sent", [b"", b"{", b"[]", b"{}", b'{"batch": {}}', b'{"batch": [{"name": "\xff"}]}', b'{"batch": []} x']
)
async def test_a_batch_that_cannot_be_read_is_a_400_with_errors(client: Client, sent: bytes) -> None:
    reply = await client.call("POST", "/api/v2/batch", sent)
    assert reply.status == 400
    assert reply.body["errors"][0].keys() == {"reason", "field", "message"}


async def test_an_entity_that_is_no_json_is_a_400_with_errors(client: Client) -> None:
    reply = await client.call("POST", "/api/v2/entity", b"{")
    assert (reply.status, reply.body["errors"][0]["field"]) == (400, "body")


async def test_a_batch_with_broken_json_in_one_item_leaves_no_trace(client: Client) -> None:
    good = json.dumps(identify("42")).encode()
    reply = await client.call("POST", "/api/v2/batch", b'{"batch": [%b, {"type": "\xff"}]}' % good)
    assert reply.status == 400
    assert len(client.state.people) == 0
