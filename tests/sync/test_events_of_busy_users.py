"""Users with very many events: what they keep from others, from an edit of the settings, and from memory."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from aiohttp import web
from sqlalchemy.engine import Connection

from connector.outbound import agenda, flights, preparation, waves
from connector.store import leases, schema
from connector.store.database import Database
from tests.places import Place, Sandbox
from tests.store import given, told
from tests.sync.events_out import Way
from tests.sync.test_events_out import named
from tests.sync.test_failures import track_api

BUSY = [f"b{number}" for number in range(4)]
VISITORS = 'names = ["*"]\nanonymous = true'


@dataclass
class Taking:
    """A Track API that takes everything. `took` are the actions, in their order; `before` is done once, when the next
    call that has such an action arrives."""

    took: list[str] = field(default_factory=list)
    before: dict[str, Callable[[], object]] = field(default_factory=dict)

    def __call__(self, _request: web.Request, body: dict[str, Any]) -> web.Response:
        actions = [action for action, _ in named(body)]
        for action in {*actions} & self.before.keys():
            self.before.pop(action)()
        self.took.extend(actions)
        return web.json_response({})


@asynccontextmanager
async def taking(way: Way) -> AsyncIterator[Taking]:
    answers = Taking()
    async with track_api(answers) as way.url:
        yield answers


@pytest.fixture(params=["batch", "single"])
def way(db: Database, place: Place, sandbox: Sandbox, request: pytest.FixtureRequest) -> Way:
    return Way(db, place, sandbox, request.param)


def tell_of(way: Way, user: str, events: int) -> None:
    at = way.clock() - timedelta(hours=1)
    said = [
        told.message(
            "track", f"{user}-{n}", user=user, event=f"{user} {n}", timestamp=(at + timedelta(seconds=n)).isoformat()
        )
        for n in range(events)
    ]
    told.tell(way.db, *said, settings=way.settings(), now=way.clock())


async def test_several_busy_users_leave_others_their_turn(way: Way, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each comes when the one before is at work, so that each is claimed alone; then somebody with one event."""
    monkeypatch.setattr(waves, "_SECONDS", 0.0)
    took: list[str] = []
    coming = [*BUSY[1:], "plain"]

    def answers(_request: web.Request, body: dict[str, Any]) -> web.Response:
        names = [name for action, name in named(body) if action == "event"]
        if coming and took and any(name.endswith(" 1") for name in names):
            tell_of(way, coming[0], 1 if coming.pop(0) == "plain" else 30)
        took.extend(names)
        return web.json_response({})

    async with track_api(answers) as way.url:
        settings = way.settings()
        for user in (*BUSY, "plain"):
            way.tell(settings, "identify", user=user)
        await way.work(settings)
        tell_of(way, "b0", 30)
        tally = await way.work(settings, passes=False)
    assert tally.events == 4 * 30 + 1
    told_after = took.index("b3 1")
    assert took.index("plain 0") - told_after < 4 * 5
    for user in BUSY:
        assert [name for name in took if name.startswith(user)] == [f"{user} {n}" for n in range(30)]
    assert given.rows(way.db, schema.pending) == []


async def test_what_goes_no_further_in_its_turn_is_due_at_once_and_counts_no_attempt(
    way: Way, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waves, "_SECONDS", 0.0)
    settings = way.settings()
    tell_of(way, "1", 3)
    await way.work(settings, going=lambda: not way.of("1"))
    assert way.of("1") == ["1 0"]
    assert given.rows(way.db, schema.pending, "due_at", "attempts", "lease") == [(way.clock(), 0, None)]
    assert (await way.work(settings)).events == 2
    assert way.of("1") == ["1 0", "1 1", "1 2"]


async def test_no_call_for_an_event_begins_once_nothing_is_to_be_sent(way: Way) -> None:
    took: list[str] = []

    def answers(_request: web.Request, body: dict[str, Any]) -> web.Response:
        took.extend(name for action, name in named(body) if action == "event")
        return web.json_response({})

    async with track_api(answers) as way.url:
        settings = way.settings()
        for user in ("1", "2"):
            tell_of(way, user, 20)
        await way.work(settings, going=lambda: len(took) < 7)
        assert len(took) in (7, 8)
        assert {tuple(row) for row in given.rows(way.db, schema.pending, "attempts", "lease")} == {(0, None)}
        sent = len(took)
        assert (await way.work(settings)).events == 40 - sent
    for user in ("1", "2"):
        assert [name for name in took if name.startswith(user)] == [f"{user} {n}" for n in range(20)]


async def test_a_claim_holds_so_many_bytes_and_leaves_the_rest_to_the_next(
    way: Way, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agenda, "_MOST_BYTES", 1000)
    monkeypatch.setattr(agenda, "_AT_ONCE", 1)
    settings = way.settings()
    for user in range(5):
        way.tell(settings, "track", user=f"{user}", properties={"text": "x" * 600})
    claims = way.db.write(leases.claim, "lease", way.clock(), way.clock() + timedelta(minutes=1), 10)
    found = preparation.prepare(way.db, settings, claims, way.clock())
    assert (
        sorted(sum(len(one.content) for one in each.agenda.outgoing) > 600 for each in found)
        == [False] * 3 + [True] * 2
    )
    assert [each.agenda.again_at for each in found if not each.agenda.outgoing] == [way.clock()] * 3
    way.clock.move(minutes=2)
    tally = await way.work(settings)
    assert (tally.events, given.rows(way.db, schema.pending)) == (5, [])


@pytest.mark.parametrize("of", ["visitors", "large"])
async def test_very_many_events_that_are_calls_of_their_own_leave_others_their_turn(
    db: Database, place: Place, sandbox: Sandbox, of: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An edit comes while the first of them is under way; before it go no more than have begun by then."""
    monkeypatch.setattr(waves, "_SECONDS", 0.0)
    way = Way(db, place, sandbox, "batch")
    async with taking(way) as there:
        settings = way.settings(events=VISITORS, workspace=["in_flight = 3"])
        for user in ("plain", *(f"{number}" for number in range(30))):
            if user == "plain" or of == "large":
                way.tell(settings, "identify", user=user, traits={"plan": "a"})
        await way.work(settings)
        there.took.clear()
        there.before["event"] = lambda: way.tell(settings, "identify", user="plain", traits={"plan": "b"})
        for number in range(30):
            if of == "large":
                way.sql(settings, "Big", f"{number}", text="x" * 33_000)
            else:
                way.tell(settings, "track", anonymous=f"v{number}")
        tally = await way.work(settings, passes=False)
    assert (tally.events, tally.updated, given.rows(way.db, schema.pending)) == (30, 1, [])
    assert there.took.index("identify") <= 2 * 3
    assert there.took.count("event") == 30


async def test_what_is_left_of_a_wave_is_due_as_it_was(
    db: Database, place: Place, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing was tried: what is known of failures stays, and so does who let them go."""
    monkeypatch.setattr(waves, "_SECONDS", 0.0)
    way = Way(db, place, sandbox, "batch")
    settings = way.settings(events=VISITORS, workspace=["in_flight = 1"])
    for number in range(3):
        way.tell(settings, "track", anonymous=f"v{number}")
    failing = {"attempts": 5, "failing_since": way.clock() - timedelta(days=1), "release": "approved"}
    way.db.write(lambda connection: connection.execute(sa.update(schema.pending).values(failing)))
    await way.work(settings, going=lambda: not way.of(None), passes=False)
    left = given.rows(way.db, schema.pending, "due_at", "lease", *failing)
    assert left == [(way.clock(), None, *failing.values())] * 2


async def test_an_edit_does_not_wait_for_a_backlog_of_visitors(
    db: Database, place: Place, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each claim is full of them, so there is always another one to wait for."""
    monkeypatch.setattr(flights, "MOST_USERS", 4)
    monkeypatch.setattr(flights, "_MOST_CALLS", 1)
    way = Way(db, place, sandbox, "batch")
    async with taking(way) as there:
        settings = way.settings(events=VISITORS)
        way.tell(settings, "identify", user="plain", traits={"plan": "a"})
        await way.work(settings)
        there.took.clear()
        way.tell(settings, "identify", user="plain", traits={"plan": "b"})
        way.clock.move(seconds=1)
        for number in range(30):
            way.tell(settings, "track", anonymous=f"v{number}")
        tally = await way.work(settings, passes=False)
    assert (tally.events, tally.updated) == (30, 1)
    assert there.took.index("identify") <= 4


async def test_of_more_visitors_than_can_be_sent_no_more_are_made_ready_and_an_edit_goes_first(
    db: Database, place: Place, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []

    def claim(connection: Connection, token: str, now: datetime, until: datetime, limit: int, **more: Any) -> Any:
        sizes.append(limit)
        return claimed(connection, token, now, until, limit, **more)

    claimed = leases.claim
    monkeypatch.setattr(leases, "claim", claim)
    monkeypatch.setattr(waves, "_SECONDS", 0.0)
    monkeypatch.setattr(flights, "MOST_USERS", 20)
    monkeypatch.setattr(flights, "_SINGLE_SECONDS", 0.1)
    monkeypatch.setattr(flights, "_MOST_CALLS", 1)
    way = Way(db, place, sandbox, "batch")
    async with taking(way) as there:
        settings = way.settings(events=VISITORS, workspace=["in_flight = 1"])
        way.tell(settings, "identify", user="plain", traits={"plan": "a"})
        await way.work(settings)
        there.took.clear()
        there.before["event"] = lambda: way.tell(settings, "identify", user="plain", traits={"plan": "b"})
        sizes.clear()
        for number in range(30):
            way.tell(settings, "track", anonymous=f"v{number}")
        tally = await way.work(settings, passes=False)
    assert (tally.events, tally.updated) == (30, 1)
    assert (sizes[0], set(sizes[1:20])) == (20, {2})
    assert there.took.index("identify") <= 2
    assert tally.skipped == {"no_customer_id": 30}
