"""What v2 documents is accepted, each operation survives being written down, and a batch is read in one pass."""

from __future__ import annotations

import json
import time
from typing import Any

import msgspec
import pytest

from connector.sandbox import operations
from connector.sandbox.operations import Edit, Identifier
from connector.sandbox.requests import v1_requests, v2_operations
from connector.sandbox.state import State
from tests.track_client import sandbox

ULID = "01E4C4CT6YDC7Y5M7FE1GWWPQJ"
WHO: dict[str, Any] = {"type": "person", "identifiers": {"id": "42"}}
ACME: dict[str, Any] = {"type": "object", "identifiers": {"object_type_id": "1", "object_id": "acme"}}
TO_ACME = [{"identifiers": ACME["identifiers"], "relationship_attributes": {"role": "admin"}}]
TO_PEOPLE = [{"identifiers": {"id": "42"}}, {"identifiers": {"email": "a@b.co"}}, {"identifiers": {"cio_id": "d9c1"}}]
DEVICE = {"token": "t", "platform": "ios", "last_used": 1, "attributes": {"push_enabled": "true"}}
OVERRIDES = {"recipient": "a@b.co", "from_address": "x@b.co", "reply_to": "y@b.co"}
PREFERENCES = {"topics": {"topic_1": True}, "channels": {"email": True}}
PAGE = {"path": "/", "referrer": "", "search": "", "title": "x", "url": "https://x.co/", "keywords": []}

DOCUMENTED: list[dict[str, Any]] = [
    {**WHO, "action": "identify", "attributes": {"plan": "pro", "_update": False}, "timestamp": 1_772_013_598},
    {**WHO, "action": "identify", "attributes": {"cio_subscription_preferences": PREFERENCES}},
    {**WHO, "action": "identify", "cio_relationships": TO_ACME},
    {**WHO, "action": "identify"},
    {**WHO, "action": "identify", "identifiers": {"email": "a@b.co"}},
    {**WHO, "action": "identify", "identifiers": {"phone": "+15551234567"}},
    {**WHO, "action": "identify", "identifiers": {"cio_id": "d9c106000001"}},
    {**WHO, "action": "event", "name": "order_paid", "id": ULID, "timestamp": 1_772_013_598, "attributes": {"n": 12}},
    {
        **WHO,
        "action": "event",
        "name": "sent",
        "attributes": {"recipient": "a@b.co", "from_address": "x", "reply_to": "y"},
    },
    {**WHO, "action": "page", "name": "https://x.co/", "id": ULID, "timestamp": 1, "attributes": PAGE},
    {**WHO, "action": "screen", "name": "Home", "id": ULID, "timestamp": 1, "attributes": {}},
    {**WHO, "action": "add_relationships", "cio_relationships": TO_ACME},
    {**WHO, "action": "delete_relationships", "cio_relationships": [{"identifiers": {"cio_object_id": "ob1"}}]},
    {**WHO, "action": "add_device", "device": DEVICE},
    {**WHO, "action": "add_device", "device": {"token": "t", "platform": "android"}},
    {**WHO, "action": "delete_device", "device": {"token": "t"}},
    {"type": "person", "action": "merge", "primary": {"id": "42"}, "secondary": {"cio_id": "d9c1"}},
    {**WHO, "action": "suppress"},
    {**WHO, "action": "unsuppress"},
    {**WHO, "action": "delete"},
    {**ACME, "action": "identify", "attributes": {"plan": None, "x": ""}},
    {**ACME, "action": "identify", "identifiers": {"cio_object_id": "ob1"}, "cio_relationships": TO_PEOPLE},
    {**ACME, "action": "identify_anonymous", "cio_relationships": [{"identifiers": {"anonymous_id": "anon"}}]},
    {**ACME, "action": "add_relationships", "cio_relationships": TO_PEOPLE},
    {**ACME, "action": "delete_relationships", "cio_relationships": TO_PEOPLE},
    {**ACME, "action": "delete"},
    {
        "type": "delivery",
        "action": "event",
        "identifiers": {"id": "RPILAgUBcRhIBqSfeiIwdIYJKxTY"},
        "name": "opened",
        "attributes": {"device_token": "t"},
    },
]


def read(sent: object) -> operations.Operation:
    operation = v2_operations.read_entity(json.dumps(sent).encode())
    assert not isinstance(operation, list)
    return operation


async def test_everything_documented_is_accepted_alone_and_in_one_batch() -> None:
    async with sandbox() as client:
        for sent in DOCUMENTED:
            assert (await client.post("/api/v2/entity", sent)).status == 200
        reply = await client.batch(*DOCUMENTED)
    assert (reply.status, reply.body) == (200, {})


WRITTEN = [
    *map(read, DOCUMENTED),
    v1_requests.membership("7", "id", b'{"ids": ["42"]}', adds=True),
    Edit(Identifier("id", "42"), {"plan": "team", "email": None}),
]


@pytest.mark.parametrize("operation", WRITTEN, ids=lambda each: type(each).__name__)
def test_an_operation_is_the_same_after_it_was_written_as_json(operation: operations.Operation) -> None:
    written = msgspec.json.encode(operation)
    assert msgspec.json.decode(written, type=operations.Operation) == operation


def as_many_as_fit(item: dict[str, Any]) -> list[bytes]:
    """Copies of an item with another number each, in a batch of less than 500,000 bytes."""
    head, tail = json.dumps(item, separators=(",", ":")).split('"NUMBER"')
    copies = (499_999 - len('{"batch":[]}')) // (len(head) + len(tail) + len("'100000',"))
    return [f'{head}"{100_000 + number}"{tail}'.encode() for number in range(copies)]


EVENT: dict[str, Any] = {**WHO, "action": "event", "name": "n"}
MANY: list[dict[str, Any]] = [
    {**WHO, "action": "identify", "identifiers": {"id": "NUMBER"}},
    {**WHO, "action": "identify", "attributes": {"a": "NUMBER"}},
    {**WHO, "action": "identify", "attributes": {"cio_subscription_preferences.topics.topic_1": "NUMBER"}},
    {**WHO, "action": "delete", "identifiers": {"id": "NUMBER"}},
    {**WHO, "action": "suppress", "identifiers": {"id": "NUMBER"}},
    {**EVENT, "id": "NUMBER"},
    {**EVENT, "identifiers": {"anonymous_id": "NUMBER"}},
    {**EVENT, "identifiers": {"id": "NUMBER"}, "name": ""},
    {**WHO, "action": "add_device", "device": {"token": "NUMBER", "platform": "ios"}},
    {"type": "person", "action": "merge", "primary": {"id": "42"}, "secondary": {"id": "NUMBER"}},
    {**ACME, "action": "add_relationships", "cio_relationships": [{"identifiers": {"id": "NUMBER"}}]},
    {**ACME, "action": "delete", "identifiers": {"object_type_id": "1", "object_id": "NUMBER"}},
]


@pytest.mark.parametrize("item", MANY, ids=lambda each: each["action"])
def test_a_full_batch_costs_what_its_items_cost(item: dict[str, Any]) -> None:
    """Eight times the items are eight times the work; work that grew with the square would be 64 times as much."""
    items = as_many_as_fit(item)
    assert cost(items) < 24 * cost(items[: len(items) // 8])


def cost(items: list[bytes]) -> float:
    """Seconds of the processor for a batch that is read and applied, and applied again; the least of three tries."""
    tries = []
    for _ in range(3):
        state, started = State(time.time), time.process_time()
        batch = v2_operations.read_batch(b'{"batch":[%b]}' % b",".join(items))
        assert isinstance(batch, v2_operations.Batch)
        assert len(batch.accepted) + len(batch.refused) == len(items)
        for operation in batch.accepted * 2:
            state.apply(operation)
        tries.append(time.process_time() - started)
    return min(tries)


@pytest.mark.timeout(30)  # a second or two; the square of a quarter of a million would be hours
def test_a_batch_of_a_quarter_of_a_million_items_that_are_none_is_read_in_one_pass() -> None:
    body = b'{"batch":[%b]}' % b",".join([b"0"] * 249_994)
    assert len(body) == 499_999
    batch = v2_operations.read_batch(body)
    assert isinstance(batch, v2_operations.Batch)
    assert len(batch.refused) == 249_994
