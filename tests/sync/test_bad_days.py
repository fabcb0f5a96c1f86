"""A day without Customer.io, and an hour with the wrong key: nobody is lost, nobody is blamed, and all of it drains at
the rate of the settings, in order.
"""

from __future__ import annotations

import time
from collections import defaultdict
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest
from aiohttp import web

from connector.outbound import full_pass
from connector.outbound.client import TrackClient
from connector.outbound.throttle import Throttle
from connector.outbound.worker import Worker
from connector.store import schema
from connector.store.database import Database
from tests.places import Give, Place, Sandbox
from tests.store import given
from tests.sync.clock import Clock
from tests.sync.test_failures import track_api

RATES = {"batch": 2, "single": 40}
USERS = 160
LONG = [f"note_{number}" for number in range(20)]  # so that a batch holds some, and not all
WINDOW = 3.0


def user(number: int, seq: int) -> dict[str, Any]:
    return {"external_id": f"u{number}", "email": f"u{number}@example.com", "seq": seq}


def long(number: int, seq: int) -> dict[str, Any]:
    return {**user(number, seq), **dict.fromkeys(LONG, f"{seq:0990}")}


def said_of(request: web.Request, body: dict[str, Any]) -> list[tuple[str, int]]:
    """Each person of a call, and their edit."""
    if "batch" in body:
        return [(each["identifiers"]["id"], each["attributes"]["seq"]) for each in body["batch"]]
    return [(request.path.rpartition("/")[2], body["seq"])]


def written(place: Place, url: str, api: str, key: str = "API_KEY") -> Any:
    place.track_url = url
    people = f'segments = ["All"]\nattributes = {["seq", *(LONG if api == "batch" else [])]}'
    place.more = {"people": people, "segments": '"All" = { everyone = true }'}
    workspace = place.customerio(f'api = "{api}"', f"rate_per_second = {RATES[api]}").replace("API_KEY", key)
    return place.write(customerio=workspace).settings()


@pytest.mark.parametrize(("way", "api"), [(503, "batch"), ("cut", "single")])
async def test_after_a_day_of_outage_all_of_it_drains_at_the_rate_of_the_settings_and_in_order(
    db: Database, place: Place, give: Give, way: int | str, api: str
) -> None:
    rate, made = RATES[api], long if api == "batch" else user
    clock = Clock()
    over_at = clock.now + timedelta(hours=24)
    arrived: list[tuple[float, list[tuple[str, int]]]] = []
    during = 0

    def answers(request: web.Request, body: dict[str, Any]) -> web.Response:
        nonlocal during
        if clock.now < over_at:
            during += 1
            if way == "cut":
                assert request.transport is not None
                request.transport.abort()
            return web.Response(status=503)
        arrived.append((time.monotonic(), said_of(request, body)))
        return web.json_response({})

    async with track_api(answers) as url:
        settings = written(place, url, api)
        give(settings, *(made(number, 0) for number in range(USERS)))
        full_pass.run(db, settings, clock)
        worker = Worker(db, clock)
        async with TrackClient(settings.customerio, Throttle(db, rate)) as client:
            edit = 0
            while clock.now < over_at:
                edit += 1
                give(settings, *(made(number, edit) for number in range(0, USERS, 2)))
                await worker.work_off(settings, client)
                clock.move(minutes=20 if api == "single" else 120)
            found = given.rows(db, schema.pending, "attempts", "parked_at", "lease")
            assert len(found) == USERS
            assert {(parked_at, lease) for _, parked_at, lease in found} == {(None, None)}
            tried = [attempts for attempts, *_ in found if attempts]
            # Those who were first in line before it was known that nobody's calls are taken.
            assert sum(tried) <= (settings.customerio.in_flight if api == "single" else USERS)
            clock.move(minutes=61)
            while (await worker.work_off(settings, client)).users:
                clock.move(minutes=61)
    # One each probe, and what it took to know; aiohttp itself tries a PUT once more whose connection was cut.
    sent_by_one = 2 if way == "cut" and api == "single" else 1
    assert during < sent_by_one * (72 + 20 + 2 * settings.customerio.in_flight)
    assert {who for _, people in arrived for who, _ in people} == {f"u{number}" for number in range(USERS)}
    assert given.rows(db, schema.pending) == []
    by_user = defaultdict(list)
    for _, people in arrived:
        for who, seq in people:
            by_user[who].append(seq)
    assert all(one < other for seqs in by_user.values() for one, other in pairwise(seqs))
    assert all(by_user[f"u{number}"][-1] == edit for number in range(0, USERS, 2))
    times = [at for at, _ in arrived]
    assert len(times) > rate * WINDOW, "else the rate limits nothing"
    most = max(sum(begin <= at < begin + WINDOW for at in times) for begin in times)
    assert most <= rate * WINDOW, most


@pytest.mark.parametrize("api", ["batch", "single"])
async def test_an_hour_with_the_wrong_key_counts_as_nobodys_attempt_and_ends_with_the_edit(
    db: Database, place: Place, give: Give, sandbox: Sandbox, api: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    monkeypatch.setenv("WRONG_KEY", "not this one")
    settings = written(place, sandbox.url, api, "WRONG_KEY")
    give(settings, *(user(number, 0) for number in range(50)))
    full_pass.run(db, settings, clock)
    worker = Worker(db, clock)
    async with TrackClient(settings.customerio, Throttle(db, RATES[api])) as client:
        for edit in range(60):
            give(settings, user(edit % 50, edit))
            await worker.work_off(settings, client)
            clock.move(minutes=1)
    closed = worker.gate.closed
    assert closed is not None
    assert closed.reason == "unauthorized"
    assert given.rows(db, schema.pending, "attempts", "failing_since", "lease") == [(0, None, None)] * 50
    assert given.rows(db, schema.attempts) == []
    assert len(sandbox.state.calls) < 150

    settings = written(place, sandbox.url, api)
    await worker.gate.ask()
    async with TrackClient(settings.customerio, Throttle(db, RATES[api])) as client:
        tally = await worker.work_off(settings, client)
    assert (tally.created, worker.gate.closed) == (50, None)
    assert {person["seq"] for person in sandbox.people().values()} == {*range(10, 60)}
