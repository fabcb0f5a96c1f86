"""Devices, manual segments, objects, relationships and delivery reports at the sandbox, with their limits."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.track_client import Client, Reply, Time, identify, sandbox

OK = Reply(200, {})
NOW = int(Time().now)
ACME = {"object_type_id": "1", "object_id": "acme"}
TO_ACME = [{"identifiers": ACME}]


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    async with sandbox() as running:
        yield running


# Devices


async def test_a_device_is_added_updated_and_deleted_in_v1(client: Client) -> None:
    path = "/api/v1/customers/42/devices"
    device: dict[str, Any] = {"id": "a/b token", "platform": "ios", "last_used": 100}
    attributes = {"push_enabled": "true", "app_version": "1"}
    assert await client.put(path, {"device": {**device, "attributes": attributes}}) == OK
    assert (await client.person())["devices"] == [
        {"token": "a/b token", "platform": "ios", "last_used": 100, "attributes": attributes}
    ]
    await client.put(path, {"device": {**device, "last_used": None, "attributes": {"app_version": "2"}}})
    [updated] = (await client.person())["devices"]
    assert (updated["last_used"], updated["attributes"]) == (NOW, {"push_enabled": "true", "app_version": "2"})
    assert await client.call("DELETE", f"{path}/a%2Fb%20token") == OK
    assert (await client.person())["devices"] == []


async def test_a_device_is_added_and_deleted_in_v2_where_its_key_is_token(client: Client) -> None:
    who = {"id": "42"}
    device = {"token": "t", "platform": "android", "last_used": 100, "attributes": {"_last_status": ""}}
    assert await client.entity("add_device", identifiers=who, device=device) == OK
    [added] = (await client.person())["devices"]
    assert (added["token"], added["platform"]) == ("t", "android")
    assert await client.entity("delete_device", identifiers=who, device={"token": "t"}) == OK
    assert (await client.person())["devices"] == []


async def test_a_device_is_no_change_of_the_person_and_makes_a_bare_one(client: Client) -> None:
    await client.put("/api/v1/customers/42/devices", {"device": {"id": "t", "platform": "ios"}})
    await client.batch({**identify(plan="pro"), "timestamp": 5})
    assert (await client.person())["attributes"] == {"plan": "pro"}


async def test_the_delete_of_a_device_or_a_person_that_is_not_there_is_noted(client: Client) -> None:
    await client.call("DELETE", "/api/v1/customers/42/devices/t")
    await client.batch(identify())
    await client.call("DELETE", "/api/v1/customers/42/devices/t")
    assert client.refusals == ["unknown_person", "unknown_device"]


DEVICES: list[tuple[object, str]] = [
    (None, "device"),
    ([], "device"),
    ({"platform": "ios"}, "device.token"),
    ({"token": "", "platform": "ios"}, "device.token"),
    ({"token": 7, "platform": "ios"}, "device.token"),
    ({"id": "v1", "platform": "ios"}, "device.token"),
    ({"token": "t"}, "device.platform"),
    ({"token": "t", "platform": "windows"}, "device.platform"),
    ({"token": "t", "platform": "ios", "attributes": []}, "device.attributes"),
    ({"token": "t", "platform": "ios", "attributes": {"push_enabled": True}}, "device.attributes.push_enabled"),
    ({"token": "t", "platform": "ios", "attributes": {"_last_status": "x"}}, "device.attributes._last_status"),
    ({"token": "t", "platform": "ios", "attributes": {"x": "v" * 1001}}, "device.attributes.x"),
]


@pytest.mark.parametrize(("device", "field"), DEVICES)
async def test_a_device_that_cannot_be_read_is_refused(client: Client, device: Any, field: str) -> None:
    reply = await client.entity("add_device", identifiers={"id": "42"}, device=device)
    assert (reply.status, [error["field"] for error in reply.body["errors"]]) == (400, [field])
    if isinstance(device, dict):
        device = {{"token": "id", "id": "token"}.get(key, key): value for key, value in device.items()}
    reply = await client.put("/api/v1/customers/42/devices", {"device": device})
    assert (reply.status, reply.body["meta"].keys()) == (400, {"errors"})
    assert await client.people() == {}


# Manual segments


@pytest.mark.parametrize("id_type", ["", "id", "email", "cio_id"])
async def test_people_are_put_into_a_segment_and_taken_out_and_unknown_ids_skipped(
    client: Client, id_type: str
) -> None:
    await client.batch(identify(email="a@b.co"), identify("43", email="other@b.co"))
    person = await client.person()
    ids = [person[id_type or "id"], "nobody"]
    query = f"?id_type={id_type}" if id_type else ""
    assert await client.post(f"/api/v1/segments/7/add_customers{query}", {"ids": ids}) == OK
    await client.post("/api/v1/segments/9/add_customers", {"ids": ["42"]})
    people = await client.people()
    assert (people["42"]["segments"], people["43"]["segments"]) == ([7, 9], [])
    assert len(people) == 2
    assert await client.post(f"/api/v1/segments/7/remove_customers{query}", {"ids": ids}) == OK
    assert (await client.person())["segments"] == [9]
    assert client.refusals == []


SEGMENTS: list[tuple[str, Any, str | None]] = [
    ("7/add_customers", {"ids": ["x"]}, None),
    ("7/add_customers", {"ids": ["x"] * 1000}, None),
    ("7/add_customers", {"ids": ["x"] * 1001}, "ids must contain between 1 and 1000 ids"),
    ("7/add_customers", {"ids": []}, "ids must contain between 1 and 1000 ids"),
    ("7/remove_customers", {"ids": ["x"] * 1001}, "ids must contain between 1 and 1000 ids"),
    ("7/add_customers", {"ids": [42]}, "ids must be an array of strings"),
    ("7/add_customers", {}, "ids must be an array of strings"),
    ("7/add_customers", [], "the request body must be a JSON object"),
    ("7/add_customers?id_type=phone", {"ids": ["x"]}, "id_type must be one of id, email, cio_id"),
    ("seven/add_customers", {"ids": ["x"]}, "segment_id must be an integer"),
]


@pytest.mark.parametrize(("path", "sent", "error"), SEGMENTS)
async def test_limits_of_a_segment(client: Client, path: str, sent: object, error: str | None) -> None:
    reply = await client.post(f"/api/v1/segments/{path}", sent)
    assert reply == (OK if error is None else Reply(400, {"meta": {"errors": [error]}}))


# Objects and relationships


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


# Deliveries


DELIVERY = {"type": "delivery", "action": "event", "identifiers": {"id": "d=="}, "name": "opened"}
DEVICE = {"attributes": {"device_token": "t"}}
DELIVERIES: list[tuple[dict[str, Any], str | None]] = [
    ({**DELIVERY, **DEVICE}, None),
    ({**DELIVERY, **DEVICE, "name": "converted"}, None),
    ({**DELIVERY, **DEVICE, "name": "delivered"}, None),
    ({**DELIVERY, **DEVICE, "name": "clicked"}, "name"),
    ({**DELIVERY}, "attributes.device_token"),
    ({**DELIVERY, "attributes": []}, "attributes"),
    ({**DELIVERY, **DEVICE, "identifiers": {"id": ""}}, "identifiers.id"),
    ({**DELIVERY, **DEVICE, "identifiers": None}, "identifiers.id"),
    ({**DELIVERY, **DEVICE, "action": "identify"}, "action"),
]


@pytest.mark.parametrize(("sent", "field"), DELIVERIES)
async def test_what_a_device_reports_of_a_delivery(client: Client, sent: dict[str, Any], field: str | None) -> None:
    reply = await client.batch(sent)
    assert [error["field"] for error in reply.body.get("errors", [])] == ([] if field is None else [field])
    reports = [(each.delivery_id, each.metric, each.data) for each in client.state.delivery_reports]
    assert reports == ([] if field else [("d==", sent["name"], {"device_token": "t"})])
