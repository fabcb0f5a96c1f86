"""What happens to users whom Customer.io doesn't take: nobody is lost, and nobody else is kept waiting."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from aiohttp import web

from connector import app
from connector.commands import sync as syncing
from connector.outbound.client import TrackClient
from connector.outbound.throttle import Throttle
from connector.settings import Settings
from connector.store import attempts, leases, mirror, schema
from connector.store.database import Database
from connector.store.schema import users
from tests.places import Give, Place, Sandbox
from tests.store import given
from tests.sync.servers import served

PEOPLE = {"people": 'segments = ["All"]', "segments": '"All" = { everyone = true }'}

Answers = Callable[[web.Request, dict[str, Any]], web.Response]


@asynccontextmanager
async def track_api(answers: Answers) -> AsyncIterator[str]:
    """A Track API that answers as the test says, on a port."""

    async def handle(request: web.Request) -> web.Response:
        if request.method == "GET":
            raise web.HTTPNotFound  # it doesn't say which workspace it is
        return answers(request, await request.json())

    async with served(handle) as url:
        yield url


def settings_for(place: Place, url: str, api: str) -> Settings:
    place.track_url = url
    place.more = PEOPLE
    place.write(customerio=place.customerio(f'api = "{api}"', "rate_per_second = 10000"))
    return place.settings()


def user(number: int) -> dict[str, Any]:
    return {"external_id": f"u{number}", "email": f"u{number}@example.com"}


def refuse_u3(request: web.Request, body: dict[str, Any]) -> web.Response:
    words = "property value cannot be longer than 1000 bytes"
    if "batch" not in body:
        refused = request.path.endswith("/u3")
        return web.json_response({"meta": {"errors": [words]}} if refused else {}, status=400 if refused else 200)
    at = next((index for index, item in enumerate(body["batch"]) if item["identifiers"]["id"] == "u3"), None)
    if at is None:
        return web.json_response({})
    error = {"batch_index": at, "reason": "invalid", "field": "attributes.x", "message": words}
    return web.json_response({"errors": [error]}, status=207)


@pytest.mark.parametrize("api", ["batch", "single"])
async def test_a_refused_user_is_parked_and_the_others_are_delivered(
    db: Database, place: Place, give: Give, api: str
) -> None:
    async with track_api(refuse_u3) as url:
        settings = settings_for(place, url, api)
        give(settings, *(user(number) for number in range(5)))
        summary = await syncing.sync(db, settings, app.now)
        assert summary.tally.created == 4
        assert summary.tally.parked == {"refused": 1}
        assert (summary.waiting, summary.parked, summary.exit_status) == (0, 1, 1)
        again = await syncing.sync(db, settings, lambda: app.now() + timedelta(days=8))
        assert (again.tally.calls, again.waiting, again.parked, again.exit_status) == (0, 0, 1, 0)
    u3 = db.read(lambda c: c.execute(sa.select(users.c.id).where(users.c.external_id == "u3")).scalar_one())
    (attempt,) = db.read(attempts.of_user, u3)
    assert (attempt["what"], attempt["reason"]) == ("create", "refused")
    assert "property value cannot be longer than 1000 bytes" in attempt["message"]


@pytest.mark.parametrize("api", ["batch", "single"])
@pytest.mark.parametrize(
    ("status", "reason"),
    [(401, "unauthorized"), (403, "unauthorized"), (301, "redirected"), (308, "redirected")],
)
async def test_what_is_wrong_with_all_calls_closes_the_gate_and_is_no_attempt_of_anybody(
    db: Database, place: Place, give: Give, status: int, reason: str, api: str
) -> None:
    def refuse(_request: web.Request, _body: dict[str, Any]) -> web.Response:
        return web.Response(status=status, text="<html>", headers={"Location": "https://example.com/"})

    async with track_api(refuse) as url:
        settings = settings_for(place, url, api)
        give(settings, user(1), user(2))
        summary = await syncing.sync(db, settings, app.now)
    assert summary.refused is not None
    assert summary.refused.reason == reason
    assert not summary.tally.failed + summary.tally.parked
    assert (summary.waiting, summary.exit_status) == (2, 1)
    assert given.rows(db, schema.pending, "attempts", "failing_since", "lease") == [(0, None, None)] * 2
    assert given.rows(db, schema.attempts) == []
    assert db.read(mirror.count) == 0


async def test_where_everything_is_refused_the_gate_closes_and_nobody_is_parked(
    db: Database, place: Place, give: Give
) -> None:
    async with track_api(lambda _request, _body: web.Response(status=413, text="<html>")) as url:
        settings = settings_for(place, url, "batch")
        give(settings, *(user(number) for number in range(100)))
        summary = await syncing.sync(db, settings, app.now)
    assert summary.refused is not None
    assert (summary.refused.reason, summary.parked, summary.tally.calls) == ("all_refused", 0, 4)
    assert db.read(mirror.count) == 0


async def test_an_outage_closes_the_gate_after_the_quick_tries_and_both_halves(
    db: Database, place: Place, give: Give
) -> None:
    async with track_api(lambda _request, _body: web.Response(status=503, text="<html>")) as url:
        settings = settings_for(place, url, "batch")
        give(settings, user(1), user(2))
        summary = await syncing.sync(db, settings, app.now)
    assert summary.refused is not None
    assert (summary.refused.reason, summary.tally.calls) == ("server_errors", 6)
    assert (summary.tally.failed, summary.waiting) == ({}, 2)


async def test_a_server_error_is_tried_three_times_and_then_again_later(db: Database, place: Place, give: Give) -> None:
    answered = [500, 503, 500]

    def answers(_request: web.Request, _body: dict[str, Any]) -> web.Response:
        return web.json_response({}, status=answered.pop(0) if answered else 200)

    async with track_api(answers) as url:
        settings = settings_for(place, url, "batch")
        give(settings, user(1))
        assert (await syncing.sync(db, settings, app.now)).tally.failed == {"server_error": 1}
        assert answered == []
        later = await syncing.sync(db, settings, lambda: app.now() + timedelta(minutes=1))
        assert (later.tally.updated, later.exit_status) == (1, 0)


async def test_wrong_credentials_lose_nobody(db: Database, place: Place, give: Give, sandbox: Sandbox) -> None:
    settings = settings_for(place, sandbox.url, "batch")
    give(settings, user(1), user(2))
    (place.folder / ".env").write_text("SIGNING_KEY=x\nAPI_KEY=wrong\n")
    refused = (await syncing.sync(db, place.settings(), app.now)).refused
    assert refused is not None
    assert refused.reason == "unauthorized"
    summary = await syncing.sync(db, settings, lambda: app.now() + timedelta(minutes=1))
    assert summary.tally.created == 2
    assert set(sandbox.people()) == {"u1", "u2"}


async def test_nobody_to_reach_closes_the_gate(db: Database, place: Place, give: Give) -> None:
    settings = settings_for(place, "http://127.0.0.1:9", "batch")
    give(settings, user(1))
    refused = (await syncing.sync(db, settings, app.now)).refused
    assert refused is not None
    assert refused.reason == "unreachable"


async def test_what_was_sent_on_a_lost_lease_is_not_recorded(db: Database, place: Place, give: Give) -> None:
    """The worker's lease is taken over while its call is under way: what it then brings must not count."""

    def take_over(_request: web.Request, _body: dict[str, Any]) -> web.Response:
        late = app.now() + timedelta(hours=1)
        db.write(leases.claim, "another worker", late, late + timedelta(hours=1), 10)
        return web.json_response({})

    async with track_api(take_over) as url:
        settings = settings_for(place, url, "batch")
        give(settings, user(1))
        worker = syncing.Worker(db, app.now)
        await db.on_thread(lambda: syncing.full_pass.run(db, settings, app.now))
        throttle = Throttle(db, settings.customerio.rate_per_second)
        async with TrackClient(settings.customerio, throttle) as client:
            tally = await worker.work_off(settings, client)
    assert (tally.created, client.calls) == (0, 1)
    assert given.rows(db, schema.mirror, "unsure") == ["*"]
    [(user_id, lease)] = given.rows(db, schema.pending, "user_id", "lease")
    assert (len(user_id), lease) == (26, "another worker")


async def test_a_change_in_flight_is_sent_too(db: Database, place: Place, give: Give) -> None:
    emails: list[str] = []

    def answers(_request: web.Request, body: dict[str, Any]) -> web.Response:
        emails.append(json.dumps(body["batch"][0]["attributes"]))
        if len(emails) == 2:
            give(settings, {"external_id": "u1", "email": "newest@example.com"})
        return web.json_response({})

    async with track_api(answers) as url:
        settings = settings_for(place, url, "batch")
        give(settings, user(1))
        await syncing.sync(db, settings, app.now)
        give(settings, {"external_id": "u1", "email": "newer@example.com"})
        summary = await syncing.sync(db, settings, app.now)
    assert summary.tally.updated == 2
    assert ["newer@" in emails[1], "newest@" in emails[2]] == [True, True]


async def test_who_met_a_pause_is_not_counted_as_failed_and_goes_out_after_it(
    db: Database, place: Place, give: Give
) -> None:
    """One 429 in single mode: the calls that were waiting behind it were never made."""
    answered = [429]

    def answers(_request: web.Request, _body: dict[str, Any]) -> web.Response:
        if answered:
            return web.Response(status=answered.pop(), headers={"Retry-After": "1"})
        return web.json_response({})

    async with track_api(answers) as url:
        settings = settings_for(place, url, "single")
        give(settings, *(user(number) for number in range(100)))
        summary = await syncing.sync(db, settings, app.now)
    assert summary.tally.created == 100
    assert summary.tally.untried > 0
    assert (summary.tally.failed, summary.waiting, summary.exit_status) == ({}, 0, 0)
    assert given.rows(db, schema.attempts) == []
