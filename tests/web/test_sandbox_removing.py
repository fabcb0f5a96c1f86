"""Delete, suppress, unsuppress and merge at the sandbox: what goes, what stays away, what is moved."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.track_client import EVENT, Client, Reply, Time, identify, sandbox

DAY = 24 * 3600
OK = Reply(200, {})


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
async def client(time: Time) -> AsyncIterator[Client]:
    async with sandbox(time) as running:
        yield running


async def v1(client: Client, what: str, customer_id: str = "42") -> Reply:
    return await client.post(f"/api/v1/customers/{customer_id}/{what}")


async def v2(client: Client, what: str, customer_id: str = "42") -> Reply:
    return await client.entity(what, identifiers={"id": customer_id})


async def test_delete_forgets_the_opt_out(client: Client) -> None:
    await client.batch(identify(email="a@b.co", unsubscribed=True, plan="pro"), EVENT)
    await client.call("DELETE", "/api/v1/customers/42")
    await client.batch({**identify(email="a@b.co"), "timestamp": 5})
    person = await client.person()
    assert (person["unsubscribed"], person["attributes"]) == (False, {})
    assert await client.get("/sandbox/activities") == []


@pytest.mark.parametrize("ask", [v1, v2])
async def test_suppressed_identifiers_are_ignored_with_200(client: Client, ask: Any) -> None:
    await client.batch(identify(email="a@b.co", anonymous_id="anon"), identify("41"))
    cio_id = (await client.person())["cio_id"]
    assert await ask(client, "suppress") == OK
    device = {"device": {"id": "token", "platform": "ios"}}
    calls: list[tuple[str, str, object]] = [
        ("PUT", "/api/v1/customers/42", {"plan": "pro"}),
        ("PUT", "/api/v1/customers/A%40b.co", {}),
        ("PUT", "/api/v1/customers/43", {"email": "a@b.co"}),
        ("PUT", "/api/v1/customers/41", {"email": "a@b.co", "plan": "pro"}),
        ("PUT", f"/api/v1/customers/cio_{cio_id}", {}),
        ("PUT", "/api/v1/customers/43", {"anonymous_id": "anon"}),
        ("PUT", "/api/v1/customers/42/devices", device),
        ("POST", "/api/v1/customers/42/events", {"name": "n"}),
        ("POST", "/api/v1/events", {"name": "n", "anonymous_id": "anon"}),
        ("POST", "/api/v1/merge_customers", {"primary": {"id": "41"}, "secondary": {"id": "42"}}),
        ("DELETE", "/api/v1/customers/42", None),
        ("POST", "/api/v1/customers/42/suppress", None),
    ]
    for method, path, sent in calls:
        assert await client.call(method, path, sent) == OK
    assert await client.batch(identify(), EVENT) == OK
    assert client.refusals == ["suppressed"] * (len(calls) + 2)
    assert list(await client.people()) == ["41"]
    assert (await client.person("41"))["attributes"] == {}
    assert await client.get("/sandbox/activities") == []


@pytest.mark.parametrize("ask", [v1, v2])
async def test_unsuppress_frees_the_identifiers_and_restores_nothing(client: Client, ask: Any) -> None:
    await client.batch(identify(email="a@b.co", unsubscribed=True), EVENT)
    await ask(client, "suppress")
    assert await ask(client, "unsuppress") == OK
    assert await client.people() == {}
    await client.batch(identify(email="a@b.co"))
    person = await client.person()
    assert (person["email"], person["attributes"], person["unsubscribed"]) == ("a@b.co", {}, False)
    assert await client.get("/sandbox/activities") == []
    assert client.refusals == []


async def test_a_delete_lifts_no_suppression(client: Client) -> None:
    await client.batch(identify())
    await v1(client, "suppress")
    await client.call("DELETE", "/api/v1/customers/42")
    await client.batch(identify())
    assert await client.people() == {}


async def test_an_identifier_of_nobody_is_blocked_alone_and_an_unknown_cio_id_is_dropped(client: Client) -> None:
    await v1(client, "suppress")
    await v1(client, "suppress", "cio_d9c1ffffffff")
    await client.batch(identify(), identify("43"))
    assert list(await client.people()) == ["43"]
    assert client.refusals == ["unknown_cio_id", "suppressed"]


async def test_unsuppressing_what_is_not_suppressed_is_noted(client: Client) -> None:
    await v1(client, "unsuppress")
    assert client.refusals == ["not_suppressed"]


# Merge


async def merge_v1(client: Client, primary: Any, secondary: Any) -> Reply:
    return await client.post("/api/v1/merge_customers", {"primary": primary, "secondary": secondary})


async def merge_v2(client: Client, primary: Any, secondary: Any) -> Reply:
    return await client.entity("merge", primary=primary, secondary=secondary)


@pytest.mark.parametrize("merge", [merge_v1, merge_v2])
async def test_a_merge_fills_what_is_unset_and_moves_activities_segments_and_anonymous_ids(
    client: Client, time: Time, merge: Any
) -> None:
    now = int(time.now)
    await client.batch(
        {**identify("1", plan="pro", unsubscribed=False), "timestamp": 100},
        identify("2", plan="free", seats=3, unsubscribed=True, email="a@b.co", anonymous_id="anon"),
        {**EVENT, "identifiers": {"id": "2"}, "name": "young", "timestamp": now - 30 * DAY},
        {**EVENT, "identifiers": {"id": "1"}, "name": "own"},
        {**EVENT, "identifiers": {"id": "2"}, "name": "old", "timestamp": now - 30 * DAY - 1},
    )
    await client.post("/api/v1/segments/7/add_customers", {"ids": ["2"]})
    assert await merge(client, {"id": "1"}, {"email": "A@b.co"}) == OK
    [person] = await client.get("/sandbox/people")
    expected = {
        "id": "1",
        "email": "a@b.co",
        "attributes": {"plan": "pro", "seats": 3, "unsubscribed": False},
        "unsubscribed": False,
        "updated": now,
        "segments": [7],
        "anonymous_ids": ["anon"],
    }
    assert person | expected == person
    assert [each["name"] for each in await client.get("/sandbox/activities")] == ["own", "young"]
    await client.batch(identify("2"))
    assert list(await client.people()) == ["1", "2"]


async def test_a_merge_by_cio_id_is_bare_of_its_prefix(client: Client) -> None:
    await client.batch(identify("1"), identify("2", plan="pro"))
    people = await client.people()
    await merge_v1(client, {"cio_id": people["1"]["cio_id"]}, {"cio_id": people["2"]["cio_id"]})
    assert (await client.person("1"))["attributes"] == {"plan": "pro"}


@pytest.mark.parametrize(
    ("primary", "secondary", "reason"),
    [
        ({"id": "nobody"}, {"id": "2"}, "unknown_person"),
        ({"id": "1"}, {"id": "nobody"}, "unknown_person"),
        ({"id": "1"}, {"cio_id": "d9c1ffffffff"}, "unknown_cio_id"),
        ({"id": "1"}, {"email": "one@b.co"}, "same_person"),
    ],
)
async def test_a_merge_needs_two_people_who_are_there(
    client: Client, primary: object, secondary: object, reason: str
) -> None:
    await client.batch(identify("1", email="one@b.co"), identify("2", plan="pro"))
    assert await merge_v1(client, primary, secondary) == OK
    assert client.refusals == [reason]
    assert list(await client.people()) == ["1", "2"]


async def test_a_merge_takes_over_no_301st_attribute(client: Client) -> None:
    await client.batch(identify("1", **{f"a{n}": n for n in range(299)}), identify("2", b=1, c=2))
    await merge_v1(client, {"id": "1"}, {"id": "2"})
    attributes = (await client.person("1"))["attributes"]
    assert (len(attributes), attributes["b"]) == (300, 1)


MERGES: list[tuple[Any, Any, str]] = [
    (None, {"id": "2"}, "primary cannot be blank"),
    ({}, {"id": "2"}, "primary cannot be blank"),
    ({"id": "1"}, None, "secondary cannot be blank"),
    ({"id": "1", "email": "a@b.co"}, {"id": "2"}, "primary exactly one identifier is allowed, got email, id"),
    ({"id": "1"}, {"phone": "+15551234567"}, "secondary unknown identifier 'phone'"),
    ({"id": "1"}, {"id": ""}, "id attribute cannot be an empty string"),
]


@pytest.mark.parametrize(("primary", "secondary", "error"), MERGES)
async def test_a_merge_that_names_nobody_is_a_400(client: Client, primary: Any, secondary: Any, error: str) -> None:
    assert await merge_v1(client, primary, secondary) == Reply(400, {"meta": {"error": error}})
    reply = await merge_v2(client, primary, secondary)
    assert (reply.status, reply.body["errors"][0].keys()) == (400, {"reason", "field", "message"})
