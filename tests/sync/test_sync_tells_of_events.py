"""What `sync` and `plan` tell of events: those that the guard holds, and those that can never go."""

from __future__ import annotations

from typing import Any

import pytest

from connector.commands import plan, plan_text
from connector.commands import sync as syncing
from connector.core import activity
from connector.outbound import planning
from connector.settings import Settings
from connector.store.database import Database
from tests.places import Place, Sandbox
from tests.sync.events_out import Way

HELD = {"hash": None, "what": "event", "users": 1, "reason": "max_events_per_user"}


@pytest.fixture
def way(db: Database, place: Place, sandbox: Sandbox) -> Way:
    return Way(db, place, sandbox, "batch")


def planned(way: Way, settings: Settings) -> dict[str, Any]:
    outlook = planning.outlook(way.db, settings, way.clock())
    return plan.tell(way.db, settings, settings, outlook, None, way.clock())


async def test_more_events_of_somebody_than_a_day_takes_are_held_and_named_in_plan_and_sync(way: Way) -> None:
    settings = way.settings(guard='max_creates = "unlimited"\nmax_events_per_user = 1')
    for _ in range(4):
        way.tell(settings, "track", user="u1", event="Paid")
    way.tell(settings, "track", user="u2", event="Paid")
    hold = {"what": "event", "reason": "max_events_per_user", "count": 3, "allowed": 1}
    before = planned(way, settings)
    assert before["guard"] == {"held": True, "reasons": ["max_events_per_user"], "holds": [hold]}
    line = "HELD (max_events_per_user): 3 events of 1 user more than the 1 in 24 h: until a day has room"
    assert before["surprises"][0] == line
    assert "guard: holds (max_events_per_user)" in list(plan_text.describe(before, "a file", [], 0))
    summary = await syncing.sync(way.db, settings, way.clock)
    assert (summary.tally.events, summary.exit_status) == (2, 3)
    assert summary.as_json()["held"] == [HELD | {"count": 3}]
    assert planned(way, settings)["guard"]["holds"] == [hold]
    assert (await syncing.sync(way.db, settings, way.clock, given=["u1"])).exit_status == 3
    assert (await syncing.sync(way.db, settings, way.clock, given=["u2"])).exit_status == 0
    way.clock.move(hours=25)
    assert planned(way, settings)["guard"]["holds"] == [hold | {"count": 2}], "one goes"
    unlimited = way.settings(guard='max_creates = "unlimited"')
    assert not planned(way, unlimited)["guard"]["held"]
    assert (await syncing.sync(way.db, unlimited, way.clock)).as_json()["held"] == []


async def test_events_of_nobody_who_is_sent_are_not_said_to_be_held(way: Way) -> None:
    limited = 'max_creates = "unlimited"\nmax_events_per_user = 1'
    settings = way.settings(guard=limited, segments='"All" = { attribute = "plan", is = "pro" }')
    for _ in range(3):
        way.tell(settings, "track", user="u1", event="Paid")
    assert not planned(way, settings)["guard"]["held"]


async def test_an_event_that_can_never_go_makes_the_sync_fail_and_is_counted(way: Way) -> None:
    settings = way.settings()
    way.tell(settings, "track", user="u1", event="Paid")
    way.sql(settings, "N" * (activity.MAX_NAME_BYTES + 1), "u1")
    summary = await syncing.sync(way.db, settings, way.clock)
    assert (summary.exit_status, summary.tally.created) == (1, 1)
    told = summary.as_json()
    assert (told["events"], told["events_parked"]) == (1, {"name_too_long": 1})
    assert (await syncing.sync(way.db, settings, way.clock)).exit_status == 0, "it was told by the run that parked it"
