"""The quirks of Customer.io, each a test over real HTTP: what answers 200 and doesn't do what one might think."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.track_client import EVENT, Client, Reply, Time, identify, sandbox

ULID = "01E4C4CT6YDC7Y5M7FE1GWWPQJ"
DAY = 24 * 3600
OK = Reply(200, {})


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
async def client(time: Time) -> AsyncIterator[Client]:
    async with sandbox(time) as running:
        yield running


# Events


@pytest.mark.parametrize(
    ("first", "second", "kept"),
    [
        (ULID, ULID, 1),
        (ULID, ULID.lower(), 1),
        (ULID, ULID[:-1] + "K", 2),
        ("order-1", "order-1", 2),
        ("42", "42", 2),
        (ULID[:-1], ULID[:-1], 2),
        ("8" + ULID[1:], "8" + ULID[1:], 2),
        (None, None, 2),
    ],
)
async def test_only_a_repeated_ulid_is_ignored(
    client: Client, first: str | None, second: str | None, kept: int
) -> None:
    for event_id in (first, second):
        sent = {"name": "bought", "id": event_id} if event_id else {"name": "bought"}
        assert await client.post("/api/v1/customers/42/events", sent) == OK
    activities = await client.get("/sandbox/activities")
    assert [each["id"] for each in reversed(activities)] == [first, second][:kept]
    assert client.refusals == ["repeated_event"] * (2 - kept)


async def test_a_ulid_repeated_on_the_other_api_about_somebody_else_is_ignored(client: Client) -> None:
    await client.post("/api/v1/customers/42/events", {"name": "bought", "id": ULID})
    await client.entity("page", identifiers={"id": "43"}, name="https://x.co", id=ULID)
    assert list(await client.people()) == ["42"]


async def test_an_event_for_an_unknown_id_creates_a_bare_person(client: Client) -> None:
    assert await client.post("/api/v1/customers/42/events", {"name": "bought"}) == OK
    person = await client.person()
    assert (person["attributes"], person["email"], person["updated"]) == ({}, None, None)
    await client.batch({**identify(plan="pro"), "timestamp": 5})
    assert (await client.person())["attributes"] == {"plan": "pro"}


# Order


async def test_an_identify_older_than_another_writers_edit_changes_nothing_and_answers_200(
    client: Client, time: Time
) -> None:
    await client.batch({**identify(plan="free"), "timestamp": int(time.now)})
    edit = {"identifiers": {"id": "42"}, "attributes": {"plan": "team"}}
    assert await client.post("/sandbox/edit", edit) == OK
    assert await client.batch({**identify(plan="pro", seats=3), "timestamp": int(time.now)}) == OK
    assert await client.put("/api/v1/customers/42", {"plan": "pro"}) == OK
    person = await client.person()
    assert (person["attributes"], person["updated"]) == ({"plan": "team"}, int(time.now) + 1)
    assert client.refusals == ["older_timestamp", "older_timestamp"]
    assert await client.batch({**identify(seats=3), "timestamp": int(time.now) + 1}) == OK
    assert (await client.person())["attributes"] == {"plan": "team", "seats": 3}


async def test_an_edit_by_another_writer_may_change_identifiers_and_have_a_time_of_its_own(client: Client) -> None:
    await client.batch({**identify(email="a@b.co"), "timestamp": 100})
    await client.post(
        "/sandbox/edit",
        {"identifiers": {"id": "42"}, "attributes": {"email": "new@b.co"}, "timestamp": 200},
    )
    assert ((await client.person())["email"], (await client.person())["updated"]) == ("new@b.co", 200)


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        ({"identifiers": {"id": "nobody"}, "attributes": {}}, 404),
        ({"identifiers": {"name": "42"}, "attributes": {}}, 400),
        ({"identifiers": {"id": "42"}}, 400),
        ({"identifiers": {"id": "42"}, "attributes": {"x": "v" * 1001}}, 400),
        ({"identifiers": {"id": "42"}, "attributes": {}, "at": 5}, 400),
    ],
)
async def test_an_edit_that_cannot_be_made_is_refused_in_words(client: Client, sent: object, status: int) -> None:
    await client.batch(identify())
    reply = await client.post("/sandbox/edit", sent)
    assert (reply.status, list(reply.body)) == (status, ["error"])


async def test_the_items_of_a_batch_are_applied_in_order_unless_a_seed_says_otherwise() -> None:
    async def applied(**options: Any) -> list[str]:
        async with sandbox(**options) as client:
            await client.batch(*({**EVENT, "name": str(number)} for number in range(20)))
            return [activity.name for _, activity in client.state.activities()]

    in_order = [str(number) for number in range(20)]
    assert await applied() == in_order
    drawn = await applied(batch_order_seed=1)
    assert drawn != in_order
    assert sorted(drawn, key=int) == in_order
    assert await applied(batch_order_seed=1) == drawn
    assert await applied(batch_order_seed=2) != drawn


async def test_the_errors_of_a_batch_keep_their_index_when_its_order_is_drawn() -> None:
    async with sandbox(batch_order_seed=1) as client:
        reply = await client.batch(identify("1"), {**EVENT, "name": ""}, identify("3"), {**EVENT, "name": ""})
    assert [error["batch_index"] for error in reply.body["errors"]] == [1, 3]


# Identity


IDENTITY = [
    # what is there, what is sent, who is there then, why not
    ([("42", {})], ("42", {"id": "43"}), ["42"], "identifier_set"),
    ([("42", {"email": "a@b.co"})], ("42", {"email": "new@b.co"}), ["42"], "identifier_set"),
    ([("42", {}), ("43", {"email": "a@b.co"})], ("42", {"email": "A@b.co"}), ["42", "43"], "identity_conflict"),
    ([("42", {}), ("a@b.co", {})], ("42", {"email": "a@b.co"}), ["42", "a@b.co"], "identity_conflict"),
    ([("a@b.co", {})], ("42", {"email": "a@b.co"}), ["42"], None),
    ([("42", {})], ("a@b.co", {"id": "42"}), ["42"], None),
    ([("42", {})], ("Ab", {}), ["42", "Ab"], None),
    ([("ab", {})], ("Ab", {}), ["ab", "Ab"], None),
    ([("a@b.co", {})], ("A@B.CO", {}), ["a@b.co"], None),
    ([], ("42", {"id": "43"}), [], "identity_conflict"),
    ([], ("cio_d9c1ffffffff", {"plan": "pro"}), [], "unknown_cio_id"),
    ([], ("42", {"_update": True}), [], "no_match"),
    ([("42", {"anonymous_id": "anon"})], ("43", {"anonymous_id": "anon"}), ["42"], "identity_conflict"),
    ([("42", {"anonymous_id": "anon"})], ("42", {"anonymous_id": "other"}), ["42"], None),
    ([], ("42", {"email": "no email"}), [], "invalid_email"),
]


@pytest.mark.parametrize(("there", "sent", "then", "reason"), IDENTITY)
async def test_identity_answers_200_and_conflicts_show_only_in_the_activity_log(
    client: Client,
    there: list[tuple[str, dict[str, Any]]],
    sent: tuple[str, dict[str, Any]],
    then: list[str],
    reason: str | None,
) -> None:
    for path, body in [*there, sent]:
        assert await client.put(f"/api/v1/customers/{path}", body) == OK
    assert list(await client.people()) == then
    assert [entry["reason"] for entry in await client.get("/sandbox/log")] == ([reason] if reason else [])


async def test_a_phone_that_is_no_e164_number_finds_nobody(client: Client) -> None:
    await client.batch({**identify(), "identifiers": {"phone": "0155"}}, {**EVENT, "identifiers": {"phone": "+0155"}})
    assert client.refusals == ["invalid_phone", "invalid_phone"]
    assert await client.people() == {}


# Regions


async def test_an_eu_account_on_the_us_host_is_redirected_and_nothing_is_applied() -> None:
    async with sandbox(region="eu") as client:
        headers = {"Host": "track.customer.io"}
        path = client.url + "/api/v1/customers/a%2Fb?x=1"
        async with client.session.put(path, json={}, headers=headers, allow_redirects=False) as response:
            assert (response.status, response.headers["Location"]) == (301, path)
            assert await response.read() == b""
        assert await client.people() == {}
        assert await client.put("/api/v1/customers/42", {}) == OK
        assert await client.call("PUT", "/api/v1/customers/43", {}, headers={"Host": "track-eu.customer.io"}) == OK
        assert [call.status for call in client.state.calls] == [301, 200, 200]


@pytest.mark.parametrize("path", ["/auth", "/api/v1/accounts/region"])
async def test_credentials_are_good_and_the_region_is_told_on_either_host(path: str) -> None:
    async with sandbox(region="eu") as client:
        reply = await client.call("GET", path, headers={"Host": "track.customer.io"})
    assert reply.status == 200
    assert reply.body.get("region", "eu") == "eu"


async def test_a_us_account_on_the_eu_host_fails() -> None:
    async with sandbox() as client:
        reply = await client.call("PUT", "/api/v1/customers/42", {}, headers={"Host": "track-eu.customer.io:443"})
        assert reply.status == 401
        assert len(client.state.people) == 0


# Empty values, dates, preferences


@pytest.mark.parametrize("empty", [None, ""])
@pytest.mark.parametrize("v2", [False, True])
async def test_an_empty_value_clears_an_attribute_in_v1_and_v2(client: Client, empty: str | None, v2: bool) -> None:
    await client.batch(identify(plan="pro", seats=0))
    if v2:
        await client.batch(identify(plan=empty))
    else:
        await client.put("/api/v1/customers/42", {"plan": empty})
    assert (await client.person())["attributes"] == {"seats": 0}


DATES = [1_700_000_000, 1_700_000_000_000, "2023-11-14T22:13:20Z", "Tue, 14 Nov 2023 22:13:20 GMT"]


@pytest.mark.parametrize("date", DATES)
async def test_a_date_attribute_is_stored_as_sent_whatever_its_form(client: Client, date: object) -> None:
    await client.batch(identify(created_at=date))
    assert (await client.person())["attributes"] == {"created_at": date}


async def test_an_empty_preference_is_the_topics_default(client: Client) -> None:
    name = "cio_subscription_preferences"
    await client.batch(identify(**{name: {"topics": {"topic_1": False, "topic_2": False}, "channels": {"sms": True}}}))
    await client.put("/api/v1/customers/42", {f"{name}.topics.topic_1": None, f"{name}.channels.email": False})
    assert (await client.person())["attributes"] == {
        name: {"topics": {"topic_2": False}, "channels": {"sms": True, "email": False}}
    }


# Anonymous activity


async def test_anonymous_activity_is_attached_by_an_identify_with_its_id(client: Client, time: Time) -> None:
    now = int(time.now)
    await client.post("/api/v1/events", {"name": "old", "anonymous_id": "anon", "timestamp": now - 30 * DAY - 1})
    await client.post("/api/v1/events", {"name": "young", "anonymous_id": "anon", "timestamp": now - 30 * DAY})
    await client.post("/api/v1/events", {"name": "whose", "anonymous_id": "other"})
    await client.batch({**EVENT, "name": "two", "identifiers": {"anonymous_id": "anon"}})
    assert len(await client.people()) == 0
    await client.put("/api/v1/customers/42", {"anonymous_id": "anon", "plan": "pro"})
    person = await client.person()
    assert (person["attributes"], person["anonymous_ids"]) == ({"plan": "pro"}, ["anon"])
    activities = [(each["name"], each["customer_id"]) for each in await client.get("/sandbox/activities")]
    assert activities == [("two", "42"), ("whose", None), ("young", "42")]


async def test_anonymous_activity_is_attached_for_five_minutes_after_the_identify(client: Client, time: Time) -> None:
    await client.batch(identify(anonymous_id="anon"))
    seconds = {"at once": 0, "in time": 300, "late": 301}
    for name, later in seconds.items():
        time.now = Time().now + later
        await client.post("/api/v1/events", {"name": name, "anonymous_id": "anon"})
    assert client.names() == ["at once", "in time"]
    await client.batch(identify(anonymous_id="anon"))
    assert client.names() == list(seconds)


async def test_anonymous_activity_is_forgotten_after_30_days(client: Client, time: Time) -> None:
    await client.post("/api/v1/events", {"name": "seen", "anonymous_id": "anon"})
    time.now += 30 * DAY + 1
    assert await client.get("/sandbox/activities") == []


async def test_a_repeated_ulid_stays_ignored_when_its_event_was_anonymous(client: Client) -> None:
    await client.post("/api/v1/events", {"name": "seen", "id": ULID, "anonymous_id": "anon"})
    await client.post("/api/v1/customers/42/events", {"name": "seen", "id": ULID})
    assert client.refusals == ["repeated_event"]
    assert await client.people() == {}


async def test_anonymous_activity_over_its_time_is_held_no_longer(client: Client, time: Time) -> None:
    now = int(time.now)
    ages = {"young": 0, "old": 20 * DAY, "over": 30 * DAY + 1, "from the future": -(10**9)}
    for name, age in ages.items():
        await client.post("/api/v1/events", {"name": name, "anonymous_id": name, "timestamp": now - age})
    assert len(client.state.anonymous) == 3
    time.now += 10 * DAY + 1
    await client.post("/api/v1/events", {"name": "invite", "data": {"recipient": "a@b.co"}})
    assert len(client.state.anonymous) == 3
    await client.put("/api/v1/customers/42", {"anonymous_id": "young"})
    assert (client.names(), len(client.state.anonymous)) == (["young"], 2)
    time.now += 30 * DAY + 1
    assert [each["name"] for each in await client.get("/sandbox/activities")] == ["young"]
    assert len(client.state.anonymous) == 0
