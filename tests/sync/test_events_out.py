"""Events from the intake to Customer.io: in whose name, in which order, and what becomes of those that don't go."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from datetime import timedelta
from typing import Any

import pytest
from aiohttp import web

from connector.commands import replay_parked, resend
from connector.store import event_counts, schema
from connector.store.database import Database
from tests.places import Place, Sandbox
from tests.store import given, told
from tests.sync.events_out import MINUTE, Way
from tests.sync.test_failures import track_api

SECOND = timedelta(seconds=1)


@pytest.fixture(params=["batch", "single"])
def way(db: Database, place: Place, sandbox: Sandbox, request: pytest.FixtureRequest) -> Way:
    return Way(db, place, sandbox, request.param)


def operations(way: Way) -> list[list[tuple[str, str]]]:
    """Of each call: what, and about whom."""
    found = []
    for call in way.sandbox.state.calls:
        if call.path == "/api/v2/batch":
            batch = json.loads(call.body)["batch"]
            found.append([(each["action"], each["identifiers"]["id"]) for each in batch])
        elif call.method != "GET":
            action = "event" if call.path.endswith("/events") else "identify"
            found.append([(action, call.path.split("/")[4])])
    return found


async def test_a_person_is_accepted_before_their_events_and_each_event_before_the_next(way: Way) -> None:
    settings = way.settings()
    at = way.clock()
    for number, ago in enumerate((3, 1, 2)):
        way.tell(settings, "track", at - ago * MINUTE, user="1", event=f"{ago} minutes ago")
        way.tell(settings, "track", at - ago * MINUTE, user="2", event=f"Event {number} at that time")
    way.tell(settings, "track", at - MINUTE, user="1", event="At the same time, told later")
    tally = await way.work(settings)
    assert (tally.created, tally.events) == (2, 7)
    assert way.of("1") == ["3 minutes ago", "2 minutes ago", "1 minutes ago", "At the same time, told later"]
    assert [each["timestamp"] for each in way.activities() if each["customer_id"] == "2"] == [
        int((at - ago * MINUTE).timestamp()) for ago in (3, 2, 1)
    ]
    calls = operations(way)
    for user in ("1", "2"):
        assert next(action for call in calls for action, about in call if about == user) == "identify"
    assert all(len({about for _, about in call}) == len(call) for call in calls)
    if way.api == "batch":
        assert [len(call) for call in calls] == [2, 2, 2, 2, 1]


async def test_one_users_many_events_go_in_order_and_one_at_a_time_beside_those_of_others(way: Way) -> None:
    settings = way.settings()
    at = way.clock() - timedelta(hours=1)
    busy = [told.message("track", f"b{number}", user="busy", event=f"{number}") for number in range(130)]
    others = [
        told.message("track", f"o{user}-{number}", user=f"u{user}", event=f"{number}")
        for number in range(5)
        for user in range(20)
    ]
    said = [
        {**each, "timestamp": (at + int(each["event"]) * SECOND).isoformat()} for each in [*reversed(busy), *others]
    ]
    told.tell(way.db, *said, settings=settings, now=way.clock())
    tally = await way.work(settings)
    assert (tally.created, tally.events) == (21, 230)
    assert way.of("busy") == [f"{number}" for number in range(130)]
    assert all(way.of(f"u{user}") == [f"{number}" for number in range(5)] for user in range(20))
    calls = [call for call in operations(way) if call[0][0] == "event"]
    assert all(max(Counter(about for _, about in call).values()) == 1 for call in calls)
    if way.api == "batch":
        assert [len(call) for call in calls] == [21] * 5 + [1] * 125
    assert given.rows(way.db, schema.pending) == []


async def test_who_is_refused_gets_no_events_until_they_are_taken(way: Way) -> None:
    refuses = True

    def answers(request: web.Request, body: dict[str, Any]) -> web.Response:
        seen.append(request.path if "batch" not in body else body["batch"][0]["action"])
        return web.json_response({"meta": {"errors": ["no"]}} if refuses else {}, status=400 if refuses else 200)

    seen: list[str] = []
    async with track_api(answers) as way.url:
        settings = way.settings()
        way.tell(settings, "track", user="1", event="First")
        tally = await way.work(settings)
        assert (tally.parked, tally.events, len(seen)) == ({"refused": 1}, 0, 1)
        way.clock.move(hours=1)
        assert (await way.work(settings)).events == 0
        assert way.outbound() == [("due", None)]
        refuses = False
        assert replay_parked.parked(way.db, way.clock(), None, None, None).replayed == 1
        assert (await way.work(settings)).events == 1
    assert way.outbound() == [("sent", None)]


async def test_an_event_before_its_user_enters_waits_and_goes_with_them(way: Way) -> None:
    settings = way.settings(segments='"All" = { attribute = "plan", in = ["pro"] }')
    way.tell(settings, "track", user="1", event="Tried")
    assert (await way.work(settings)).events == 0
    way.clock.move(minutes=9)
    assert (await way.work(settings)).events == 0
    assert way.outbound() == [("due", None)]
    way.tell(settings, "identify", user="1", traits={"plan": "pro"})
    tally = await way.work(settings)
    assert (tally.created, tally.events) == (1, 1)
    assert way.of("1") == ["Tried"]


@pytest.mark.parametrize(
    ("message", "people", "reason"),
    [
        ({"user": "1"}, 'segments = ["Nobody"]', "not_in_segment"),
        ({"user": "1"}, 'segments = ["All"]', "no_email"),
        ({"anonymous": "v1"}, 'segments = ["All"]', "no_customer_id"),
        ({"user": ".."}, 'segments = ["All"]\nrequire_email = false', "bad_customer_id"),
    ],
)
async def test_events_of_who_is_not_sent_wait_and_are_skipped_for_the_users_reason(
    way: Way, message: dict[str, Any], people: str, reason: str
) -> None:
    more = '"All" = { everyone = true }\n"Nobody" = { attribute = "plan", in = ["none"] }'
    settings = way.settings(people=people, segments=more, events='names = ["*"]\nwait = "5m"')
    way.tell(settings, "track", **message)
    way.clock.move(minutes=3)
    way.tell(settings, "track", **message)
    await way.work(settings)
    assert way.outbound() == [("due", None)] * 2
    way.clock.move(minutes=2)
    await way.work(settings)
    assert way.outbound() == [("skipped", reason), ("due", None)]
    way.clock.move(minutes=3)
    await way.work(settings)
    assert way.outbound() == [("skipped", reason)] * 2
    assert (way.activities(), given.rows(way.db, schema.pending)) == ([], [])


async def test_a_person_who_left_is_sent_no_events_and_the_reason_says_so(way: Way) -> None:
    segments = '"All" = { attribute = "plan", in = ["pro"] }'
    kept = way.settings(segments=segments)
    way.tell(kept, "identify", user="1", traits={"plan": "pro"})
    await way.work(kept)
    way.tell(kept, "identify", user="1", traits={"plan": "free"})
    way.tell(kept, "track", user="1")
    await way.work(kept)
    way.clock.move(minutes=10)
    await way.work(kept)
    assert way.outbound() == [("skipped", "left_kept")]

    delete = '[people.delete]\nenabled = true\nblind = true\ngrace = "1h"'
    people = f'segments = ["All"]\nrequire_email = false\nopt_out = "gone"\n{delete}'
    leaving = way.settings(segments=segments, people=people, guard="max_delete_share = 1.0")
    way.tell(leaving, "identify", user="1", traits={"gone": True})
    way.tell(leaving, "track", user="1")
    await way.work(leaving)
    assert way.sandbox.people()["1"]["unsubscribed"] is True
    way.clock.move(minutes=10)
    await way.work(leaving)
    assert way.outbound() == [("skipped", "left_kept"), ("skipped", "leaving")]
    assert way.activities() == []


async def test_an_event_that_is_too_old_when_it_comes_is_not_sent_and_our_own_delays_make_none_so(way: Way) -> None:
    settings = way.settings(events='names = ["*"]\nmax_age = "1d"')
    way.tell(settings, "track", way.clock() - timedelta(days=1, seconds=1), user="1", event="Old")
    way.tell(settings, "track", way.clock() - timedelta(days=1), user="1", event="Just in time")
    way.clock.move(days=3)
    await way.work(settings)
    assert way.of("1") == ["Just in time"]
    assert way.outbound() == [("skipped", "too_old"), ("sent", None)]


async def test_no_user_is_sent_more_events_than_the_guard_allows_in_any_24_hours(way: Way) -> None:
    settings = way.settings(guard="max_events_per_user = 3")
    at = way.clock() - timedelta(hours=1)
    for number in range(8):
        way.tell(settings, "track", at + number * SECOND, user="1", event=f"{number}")
    way.tell(settings, "track", user="2", event="Of another")
    assert (await way.work(settings)).events == 4
    assert (await way.work(settings)).events == 0
    assert way.db.read(event_counts.held, 3, way.clock()) == (1, 5)
    way.clock.move(hours=23, minutes=59)
    assert (await way.work(settings)).events == 0
    way.clock.move(minutes=1)
    assert (await way.work(settings)).events == 3
    way.clock.move(hours=24)
    assert (await way.work(settings)).events == 2
    assert way.of("1") == [f"{number}" for number in range(8)]
    assert (way.of("2"), given.rows(way.db, schema.pending)) == (["Of another"], [])


async def test_where_the_guard_allows_no_event_at_all_they_wait_for_an_edit(way: Way) -> None:
    none = way.settings(guard="max_events_per_user = 0")
    way.tell(none, "track", user="1")
    assert (await way.work(none)).events == 0
    way.clock.move(hours=24)
    assert (await way.work(none)).events == 0
    way.clock.move(hours=24)
    assert (await way.work(way.settings())).events == 1


async def test_what_cannot_be_sent_takes_no_room_from_what_can(way: Way) -> None:
    settings = way.settings(guard="max_events_per_user = 2")
    for name in ("x" * 101, "1", "y" * 101, "2", "z" * 101, "3"):
        way.tell(settings, "track", user="1", event=name)
        way.clock.move(seconds=1)
    assert (await way.work(settings)).events == 2
    assert way.of("1") == ["1", "2"]


async def test_what_cannot_be_sent_is_parked_with_its_reason_and_what_is_behind_it_goes(way: Way) -> None:
    settings = way.settings()
    way.tell(settings, "identify", user="1")
    for name, length in (("x" * 101, 1), ("Large", 100_001), ("Fine", 1)):
        way.sql(settings, name, "1", text="x" * length)
        way.clock.move(seconds=1)
    tally = await way.work(settings)
    assert (tally.events, tally.events_parked) == (1, {"name_too_long": 1, "event_too_large": 1})
    assert way.outbound() == [("parked", "name_too_long"), ("parked", "event_too_large"), ("sent", None)]
    assert given.rows(way.db, schema.attempts, "what", "reason") == [
        ("event", "name_too_long"),
        ("event", "event_too_large"),
    ]
    assert way.of("1") == ["Fine"]


async def test_what_is_too_large_for_a_batch_goes_alone_and_in_its_place(way: Way) -> None:
    settings = way.settings()
    way.tell(settings, "identify", user="1")
    way.tell(settings, "identify", user="2")
    for name, length in (("First", 1), ("Large", 40_000), ("Last", 1)):
        way.sql(settings, name, "1", text="x" * length)
        way.sql(settings, name, "2")
        way.clock.move(seconds=1)
    assert (await way.work(settings)).events == 6
    assert way.of("1") == way.of("2") == ["First", "Large", "Last"]
    sizes = [len(each["data"].get("text", "")) for each in way.activities() if each["customer_id"] == "1"]
    assert sizes == [1, 40_000, 1]


def named(body: dict[str, Any]) -> list[tuple[str, str]]:
    """Action and name of everything in a call."""
    found = [(each["action"], each.get("name", "")) for each in body.get("batch", ())]
    return found or [("event" if "name" in body else "identify", body.get("name", ""))]


async def test_a_refused_event_is_parked_and_those_behind_it_go_on(way: Way) -> None:
    took: list[str] = []

    def answers(_request: web.Request, body: dict[str, Any]) -> web.Response:
        names = [name for action, name in named(body) if action == "event"]
        took.extend(name for name in names if name != "Bad")
        if "Bad" not in names:
            return web.json_response({})
        if "batch" not in body:
            return web.json_response({"meta": {"errors": ["no"]}}, status=400)
        error = {"batch_index": names.index("Bad"), "reason": "invalid", "field": "name", "message": "no"}
        return web.json_response({"errors": [error]}, status=207)

    async with track_api(answers) as way.url:
        settings = way.settings()
        for name in ("First", "Bad", "Last"):
            way.tell(settings, "track", way.clock(), user="1", event=name)
            way.tell(settings, "track", way.clock(), user="2", event=f"{name} of 2")
            way.clock.move(seconds=1)
        tally = await way.work(settings)
        assert (tally.events, tally.events_parked) == (5, {"refused": 1})
    assert [each for each in took if not each.endswith("2")] == ["First", "Last"]
    assert [outbound for outbound, _ in way.outbound()] == ["sent", "sent", "parked", "sent", "sent", "sent"]
    ((what, status, message),) = given.rows(way.db, schema.attempts, "what", "status", "message")
    assert (what, status) == ("event", 207 if way.api == "batch" else 400)
    assert "no" in message


async def test_those_behind_a_failing_event_wait_for_it(way: Way) -> None:
    fails = True
    took: list[str] = []

    def answers(_request: web.Request, body: dict[str, Any]) -> web.Response:
        names = [name for action, name in named(body) if action == "event"]
        if fails and "Bad" in names:
            return web.Response(status=500)
        took.extend(names)
        return web.json_response({})

    async with track_api(answers) as way.url:
        settings = way.settings()
        for name in ("First", "Bad", "Last"):
            way.tell(settings, "track", way.clock(), user="1", event=name)
            way.clock.move(seconds=1)
        for user in range(2, 6):
            for name in ("First", "Last"):
                way.tell(settings, "track", way.clock(), user=f"{user}", event=f"{name} of {user}")
        tally = await way.work(settings)
        assert (tally.failed, tally.events) == ({"server_error": 1}, 9)
        assert [outbound for outbound, _ in way.outbound()][:3] == ["sent", "due", "due"]
        fails = False
        way.clock.move(hours=1)
        assert (await way.work(settings)).events == 2
    assert [each for each in took if " of " not in each] == ["First", "Bad", "Last"]


async def test_what_was_applied_and_never_answered_is_there_once(way: Way) -> None:
    """The connection is cut after the event was applied, so often that it fails; it goes again under its id."""
    settings = way.settings()
    way.tell(settings, "identify", user="1")
    await way.work(settings)
    way.tell(settings, "track", user="1", event="First")
    way.tell(settings, "track", way.clock() + SECOND, user="1", event="Last")
    await way.sandbox.faults("200, 3x apply-cut, 3x cut")
    await way.work(settings)
    assert way.of("1") == ["First"]
    await way.sandbox.faults("")
    for _ in range(4):
        way.clock.move(hours=1)
        await way.work(settings)
    assert way.of("1") == ["First", "Last"]
    assert way.sandbox.state.refused["repeated_event"] > 0
    assert way.outbound() == [("sent", None)] * 2


async def test_what_is_sent_again_has_its_id_and_is_there_once(way: Way) -> None:
    settings = way.settings()
    way.tell(settings, "track", user="1", event="Bought")
    await way.work(settings)
    (before,) = way.activities()
    found = resend.resend(way.db, way.clock(), "Bought", way.clock() - timedelta(days=1), None, None)
    assert found == {"resent": 1, "triggering": 1}
    assert (await way.work(settings)).events == 1
    assert way.activities() == [before]
    assert way.sandbox.state.refused["repeated_event"] == 1


async def test_the_settings_of_the_moment_in_which_an_event_is_read_decide(way: Way) -> None:
    only = way.settings(events='names = ["Order *"]')
    way.tell(only, "track", user="1", event="Order Made")
    way.tell(only, "track", user="1", event="Clicked")
    way.tell(only, "page", user="1")
    other = way.settings(events='names = ["Clicked"]')
    way.tell(other, "track", user="1", event="Order Paid")
    way.tell(other, "track", user="1", event="Clicked")
    await way.work(other)
    assert way.of("1") == ["Order Made", "Clicked"]
    told_of: defaultdict[str, int] = defaultdict(int)
    for outbound, _ in way.outbound():
        told_of[outbound] += 1
    assert told_of == {"sent": 2, "none": 3}


async def test_an_event_is_the_same_activity_in_both_ways_of_sending(way: Way) -> None:
    settings = way.settings()
    at = way.clock() - MINUTE
    url = f"https://shop.example.com/pricing?{'x' * 100}#top"
    page = {"title": "Pricing", "path": "/pricing", "search": "?x"}
    context = {"page": {"url": url, "referrer": "https://search.example.com/"}}
    way.tell(settings, "page", at, user="1", properties=page, context=context)
    way.tell(settings, "screen", at, user="1", name="Basket", properties={"items": 2})
    way.tell(
        settings, "track", at, user="1", event=" Bought ", properties={"paid_at": "2026-01-02", "reply_to": "x@y.z"}
    )
    await way.work(settings)
    found = [(each["type"], each["name"], each["data"]) for each in way.activities()]
    assert found == [
        (
            "page",
            "https://shop.example.com/pricing",
            {**page, "url": url, "referrer": "https://search.example.com/"},
        ),
        ("screen", "Basket", {"items": 2}),
        ("event", "Bought", {"paid_at": 1767312000}),
    ]
    assert {each["timestamp"] for each in way.activities()} == {int(at.timestamp())}
