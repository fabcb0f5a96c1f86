"""Events that can't go yet: what they wait for, and that they go when it is over."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest
from aiohttp import web

from connector.admin import status
from connector.commands import person, person_text, replay_parked, status_text
from connector.core.outcome import Delivered
from connector.inbound import due
from connector.outbound import preparation, recording
from connector.outbound.notes import Terms
from connector.outbound.results import OfEvents, Result
from connector.store import event_counts, facts, leases, schema
from connector.store.database import Database
from tests.places import Place, Sandbox
from tests.store import given
from tests.sync.events_out import MINUTE, PEOPLE, Way
from tests.sync.servers import served
from tests.sync.test_events_out import named
from tests.sync.test_failures import track_api

PRO = '"All" = { attribute = "plan", is = "pro" }'
DUE = [("due", None)]


@pytest.fixture
def way(db: Database, place: Place, sandbox: Sandbox) -> Way:
    return Way(db, place, sandbox, "batch")


async def tell_of_a_known_user_who_enters(way: Way, **settings: str) -> None:
    """Whoever is older than an hour is created by a pass, and by nothing else."""
    wanted = way.settings(segments=PRO, **settings)
    way.tell(wanted, "identify", user="1", traits={"plan": "free"})
    await way.work(wanted)
    way.clock.move(hours=3)
    way.tell(wanted, "identify", user="1", traits={"plan": "pro"})
    way.tell(wanted, "track", user="1", event="Paid")


async def test_the_event_by_which_somebody_enters_waits_for_the_pass_however_late_it_is(way: Way) -> None:
    await tell_of_a_known_user_who_enters(way)
    settings = way.settings(segments=PRO)
    for _ in range(3):
        tally = await way.work(settings, passes=False)
        assert (tally.skipped, way.outbound()) == ({"awaits_pass": 1}, DUE)
        assert given.rows(way.db, schema.pending, "due_at") == [way.clock() + settings.events.wait]
        way.clock.move(minutes=11)
    tally = await way.work(settings)
    assert (tally.created, tally.events, way.of("1")) == (1, 1, ["Paid"])


async def test_the_event_of_who_is_held_by_the_guard_goes_when_they_are_let_go(way: Way) -> None:
    await tell_of_a_known_user_who_enters(way, guard="max_creates = 0")
    held = way.settings(segments=PRO, guard="max_creates = 0")
    for _ in range(2):
        await way.work(held)
        way.clock.move(minutes=11)
    assert way.outbound() == DUE
    tally = await way.work(way.settings(segments=PRO))
    assert (tally.created, tally.events) == (1, 1)


async def test_who_awaited_the_pass_and_has_left_again_has_their_events_skipped(way: Way) -> None:
    await tell_of_a_known_user_who_enters(way)
    settings = way.settings(segments=PRO)
    await way.work(settings, passes=False)
    way.tell(settings, "identify", user="1", traits={"plan": "free"})
    way.clock.move(minutes=10)
    await way.work(settings)
    assert way.outbound() == [("skipped", "not_in_segment")]


async def test_who_was_deleted_and_comes_back_is_created_though_events_wait(way: Way) -> None:
    people = f'{PEOPLE}\n[people.delete]\nenabled = true\nblind = true\ngrace = "1m"'
    settings = way.settings(
        segments=PRO, people=people, guard="max_delete_share = 1.0", events='names = ["*"]\nwait = "1d"'
    )
    way.tell(settings, "identify", user="1", traits={"plan": "pro"})
    await way.work(settings)
    way.tell(settings, "identify", user="1", traits={"plan": "free"})
    way.tell(settings, "track", user="1")
    await way.work(settings)
    way.clock.move(minutes=2)
    assert (await way.work(settings)).deleted == 1
    assert (way.outbound(), given.rows(way.db, schema.pending, "release")) == (DUE, [None])
    way.clock.move(hours=2)
    way.tell(settings, "identify", user="1", traits={"plan": "pro"})
    tally = await way.work(settings)
    assert (tally.created, tally.events) == (1, 1)


async def test_where_the_guard_lets_more_through_those_who_wait_go_at_once(way: Way) -> None:
    settings = way.settings(guard="max_events_per_user = 1")
    for number in range(3):
        way.tell(settings, "track", user="1", event=f"{number}")
        way.clock.move(seconds=1)
    assert (await way.work(settings)).events == 1
    assert (await way.work(way.settings())).events == 2


async def test_whom_a_process_puts_off_that_has_not_noticed_the_edit_yet_goes_with_a_later_pass(way: Way) -> None:
    old = way.settings(guard="max_events_per_user = 1")
    for number in range(2):
        way.tell(old, "track", user="1", event=f"{number}")
        way.clock.move(seconds=1)
    assert (await way.work(old)).events == 1
    way.clock.move(minutes=10)
    new = way.settings()
    due.look_again(way.db, new, way.clock)
    assert (await way.work(old, passes=False)).events == 0
    way.clock.move(minutes=5)
    assert (await way.work(new)).events == 1
    assert way.db.read(facts.waited_for)[1] is None, "nobody looks for ever"


async def test_visitors_go_at_once_where_they_are_sent_from_now_on(way: Way) -> None:
    settings = way.settings()
    way.tell(settings, "track", anonymous="v1")
    assert (await way.work(settings)).events == 0
    assert (await way.work(way.settings(events='names = ["*"]\nanonymous = true'))).events == 1


@pytest.mark.parametrize("api", ["batch", "single"])
async def test_a_refused_event_takes_no_room_from_what_is_behind_it(way: Way, api: str) -> None:
    way.api = api

    def answers(_request: web.Request, body: dict[str, Any]) -> web.Response:
        is_bad = any(name == "Bad" for _, name in named(body))
        return web.json_response({"meta": {"errors": ["no"]}} if is_bad else {}, status=400 if is_bad else 200)

    async with track_api(answers) as way.url:
        settings = way.settings(guard="max_events_per_user = 1")
        for name in ("Bad", "Good", "Last"):
            way.tell(settings, "track", user="1", event=name)
            way.clock.move(seconds=1)
        assert (await way.work(settings)).events == 1
    assert way.outbound() == [("parked", "refused"), ("sent", None), *DUE]


async def test_events_of_who_is_parked_wait_with_them_and_make_no_try(way: Way) -> None:
    refuses, calls = True, Counter[str]()

    def answers(_request: web.Request, body: dict[str, Any]) -> web.Response:
        calls.update(action for action, _ in named(body))
        return web.json_response({"meta": {"errors": ["no"]}} if refuses else {}, status=400 if refuses else 200)

    async with track_api(answers) as way.url:
        settings = way.settings()
        way.tell(settings, "identify", user="1", traits={"plan": "a"})
        for _ in range(3):
            way.tell(settings, "track", user="1")
            await way.work(settings)
            way.clock.move(hours=1)
        assert (calls, way.outbound()) == ({"identify": 1}, DUE * 3)
        found = way.db.read(status.collect, settings, way.clock())
        assert found["events"]["user_parked"] == 3
        assert "PARKED    3 events wait with their users (user_parked)" in status_text.describe(found, way.clock())
        assert way.db.read(event_counts.outlook, way.clock()) == ({}, 0)
        story = person.tell(way.db, settings, "1", None, way.clock())
        assert {(each["outbound"], each["reason"]) for each in story["events"]} == {("due", "user_parked")}
        assert any(line.endswith("due (user_parked)") for line in person_text.describe(story))
        refuses = False
        replay_parked.parked(way.db, way.clock(), None, None, None)
        assert (await way.work(settings)).events == 3


async def test_events_behind_a_person_who_is_parked_go_when_the_person_changes(way: Way) -> None:
    def answers(_request: web.Request, body: dict[str, Any]) -> web.Response:
        is_bad = any(each["attributes"].get("plan") == "a" for each in body["batch"])
        return web.json_response({"meta": {"errors": ["no"]}} if is_bad else {}, status=400 if is_bad else 200)

    async with track_api(answers) as way.url:
        settings = way.settings()
        way.tell(settings, "identify", user="1", traits={"plan": "a"})
        way.tell(settings, "track", user="1")
        await way.work(settings)
        assert way.outbound() == DUE
        way.tell(settings, "identify", user="1", traits={"plan": "b"})
        assert (await way.work(settings)).events == 1


async def test_nothing_but_the_opt_out_goes_to_a_person_under_an_id_that_is_not_the_users(way: Way) -> None:
    people = 'segments = ["All"]\ncustomer_id = "key"\nopt_out = "gone"\nrequire_email = false'
    settings = way.settings(people=people)
    way.tell(settings, "identify", user="1", traits={"key": "a"})
    await way.work(settings)
    way.tell(settings, "identify", user="1", traits={"key": "b", "gone": True})
    way.tell(settings, "track", user="1")
    await way.work(settings)
    assert (way.sandbox.people()["a"]["unsubscribed"], way.activities()) == (True, [])
    way.clock.move(minutes=10)
    await way.work(settings)
    assert way.outbound() == [("skipped", "customer_id_changed")]


async def test_what_is_left_out_of_events_that_go_is_told_once(way: Way) -> None:
    settings = way.settings()
    for _ in range(2):
        way.tell(settings, "track", user="1", properties={"reply_to": "x@y.co"})
    assert (await way.work(settings)).events == 2
    assert given.rows(way.db, schema.attempts, "what", "reason") == [("event", "reserved")]


async def test_events_that_went_to_another_users_person_are_not_said_to_be_sent(way: Way) -> None:
    """Another worker recorded the same customer id for another user while ours was under way."""
    settings = way.settings()
    now = way.clock()
    way.tell(settings, "track", user="1")
    claims = way.db.write(leases.claim, "lease", now, now + MINUTE, 10)
    (prepared,) = preparation.prepare(way.db, settings, claims, now)
    given.have(way.db, given.user("other"))
    given.sent(way.db, given.person("other", customer_id="1"))
    sent = tuple(each.event_id for each in prepared.agenda.outgoing)
    result = Result(prepared, Delivered(), 1, prepared.parts, events=OfEvents(sent=sent))
    terms = Terms(settings.mapping_hash(), settings.retry.give_up_after, settings.events.wait, now)
    tally = recording.record(way.db, [], [result], terms)
    assert (tally.events, tally.events_parked) == (0, {"customer_id_taken": 1})
    assert way.outbound() == [("parked", "customer_id_taken")]


async def test_what_a_visitor_did_waits_while_it_is_under_way_in_their_former_name(way: Way) -> None:
    """The visitor says who they are while the call for their event is under way; the next claim has that user."""
    identified, events = asyncio.Event(), Counter[str]()

    async def handle(request: web.Request) -> web.Response:
        if request.method == "GET":
            raise web.HTTPNotFound
        body = await request.json()
        if "batch" not in body:
            events["as a visitor"] += 1
            way.tell(settings, "identify", user="1", anonymous="v1")
            await asyncio.wait_for(identified.wait(), 20)
            return web.json_response({})
        for each in body["batch"]:
            if each["action"] == "event":
                events["as a person"] += 1
            elif "anonymous_id" in each["attributes"]:
                identified.set()
        return web.json_response({})

    async with served(handle) as way.url:
        settings = way.settings(events='names = ["*"]\nanonymous = true')
        way.tell(settings, "identify", user="1")
        await way.work(settings)
        way.tell(settings, "track", anonymous="v1")
        await way.work(settings)
        way.tell(settings, "track", user="1")
        way.clock.move(seconds=1)
        await way.work(settings)
    assert events == {"as a visitor": 1, "as a person": 1}
    assert way.outbound() == [("sent", None)] * 2
