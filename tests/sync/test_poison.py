"""Somebody whose presence makes a whole call fail: everybody else is delivered, in few calls, and soon."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from math import ceil, log2
from typing import Any

import pytest
import sqlalchemy as sa
from aiohttp import web

from connector import app
from connector.commands import sync as syncing
from connector.outbound import delivery
from connector.settings import Settings
from connector.store import backlog, mirror, schema
from connector.store.database import Database
from tests.places import Give, Place
from tests.store import given
from tests.sync.servers import served

WAYS = ["400", "413", "500", "hang"]


@dataclass
class Poisoned:
    """A Track API that can't stand some people: a call with one of them is refused, fails, or hangs."""

    way: str
    people: frozenset[str]
    url: str = ""
    failed: list[int] = field(default_factory=list)
    taken: list[int] = field(default_factory=list)
    delivered: set[str] = field(default_factory=set)

    async def answer(self, request: web.Request) -> web.Response:
        if request.method == "GET":
            raise web.HTTPNotFound  # it doesn't say which workspace it is
        ids = {item["identifiers"]["id"] for item in json.loads(await request.read())["batch"]}
        if not self.people & ids:
            self.taken.append(len(ids))
            self.delivered |= ids
            return web.json_response({})
        self.failed.append(len(ids))
        if self.way == "hang":
            await asyncio.sleep(3)
        rest = {"Retry-After": "1"} if self.way == "503" else None
        return web.json_response({}, status=500 if self.way == "hang" else int(self.way), headers=rest)


@asynccontextmanager
async def poisoned(way: str, people: Iterable[str]) -> AsyncIterator[Poisoned]:
    api = Poisoned(way, frozenset(people))
    async with served(api.answer) as api.url:
        yield api


@pytest.fixture(autouse=True)
def _less_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in (("_WHOLE_SECONDS", 1.0), ("_HALF_SECONDS", 0.6), ("_LEAST_SECONDS", 0.4)):
        monkeypatch.setattr(delivery, name, seconds)


def settings_for(place: Place, url: str) -> Settings:
    place.track_url = url
    place.more = {"people": 'segments = ["All"]', "segments": '"All" = { everyone = true }'}
    return place.write(customerio=place.customerio("rate_per_second = 10000")).settings()


def user(number: int) -> dict[str, Any]:
    return {"external_id": f"u{number:04}", "email": f"u{number}@example.com"}


def user_id(db: Database, external_id: str) -> str:
    found = sa.select(schema.users.c.id).where(schema.users.c.external_id == external_id)
    return db.read(lambda connection: connection.execute(found).scalar_one())


@pytest.mark.parametrize("way", WAYS)
async def test_of_a_thousand_in_one_call_999_are_delivered_and_few_calls_fail(
    db: Database, place: Place, give: Give, way: str
) -> None:
    async with poisoned(way, ["u0617"]) as api:
        settings = settings_for(place, api.url)
        give(settings, *(user(number) for number in range(1000)))
        summary = await syncing.sync(db, settings, app.now)
    assert (summary.tally.created, len(api.delivered)) == (999, 999)
    assert (summary.tally.failed + summary.tally.parked).total() == 1
    assert api.failed[0] == 1000
    assert api.failed[-1] == 1
    quick_tries = {"500": 2, "hang": 2}.get(way, 0)  # of the first call
    assert len(api.failed) - quick_tries <= ceil(log2(1000)) + 1
    assert summary.refused is None


@pytest.mark.parametrize("way", ["500", "hang"])
async def test_who_was_alone_in_a_call_that_failed_is_tried_again_alone(
    db: Database, place: Place, give: Give, way: str
) -> None:
    async with poisoned(way, ["u0007"]) as api:
        settings = settings_for(place, api.url)
        give(settings, *(user(number) for number in range(20)))
        await syncing.sync(db, settings, app.now)
        api.failed.clear()
        api.taken.clear()
        give(settings, *(user(number) | {"plan": "pro"} for number in range(20, 40)))
        summary = await syncing.sync(db, settings, lambda: app.now() + timedelta(minutes=1))
        assert (summary.tally.created, api.taken) == (20, [20])
        assert set(api.failed) == {1}
        api.people = frozenset()
        summary = await syncing.sync(db, settings, lambda: app.now() + timedelta(minutes=9))
        assert (summary.tally.updated, summary.waiting) == (1, 0)
    assert db.read(mirror.count) == 40


async def test_who_is_refused_alone_is_parked_with_the_words_of_customerio(
    db: Database, place: Place, give: Give
) -> None:
    async with poisoned("400", ["u0003"]) as api:
        settings = settings_for(place, api.url)
        give(settings, *(user(number) for number in range(8)))
        summary = await syncing.sync(db, settings, app.now)
        assert summary.tally.parked == {"refused": 1}
        calls = len(api.failed)
        await syncing.sync(db, settings, lambda: app.now() + timedelta(days=9))
        assert len(api.failed) == calls
        # Their data change: that is a new try.
        api.people = frozenset()
        give(settings, user(3) | {"plan": "pro"})
        assert (await syncing.sync(db, settings, app.now)).tally.created == 1
    assert given.rows(db, schema.pending) == []


async def test_who_makes_a_call_fail_that_asks_for_a_rest_keeps_nobody_for_ever(
    db: Database, place: Place, give: Give
) -> None:
    async with poisoned("503", ["u0003"]) as api:
        settings = settings_for(place, api.url)
        give(settings, *(user(number) for number in range(8)))
        summary = await syncing.sync(db, settings, app.now)
        assert (api.failed, summary.tally.failed, summary.refused) == ([8], {"server_error": 8}, None)
        again = given.rows(db, schema.pending, "due_at", "attempts", "reason")
        assert {row[1:] for row in again} == {(1, "server_error")}
        assert len({row[0] for row in again}) == 8, "at a time of their own each"
        in_the_middle = sorted(row[0] for row in again)[4]
        await syncing.sync(db, settings, lambda: in_the_middle)
        tried = sum(api.failed[1:]) + len(api.delivered)
        assert 4 <= tried < 8
        assert len(api.failed) == 1 or not api.delivered
        api.people = frozenset()
        summary = await syncing.sync(db, settings, lambda: app.now() + timedelta(minutes=9))
        assert (summary.tally.failed, len(api.delivered)) == ({}, 8)


@pytest.mark.parametrize("way", ["400", "500"])
async def test_several_at_fault_are_found_and_all_others_delivered(
    db: Database, place: Place, give: Give, way: str
) -> None:
    at_fault = ["u0000", "u0100", "u0255"]
    async with poisoned(way, at_fault) as api:
        settings = settings_for(place, api.url)
        give(settings, *(user(number) for number in range(1000, 1010)))
        await syncing.sync(db, settings, app.now)  # that calls are taken is known from then on
        give(settings, *(user(number) for number in range(256)))
        summary = await syncing.sync(db, settings, app.now)
    assert summary.tally.created == 253
    assert (summary.tally.failed + summary.tally.parked).total() == 3


async def test_an_api_that_fails_now_and_then_is_not_called_once_for_each_user(
    db: Database, place: Place, give: Give, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody is at fault, but half of the calls fail: the search ends."""
    calls = 0
    api: Callable[[web.Request], Awaitable[web.Response]]

    async with poisoned("500", []) as server:

        async def answer(request: web.Request) -> web.Response:
            nonlocal calls
            calls += 1
            return web.json_response({}, status=200 if calls % 7 == 0 else 500)

        api = answer
        monkeypatch.setattr(Poisoned, "answer", lambda _self, request: api(request))
        settings = settings_for(place, server.url)
        give(settings, *(user(number) for number in range(512)))
        await syncing.sync(db, settings, app.now)
    assert calls < 200
    assert db.read(backlog.counts, app.now()).parked == 0
