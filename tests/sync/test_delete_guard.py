"""Deletes stop before the first call when they are more than the settings allow, or when something is odd."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from connector import errors
from connector.commands import approve as approving
from connector.commands import sync as syncing
from connector.commands import sync_summary
from connector.commands.sync_summary import Summary
from connector.settings import Settings
from connector.store import schema
from connector.store.database import Database
from tests.places import Give, Place, Sandbox
from tests.sync.clock import Clock

SEGMENTS = '"Paying" = { attribute = "plan", in = ["pro", "team"] }'
EVERYBODY = range(20)


@pytest.fixture
def clock() -> Clock:
    return Clock()


def settings_for(
    place: Place,
    sandbox: Sandbox,
    *guard: str,
    segments: str = '["Paying"]',
    customer_id: str = "external_id",
    grace: str = "24h",
) -> Settings:
    place.track_url = sandbox.url
    people = f'segments = {segments}\nattributes = ["plan"]\ncustomer_id = "{customer_id}"'
    place.more = {
        "people": f'{people}\n[people.delete]\nenabled = true\ngrace = "{grace}"',
        "segments": SEGMENTS,
        "guard": "\n".join(guard),
    }
    return place.write(customerio=place.customerio("rate_per_second = 10000")).settings()


def users(numbers: range, plan: str = "pro", **more: Any) -> list[dict[str, Any]]:
    return [
        {"external_id": f"u{number:02}", "email": f"u{number:02}@example.com", "plan": plan, **more}
        for number in numbers
    ]


def gone(sandbox: Sandbox) -> set[str]:
    return {user["external_id"] for user in users(EVERYBODY)} - sandbox.people().keys()


async def leave(db: Database, settings: Settings, give: Give, clock: Clock, numbers: range) -> Summary:
    """They leave, and the grace of a moment goes by."""
    give(settings, *users(numbers, "free"))
    await syncing.sync(db, settings, clock)
    clock.move(seconds=1)
    return await syncing.sync(db, settings, clock)


def held(summary: Summary) -> list[tuple[str, str, int, int]]:
    return [(hold.what, hold.reason, hold.count, hold.allowed) for hold in summary.found.holds]


async def test_more_than_the_share_are_held_while_they_can_still_be_brought_back_and_never_deleted(
    db: Database, place: Place, sandbox: Sandbox, give: Give, clock: Clock
) -> None:
    settings = settings_for(place, sandbox)
    give(settings, *users(EVERYBODY))
    await syncing.sync(db, settings, clock)
    give(settings, *users(range(11), "free"))
    for _ in range(4):
        summary = await syncing.sync(db, settings, clock)
        assert held(summary) == [("delete", "max_delete_share", 11, 1)]
        assert (summary.exit_status, gone(sandbox)) == (3, set())
        clock.move(hours=23)
    (listed,) = approving.listed(db)
    words = "\n".join(sync_summary.describe(summary))
    assert "11 people left every whitelisted segment and would be deleted" in words
    assert f"connector approve {listed['hash']} --first 100" in words
    assert (listed["what"], listed["count"]) == ("delete", 11)


async def test_updates_and_creates_of_others_go_on_meanwhile(
    db: Database, place: Place, sandbox: Sandbox, give: Give, clock: Clock
) -> None:
    settings = settings_for(place, sandbox)
    give(settings, *users(EVERYBODY))
    await syncing.sync(db, settings, clock)
    give(settings, *users(range(11), "free"), *users(range(11, 20), "team"), *users(range(20, 21)))
    summary = await syncing.sync(db, settings, clock)
    assert (summary.tally.updated, summary.tally.created, summary.exit_status) == (9, 1, 3)
    assert {person["plan"] for name, person in sandbox.people().items() if name > "u10"} == {"team", "pro"}


async def test_a_few_of_a_few_people_are_deleted(
    db: Database, place: Place, sandbox: Sandbox, give: Give, clock: Clock
) -> None:
    settings = settings_for(place, sandbox)
    give(settings, *users(EVERYBODY))
    await syncing.sync(db, settings, clock)
    give(settings, *users(range(9), "free"))
    await syncing.sync(db, settings, clock)
    clock.move(hours=24)
    summary = await syncing.sync(db, settings, clock)
    assert (summary.tally.deleted, summary.tally.calls, summary.exit_status) == (9, 1, 0)


async def test_deletes_of_any_24_hours_count_together(
    db: Database, place: Place, sandbox: Sandbox, give: Give, clock: Clock
) -> None:
    settings = settings_for(place, sandbox, "max_deletes = 2", grace="1ms")
    give(settings, *users(EVERYBODY))
    await syncing.sync(db, settings, clock)
    for number in range(3):
        summary = await leave(db, settings, give, clock, range(number, number + 1))
        clock.move(hours=8)
    assert held(summary) == [("delete", "max_deletes", 1, 0)]
    assert gone(sandbox) == {"u00", "u01"}
    summary = await syncing.sync(db, settings, clock)
    assert (held(summary), gone(sandbox)) == ([], {"u00", "u01", "u02"})


async def test_who_comes_back_takes_no_delete_back(
    db: Database, place: Place, sandbox: Sandbox, give: Give, clock: Clock
) -> None:
    settings = settings_for(place, sandbox, "max_deletes = 2", grace="1ms")
    give(settings, *users(EVERYBODY))
    await syncing.sync(db, settings, clock)
    for number in range(3):
        summary = await leave(db, settings, give, clock, range(number, number + 1))
        give(settings, *users(range(number, number + 1)))
        clock.move(hours=1)
        if number < 2:
            assert (await syncing.sync(db, settings, clock)).tally.created == 1
    assert held(summary) == [("delete", "max_deletes", 1, 0)]
    assert gone(sandbox) == set()


@pytest.mark.parametrize(("limit", "reason"), [("max_deletes = 0", "max_deletes"), ("max_delete_share = 0", None)])
async def test_none_are_deleted_where_none_are_allowed(
    db: Database, place: Place, sandbox: Sandbox, give: Give, clock: Clock, limit: str, reason: str | None
) -> None:
    settings = settings_for(place, sandbox, limit, grace="1ms")
    give(settings, *users(EVERYBODY))
    await syncing.sync(db, settings, clock)
    summary = await leave(db, settings, give, clock, range(1))
    assert [hold.reason for hold in summary.found.holds] == ([reason] if reason else [])
    assert summary.tally.deleted == (0 if reason else 1)
    summary = await leave(db, settings, give, clock, range(10))
    assert [hold.reason for hold in summary.found.holds] == [reason or "max_delete_share"]


async def test_an_emptied_whitelist_deletes_nobody_however_few_they_are(
    db: Database, place: Place, sandbox: Sandbox, give: Give, clock: Clock
) -> None:
    settings = settings_for(place, sandbox)
    give(settings, *users(range(2)))
    await syncing.sync(db, settings, clock)
    emptied = settings_for(place, sandbox, 'max_deletes = "unlimited"', "max_delete_share = 1.0", segments="[]")
    for _ in range(3):
        summary = await syncing.sync(db, emptied, clock)
        assert held(summary) == [("delete", "no_whitelist", 2, 0)]
        clock.move(hours=23)
    assert "people.segments is empty" in "\n".join(sync_summary.describe(summary))
    assert len(sandbox.people()) == 2
    summary = await syncing.sync(db, settings_for(place, sandbox), clock)
    assert (held(summary), summary.tally.calls, approving.listed(db)) == ([], 0, [])


async def test_a_store_that_shrank_is_asked_about_before_anybody_is_created_or_deleted(
    db: Database, place: Place, sandbox: Sandbox, give: Give, clock: Clock
) -> None:
    settings = settings_for(place, sandbox)
    give(settings, *users(EVERYBODY), *users(range(20, 60), "free"))
    await syncing.sync(db, settings, clock)
    give(settings, *users(range(1), "free"), *users(range(20, 21)))
    restored = schema.users.c.external_id >= "u30"
    ids = sa.select(schema.users.c.id).where(restored)
    db.write(lambda c: c.execute(sa.delete(schema.identifiers).where(schema.identifiers.c.user_id.in_(ids))))
    db.write(lambda c: c.execute(sa.delete(schema.users).where(restored)))
    for _ in range(3):
        summary = await syncing.sync(db, settings, clock)
        assert held(summary) == [("create", "store_shrank", 1, 0), ("delete", "store_shrank", 1, 0)]
        clock.move(hours=23)
    assert (len(sandbox.people()), gone(sandbox)) == (20, set())
    assert "far fewer users than at an earlier pass" in "\n".join(sync_summary.describe(summary))
    (create, delete) = approving.listed(db)
    approving.approve(db, settings, delete["hash"], None, clock.now)
    summary = await syncing.sync(db, settings, clock)
    assert (summary.tally.created, summary.tally.deleted, held(summary)) == (1, 1, [])
    assert create["hash"] != delete["hash"]


async def test_another_customer_id_renames_and_deletes_nobody_before_it_is_approved(
    db: Database, place: Place, sandbox: Sandbox, give: Give, clock: Clock
) -> None:
    settings = settings_for(place, sandbox)
    give(settings, *users(range(2), code="x"))
    await syncing.sync(db, settings, clock)
    give(settings, *users(range(1), "free"))
    await syncing.sync(db, settings, clock)
    other = settings_for(place, sandbox, customer_id="code")
    clock.move(hours=24)
    summary = await syncing.sync(db, other, clock)
    assert held(summary) == [("delete", "other_customer_id", 1, 0), ("rename", "other_customer_id", 2, 0)]
    assert (summary.exit_status, sorted(sandbox.people())) == (3, ["u00", "u01"])
    delete, rename = approving.listed(db)
    with pytest.raises(errors.Misconfigured, match="as a whole"):
        approving.approve(db, other, rename["hash"], 1, clock.now)
    assert approving.approve(db, other, delete["hash"], None, clock.now) == 1
    assert (await syncing.sync(db, other, clock)).tally.deleted == 1
    assert held(await syncing.sync(db, other, clock)) == [("rename", "other_customer_id", 1, 0)]
    summary = await syncing.sync(db, settings_for(place, sandbox), clock)
    assert (held(summary), sorted(sandbox.people())) == ([], ["u01"])


async def test_who_is_approved_is_deleted_when_the_grace_is_over_and_stays_who_is_back_before(
    db: Database, place: Place, sandbox: Sandbox, give: Give, clock: Clock
) -> None:
    settings = settings_for(place, sandbox)
    give(settings, *users(EVERYBODY))
    await syncing.sync(db, settings, clock)
    give(settings, *users(range(12), "free"))
    await syncing.sync(db, settings, clock)
    (hold,) = approving.listed(db)
    assert approving.approve(db, settings, hold["hash"], None, clock.now) == 12
    clock.move(hours=1)
    summary = await syncing.sync(db, settings, clock)
    assert (held(summary), summary.tally.deleted, summary.exit_status) == ([], 0, 0)
    give(settings, *users(range(2), "team"))
    summary = await syncing.sync(db, settings, clock)
    assert summary.tally.updated == 2
    clock.move(hours=23)
    summary = await syncing.sync(db, settings, clock)
    assert (summary.tally.deleted, summary.exit_status) == (10, 0)
    assert gone(sandbox) == {f"u{number:02}" for number in range(2, 12)}
    give(settings, *users(range(2), "free"))
    clock.move(hours=2)
    summary = await syncing.sync(db, settings, clock)
    assert held(summary) == [("delete", "max_delete_share", 2, 0)], "those who are not listed count afresh"


async def test_only_so_many_of_them_are_let_go(
    db: Database, place: Place, sandbox: Sandbox, give: Give, clock: Clock
) -> None:
    settings = settings_for(place, sandbox, grace="1ms")
    give(settings, *users(EVERYBODY))
    await syncing.sync(db, settings, clock)
    await leave(db, settings, give, clock, range(12))
    (hold,) = approving.listed(db)
    assert approving.approve(db, settings, hold["hash"], 3, clock.now) == 3
    summary = await syncing.sync(db, settings, clock)
    (left,) = summary.found.holds
    assert (summary.tally.deleted, left.hash, left.count) == (3, hold["hash"], 9)
    assert approving.approve(db, settings, hold["hash"], 100, clock.now) == 9
    summary = await syncing.sync(db, settings, clock)
    assert (summary.tally.deleted, held(summary), summary.exit_status) == (9, [], 0)


async def test_an_approval_of_some_says_nothing_of_why_all_were_held(
    db: Database, place: Place, sandbox: Sandbox, give: Give, clock: Clock
) -> None:
    settings = settings_for(place, sandbox, grace="1ms")
    give(settings, *users(EVERYBODY), *users(range(20, 60), "free"))
    await syncing.sync(db, settings, clock)
    give(settings, *users(range(3), "free"))
    restored = schema.users.c.external_id >= "u30"
    ids = sa.select(schema.users.c.id).where(restored)
    db.write(lambda c: c.execute(sa.delete(schema.identifiers).where(schema.identifiers.c.user_id.in_(ids))))
    db.write(lambda c: c.execute(sa.delete(schema.users).where(restored)))
    await leave(db, settings, give, clock, range(0))
    (hold,) = approving.listed(db)
    approving.approve(db, settings, hold["hash"], 1, clock.now)
    summary = await syncing.sync(db, settings, clock)
    assert (summary.tally.deleted, held(summary)) == (1, [("delete", "store_shrank", 2, 0)])


async def test_an_approval_is_good_for_a_day_and_for_the_settings_it_was_asked_under(
    db: Database, place: Place, sandbox: Sandbox, give: Give, clock: Clock
) -> None:
    settings = settings_for(place, sandbox)
    give(settings, *users(EVERYBODY))
    await syncing.sync(db, settings, clock)
    give(settings, *users(range(12), "free"))
    await syncing.sync(db, settings, clock)
    (hold,) = approving.listed(db)
    with pytest.raises(errors.Misconfigured, match="over 24 hours old"):
        approving.approve(db, settings, hold["hash"], None, clock.now + timedelta(hours=24))
    for other in (
        settings_for(place, sandbox, grace="1h"),
        settings_for(place, sandbox, "max_delete_share = 0.06"),
        settings_for(place, sandbox, segments="[]"),
    ):
        with pytest.raises(errors.Misconfigured, match="under other settings"):
            approving.approve(db, other, hold["hash"], None, clock.now)
    assert gone(sandbox) == set()
