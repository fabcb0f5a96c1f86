"""Objects of the sandbox and the relationships of people to them, through both APIs, and their limits."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.track_client import Client, Reply, identify, sandbox

OK = Reply(200, {})
ACME = {"object_type_id": "1", "object_id": "acme"}
TO_ACME = [{"identifiers": ACME}]


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    async with sandbox() as running:
        yield running


async def objects(client: Client) -> dict[str, Any]:
    return {each["object_id"]: each for each in await client.get("/sandbox/objects")}


async def test_an_object_is_created_updated_and_deleted(client: Client) -> None:
    assert await client.entity("identify", type="object", identifiers=ACME, attributes={"plan": "pro", "x": 1}) == OK
    [acme] = (await objects(client)).values()
    by_cio_id = {"cio_object_id": acme["cio_object_id"]}
    await client.entity("identify", type="object", identifiers=by_cio_id, attributes={"plan": None, "x": "", "y": 2})
    assert (await objects(client))["acme"]["attributes"] == {"y": 2}
    await client.entity("add_relationships", identifiers={"id": "42"}, cio_relationships=TO_ACME)
    assert (await client.person())["objects"] == [acme["cio_object_id"]]
    assert await client.entity("delete", type="object", identifiers=by_cio_id) == OK
    assert await objects(client) == {}
    assert (await client.person())["objects"] == []


async def test_an_unknown_cio_object_id_is_dropped(client: Client) -> None:
    unknown = {"cio_object_id": "ob1ffffffff"}
    await client.entity("identify", type="object", identifiers=unknown, attributes={"x": 1})
    await client.entity("delete", type="object", identifiers=ACME)
    await client.put("/api/v1/customers/42", relationship_v1([{"identifiers": unknown}]))
    assert client.refusals == ["unknown_object"] * 3
    assert await objects(client) == {}


def relationship_v1(relationships: object, action: object = "add_relationships") -> dict[str, Any]:
    return {"cio_relationships": {"action": action, "relationships": relationships}}


async def test_an_identify_carries_relationships_an_object_in_v1_and_an_array_in_v2(client: Client) -> None:
    admin = [{"identifiers": ACME, "relationship_attributes": {"role": "admin", "since": 5}}]
    assert await client.put("/api/v1/customers/42", {"plan": "pro", **relationship_v1(admin)}) == OK
    changed = [{"identifiers": ACME, "relationship_attributes": {"role": "owner", "since": None}}]
    assert await client.batch({**identify("43"), "cio_relationships": admin}) == OK
    assert await client.batch({**identify("42"), "cio_relationships": changed}) == OK
    people = await client.people()
    assert (await objects(client))["acme"]["people"] == {
        people["42"]["cio_id"]: {"role": "owner"},
        people["43"]["cio_id"]: {"role": "admin", "since": 5},
    }
    assert people["42"]["attributes"] == {"plan": "pro"}
    await client.put("/api/v1/customers/42", relationship_v1(TO_ACME, "delete_relationships"))
    assert list((await objects(client))["acme"]["people"]) == [people["43"]["cio_id"]]


async def test_an_older_identify_relates_nobody(client: Client) -> None:
    await client.batch({**identify(), "timestamp": 100})
    await client.batch({**identify(), "timestamp": 99, "cio_relationships": TO_ACME})
    assert await objects(client) == {}


@pytest.mark.parametrize("who", [{"id": "42"}, {"email": "a@b.co"}])
async def test_relationships_are_added_and_deleted_from_either_side(client: Client, who: Any) -> None:
    await client.batch(identify(email="a@b.co"))
    person = {"type": "person", "identifiers": who, "cio_relationships": TO_ACME}
    acme = {"type": "object", "identifiers": ACME, "cio_relationships": [{"identifiers": who}]}
    for added, deleted in ((person, acme), (acme, person)):
        assert await client.batch({**added, "action": "add_relationships"}) == OK
        assert len((await objects(client))["acme"]["people"]) == 1
        assert await client.batch({**deleted, "action": "delete_relationships"}) == OK
        assert (await objects(client))["acme"]["people"] == {}
        assert (await client.person())["objects"] == []
    await client.batch({**person, "action": "delete_relationships"})
    assert client.refusals == ["unknown_relationship"]


async def test_the_relationships_of_an_anonymous_id_become_the_persons(client: Client) -> None:
    anonymous = [{"identifiers": {"anonymous_id": "anon"}, "relationship_attributes": {"role": "reader"}}]
    sent = {"type": "object", "identifiers": ACME, "attributes": {"x": 1}, "cio_relationships": anonymous}
    assert await client.batch({**sent, "action": "identify_anonymous"}) == OK
    acme = (await objects(client))["acme"]
    assert (acme["attributes"], acme["anonymous"]) == ({"x": 1}, {"anon": {"role": "reader"}})
    await client.batch(identify(anonymous_id="anon"))
    acme = (await objects(client))["acme"]
    assert (acme["people"], acme["anonymous"]) == ({(await client.person())["cio_id"]: {"role": "reader"}}, {})


async def test_an_anonymous_id_that_is_known_or_suppressed_or_whose_object_is_gone(client: Client) -> None:
    async def relate(role: str, anonymous_id: str = "anon", name: object = ACME) -> None:
        listed = [{"identifiers": {"anonymous_id": anonymous_id}, "relationship_attributes": {"role": role}}]
        await client.entity("identify_anonymous", type="object", identifiers=name, cio_relationships=listed)

    async def roles() -> list[Any]:
        return list((await objects(client))["acme"]["people"].values())

    await relate("early")
    await client.batch({**identify(), "cio_relationships": TO_ACME})
    await client.batch(identify(anonymous_id="anon"))
    assert await roles() == [{}]
    await relate("known")
    assert await roles() == [{"role": "known"}]
    await relate("lost", "other", {**ACME, "object_id": "gone"})
    await client.entity("delete", type="object", identifiers={**ACME, "object_id": "gone"})
    await client.batch(identify(anonymous_id="other"))
    assert list(await objects(client)) == ["acme"]
    await client.entity("suppress", identifiers={"id": "42"})
    await relate("suppressed")
    assert (await roles(), client.refusals) == ([], ["suppressed"])


async def test_a_deleted_person_is_related_to_nothing(client: Client) -> None:
    await client.batch({**identify(), "cio_relationships": TO_ACME})
    await client.call("DELETE", "/api/v1/customers/42")
    assert (await objects(client))["acme"]["people"] == {}


OBJECTS: list[tuple[dict[str, Any], str | None]] = [
    ({"identifiers": {**ACME, "object_id": "o" * 150}}, None),
    ({"identifiers": {**ACME, "object_id": "o" * 151}}, "identifiers.object_id"),
    ({"identifiers": {**ACME, "object_id": "ü" * 75}}, None),
    ({"identifiers": {**ACME, "object_id": "ü" * 75 + "o"}}, "identifiers.object_id"),
    ({"identifiers": {**ACME, "object_type_id": 1}}, "identifiers.object_type_id"),
    ({"identifiers": {"object_id": "acme"}}, "identifiers"),
    ({"identifiers": {}}, "identifiers"),
    ({"attributes": {"n" * 150: 1}}, None),
    ({"attributes": {"n" * 151: 1}}, f"attributes.{'n' * 151}"),
    ({"attributes": {"x": "v" * 1000}}, None),
    ({"attributes": {"x": "v" * 1001}}, "attributes.x"),
    ({"attributes": {f"a{n}": n for n in range(300)}}, None),
    ({"attributes": {f"a{n}": n for n in range(301)}}, "attributes"),
    ({"attributes": []}, "attributes"),
    ({"action": "event"}, "action"),
]


@pytest.mark.parametrize(("sent", "field"), OBJECTS)
async def test_limits_of_an_object(client: Client, sent: dict[str, Any], field: str | None) -> None:
    reply = await client.batch({"type": "object", "action": "identify", "identifiers": ACME, **sent})
    fields = [] if field is None else [field]
    assert [error["field"] for error in reply.body.get("errors", [])] == fields
    assert len(await client.get("/sandbox/objects")) == 1 - len(fields)


RELATIONSHIPS: list[tuple[object, str | None]] = [
    ([], None),
    (TO_ACME, None),
    ({}, "cio_relationships"),
    ("x", "cio_relationships"),
    ([[]], "cio_relationships[0]"),
    ([*TO_ACME, {}], "cio_relationships[1].identifiers"),
    ([{"identifiers": {"id": "42"}}], "cio_relationships[0].identifiers"),
    ([{"identifiers": ACME, "relationship_attributes": {"x": "v" * 1000}}], None),
    (
        [{"identifiers": ACME, "relationship_attributes": {"x": "v" * 1001}}],
        "cio_relationships[0].relationship_attributes.x",
    ),
    (
        [{"identifiers": ACME, "relationship_attributes": {"n" * 151: 1}}],
        f"cio_relationships[0].relationship_attributes.{'n' * 151}",
    ),
    (
        [{"identifiers": ACME, "relationship_attributes": {f"a{n}": n for n in range(301)}}],
        "cio_relationships[0].relationship_attributes",
    ),
    ([{"identifiers": ACME, "relationship_attributes": []}], "cio_relationships[0].relationship_attributes"),
]


@pytest.mark.parametrize(("sent", "field"), RELATIONSHIPS)
async def test_limits_of_relationships(client: Client, sent: object, field: str | None) -> None:
    for operation in (identify(), {"type": "person", "action": "add_relationships", "identifiers": {"id": "42"}}):
        reply = await client.batch({**operation, "cio_relationships": sent})
        assert [error["field"] for error in reply.body.get("errors", [])] == ([] if field is None else [field])
    reply = await client.put("/api/v1/customers/42", relationship_v1(sent))
    assert reply.status == (200 if field is None else 400)


V1_SHAPES = [[], "x", {"relationships": TO_ACME}, {"action": "add", "relationships": TO_ACME}, {"action": ["x"]}]


@pytest.mark.parametrize("sent", V1_SHAPES)
async def test_another_shape_of_relationships_is_refused_in_v1(client: Client, sent: object) -> None:
    reply = await client.put("/api/v1/customers/42", {"cio_relationships": sent})
    error = "cio_relationships must be an object with an action of add_relationships or delete_relationships"
    assert reply == Reply(400, {"meta": {"errors": [error]}})


@pytest.mark.parametrize("bytes_over", [0, 1])
async def test_an_object_and_a_relationship_have_100_kb_in_all(client: Client, bytes_over: int) -> None:
    names = [f"attribute_{n:03}" for n in range(99)]
    full = dict.fromkeys(names, "v" * 981)  # with quotes, colon and comma 1,000 bytes each
    last = {"last": "v" * (100_000 - 99 * 1000 - len('{"last":""') - 1 + bytes_over)}
    chunks = [dict(list(full.items())[at : at + 25]) for at in range(0, 99, 25)] + [last]
    for chunk in chunks:
        await client.entity("identify", type="object", identifiers=ACME, attributes=chunk)
        related = [{"identifiers": ACME, "relationship_attributes": chunk}]
        await client.batch({**identify(), "cio_relationships": related})
    acme = (await objects(client))["acme"]
    [relationship] = acme["people"].values()
    assert len(acme["attributes"]) == len(relationship) == 100 - bytes_over
    assert client.refusals == ["too_large"] * 2 * bytes_over


async def test_an_object_has_300_attributes_at_most(client: Client) -> None:
    for first, many in ((0, 300), (1, 300), (0, 1)):
        attributes = {f"a{n}": n for n in range(first, first + many)}
        await client.entity("identify", type="object", identifiers=ACME, attributes=attributes)
    assert client.refusals == ["too_many_attributes"]
    assert len((await objects(client))["acme"]["attributes"]) == 300
