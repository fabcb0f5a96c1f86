"""Claims, leases and calls of a worker that overlap: one user is never in flight twice, nothing late counts."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from aiohttp import web
from structlog.testing import capture_logs

from connector import app
from connector.core import encode, outage
from connector.outbound import claims, flights, full_pass
from connector.outbound.client import TrackClient
from connector.outbound.gate import Gate
from connector.outbound.throttle import Throttle
from connector.outbound.worker import Worker
from connector.settings import Settings
from connector.store import leases, mirror, pending, schema
from connector.store.database import Database
from tests.places import Give, Place
from tests.store import given
from tests.store.meanwhile import before, other
from tests.sync.servers import served

Answer = Callable[[web.Request, list[dict[str, Any]]], Awaitable[web.Response]]


@asynccontextmanager
async def track_api(answer: Answer) -> AsyncIterator[str]:
    """Answers each batch as the test says."""

    async def handle(request: web.Request) -> web.Response:
        if request.method == "GET":
            raise web.HTTPNotFound  # it doesn't say which workspace it is
        return await answer(request, json.loads(await request.read())["batch"])

    async with served(handle) as url:
        yield url


def settings_for(place: Place, url: str) -> Settings:
    place.track_url = url
    people = 'segments = ["All"]\nattributes = ["seq"]'
    place.more = {"people": people, "segments": '"All" = { everyone = true }'}
    return place.write(customerio=place.customerio("rate_per_second = 10000")).settings()


def user(number: int, **more: Any) -> dict[str, Any]:
    return {"external_id": f"u{number}", "email": f"u{number}@example.com", **more}


def ready(db: Database, settings: Settings) -> None:
    full_pass.run(db, settings, app.now)


@asynccontextmanager
async def client_for(db: Database, settings: Settings) -> AsyncIterator[TrackClient]:
    throttle = Throttle(db, settings.customerio.rate_per_second)
    async with TrackClient(settings.customerio, throttle) as client:
        yield client


def everybody(db: Database) -> list[str]:
    return db.read(lambda connection: list(connection.execute(sa.select(schema.users.c.id)).scalars()))


@asynccontextmanager
async def users_due(
    count: int, db: Database, place: Place, give: Give, answer: Answer
) -> AsyncIterator[tuple[Settings, TrackClient]]:
    """So many, none of whom is a person yet, and a client of what answers."""
    async with track_api(answer) as url:
        settings = settings_for(place, url)
        give(settings, *(user(number) for number in range(count)))
        ready(db, settings)
        async with client_for(db, settings) as client:
            yield settings, client


async def test_all_claims_together_make_no_more_calls_than_their_bytes_ask_for(
    db: Database, place: Place, give: Give, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[list[dict[str, Any]]] = []

    async def answer(_request: web.Request, batch: list[dict[str, Any]]) -> web.Response:
        calls.append(batch)
        return web.json_response({})

    monkeypatch.setattr(flights, "MOST_USERS", 7)
    monkeypatch.setattr(encode, "MAX_BATCH_BYTES", 3000)
    async with users_due(100, db, place, give, answer) as (settings, client):
        tally = await Worker(db, app.now).work_off(settings, client)
    sizes = [len(json.dumps(each, separators=(",", ":"))) + 1 for batch in calls for each in batch]
    room = 3000 - encode.ENVELOPE_BYTES
    assert (tally.created, tally.calls) == (100, len(calls))
    # Whoever does not fit begins the next call, so at most an operation's bytes of each are empty.
    assert len(calls) == -(-sum(sizes) // (room - max(sizes))) or len(calls) == -(-sum(sizes) // room)
    assert len(calls) < 100 / 7


async def test_two_workers_never_have_one_user_in_flight_twice(
    store_url: str, db: Database, place: Place, give: Give, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_flight: set[str] = set()
    twice: list[str] = []

    async def answer(_request: web.Request, batch: list[dict[str, Any]]) -> web.Response:
        ids = {item["identifiers"]["id"] for item in batch}
        twice.extend(ids & in_flight)
        in_flight.update(ids)
        await asyncio.sleep(0.01)
        in_flight.difference_update(ids)
        return web.json_response({})

    monkeypatch.setattr(flights, "MOST_USERS", 5)
    monkeypatch.setattr(encode, "MAX_BATCH_BYTES", 1000)
    other = Database(store_url)
    async with track_api(answer) as url:
        settings = settings_for(place, url)
        give(settings, *(user(number) for number in range(120)))
        ready(db, settings)
        async with client_for(db, settings) as one, client_for(other, settings) as two:
            tallies = await asyncio.gather(
                Worker(db, app.now).work_off(settings, one), Worker(other, app.now).work_off(settings, two)
            )
    other.close()
    assert sum(tally.created for tally in tallies) == 120
    assert min(tally.created for tally in tallies) > 0
    assert twice == []


async def test_a_worker_that_wakes_up_after_its_lease_changes_nothing(
    store_url: str, db: Database, place: Place, give: Give
) -> None:
    """Its lease runs out while its call is under way; another worker takes the user over, sends a newer state, and is
    done before the first one's answer comes."""
    seqs: list[int] = []
    slow = asyncio.Event()

    async def answer(_request: web.Request, batch: list[dict[str, Any]]) -> web.Response:
        [operation] = batch
        seqs.append(operation["attributes"]["seq"])
        if len(seqs) == 1:
            await slow.wait()
        return web.json_response({})

    other = Database(store_url)
    async with track_api(answer) as url:
        settings = settings_for(place, url)
        give(settings, user(1, seq=1))
        ready(db, settings)
        async with client_for(db, settings) as one, client_for(other, settings) as two:
            first = asyncio.create_task(Worker(db, app.now).work_off(settings, one))
            while not seqs:
                await asyncio.sleep(0.01)
            give(settings, user(1, seq=2))
            late = Worker(other, lambda: app.now() + claims.LEASE)
            assert (await late.work_off(settings, two)).updated == 1
            slow.set()
            tally = await first
    other.close()
    assert (tally.created, tally.users) == (0, 0)
    assert seqs == [1, 2]
    [(attributes, version)] = given.rows(db, schema.mirror, "attributes", "version")
    assert attributes["seq"] == 2
    [stored] = given.rows(db, schema.users, "version")
    assert version == stored
    assert given.rows(db, schema.pending) == []
    assert given.rows(db, schema.attempts) == []


async def test_a_row_that_was_deleted_and_made_anew_in_flight_is_not_finished(
    db: Database, place: Place, give: Give
) -> None:
    async def answer(_request: web.Request, _batch: list[dict[str, Any]]) -> web.Response:
        with db.transaction() as connection:
            connection.execute(sa.delete(schema.pending))
            pending.mark(connection, everybody(db), app.now(), pending.CHANGED)
        return web.json_response({}, status=200)

    async with track_api(answer) as url:
        settings = settings_for(place, url)
        give(settings, user(1))
        ready(db, settings)
        async with client_for(db, settings) as client:
            await Worker(db, app.now).work_off(settings, client, going=for_one_claim())
    [row] = given.rows(db, schema.pending, "lease", "changed", "attempts")
    assert row == (None, False, 0)
    assert given.rows(db, schema.mirror, "unsure") == ["*"]


def for_one_claim() -> Callable[[], bool]:
    """True before the claim, and when it was made ready."""
    answers = iter([True, True])
    return lambda: next(answers, False)


async def test_leases_are_renewed_while_a_call_takes_long(
    db: Database, place: Place, give: Give, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims, "_RENEWED_EACH", 0.05)
    due: list[Any] = []

    async def answer(_request: web.Request, _batch: list[dict[str, Any]]) -> web.Response:
        due.extend(given.rows(db, schema.pending, "due_at"))
        while given.rows(db, schema.pending, "due_at") == due[:1]:
            await asyncio.sleep(0.02)
        due.extend(given.rows(db, schema.pending, "due_at"))
        return web.json_response({})

    async with track_api(answer) as url:
        settings = settings_for(place, url)
        give(settings, user(1))
        ready(db, settings)
        async with client_for(db, settings) as client:
            assert (await Worker(db, app.now).work_off(settings, client)).created == 1
    assert due[1] > due[0]


async def test_what_is_not_sent_at_a_stop_is_given_back(
    db: Database, place: Place, give: Give, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped between two claims: the call under way is recorded, the one that is not full does not go out."""

    async def answer(_request: web.Request, batch: list[dict[str, Any]]) -> web.Response:
        return web.json_response({}) if len(batch) > 1 else web.json_response({}, status=500)

    monkeypatch.setattr(flights, "MOST_USERS", 10)
    monkeypatch.setattr(encode, "MAX_BATCH_BYTES", 1200)
    async with users_due(30, db, place, give, answer) as (settings, client):
        tally = await Worker(db, app.now).work_off(settings, client, going=for_one_claim())
    left = given.rows(db, schema.pending, "lease", "attempts")
    assert 0 < tally.created < 10
    assert left == [(None, 0)] * (30 - tally.created)


async def test_a_worker_that_is_cancelled_in_a_call_lets_the_lease_of_those_in_it_run_out(
    db: Database, place: Place, give: Give
) -> None:
    """Nobody will hear what came of it; the end of the lease says so to whoever claims them next."""
    begun = asyncio.Event()

    async def answer(_request: web.Request, _batch: list[dict[str, Any]]) -> web.Response:
        begun.set()
        await asyncio.sleep(2)
        return web.json_response({})

    async with users_due(3, db, place, give, answer) as (settings, client):
        working = asyncio.create_task(Worker(db, app.now).work_off(settings, client))
        await begun.wait()
        working.cancel()
        with pytest.raises(asyncio.CancelledError):
            await working
    assert [(lease is None, attempts) for lease, attempts in given.rows(db, schema.pending, "lease", "attempts")] == [
        (False, 0)
    ] * 3
    later = app.now() + claims.LEASE
    assert len(db.write(leases.claim, "a", later, later + timedelta(minutes=1), 9)) == 3


async def test_fresh_changes_go_before_the_work_of_a_pass(
    db: Database, place: Place, give: Give, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A backlog of a pass takes many claims; whoever changes meanwhile is in the next one."""
    calls: list[set[str]] = []

    async def answer(_request: web.Request, batch: list[dict[str, Any]]) -> web.Response:
        calls.append({item["identifiers"]["id"] for item in batch})
        if len(calls) == 2:
            give(settings, user(1, seq=2))
        await asyncio.sleep(0.02)
        return web.json_response({})

    monkeypatch.setattr(flights, "MOST_USERS", 10)
    monkeypatch.setattr(flights, "_MOST_CALLS", 1)
    monkeypatch.setattr(encode, "MAX_BATCH_BYTES", 1300)
    async with track_api(answer) as url:
        settings = settings_for(place, url)
        give(settings, user(1))
        ready(db, settings)
        async with client_for(db, settings) as client:
            await Worker(db, app.now).work_off(settings, client)
            calls.clear()
            give(settings, *(user(number) for number in range(100, 300)))
            ready(db, settings)
            await Worker(db, app.now).work_off(settings, client)
    assert len(calls) > 20
    assert next(index for index, ids in enumerate(calls) if "u1" in ids) < 7


async def test_of_several_calls_that_cannot_be_recorded_each_is_told_of(
    db: Database, place: Place, give: Give, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first ends the work with its error; the others say that there is more that nobody knows of."""
    calls: list[int] = []
    both = asyncio.Event()

    async def answer(_request: web.Request, batch: list[dict[str, Any]]) -> web.Response:
        calls.append(len(batch))
        if len(calls) == 2:
            db.write(lambda connection: connection.execute(sa.text("ALTER TABLE decided RENAME TO away")))
            both.set()
        await both.wait()
        return web.json_response({})

    monkeypatch.setattr(encode, "MAX_BATCH_BYTES", 1200)
    async with users_due(8, db, place, give, answer) as (settings, client):
        with capture_logs() as logged, pytest.raises(sa.exc.DBAPIError):
            await Worker(db, app.now).work_off(settings, client)
    [told] = [each for each in logged if each["event"] == "call_not_recorded"]
    assert len(calls) == 2
    assert told["users"] in calls
    assert told["error"] in {"OperationalError", "ProgrammingError"}


async def test_an_outage_is_known_until_the_gate_says_so(db: Database, place: Place, give: Give) -> None:
    known: list[bool] = []

    class Watched(Gate):
        async def close(self, reason: outage.Reason, message: str) -> None:
            await super().close(reason, message)
            known.append(flying.knows_of_an_outage)

    async def answer(_request: web.Request, _batch: list[dict[str, Any]]) -> web.Response:
        return web.json_response({}, status=401)

    async with track_api(answer) as url:
        settings = settings_for(place, url)
        give(settings, user(1))
        ready(db, settings)
        gate = Watched(db, app.now)
        async with client_for(db, settings) as client:
            flying = flights.Flights(db, app.now, settings, client, gate, lambda _tally: None)
            async with flying.in_hand():
                flying.send(await flying.begin(await flying.take(10)))
                flying.send_rest()
    assert (known, flying.knows_of_an_outage, gate.closed is None) == ([True], False, False)


@pytest.mark.parametrize("store_kind", ["postgresql"], indirect=True)
async def test_whose_id_another_worker_begins_at_the_same_moment_is_left_to_the_next_claim(
    store_url: str, db: Database, place: Place, give: Give
) -> None:
    created: list[str] = []

    async def answer(_request: web.Request, batch: list[dict[str, Any]]) -> web.Response:
        created.extend(each["identifiers"]["id"] for each in batch)
        return web.json_response({})

    async with users_due(3, db, place, give, answer) as (settings, client):
        given.have(db, given.user("another"))
        with other(db, store_url) as process:
            faster = given.person("another", customer_id="u1")
            with before(db, "INSERT INTO mirror", lambda: process.db.write(mirror.begin, [faster])):
                tally = await Worker(db, app.now).work_off(settings, client)
    assert (tally.created, dict(tally.skipped)) == (2, {"customer_id_taken": 1})
    assert sorted(created) == ["u0", "u2"]


@pytest.mark.parametrize("store_kind", ["postgresql"], indirect=True)
async def test_what_keeps_everybody_from_being_begun_is_said(db: Database, place: Place, give: Give) -> None:
    async def answer(_request: web.Request, _batch: list[dict[str, Any]]) -> web.Response:
        return web.json_response({})

    async with users_due(2, db, place, give, answer) as (settings, client):
        with db.transaction() as connection:
            refuses = "CREATE FUNCTION refuses() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE ''no more''; END'"
            connection.execute(sa.text(refuses))
            connection.execute(sa.text("CREATE TRIGGER refuses BEFORE INSERT ON mirror EXECUTE FUNCTION refuses()"))
        with pytest.raises(sa.exc.DBAPIError, match="no more"):
            await Worker(db, app.now).work_off(settings, client)
