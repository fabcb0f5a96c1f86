"""Users with very many events: what they keep from others, from an edit of the settings, and from memory."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from aiohttp import web

from connector.outbound import agenda, preparation, waves
from connector.store import leases, schema
from connector.store.database import Database
from tests.places import Place, Sandbox
from tests.store import given, told
from tests.sync.events_out import Way
from tests.sync.test_events_out import named
from tests.sync.test_failures import track_api

BUSY = [f"b{number}" for number in range(4)]


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
