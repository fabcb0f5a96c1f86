"""`connector sync --user`: decides, sends and shows these users, and leaves everybody else where they are."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import pytest
import sqlalchemy as sa

from connector import app, errors
from connector.commands import sync as syncing
from connector.commands import sync_summary
from connector.commands.sync_summary import Summary
from connector.core import activity
from connector.outbound import full_pass
from connector.records import Received
from connector.settings import Settings
from connector.store import approvals, held, inbox, leases, pending, revisions, runs, schema
from connector.store.database import Database
from tests.places import Give, Place, Sandbox, example
from tests.store import given
from tests.sync.clock import Clock
from tests.sync.events_out import Way
from tests.sync.test_failures import refuse_u3, track_api

LEAVING = '\n[people.delete]\nenabled = true\nblind = true\ngrace = "1h"'


@pytest.fixture
def way(db: Database, place: Place, sandbox: Sandbox) -> Way:
    return Way(db, place, sandbox, "batch")


def settings_of(way: Way, *, guard: str = 'max_creates = "unlimited"', people: str = "", **more: str) -> Settings:
    who = f'segments = ["Pro"]\nattributes = ["plan"]\nrequire_email = false{people}'
    return way.settings(people=who, segments='"Pro" = { attribute = "plan", is = "pro" }', guard=guard, **more)


def users(*names: str, plan: str = "pro") -> list[dict[str, Any]]:
    return [{"external_id": name, "email": f"{name}@example.com", "plan": plan} for name in names]


async def sync(way: Way, settings: Settings, *given_ids: str) -> Summary:
    return await syncing.sync(way.db, settings, way.clock, given=given_ids or None)


def calls(way: Way) -> list[tuple[str, str]]:
    return [(call.method, call.path) for call in way.sandbox.state.calls if "accounts/region" not in call.path]


def calls_of(summary: Summary) -> list[Any]:
    shown: list[Any] = summary.as_json()["calls_shown"]
    return shown


def waiting(way: Way) -> set[str]:
    return {row[0] for row in given.rows(way.db, schema.pending, "user_id")}


def approve_creates(way: Way, settings: Settings, count: int) -> None:
    """In advance, with the settings."""
    counts = {"holds": [{"what": held.CREATE, "count": count}], "approved_at": way.clock().isoformat()}
    agreed = partial(revisions.add, counts=counts, reason=approvals.APPROVED)
    way.db.write(agreed, "applied", settings.sent_hash(), way.place.path.read_text(), way.clock())


async def test_they_are_created_and_nobody_else_is_sent_or_let_go(way: Way, give: Give) -> None:
    settings = settings_of(way)
    give(settings, *users("u1", "u2", "u3"))
    summary = await sync(way, settings, "u1", "u3@example.com")
    assert (summary.tally.created, summary.exit_status, set(way.sandbox.people())) == (2, 0, {"u1", "u3"})
    assert waiting(way) == set()
    assert (await sync(way, settings)).tally.created == 1


async def test_their_updates_events_and_deletes_go_and_those_of_others_stay_due(way: Way, give: Give) -> None:
    settings = settings_of(way, people=LEAVING, guard='max_creates = "unlimited"\nmax_delete_share = 1.0')
    give(settings, *users("u1", "u2", "gone", "gone2"))
    await sync(way, settings)
    for name in ("u1", "u2"):
        way.tell(settings, "track", user=name, event="Paid")
    give(settings, *users("gone", "gone2", plan="free"))
    way.clock.move(minutes=1)
    first = await sync(way, settings, "u1", "gone")
    assert (first.tally.events, first.tally.deleted, first.found.leaving) == (1, 0, 1)
    assert (way.of("u1"), way.of("u2")) == (["Paid"], [])
    way.clock.move(hours=2)
    second = await sync(way, settings, "gone")
    assert (second.tally.deleted, set(way.sandbox.people())) == (1, {"u1", "u2", "gone2"})
    everyone = await sync(way, settings)
    assert (everyone.tally.events, way.of("u2")) == (1, ["Paid"])


async def test_what_has_arrived_for_them_is_read_first(way: Way, give: Give) -> None:
    settings = settings_of(way)
    way.db.write(inbox.append, inbox.CUSTOMERIO, [Received("E1", way.clock(), example("E1"))])
    assert (await sync(way, settings, "test@example.com")).read == 1


async def test_an_id_of_nobody_is_refused_by_name_and_nobody_is_sent(way: Way, give: Give) -> None:
    settings = settings_of(way)
    give(settings, *users("u1"))
    with pytest.raises(errors.Misconfigured, match=r"nobody is known as nope, neither; tried as .*external_id"):
        await sync(way, settings, "u1", "nope", "neither")
    assert calls(way) == []


async def test_who_is_not_sent_is_told_with_the_reason(way: Way, give: Give) -> None:
    settings = settings_of(way)
    give(settings, *users("u1"), *users("u2", plan="free"))
    await sync(way, settings)
    summary = await sync(way, settings, "u1", "u2")
    assert (summary.tally.skipped, summary.exit_status) == ({"unchanged": 1, "not_in_segment": 1}, 0)
    assert summary.as_json()["calls_shown"] == []


async def test_the_guard_counts_everybody_and_holds_them_as_a_pass_would(way: Way, give: Give) -> None:
    settings = settings_of(way, guard="max_creates = 2")
    give(settings, *users("u1", "u2", "u3"))
    summary = await sync(way, settings, "u1")
    assert (summary.exit_status, calls(way), waiting(way)) == (3, [], set())
    (hold,) = summary.found.holds
    assert (hold.what, hold.reason, hold.count) == ("create", "max_creates", 3)
    assert f"connector approve {hold.hash}" in "\n".join(sync_summary.describe(summary))
    give(settings, *users("u2", "u3", plan="free"))
    assert (await sync(way, settings, "u1")).tally.created == 1
    assert given.rows(way.db, schema.held, "user_id") != [], "the others' hold is a pass's to end"
    assert (way.user_id("u1"),) not in given.rows(way.db, schema.held, "user_id")
    assert [each.count for each in way.db.read(held.current)] == [2]
    await sync(way, settings, "u2", "u3")
    assert way.db.read(held.current) == [], "nobody is left of it"


async def test_a_hold_of_others_is_no_matter_of_theirs(way: Way, give: Give) -> None:
    settings = settings_of(way, guard="max_creates = 1")
    give(settings, *users("u1"))
    await sync(way, settings)
    give(settings, *users("u2", "u3"), {**users("u1")[0], "email": "other@example.com"})
    summary = await sync(way, settings, "u1")
    assert (summary.exit_status, summary.tally.updated, summary.found.holds) == (0, 1, [])


async def test_what_was_approved_with_the_settings_goes_for_them_alone(way: Way, give: Give) -> None:
    settings = settings_of(way, guard="max_creates = 1")
    give(settings, *users("u1", "u2", "u3"))
    approve_creates(way, settings, 3)
    summary = await sync(way, settings, "u1")
    assert (summary.tally.created, summary.exit_status, set(way.sandbox.people())) == (1, 0, {"u1"})
    (hold,) = way.db.read(held.current)
    assert hold.count == 2, "who went is not waited for any more"
    assert (await sync(way, settings)).tally.created == 2


async def test_who_goes_by_an_approval_leaves_it_one_less_for_the_others(way: Way, give: Give) -> None:
    settings = settings_of(way, guard="max_creates = 0")
    give(settings, *users("u1", "u2", "u3"))
    approve_creates(way, settings, 3)
    assert (await sync(way, settings, "u1")).tally.created == 1
    give(settings, *users("u4"))
    summary = await sync(way, settings)
    assert (summary.exit_status, summary.tally.created, set(way.sandbox.people())) == (3, 0, {"u1"})
    give(settings, *users("u4", plan="free"))
    assert (await sync(way, settings, "u2", "u3")).tally.created == 2
    assert way.db.read(held.current) == [], "nobody is left of it"


async def test_another_id_for_everybody_is_held_for_them_too(way: Way, give: Give) -> None:
    settings = settings_of(way)
    give(settings, *users("u1", "u2"))
    await sync(way, settings)
    by_email = settings_of(way, people='\ncustomer_id = "email"')
    summary = await sync(way, by_email, "u1")
    assert (summary.exit_status, [hold.what for hold in summary.found.holds]) == (3, ["rename"])


async def test_it_is_no_full_pass_to_who_asked_for_one(way: Way, give: Give) -> None:
    settings = settings_of(way)
    give(settings, *users("u1"))
    way.db.write(runs.ask, way.clock())
    await sync(way, settings, "u1")
    assert way.db.read(runs.asked, way.clock())
    assert way.db.read(runs.last, 1)[0]["counts"]["named"] == 1


async def test_who_is_on_another_workers_way_is_waited_for(way: Way, give: Give) -> None:
    settings = settings_of(way)
    clock = Clock()
    give(settings, *users("u1", "u2"))
    full_pass.run(way.db, settings, clock)
    mine, other = way.user_id("u1"), way.user_id("u2")
    way.db.write(leases.claim, "other", clock(), clock() + timedelta(minutes=1), 9, only=[other])
    way.db.write(leases.claim, "theirs", clock(), clock() + timedelta(seconds=1), 9, only=[mine])

    def moving() -> datetime:
        clock.move(seconds=0.2)
        return clock()

    summary = await syncing.sync(way.db, settings, moving, given=["u1"])
    assert (summary.tally.created, summary.exit_status, set(way.sandbox.people())) == (1, 0, {"u1"})
    assert given.rows(way.db, schema.pending, "user_id", "lease") == [(other, "other")]


async def test_only_what_waits_of_theirs_is_counted(way: Way, give: Give) -> None:
    settings = settings_of(way)
    give(settings, *users("u1", "u2"))
    await sync(way, settings)
    later = way.clock() + timedelta(hours=1)
    way.db.write(pending.mark, [way.user_id("u2")], later, pending.CHANGED)
    way.db.write(
        lambda c: c.execute(sa.update(schema.pending).values(attempts=1, failing_since=way.clock(), reason="network"))
    )
    assert ((await sync(way, settings, "u1")).waiting, (await sync(way, settings, "u2")).waiting) == (0, 1)


@pytest.mark.parametrize("api", ["batch", "single"])
async def test_each_call_is_shown_with_what_it_says_and_what_was_answered(way: Way, give: Give, api: str) -> None:
    way.api = api
    settings = settings_of(way, log="personal_data = true")
    give(settings, *users("u1"))
    way.tell(settings, "track", user="u1", event="Paid", properties={"total": 5})
    summary = await sync(way, settings, "u1")
    shown = summary.as_json()["calls_shown"]
    assert [(each["method"], each["path"]) for each in shown] == calls(way)
    assert {each["status"] for each in shown} == {200}
    identify, event = [operation for each in shown for operation in each["operations"]]
    assert (identify["action"], identify["identifiers"]["id"]) == ("identify", "u1")
    assert identify["attributes"]["email"] == "u1@example.com"
    assert (event["action"], event["name"], event["attributes"]["total"]) == ("event", "Paid", 5)
    lines = "\n".join(sync_summary.describe(summary))
    assert f"{shown[0]['method']} {shown[0]['path']}: 200" in lines
    assert '"u1@example.com"' in lines


@pytest.mark.parametrize("api", ["batch", "single"])
async def test_whose_data_they_are_stays_hidden_as_in_the_log(way: Way, give: Give, api: str) -> None:
    way.api = api
    settings = settings_of(way)
    give(settings, *users("u1"))
    way.tell(settings, "track", user="u1", event="Paid", properties={"total": 5})
    summary = await sync(way, settings, "u1")
    said = json.dumps(summary.as_json()["calls_shown"]) + "\n".join(sync_summary.describe(summary))
    assert "u1" not in said
    assert '"pro"' not in said
    assert "Paid" in said
    assert '"plan"' in said, "the names of attributes are the settings'"


@pytest.mark.parametrize("api", ["batch", "single"])
async def test_a_refusal_is_shown_with_the_call(way: Way, give: Give, api: str) -> None:
    way.api = api
    async with track_api(refuse_u3) as way.url:
        settings = settings_of(way, log="personal_data = true")
        give(settings, *users("u3"))
        summary = await sync(way, settings, "u3")
    (call,) = summary.as_json()["calls_shown"]
    (operation,) = call["operations"]
    assert (operation["reason"], summary.exit_status) == ("refused", 1)
    assert "longer than 1000 bytes" in operation["message"]


@pytest.mark.parametrize("api", ["batch", "single"])
async def test_the_address_of_a_page_that_was_seen_is_hidden_but_for_its_path(way: Way, give: Give, api: str) -> None:
    way.api = api
    settings = settings_of(way)
    give(settings, *users("u1"))
    way.tell(settings, "page", user="u1", properties={"url": "https://me:pw@shop.example/cart?email=a@b.c&token=t0p#x"})
    summary = await sync(way, settings, "u1")
    assert summary.tally.events == 1
    said = json.dumps(summary.as_json()["calls_shown"]) + "\n".join(sync_summary.describe(summary))
    assert '"name": "/cart"' in said
    assert 'page "/cart"' in said
    for private in ("a@b.c", "t0p", "me:pw", "#x"):
        assert private not in said
    way.tell(settings, "page", user="u1", properties={"url": "http://[no/cart?email=a@b.c"})
    (call,) = (await sync(way, settings, "u1")).as_json()["calls_shown"]
    assert call["operations"][0]["name"] == "…", "it is no address that can be read"


async def test_who_is_parked_was_not_delivered_and_makes_it_fail(way: Way, give: Give) -> None:
    async with track_api(refuse_u3) as way.url:
        settings = settings_of(way)
        give(settings, *users("u3", "u4"))
        for _ in range(20):
            first = await sync(way, settings)
            if first.parked:
                break
            way.clock.move(days=1)
        assert (first.parked, (await sync(way, settings)).exit_status) == (1, 0), "a sync of all tells of its own run"
        summary = await sync(way, settings, "u3")
        assert (calls_of(summary), summary.exit_status, summary.parked) == ([], 1, 1)
        assert "1 parked: connector replay parked tries them again" in "\n".join(sync_summary.describe(summary))
        assert (await sync(way, settings, "u4")).exit_status == 0


async def test_an_event_of_theirs_that_is_parked_was_not_delivered_either(way: Way, give: Give) -> None:
    settings = settings_of(way)
    give(settings, *users("u1", "u2"))
    await sync(way, settings)
    way.sql(settings, "N" * (activity.MAX_NAME_BYTES + 1), "u1")
    assert (await sync(way, settings)).exit_status == 1
    summary = await sync(way, settings, "u1")
    assert (calls_of(summary), summary.exit_status) == ([], 1)
    assert summary.as_json()["events_parked"] == {"name_too_long": 1}
    assert "events parked: 1 name_too_long: connector export events" in "\n".join(sync_summary.describe(summary))
    assert (await sync(way, settings, "u2")).exit_status == 0


async def test_while_paused_nothing_is_sent_and_only_theirs_is_counted(way: Way, give: Give) -> None:
    settings = settings_of(way, sync="paused = true")
    give(settings, *users("u1", "u2"))
    summary = await sync(way, settings, "u1")
    assert (summary.paused, summary.waiting, summary.exit_status, calls(way)) == (True, 1, 0, [])


async def test_a_sync_of_everybody_shows_no_calls(way: Way, give: Give) -> None:
    settings = settings_of(way)
    give(settings, *users("u1"))
    assert "calls_shown" not in (await syncing.sync(way.db, settings, app.now)).as_json()
