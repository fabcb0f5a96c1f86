"""Calls that failed and were applied all the same: Customer.io ends up with what the store says, whatever came then."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest
from aiohttp import web

from connector import app
from connector.commands import sync as syncing
from connector.outbound import full_pass
from connector.outbound.worker import Worker
from connector.records import Received
from connector.settings import Settings
from connector.store import inbox, leases, pending, schema
from connector.store.database import Database
from tests.places import Give, Place
from tests.store import given
from tests.sync.clock import Clock
from tests.sync.servers import served
from tests.sync.test_flights import client_for

DELETING = '[people.delete]\nenabled = true\nblind = true\ngrace = "1h"'


class Customerio:
    """People by id, as a batch makes them; answers 500 after having applied it, as long as it is told to."""

    def __init__(self) -> None:
        self.people: dict[str, dict[str, Any]] = {}
        self.fails = 0
        self.answers: list[int] = []  # of the next calls; what is answered 500 is applied first, other failures aren't
        self.applied = asyncio.Event()

    async def answer(self, request: web.Request) -> web.Response:
        if request.method == "GET":
            raise web.HTTPNotFound  # it doesn't say which workspace it is
        status = self.answers.pop(0) if self.answers else 200
        if status not in {200, 500}:
            return web.Response(status=status, headers={"Retry-After": "0"})
        for item in json.loads(await request.read())["batch"]:
            person = item["identifiers"]["id"]
            if item["action"] == "delete":
                self.people.pop(person, None)
                continue
            attributes = {**self.people.get(person, {}), **item["attributes"]}
            self.people[person] = {name: value for name, value in attributes.items() if value is not None}
        self.applied.set()
        if self.fails:
            self.fails -= 1
            if self.fails > 100:
                await asyncio.sleep(2)
            return web.Response(status=500)
        if status == 500:
            return web.Response(status=500)
        return web.json_response({})


@asynccontextmanager
async def customerio() -> AsyncIterator[tuple[Customerio, str]]:
    api = Customerio()
    async with served(api.answer) as url:
        yield api, url


def settings_for(place: Place, url: str, more: str = "") -> Settings:
    place.track_url = url
    place.more = {
        "people": f'segments = ["Paying"]\nattributes = ["seq", "note"]\n{more}',
        "segments": '"Paying" = { attribute = "plan", is = "pro" }',
    }
    return place.write(customerio=place.customerio("rate_per_second = 10000")).settings()


def user(seq: int, plan: str = "pro", **more: Any) -> dict[str, Any]:
    return {"external_id": "u1", "email": "u1@example.com", "plan": plan, "seq": seq, **more}


def one_of(number: int) -> dict[str, Any]:
    return {**user(1), "external_id": f"u{number}", "email": f"u{number}@example.com"}


@pytest.fixture
def clock() -> Clock:
    return Clock()


async def test_an_update_that_was_applied_and_taken_back_before_the_next_try_is_taken_back_there(
    db: Database, place: Place, give: Give, clock: Clock
) -> None:
    async with customerio() as (api, url):
        settings = settings_for(place, url)
        give(settings, user(1))
        await syncing.sync(db, settings, clock)
        api.fails = 3
        give(settings, user(2, note="never meant"))
        assert (await syncing.sync(db, settings, clock)).waiting == 1
        assert api.people["u1"]["seq"] == 2
        give(settings, user(1, note=None))
        clock.move(hours=1)
        assert (await syncing.sync(db, settings, clock)).exit_status == 0
        assert api.people["u1"] == {"email": "u1@example.com", "hull_segments": ["Paying"], "seq": 1}
        clock.move(hours=1)
        assert (await syncing.sync(db, settings, clock)).tally.calls == 0


@pytest.mark.parametrize("heard", [400, 401, 429])
@pytest.mark.parametrize("users", [1, 2])
async def test_an_update_that_was_applied_unheard_before_a_try_that_was_heard_is_taken_back_there(
    db: Database, place: Place, give: Give, clock: Clock, users: int, heard: int
) -> None:
    async with customerio() as (api, url):
        settings = settings_for(place, url)
        names = [f"u{number}" for number in range(1, users + 1)]

        def everybody(seq: int, note: str | None) -> None:
            for number in range(1, users + 1):
                give(settings, {**one_of(number), "seq": seq, "note": note})

        everybody(1, None)
        await syncing.sync(db, settings, clock)
        everybody(2, "never meant")
        api.answers = [500, *[heard] * (1 if heard == 429 else 5)]
        await syncing.sync(db, settings, clock)
        assert [api.people[name]["seq"] for name in names] == [2] * users
        api.answers = []
        everybody(1, None)
        clock.move(hours=2)
        await syncing.sync(db, settings, clock)
        assert [(api.people[name]["seq"], "note" in api.people[name]) for name in names] == [(1, False)] * users


async def test_a_person_whose_delete_was_applied_unheard_and_who_comes_back_is_there_again(
    db: Database, place: Place, give: Give, clock: Clock
) -> None:
    async with customerio() as (api, url):
        settings = settings_for(place, url, DELETING)
        await deleted_unheard(api, db, settings, give, clock)
        give(settings, user(1))
        clock.move(hours=2)
        await syncing.sync(db, settings, clock)
    assert api.people["u1"]["seq"] == 1


async def deleted_unheard(api: Customerio, db: Database, settings: Settings, give: Give, clock: Clock) -> None:
    """u1, who has left; the clock stands where the delete was applied."""
    give(settings, user(1))
    await syncing.sync(db, settings, clock)
    give(settings, user(1, plan="free"))
    await syncing.sync(db, settings, clock)
    clock.move(hours=2)
    api.fails = 3
    await syncing.sync(db, settings, clock)
    assert api.people == {}


async def test_who_comes_back_after_a_delete_that_nobody_heard_of_is_opted_out_by_a_late_word_from_before(
    db: Database, place: Place, give: Give, clock: Clock
) -> None:
    async with customerio() as (api, url):
        settings = settings_for(place, url, DELETING)
        await deleted_unheard(api, db, settings, give, clock)
        said_at = int(clock.now.timestamp())
        give(settings, user(1))
        clock.move(hours=2)
        await syncing.sync(db, settings, clock)
        assert "unsubscribed" not in api.people["u1"], "nobody has told us yet"
        clock.move(minutes=1)
        body = given.webhook("late", "customer.unsubscribed", at=said_at, identifiers={"id": "u1"})
        db.write(inbox.append, inbox.CUSTOMERIO, [Received("late", clock.now, body)])
        await syncing.sync(db, settings, clock)
    assert api.people["u1"]["unsubscribed"] is True


async def test_a_person_whose_create_was_applied_unheard_is_known_as_one(
    db: Database, place: Place, give: Give, clock: Clock
) -> None:
    async with customerio() as (api, url):
        settings = settings_for(place, url, DELETING)
        give(settings, user(1))
        api.fails = 3
        await syncing.sync(db, settings, clock)
        assert set(api.people) == {"u1"}
        give(settings, user(1, plan="free"))
        for _ in range(3):
            clock.move(hours=2)
            await syncing.sync(db, settings, clock)
    assert api.people == {}


async def test_a_worker_that_was_cancelled_in_a_call_leaves_word_of_it(db: Database, place: Place, give: Give) -> None:
    async with customerio() as (api, url):
        settings = settings_for(place, url)
        give(settings, user(1))
        await syncing.sync(db, settings, app.now)
        api.applied.clear()
        api.fails = 1000
        give(settings, user(2))
        async with client_for(db, settings) as client:
            working = asyncio.create_task(Worker(db, app.now).work_off(settings, client))
            await api.applied.wait()
            working.cancel()
            with pytest.raises(asyncio.CancelledError):
                await working
        api.fails = 0
        give(settings, user(1))
        await syncing.sync(db, settings, lambda: app.now() + timedelta(minutes=2))
    assert api.people["u1"]["seq"] == 1


async def test_what_was_never_answered_by_customerio_parks_nobody(db: Database, place: Place, give: Give) -> None:
    """A wrong address: a 404 for everybody."""

    async def nowhere(_request: web.Request) -> web.Response:
        raise web.HTTPNotFound

    async with served(nowhere) as url:
        settings = settings_for(place, url)
        give(settings, *(one_of(number) for number in range(20)))
        summary = await syncing.sync(db, settings, app.now)
    assert summary.refused is not None
    assert (summary.refused.reason, summary.parked, summary.waiting) == ("wrong_address", 0, 20)
    assert summary.tally.calls == 1


async def test_one_at_fault_does_not_keep_the_gate_closed(db: Database, place: Place, give: Give) -> None:
    async def answer(request: web.Request) -> web.Response:
        if request.method == "GET":
            return web.json_response({"region": "us", "environment_id": 1})
        batch = json.loads(await request.read())["batch"]
        bad = any(item["identifiers"]["id"] == "u0" for item in batch)
        return web.json_response({}, status=500 if bad else 200)

    clock = Clock()
    async with served(answer) as url:
        settings = settings_for(place, url)
        give(settings, *(one_of(number) for number in range(6)))
        full_pass.run(db, settings, clock)
        worker = Worker(db, clock)
        await worker.gate.close("server_errors", "made up")
        async with client_for(db, settings) as client:
            for _ in range(30):
                clock.move(minutes=10)
                await worker.work_off(settings, client)
    assert len(given.rows(db, schema.mirror, "user_id")) >= 5
    assert worker.gate.closed is None


async def test_a_207_that_names_nobody_is_searched_like_a_refusal(db: Database, place: Place, give: Give) -> None:
    async def answer(request: web.Request) -> web.Response:
        if request.method == "GET":
            raise web.HTTPNotFound
        batch = json.loads(await request.read())["batch"]
        if any(item["identifiers"]["id"] == "u7" for item in batch):
            return web.json_response({"errors": [{"reason": "invalid", "message": "something is wrong"}]}, status=207)
        return web.json_response({})

    async with served(answer) as url:
        settings = settings_for(place, url)
        give(settings, *(one_of(number) for number in range(50)))
        summary = await syncing.sync(db, settings, app.now)
    assert (summary.tally.created, summary.waiting + summary.parked) == (49, 1)


def test_a_lease_that_ran_out_leaves_word_of_it(db: Database) -> None:
    given.have(db, given.user("U1"))
    given.sent(db, given.person("U1"))
    now = app.now()
    db.write(pending.mark, ["U1"], now, pending.CHANGED)
    db.write(leases.claim, "dead", now, now + timedelta(seconds=60), 9)
    db.write(leases.claim, "next", now + timedelta(seconds=61), now + timedelta(seconds=121), 9)
    assert given.rows(db, schema.mirror, "unsure") == ["*"]


@pytest.mark.parametrize("leaves", [True, False])
async def test_a_create_whose_worker_ended_in_the_call_is_nobodys_orphan(
    db: Database, place: Place, give: Give, leaves: bool
) -> None:
    clock = Clock()
    async with customerio() as (api, url):
        settings = settings_for(place, url, DELETING)
        give(settings, user(2, note="never meant"))
        full_pass.run(db, settings, clock)
        api.fails = 1000
        async with client_for(db, settings) as client:
            working = asyncio.create_task(Worker(db, clock).work_off(settings, client))
            await api.applied.wait()
            working.cancel()
            with pytest.raises(asyncio.CancelledError):
                await working
        api.fails = 0
        give(settings, user(1, plan="free" if leaves else "pro", note=None))
        for _ in range(3):
            clock.move(hours=2)
            await syncing.sync(db, settings, clock)
    names = [value for kind, value in given.rows(db, schema.identifiers, "kind", "value") if kind == "customer_id"]
    assert names == ([] if leaves else ["u1"])
    assert leaves or ("create", 1) in given.rows(db, schema.guarded, "what", "count")
    there = {"email": "u1@example.com", "hull_segments": ["Paying"], "seq": 1}
    assert api.people == ({} if leaves else {"u1": there})


async def test_who_was_refused_is_no_person(db: Database, place: Place, give: Give) -> None:
    async def answer(request: web.Request) -> web.Response:
        if request.method == "GET":
            raise web.HTTPNotFound
        return web.json_response({"errors": [{"message": "no"}]}, status=400)

    async with served(answer) as url:
        settings = settings_for(place, url)
        give(settings, user(1))
        summary = await syncing.sync(db, settings, app.now)
    assert summary.tally.parked == {"refused": 1}
    assert given.rows(db, schema.mirror) == []
