"""Events that Customer.io doesn't take for now: what they keep waiting, for how long, and what they don't."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from aiohttp import web

from connector.outbound import agenda
from connector.store import due_events, schema
from connector.store.database import Database
from tests.places import Place, Sandbox
from tests.store import given
from tests.sync.events_out import Way
from tests.sync.test_events_out import named
from tests.sync.test_failures import track_api

FAILING = ("attempts", "failing_since", "alone")


@pytest.fixture(params=["batch", "single"])
def way(db: Database, place: Place, sandbox: Sandbox, request: pytest.FixtureRequest) -> Way:
    return Way(db, place, sandbox, request.param)


@pytest.fixture
async def bad(way: Way) -> AsyncIterator[set[str]]:
    """Names of events for which Customer.io has no answer but 500."""
    names: set[str] = set()

    def answers(_request: web.Request, body: dict[str, Any]) -> web.Response:
        return web.Response(status=500 if names.intersection(name for _, name in named(body)) else 200)

    async with track_api(answers) as way.url:
        yield names


def fail_since(way: Way, ago: timedelta, attempts: int) -> None:
    """Everybody who is pending has failed so often, and for so long."""
    values = {"attempts": attempts, "failing_since": way.clock() - ago, "due_at": way.clock()}
    way.db.write(lambda connection: connection.execute(sa.update(schema.pending).values(values)))


async def test_an_event_that_is_given_up_takes_none_of_those_behind_it_along(way: Way, bad: set[str]) -> None:
    settings = way.settings()
    bad |= {"0", "1"}
    for number in range(3):
        way.tell(settings, "track", user="1", event=f"{number}")
        way.clock.move(seconds=1)
    for user in range(2, 6):
        way.tell(settings, "identify", user=f"{user}")
    await way.work(settings)
    fail_since(way, timedelta(days=8), attempts=20)
    tally = await way.work(settings)
    assert (tally.events_parked, tally.failed) == ({"server_error": 1}, {"server_error": 1})
    assert way.outbound() == [("parked", "server_error"), ("due", None), ("due", None)]
    assert given.rows(way.db, schema.pending, *FAILING[:2]) == [(1, way.clock())]
    bad.clear()
    way.clock.move(hours=1)
    assert (await way.work(settings)).events == 2


async def test_who_waits_for_a_day_with_room_after_a_try_that_failed_is_updated_at_once(
    way: Way, bad: set[str]
) -> None:
    settings = way.settings(guard="max_events_per_user = 1")
    for user in range(1, 6):
        way.tell(settings, "identify", user=f"{user}", traits={"plan": "a"})
    await way.work(settings)
    bad.add("0")
    for number in range(2):
        way.tell(settings, "track", user="1", event=f"{number}")
        way.clock.move(seconds=1)
    assert (await way.work(settings)).failed
    bad.clear()
    way.clock.move(hours=2)
    assert (await way.work(settings)).events == 1
    assert given.rows(way.db, schema.pending, *FAILING) == [(0, None, False)]
    way.tell(settings, "identify", user="1", traits={"plan": "b"})
    assert (await way.work(settings)).updated == 1


async def test_a_try_that_sent_some_of_a_users_events_makes_the_next_failure_the_first(way: Way, bad: set[str]) -> None:
    settings = way.settings()
    way.tell(settings, "identify", user="1")
    for user in range(2, 6):
        way.tell(settings, "identify", user=f"{user}")
    await way.work(settings)
    bad.add("1")
    for number in range(2):
        way.tell(settings, "track", user="1", event=f"{number}")
        way.clock.move(seconds=1)
    fail_since(way, timedelta(days=8), attempts=20)
    tally = await way.work(settings)
    assert (tally.events, tally.events_parked, tally.failed) == (1, {}, {"server_error": 1})
    assert given.rows(way.db, schema.pending, *FAILING[:2]) == [(1, way.clock())]


async def test_a_failed_update_says_nothing_of_the_event_behind_it(way: Way, bad: set[str]) -> None:
    settings = way.settings()
    for user in range(1, 6):
        way.tell(settings, "identify", user=f"{user}", traits={"plan": "a"})
    await way.work(settings)
    bad.add("")
    way.tell(settings, "identify", user="1", traits={"plan": "b"})
    assert (await way.work(settings)).failed == {"server_error": 1}
    fail_since(way, timedelta(days=8), attempts=20)
    bad.clear()
    bad.add("E")
    way.tell(settings, "track", user="1", event="E")
    tally = await way.work(settings)
    assert (tally.updated, tally.events_parked, tally.failed) == (1, {}, {"server_error": 1})
    assert given.rows(way.db, schema.pending, *FAILING[:2]) == [(1, way.clock())]


async def test_a_person_who_changes_all_the_time_does_not_keep_an_event_from_being_given_up(
    way: Way, bad: set[str]
) -> None:
    settings = way.settings()
    for user in range(1, 6):
        way.tell(settings, "identify", user=f"{user}", traits={"plan": "a"})
    await way.work(settings)
    bad.add("E")
    way.tell(settings, "track", user="1", event="E")
    await way.work(settings)
    fail_since(way, timedelta(days=8), attempts=20)
    way.tell(settings, "identify", user="1", traits={"plan": "b"})
    tally = await way.work(settings)
    assert (tally.updated, tally.events_parked) == (1, {"server_error": 1})


@pytest.mark.parametrize("put_off", ["by the size of a claim", "by a merge under way"])
async def test_a_turn_in_which_events_are_not_looked_at_forgets_no_failure(
    way: Way, put_off: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = way.settings()
    way.tell(settings, "identify", user="1")
    await way.work(settings)
    way.tell(settings, "track", user="1")
    fail_since(way, timedelta(days=6), attempts=9)
    if put_off == "by the size of a claim":
        monkeypatch.setattr(agenda, "_MOST_BYTES", -1)
    else:
        monkeypatch.setattr(due_events, "under_way", lambda _connection, user_ids: set(user_ids))
    turns = iter((True, True))
    await way.work(settings, passes=False, going=lambda: next(turns, False))
    left = given.rows(way.db, schema.pending, "lease", "attempts", "failing_since")
    assert left == [(None, 9, way.clock() - timedelta(days=6))]
    monkeypatch.undo()
    way.clock.move(seconds=1)
    assert (await way.work(settings)).events == 1
