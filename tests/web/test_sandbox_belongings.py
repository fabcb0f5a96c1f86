"""Devices, manual segments and delivery reports at the sandbox, with their limits."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.track_client import Client, Reply, Time, identify, sandbox

OK = Reply(200, {})
NOW = int(Time().now)


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
