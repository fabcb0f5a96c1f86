"""What `sync` and `plan` tell of events: those that the guard holds, and those that can never go."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import Any

import pytest
import sqlalchemy as sa

from connector.commands import plan, plan_text, settings_undo, sync_summary
from connector.commands import sync as syncing
from connector.core import activity
from connector.outbound import planning
from connector.settings import Settings
from connector.store import event_counts, revisions, schema, throttle
from connector.store.database import Database
from tests.places import Place, Sandbox
from tests.sync.events_out import Way

HELD = {"hash": None, "what": "event", "users": 1, "reason": "max_events_per_user"}


@pytest.fixture
def way(db: Database, place: Place, sandbox: Sandbox) -> Way:
    return Way(db, place, sandbox, "batch")


def planned(way: Way, settings: Settings, before: Settings | None = None) -> dict[str, Any]:
    outlook = planning.outlook(way.db, settings, way.clock())
    return plan.tell(way.db, before or settings, settings, outlook, None, way.clock())


async def test_more_events_of_somebody_than_a_day_takes_are_held_and_named_in_plan_and_sync(way: Way) -> None:
    settings = way.settings(guard='max_creates = "unlimited"\nmax_events_per_user = 1')
    for _ in range(4):
        way.tell(settings, "track", user="u1", event="Paid")
    way.tell(settings, "track", user="u2", event="Paid")
    hold = {"what": "event", "reason": "max_events_per_user", "count": 3, "allowed": 1}
    before = planned(way, settings)
    assert before["guard"] == {"held": True, "reasons": ["max_events_per_user"], "holds": [hold]}
    line = "HELD (max_events_per_user): 3 events of 1 user, more than may go in 24 h: until a day has room"
    assert before["surprises"][0] == line
    assert "guard: holds (max_events_per_user)" in list(plan_text.describe(before, "a file", [], 0))
    summary = await syncing.sync(way.db, settings, way.clock)
    assert (summary.tally.events, summary.exit_status) == (2, 3)
    assert summary.as_json()["held"] == [HELD | {"count": 3}]
    assert line in list(sync_summary.describe(summary))
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


async def test_what_waits_under_the_settings_in_force_is_no_matter_of_other_settings(way: Way) -> None:
    before = way.settings(guard='max_creates = "unlimited"\nmax_events_per_user = 2')
    for _ in range(4):
        way.tell(before, "track", user="u1", event="Paid")
    assert planned(way, before)["guard"]["held"]
    for limit in (2, 3):
        wanted = way.settings(guard=f'max_creates = "unlimited"\nmax_events_per_user = {limit}')
        told = planned(way, wanted, before)
        assert not told["guard"]["held"]
        assert "HELD" not in "".join(told["surprises"])
    wanted = way.settings(guard='max_creates = "unlimited"\nmax_events_per_user = 1')
    hold = {"what": "event", "reason": "max_events_per_user", "count": 1, "allowed": 1}
    assert planned(way, wanted, before)["guard"]["holds"] == [hold], "two wait anyway"


async def test_what_other_settings_hold_is_told_where_they_let_as_much_of_somebody_else_go(way: Way) -> None:
    def limited(plan: str) -> Settings:
        segments = f'"All" = {{ attribute = "plan", is = "{plan}" }}'
        return way.settings(guard='max_creates = "unlimited"\nmax_events_per_user = 1', segments=segments)

    free, pro = limited("free"), limited("pro")
    for user, its_plan in (("u1", "free"), ("u2", "pro")):
        way.tell(free, "identify", user=user, traits={"plan": its_plan})
        for _ in range(3):
            way.tell(free, "track", user=user, event="Paid")
    hold = {"what": "event", "reason": "max_events_per_user", "count": 2, "allowed": 1}
    assert planned(way, free)["guard"]["holds"] == [hold]
    assert planned(way, pro, free)["guard"]["holds"] == [hold]


def test_the_way_back_is_held_by_a_lower_limit_and_by_nothing_that_waits_anyway(
    way: Way, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, limit in enumerate((2, 3, 3)):
        guard = f'max_creates = "unlimited"\nmax_events_per_user = {limit}\nmax_deletes = {number}'
        settings = way.settings(guard=guard)
        at = way.clock() + timedelta(seconds=number)
        way.db.write(revisions.add, "applied", settings.sent_hash(), way.place.path.read_text(), at)
    for _ in range(5):
        way.tell(settings, "track", user="u1", event="Paid")
    to = partial(settings_undo.undo, way.db, way.place.path, asks=False, as_json=False)
    assert to(2) == 0
    assert "a running connector follows\n" in capsys.readouterr().out
    assert to(1) == 3
    said = " ".join(capsys.readouterr().out.split())
    assert "a running connector follows, and then holds what the plan says (max_events_per_user)" in said


async def test_who_asks_for_a_rest_again_and_again_is_waited_for_as_long_as_events_go_out(
    way: Way, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(throttle, "LEAST_PAUSE", timedelta(milliseconds=10))
    settings = way.settings(guard='max_creates = "unlimited"')
    for _ in range(6):
        way.tell(settings, "track", user="u1", event="Paid")
    # Which workspace it is, the person, an event; then a rest before each of the others.
    await way.sandbox.faults("3x200" + 5 * ", 429, 200")
    summary = await syncing.sync(way.db, settings, way.clock)
    assert (summary.tally.events, summary.waiting, summary.exit_status) == (6, 0, 0)


async def test_the_events_of_whom_no_day_lets_go_are_not_said_to_be_held(way: Way) -> None:
    settings = way.settings(guard='max_creates = "unlimited"\nmax_events_per_user = 0')
    for user in ("u1", "u2"):
        way.tell(settings, "track", user=user, event="Paid")
    assert (await syncing.sync(way.db, settings, way.clock)).events_held == (2, 2)
    parked = {"user_id": way.user_id("u1"), "due_at": way.clock(), "parked_at": way.clock(), "reason": "refused"}
    way.db.write(lambda c: c.execute(sa.delete(schema.pending)))
    way.db.write(lambda c: c.execute(sa.insert(schema.pending).values(**parked)))
    assert way.db.read(event_counts.held, 0, way.clock()) == (1, 1)


async def test_an_event_that_can_never_go_makes_the_sync_fail_and_is_counted(way: Way) -> None:
    settings = way.settings()
    way.tell(settings, "track", user="u1", event="Paid")
    way.sql(settings, "N" * (activity.MAX_NAME_BYTES + 1), "u1")
    summary = await syncing.sync(way.db, settings, way.clock)
    assert (summary.exit_status, summary.tally.created) == (1, 1)
    told = summary.as_json()
    assert (told["events"], told["events_parked"]) == (1, {"name_too_long": 1})
    assert (await syncing.sync(way.db, settings, way.clock)).exit_status == 0, "it was told by the run that parked it"
