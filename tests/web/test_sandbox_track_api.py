"""The sandbox's Track API over real HTTP: credentials, paths, what v1 and v2 apply and what they answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from yarl import URL

from connector.sandbox import read_back, track_api
from connector.sandbox.state import State
from tests.track_client import CREDENTIALS, EVENT, Client, Reply, identify

NOW = 1_700_000_000.25


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    state = State(lambda: NOW)
    app = track_api.create_app(state, site_id="site", api_key="key")
    async with track_api.serve(app) as running, aiohttp.ClientSession(headers=CREDENTIALS) as session:
        yield Client(session, running.url, state)


# Credentials, region, read-back


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Basic",
        "Basic c2l0ZTprZQ==",
        "Bearer c2l0ZTprZXk=",
        aiohttp.encode_basic_auth("site", "kéy", "utf-8"),
        aiohttp.encode_basic_auth("key", "site"),
    ],
)
@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/auth"), ("GET", "/api/v1/accounts/region"), ("POST", "/api/v2/batch"), ("GET", "/api/none")],
)
async def test_wrong_credentials_are_answered_401(
    client: Client, method: str, path: str, authorization: str | None
) -> None:
    headers = {} if authorization is None else {"Authorization": authorization}
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, client.url + path, headers=headers) as response,
    ):
        assert response.status == 401
        assert await response.json() == {"meta": {"error": "Unauthorized request"}}


async def test_credentials_that_are_no_text_are_answered_401(client: Client) -> None:
    target = URL(client.url)
    reader, writer = await asyncio.open_connection(target.host, target.port)
    writer.write(b"GET /auth HTTP/1.1\r\nHost: x\r\nAuthorization: Basic \xff\xfe\r\nConnection: close\r\n\r\n")
    assert (await reader.read()).startswith(b"HTTP/1.1 401 ")
    writer.close()
    await writer.wait_closed()


async def test_good_credentials_and_the_region(client: Client) -> None:
    assert await client.call("GET", "/auth") == Reply(200, {"meta": {"message": "nice credentials."}})
    assert await client.get("/api/v1/accounts/region") == {
        "url": "https://track.customer.io",
        "region": "us",
        "environment_id": 1,
    }


async def test_an_eu_account_says_so_and_has_a_state_of_its_own() -> None:
    app = track_api.create_app(site_id="site", api_key="key", region="eu", environment_id=9)
    async with track_api.serve(app) as running, aiohttp.ClientSession(headers=CREDENTIALS) as session:
        async with session.get(running.url + "/api/v1/accounts/region") as response:
            assert (await response.json())["region"] == "eu"
        assert app[read_back.STATE].calls_received == 1


async def test_what_came_in_is_read_back_without_credentials(client: Client) -> None:
    await client.call("PUT", "/api/v1/customers/42", b'{"email": "a@b.co"}')
    await client.call("POST", "/api/v1/customers/42/events", {"name": "bought", "data": {"total": 12}})
    await client.call("DELETE", "/api/v1/customers/43")
    await client.call("GET", "/api/none?x=1")
    async with aiohttp.ClientSession() as session:

        async def read(path: str) -> Any:
            async with session.get(client.url + path) as response:
                return await response.json()

        assert await read("/sandbox/people") == [
            {
                "id": "42",
                "email": "a@b.co",
                "phone": None,
                "cio_id": next(iter(client.state.people)).cio_id,
                "attributes": {},
                "unsubscribed": False,
                "anonymous_ids": [],
                "devices": [],
                "segments": [],
                "objects": [],
                "created": int(NOW),
                "updated": int(NOW),
            }
        ]
        [activity] = await read("/sandbox/activities")
        assert (activity["customer_id"], activity["type"], activity["data"]) == ("42", "event", {"total": 12})
        calls = [(call["method"], call["path"], call["status"]) for call in await read("/sandbox/calls")]
        assert calls == [
            ("GET", "/api/none?x=1", 404),
            ("DELETE", "/api/v1/customers/43", 200),
            ("POST", "/api/v1/customers/42/events", 200),
            ("PUT", "/api/v1/customers/42", 200),
        ]
        assert (await read("/sandbox/calls"))[-1]["bytes"] == len(b'{"email": "a@b.co"}')
        assert await read("/sandbox/log") == [
            {
                "number": 1,
                "at": NOW,
                "what": "delete",
                "reason": "unknown_person",
                "who": {"id": "43"},
                "detail": "",
            }
        ]
        assert await read("/sandbox") == {
            "people": 1,
            "activities": 1,
            "calls": 4,
            "applied": {"created": 1, "event": 1},
            "refused": {"unknown_person": 1},
        }


# Paths of v1


@pytest.mark.parametrize(
    ("segment", "customer_id", "email"),
    [
        ("42", "42", None),
        ("a%40b.co", None, "a@b.co"),
        ("a@b.co", None, "a@b.co"),
        ("a%2Bc%40b.co", None, "a+c@b.co"),
        ("a%2Fb", "a/b", None),
        ("a%20b%3F%26", "a b?&", None),
        ("a%252Fb", "a%2Fb", None),
        ("%C3%BC", "ü", None),
        ("..%2F", "../", None),
        ("%2B15551234567", "+15551234567", None),
    ],
)
async def test_the_identifier_in_a_path_is_decoded_once_and_told_by_its_shape(
    client: Client, segment: str, customer_id: str | None, email: str | None
) -> None:
    assert (await client.call("PUT", f"/api/v1/customers/{segment}", {})).status == 200
    [person] = await client.get("/sandbox/people")
    assert (person["id"], person["email"]) == (customer_id, email)


async def test_a_cio_id_has_its_prefix_in_v1_paths_and_is_bare_in_v2(client: Client) -> None:
    await client.call("PUT", "/api/v1/customers/42", {})
    cio_id = next(iter(client.state.people)).cio_id
    await client.call("PUT", f"/api/v1/customers/cio_{cio_id}", {"id": "43", "one": 1})
    await client.batch({**identify(two=2), "identifiers": {"cio_id": cio_id}})
    await client.batch({**identify(three=3), "identifiers": {"cio_id": f"cio_{cio_id}"}})
    assert (await client.people())["43"]["attributes"] == {"one": 1, "two": 2}
    assert client.state.refused == {"unknown_cio_id": 1}


@pytest.mark.parametrize("path", ["/api/v1/customers/", "/api/v1/customers//events"])
async def test_an_empty_identifier_is_no_route(client: Client, path: str) -> None:
    assert (await client.call("POST" if path.endswith("events") else "PUT", path, {})).status == 404


@pytest.mark.parametrize(("host", "url"), [("127.0.0.1", "http://127.0.0.1:9000"), ("::1", "http://[::1]:9000")])
def test_where_it_listens_is_told_as_a_url(host: str, url: str) -> None:
    assert track_api.Running(host, 9000).url == url


# What v1 applies


async def test_identify_update_only_and_timestamp_in_v1(client: Client) -> None:
    await client.call("PUT", "/api/v1/customers/41", {"_update": True})
    await client.call("PUT", "/api/v1/customers/42", {"_timestamp": 1000, "plan": "pro"})
    await client.call("PUT", "/api/v1/customers/42", {"_timestamp": 999, "plan": "team"})
    people = await client.people()
    assert people.keys() == {"42"}
    assert (people["42"]["attributes"], people["42"]["updated"]) == ({"plan": "pro"}, 1000)
    assert client.state.refused == {"no_match": 1, "older_timestamp": 1}


@pytest.mark.parametrize("timestamp", ["2024-05-28T00:00:00Z", "1000", None, True])
async def test_a_timestamp_that_is_no_number_is_the_time_of_receipt(client: Client, timestamp: object) -> None:
    await client.call("PUT", "/api/v1/customers/42", {"_timestamp": timestamp})
    await client.batch({**EVENT, "timestamp": timestamp})
    assert (await client.people())["42"]["updated"] == int(NOW)
    [activity] = await client.get("/sandbox/activities")
    assert activity["timestamp"] == int(NOW)


@pytest.mark.parametrize(
    ("kind", "kept"), [("event", "event"), ("page", "page"), ("screen", "screen"), ("other", "event"), (1, "event")]
)
async def test_an_event_in_v1_has_its_payload_under_data(client: Client, kind: object, kept: str) -> None:
    sent = {
        "name": " bought ",
        "type": kind,
        "id": "order-1",
        "timestamp": 1000,
        "data": {"total": 12},
        "attributes": {"lost": True},
    }
    await client.call("POST", "/api/v1/customers/42/events", sent)
    [activity] = await client.get("/sandbox/activities")
    expected = {"type": kept, "name": "bought", "id": "order-1", "timestamp": 1000, "data": {"total": 12}}
    assert activity | expected == activity


async def test_anonymous_and_invite_events_in_v1(client: Client) -> None:
    path = "/api/v1/events"
    assert (await client.call("POST", path, {"name": "n", "anonymous_id": "x"})).status == 200
    assert (await client.call("POST", path, {"name": "n", "data": {"recipient": "a@b.co"}})).status == 200
    assert await client.call("POST", path, {"name": "n"}) == Reply(
        400, {"meta": {"error": "anonymous_id cannot be blank"}}
    )
    assert [each["anonymous_id"] for each in await client.get("/sandbox/activities")] == [None, "x"]
    assert len(client.state.people) == 0


async def test_delete_in_v1(client: Client) -> None:
    await client.call("PUT", "/api/v1/customers/42", {"email": "a@b.co"})
    assert await client.call("DELETE", "/api/v1/customers/A%40b.co") == Reply(200, {})
    assert await client.people() == {}


# What v2 applies


async def test_every_person_action_that_is_known(client: Client) -> None:
    reply = await client.batch(
        {**identify("42", email="a@b.co", plan="pro"), "timestamp": 1000},
        {**identify("42", plan="team"), "timestamp": 999, "_timestamp": 5000},
        {**identify("42", seats=3, _timestamp=1), "timestamp": 1000},
        {**EVENT, "id": "01E4C4CT6YDC7Y5M7FE1GWWPQJ", "attributes": {"total": 12}, "data": {"lost": True}},
        {**EVENT, "id": "01E4C4CT6YDC7Y5M7FE1GWWPQJ"},
        {**EVENT, "action": "page", "name": "https://x.co/", "identifiers": {"email": "A@b.co"}},
        {**EVENT, "action": "screen", "identifiers": {"phone": "+15551234567"}},
        {**EVENT, "identifiers": {"anonymous_id": "anon"}},
        identify("41"),
        {"type": "person", "action": "delete", "identifiers": {"id": "41"}},
        identify("40", _update=True),
    )
    assert reply == Reply(200, {})
    people = await client.get("/sandbox/people")
    assert [(each["id"], each["phone"], each["attributes"]) for each in people] == [
        ("42", None, {"plan": "pro", "seats": 3}),
        (None, "+15551234567", {}),
    ]
    activities = [
        (each["type"], each["customer_id"], each["anonymous_id"], each["data"])
        for each in reversed(await client.get("/sandbox/activities"))
    ]
    assert activities == [
        ("event", "42", None, {"total": 12}),
        ("page", "42", None, {}),
        ("screen", None, None, {}),
        ("event", None, "anon", {}),
    ]
    assert client.state.refused == {"older_timestamp": 1, "repeated_event": 1, "no_match": 1}


async def test_an_identity_conflict_answers_200_and_shows_only_in_the_log(client: Client) -> None:
    await client.batch(identify("42"), identify("43", email="a@b.co"))
    assert await client.batch(identify("42", email="a@b.co", plan="pro")) == Reply(200, {})
    assert (await client.people())["42"]["attributes"] == {}
    [entry] = await client.get("/sandbox/log")
    assert (entry["what"], entry["reason"], entry["who"]) == ("identify", "identity_conflict", {"id": "42"})


async def test_large_numbers_and_nesting_come_back_as_sent(client: Client) -> None:
    sent = {"big": 2**63, "nested": {"list": [1, 2.5, None, "ü"]}, "date": 1_700_000_000}
    await client.batch(identify("42", **sent))
    assert (await client.people())["42"]["attributes"] == sent


async def test_an_id_may_hold_braces(client: Client) -> None:
    assert (await client.put("/api/v1/customers/a%7Bb%7D", {})).status == 200
    assert [person.id for person in client.state.people] == ["a{b}"]
    assert (await client.call("DELETE", "/api/v1/customers/a%7Bb%7D")).status == 200
    assert len(client.state.people) == 0


async def test_a_time_beyond_any_calendar_can_be_read_back(client: Client) -> None:
    assert (await client.put("/api/v1/customers/1", {"_timestamp": 1e300})).status == 200
    assert [person["id"] for person in await client.get("/sandbox/people")] == ["1"]
