"""`phone` among the attributes: an identifier through v2, an attribute like any other through v1."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.track_client import EVENT, Client, Reply, identify, sandbox

OK = Reply(200, {})
PHONE = "+15551234567"
OTHER = "+15557654321"


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    async with sandbox() as running:
        yield running


async def test_a_phone_among_the_attributes_of_v2_finds_the_person(client: Client) -> None:
    assert await client.batch(identify(phone=PHONE, plan="pro")) == OK
    assert await client.batch({**EVENT, "identifiers": {"phone": PHONE}}) == OK
    assert client.names() == ["bought"]
    person = await client.person()
    assert (person["phone"], person["attributes"]) == (PHONE, {"plan": "pro"})


CASES: list[tuple[list[Any], str | None, dict[str, str | None]]] = [
    # what is sent, why the last of it has no effect, the phones of those who are there then
    ([identify("42", phone=PHONE), identify("43", phone=PHONE)], "identifier_set", {"42": PHONE}),
    (
        [identify("42"), identify("43", phone=PHONE), identify("42", phone=PHONE)],
        "identity_conflict",
        {"42": None, "43": PHONE},
    ),
    ([identify("42", phone=PHONE), identify("42", phone=OTHER)], "identifier_set", {"42": PHONE}),
    ([identify("42", phone=PHONE), identify("42", phone=PHONE)], None, {"42": PHONE}),
    ([identify("42", phone=PHONE), identify("42", phone=None)], "identifier_set", {"42": PHONE}),
    ([identify("42"), identify("42", phone="")], None, {"42": None}),
    ([identify("42", phone="0155")], "invalid_phone", {}),
    ([{**identify(), "identifiers": {"phone": PHONE}}, identify("42", phone=PHONE)], None, {"42": PHONE}),
]


@pytest.mark.parametrize(("sent", "reason", "phones"), CASES)
async def test_a_phone_is_like_any_identifier_in_v2(
    client: Client, sent: list[Any], reason: str | None, phones: dict[str, str | None]
) -> None:
    for operation in sent:
        assert await client.batch(operation) == OK
    assert {person["id"]: person["phone"] for person in await client.get("/sandbox/people")} == phones
    assert client.refusals == ([] if reason is None else [reason])


async def test_a_phone_changes_through_the_cio_id(client: Client) -> None:
    await client.batch(identify(phone=PHONE))
    by_cio_id = {**identify(phone=OTHER), "identifiers": {"cio_id": (await client.person())["cio_id"]}}
    assert await client.batch(by_cio_id) == OK
    assert (await client.person())["phone"] == OTHER


async def test_another_writer_changes_a_phone(client: Client) -> None:
    await client.batch(identify(phone=PHONE))
    edit = {"identifiers": {"id": "42"}, "attributes": {"phone": OTHER}}
    assert await client.post("/sandbox/edit", edit) == OK
    assert (await client.person())["phone"] == OTHER


@pytest.mark.parametrize("phone", [15551234567, True, [PHONE], {}])
async def test_a_phone_that_is_no_text_is_refused_in_v2(client: Client, phone: object) -> None:
    reply = await client.entity("identify", identifiers={"id": "42"}, attributes={"phone": phone})
    error = {"reason": "invalid", "field": "attributes.phone", "message": "must be a string"}
    assert reply == Reply(400, {"errors": [error]})


async def test_a_phone_in_v1_is_an_attribute_until_v2_makes_it_an_identifier(client: Client) -> None:
    for customer_id in ("42", "43"):
        assert await client.put(f"/api/v1/customers/{customer_id}", {"phone": PHONE}) == OK
    assert await client.put("/api/v1/customers/42", {"phone": 5}) == OK
    people = await client.people()
    assert [(each["phone"], each["attributes"]) for each in people.values()] == [
        (None, {"phone": 5}),
        (None, {"phone": PHONE}),
    ]
    await client.batch(identify("42", phone=PHONE))
    person = await client.person()
    assert (person["phone"], person["attributes"]) == (PHONE, {})
    assert client.refusals == []
