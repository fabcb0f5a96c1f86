"""The same events through v1 and through v2 are the same activities, as a sandbox has them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from connector.core import activity, ulid
from connector.core.activity import Activity
from connector.records import CustomerId, DueEvent
from connector.settings import Settings
from tests.track_client import Client, identify, sandbox

AT = datetime(2026, 3, 1, 10, 0, 0, 999_999, UTC)
URL = "https://shop.example.com/pricing?utm_source=mail"
ANN = CustomerId("id", "a+b /ä")
SETTINGS = Settings.model_validate({"people": {"timezone": "Europe/Paris"}})
PAGE = {"title": "Pricing", "path": "/pricing", "search": "?utm_source=mail", "url": URL, "referrer": ""}
NESTED = {"items": [{"sku": "ä", "made_at": "2026-02-01"}], "at": "2026-03-01T10:00:00Z", "none": None, "big": 2**60}


def due(number: int, type_: str, name: str, properties: dict[str, Any], at: datetime = AT) -> DueEvent:
    activity_id = ulid.activity_id("intake", str(number), at)
    context = {"page": {"referrer": "https://search.example.com/"}}
    return DueEvent(number, "U1", activity_id, type_, name, properties, context, at, AT, AT)


EVENTS = [
    due(1, "track", " Order Completed ", NESTED),
    due(2, "page", "Pricing", PAGE),
    due(3, "page", "Pricing", {}),
    due(4, "screen", 'Bäsket "1"', {"ends_at": "2026-03-01"}),
    due(5, "track", "Redirected", {"recipient": "x@example.com", "total": 1.5}),
    due(6, "track", "Before all", {}, datetime(1901, 1, 1, tzinfo=UTC)),
    due(7, "track", "Much later", {}, datetime.max.replace(tzinfo=UTC)),
    due(8, "track", "Large", {"text": "ä" * 15_000}),
    due(9, "track", "A day before", {}, AT - timedelta(days=1)),
]


def activities() -> list[Activity]:
    found = [activity.of(event, SETTINGS) for event in EVENTS]
    made = [each for each in found if isinstance(each, Activity)]
    assert len(made) == len(EVENTS)
    return made


async def through_v2(client: Client, made: Activity) -> None:
    assert not made.needs_v1
    body = b'{"batch":[' + activity.v2_operation(made, ANN) + b"]}"
    assert (await client.call("POST", "/api/v2/batch", body)).status == 200


async def through_v1(client: Client, made: Activity) -> None:
    reply = await client.call("POST", "/api/v1/customers/a%2Bb%20%2F%C3%A4/events", activity.v1_body(made))
    assert reply.status == 200


async def read_back(send: Callable[[Client, Activity], Any], made: list[Activity]) -> list[dict[str, Any]]:
    """What a sandbox has of Ann then, each sent twice; without what is about the sending itself."""
    async with sandbox() as client:
        assert (await client.batch(identify(ANN.value))).status == 200
        for each in made * 2:
            await send(client, each)
        found = await client.get("/sandbox/activities")
    for each in found:
        del each["number"], each["received"], each["cio_id"]
    return list(reversed(found))


async def test_the_same_mapping_is_read_back_from_v1_and_v2() -> None:
    made = activities()
    by_v1, by_v2 = await read_back(through_v1, made), await read_back(through_v2, made)

    assert by_v1 == by_v2
    assert by_v1 == [
        {
            "customer_id": ANN.value,
            "email": None,
            "anonymous_id": None,
            "type": each.type,
            "name": each.name,
            "id": each.id,
            "timestamp": each.timestamp,
            "data": each.data,
        }
        for each in made
    ]


async def test_page_views_arrive_as_such_with_url_and_referrer() -> None:
    page, bare = (await read_back(through_v2, activities()))[1:3]

    assert (page["type"], page["name"]) == ("page", URL)
    assert page["data"] == PAGE | {"referrer": "https://search.example.com/"}
    assert (bare["type"], bare["name"]) == ("page", "page")


async def test_what_is_too_large_for_a_batch_arrives_through_v1() -> None:
    made = activity.of(due(1, "track", "Large", {"text": "x" * 99_989}), SETTINGS)
    assert isinstance(made, Activity)
    assert made.needs_v1
    assert len(made.encoded) == 100_000

    (found,) = await read_back(through_v1, [made])
    assert found["data"] == made.data


@pytest.mark.parametrize("anonymous_id", ["anon-1", 'a"b/ä'])
async def test_an_activity_of_a_visitor_is_theirs_when_they_say_who_they_are(anonymous_id: str) -> None:
    (made, *_) = activities()
    async with sandbox() as client:
        body = activity.v1_anonymous_body(made, anonymous_id)
        assert (await client.call("POST", "/api/v1/events", body)).status == 200
        (found,) = await client.get("/sandbox/activities")
        assert (found["anonymous_id"], found["customer_id"]) == (anonymous_id, None)
        assert [found[name] for name in ("type", "name", "id", "timestamp", "data")] == [
            made.type,
            made.name,
            made.id,
            made.timestamp,
            made.data,
        ]

        await client.batch(identify("42", anonymous_id=anonymous_id))
        await client.call("POST", "/api/v1/customers/42/events", activity.v1_body(made))
        assert client.names() == ["Order Completed"]
