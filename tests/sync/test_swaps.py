"""Settings that become others while a pass or a claim is under way: nothing goes by the ones before any more."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

import pytest
import sqlalchemy as sa
from aiohttp import web

from connector import app
from connector.core import encode
from connector.outbound import approving, flights, full_pass, many_ids
from connector.outbound.client import TrackClient
from connector.outbound.loops import Outbound
from connector.outbound.throttle import Throttle
from connector.outbound.worker import Worker
from connector.settings import Settings
from connector.store import held, pending, revisions, runs, schema
from connector.store.database import Database
from tests.places import Give, Place
from tests.store import given
from tests.sync.servers import served

USERS = 4
QUICK = 'every = "1d"\nlatency = "20ms"'
NOBODY = "max_creates = 0"
EVERYBODY = 'max_creates = "unlimited"'


class Turn:
    """The settings in force, which become others at a moment of the pass: the so-manieth at which it asks the time."""

    def __init__(self, before: Settings, after: Settings, at: int, look: Callable[[], Any]) -> None:
        self.settings, self._after, self._at, self._look = before, after, at, look
        self._asked = 0
        self.seen: Any = None

    def get(self) -> Settings:
        return self.settings

    def clock(self) -> datetime:
        self._asked += 1
        if self._asked == self._at:
            self.settings, self.seen = self._after, self._look()
        return app.now()


def wanted(place: Place, guard: str, *more: str, url: str = "http://127.0.0.1:9", sent_as: str = "seq") -> Settings:
    place.track_url = url
    place.write(
        customerio=place.customerio("rate_per_second = 10000", *more),
        people=f'segments = ["All"]\nattributes = [{{ name = "seq", as = "{sent_as}" }}]',
        segments='"All" = { everyone = true }',
        guard=guard,
        sync=QUICK,
    )
    return place.settings()


def users(seq: int = 0) -> list[dict[str, Any]]:
    return [{"external_id": f"u{n}", "email": f"u{n}@example.com", "seq": seq} for n in range(USERS)]


def known_for_long(db: Database) -> None:
    """They are no fresh arrivals: the guard has its word."""
    db.write(lambda connection: connection.execute(sa.delete(schema.pending)))


def let_go(db: Database) -> int:
    return sum(release is not None for release in given.rows(db, schema.pending, "release"))


async def one_pass(db: Database, turn: Turn) -> full_pass.Found | None:
    outbound = Outbound(db, turn.get, asyncio.Event(), turn.clock, lambda _settings: None)
    return await outbound._pass(turn.settings)


@pytest.fixture
def by_two(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pass lets two go at a time."""
    monkeypatch.setattr(many_ids, "CHUNK", 2)


async def test_a_pass_lets_nobody_go_once_the_settings_are_others(
    db: Database, place: Place, give: Give, by_two: None
) -> None:
    before = wanted(place, EVERYBODY)
    after = wanted(place, NOBODY)
    give(before, *users())
    known_for_long(db)
    seen = set()
    for at in range(2, 40):  # the first is not of the pass
        db.write(lambda connection: connection.execute(sa.delete(schema.pending)))
        turn = Turn(before, after, at, lambda: let_go(db))
        found = await one_pass(db, turn)
        if turn.seen is None:
            break
        assert let_go(db) == turn.seen
        assert found is None or let_go(db) == USERS
        seen.add(turn.seen)
    assert seen == {0, 2, 4}, "the swap came at each moment of the pass"
    assert "stopped" in {run["state"] for run in db.read(runs.last, 1000)}


async def test_a_pass_goes_on_where_an_edit_changes_nothing_that_is_sent(
    db: Database, place: Place, give: Give, by_two: None
) -> None:
    before = wanted(place, EVERYBODY)
    after = before.model_copy(update={"log": before.log.model_copy(update={"level": "debug"})})
    give(before, *users())
    known_for_long(db)
    turn = Turn(before, after, 3, lambda: let_go(db))
    assert await one_pass(db, turn) is not None
    assert (turn.settings, turn.seen, let_go(db)) == (after, 0, USERS)


async def test_what_was_approved_with_settings_stays_held_once_they_are_others(
    db: Database, place: Place, give: Give, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(approving, "CHUNK", 2)
    before = wanted(place, NOBODY)
    give(before, *users())
    known_for_long(db)
    found = full_pass.run(db, before, app.now)
    assert found is not None
    assert [each.count for each in found.holds] == [USERS]
    approved = {"what": "create", "reason": "max_creates", "count": USERS, "allowed": 0}
    counts = {"holds": [approved], "approved_at": app.now().isoformat()}
    db.write(revisions.add, "applied", before.sent_hash(), "", app.now(), counts=counts, reason="approved")
    asked = iter([True, False])

    with pytest.raises(full_pass.CutShort):
        approving.with_the_settings(db, before, found, app.now(), lambda: next(asked))

    assert let_go(db) == 2
    assert [each.count for each in db.read(held.current)] == [2]


async def test_a_pass_reads_before_it_begins_by_its_own_settings(db: Database, place: Place, give: Give) -> None:
    before, after = wanted(place, EVERYBODY), wanted(place, NOBODY)
    give(before, *users())
    known_for_long(db)
    turn = Turn(before, after, 0, lambda: None)
    read_by = []

    def read(settings: Settings) -> None:
        read_by.append(settings)
        turn.settings = after

    outbound = Outbound(db, turn.get, asyncio.Event(), app.now, read)
    assert await outbound._pass(before) is None
    assert (read_by, let_go(db)) == ([before], 0)


@asynccontextmanager
async def working(db: Database, get: Callable[[], Settings]) -> AsyncIterator[None]:
    """The worker's loop alone."""
    outbound = Outbound(db, get, asyncio.Event(), app.now, lambda _settings: None)
    task = asyncio.create_task(outbound.work())
    try:
        yield
    finally:
        outbound.stop()
        async with asyncio.timeout(20):
            await task


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("api", ["batch", "single"])
async def test_of_a_claim_no_call_begins_once_the_settings_are_others(
    db: Database, place: Place, give: Give, monkeypatch: pytest.MonkeyPatch, api: str
) -> None:
    """One call is under way at a time, and the first is not answered before the swap."""
    monkeypatch.setattr(flights, "MOST_USERS", 2)
    monkeypatch.setattr(encode, "MAX_BATCH_BYTES", 400)
    way = f'api = "{api}"', "in_flight = 1"
    began, swapped = asyncio.Event(), asyncio.Event()
    told: list[tuple[bool, set[str]]] = []

    async def handle(request: web.Request) -> web.Response:
        if request.method == "GET":
            raise web.HTTPNotFound  # it doesn't say which workspace it is
        body = json.loads(await request.read())
        items = [each["attributes"] for each in body["batch"]] if "batch" in body else [body]
        told.extend((swapped.is_set(), set(item) & {"old", "new"}) for item in items)
        began.set()
        await swapped.wait()
        return web.json_response({})

    async with served(handle) as url:
        before = wanted(place, EVERYBODY, *way, url=url, sent_as="old")
        after = wanted(place, EVERYBODY, *way, url=url, sent_as="new")
        settings = [before]
        give(before, *users())
        known_for_long(db)
        full_pass.run(db, before, app.now)
        async with working(db, lambda: settings[0]):
            await began.wait()
            settings[0] = after
            swapped.set()
            await until(lambda: given.rows(db, schema.pending) == [])
    by_old = [was_swapped for was_swapped, names in told if "old" in names]
    assert by_old
    assert not any(by_old), "a call under the old settings began after the swap"
    assert {len(names) for _, names in told} == {1}
    assert len(told) == USERS
    assert given.rows(db, schema.attempts) == []


async def test_who_was_decided_by_the_settings_before_is_decided_anew(db: Database, place: Place, give: Give) -> None:
    """Else a fresh arrival whom only the new settings send would be none any more, and the guard had its word."""
    before = wanted(place, EVERYBODY)
    give(before, {"external_id": "u1"})  # without an email: they would be skipped
    db.write(pending.release, given.rows(db, schema.users, "id"), "fresh", app.now())
    going = iter([True])
    async with TrackClient(before.customerio, Throttle(db, 10)) as client:
        tally = await Worker(db, app.now).work_off(before, client, going=lambda: next(going, False))
    assert tally.users == 0
    assert given.rows(db, schema.pending, "release", "lease") == [("fresh", None)]
