"""Mass creates stop before the first call, and go on when someone says so."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from connector import app, errors
from connector.commands import approve as approving
from connector.commands import sync as syncing
from connector.commands import sync_summary
from connector.outbound import full_pass, limits
from connector.settings import Settings
from connector.store import backlog, runs
from connector.store.database import Database
from tests.places import Give, Place, Sandbox


def settings_for(place: Place, sandbox: Sandbox, max_creates: str = "3", require_email: str = "true") -> Settings:
    place.track_url = sandbox.url
    place.write(
        people=f'segments = ["All"]\nattributes = ["plan"]\nrequire_email = {require_email}',
        segments='"All" = { everyone = true }',
        guard=f"max_creates = {max_creates}",
    )
    return place.settings()


def users(first: int, last: int) -> list[dict[str, Any]]:
    return [{"external_id": f"u{number}", "email": f"u{number}@example.com"} for number in range(first, last)]


async def test_more_creates_than_allowed_are_all_held_before_the_first_call(
    db: Database, place: Place, sandbox: Sandbox, give: Give
) -> None:
    settings = settings_for(place, sandbox)
    give(settings, *users(0, 4))
    summary = await syncing.sync(db, settings, app.now)
    assert summary.exit_status == 3
    assert sandbox.state.calls_received == 0
    (hold,) = approving.listed(db)
    assert (hold["what"], hold["count"], hold["reason"]) == ("create", 4, "max_creates")
    assert f"connector approve {hold['hash']}" in "\n".join(sync_summary.describe(summary))


async def test_as_many_as_allowed_go_by_themselves(db: Database, place: Place, sandbox: Sandbox, give: Give) -> None:
    settings = settings_for(place, sandbox)
    give(settings, *users(0, 3))
    assert (await syncing.sync(db, settings, app.now)).exit_status == 0
    assert len(sandbox.people()) == 3


async def test_the_limit_is_for_any_24_hours(db: Database, place: Place, sandbox: Sandbox, give: Give) -> None:
    settings = settings_for(place, sandbox)
    give(settings, *users(0, 3))
    await syncing.sync(db, settings, app.now)
    give(settings, *users(3, 4))
    assert (await syncing.sync(db, settings, app.now)).exit_status == 3
    tomorrow = await syncing.sync(db, settings, lambda: app.now() + timedelta(hours=25))
    assert tomorrow.exit_status == 0
    assert len(sandbox.people()) == 4
    assert approving.listed(db) == []


async def test_an_approval_lets_go_whom_it_lists(db: Database, place: Place, sandbox: Sandbox, give: Give) -> None:
    settings = settings_for(place, sandbox)
    give(settings, *users(0, 5))
    await syncing.sync(db, settings, app.now)
    first_hash = approving.listed(db)[0]["hash"]
    give(settings, *users(5, 7))
    await syncing.sync(db, settings, app.now)
    second_hash = approving.listed(db)[0]["hash"]
    assert first_hash != second_hash
    assert approving.approve(db, settings, first_hash, None, app.now()) == 5
    summary = await syncing.sync(db, settings, app.now)
    assert set(sandbox.people()) == {f"u{number}" for number in range(5)} | {"u5", "u6"}
    assert summary.exit_status == 0


async def test_only_the_first_ones_when_asked_so(db: Database, place: Place, sandbox: Sandbox, give: Give) -> None:
    settings = settings_for(place, sandbox)
    give(settings, *users(0, 10))
    await syncing.sync(db, settings, app.now)
    hold = approving.listed(db)[0]
    assert approving.approve(db, settings, hold["hash"][:4], 2, app.now()) == 2
    summary = await syncing.sync(db, settings, app.now)
    assert (summary.tally.created, summary.exit_status) == (2, 3)
    assert approving.listed(db)[0]["hash"] == hold["hash"]
    assert approving.listed(db)[0]["count"] == 8
    assert approving.approve(db, settings, hold["hash"], None, app.now()) == 8
    assert (await syncing.sync(db, settings, app.now)).tally.created == 8
    assert approving.listed(db) == []


async def test_a_hold_keeps_its_hash_while_nobody_comes(
    db: Database, place: Place, sandbox: Sandbox, give: Give
) -> None:
    settings = settings_for(place, sandbox)
    give(settings, *users(0, 5))
    hashes = set()
    for _ in range(3):
        await syncing.sync(db, settings, app.now)
        hashes.add(approving.listed(db)[0]["hash"])
    assert len(hashes) == 1


async def test_an_approval_counts_for_a_day_and_for_the_settings_it_was_asked_under(
    db: Database, place: Place, sandbox: Sandbox, give: Give
) -> None:
    settings = settings_for(place, sandbox)
    give(settings, *users(0, 5))
    await syncing.sync(db, settings, app.now)
    hold = approving.listed(db)[0]
    with pytest.raises(errors.Misconfigured, match="over 24 hours old"):
        approving.approve(db, settings, hold["hash"], None, app.now() + timedelta(hours=24))
    with pytest.raises(errors.Misconfigured, match="other settings"):
        approving.approve(db, settings_for(place, sandbox, "4"), hold["hash"], None, app.now())
    with pytest.raises(errors.Misconfigured, match="nothing is held"):
        approving.approve(db, settings, "ffffffff", None, app.now())


async def test_users_who_would_not_be_created_do_not_count(
    db: Database, place: Place, sandbox: Sandbox, give: Give
) -> None:
    settings = settings_for(place, sandbox, "2")
    give(settings, *users(0, 2), *({"external_id": "x" * 151 + str(n), "email": f"b{n}@example.com"} for n in range(9)))
    summary = await syncing.sync(db, settings, app.now)
    assert summary.found.skipped == {"bad_customer_id": 9}
    assert (summary.tally.created, summary.exit_status) == (2, 0)


@pytest.mark.parametrize(("limit", "status"), [("0", 3), ('"unlimited"', 0)])
async def test_none_and_no_limit(
    db: Database, place: Place, sandbox: Sandbox, give: Give, limit: str, status: int
) -> None:
    settings = settings_for(place, sandbox, limit)
    give(settings, *users(0, 5))
    assert (await syncing.sync(db, settings, app.now)).exit_status == status


async def test_updates_go_on_while_creates_are_held(db: Database, place: Place, sandbox: Sandbox, give: Give) -> None:
    settings = settings_for(place, sandbox)
    give(settings, *users(0, 3))
    await syncing.sync(db, settings, app.now)
    give(settings, *users(3, 9), {"external_id": "u1", "plan": "pro"})
    summary = await syncing.sync(db, settings, app.now)
    assert (summary.tally.updated, summary.exit_status) == (1, 3)
    assert sandbox.people()["u1"]["plan"] == "pro"


@pytest.mark.parametrize("beginning", ["", "a", "abc"])
async def test_an_approval_names_what_it_means(
    db: Database, place: Place, sandbox: Sandbox, give: Give, beginning: str
) -> None:
    settings = settings_for(place, sandbox)
    give(settings, *users(0, 5))
    await syncing.sync(db, settings, app.now)
    with pytest.raises(errors.Misconfigured, match="first 4 characters"):
        approving.approve(db, settings, beginning, None, app.now())
    assert approving.listed(db)[0]["count"] == 5


async def test_a_pass_that_died_holds_up_the_next_one_only_until_its_lease_ends(
    db: Database, place: Place, sandbox: Sandbox, give: Give
) -> None:
    settings = settings_for(place, sandbox)
    give(settings, *users(0, 2))
    long_ago = app.now() - runs.LEASE * 2
    assert db.write(runs.begin, "died", long_ago)
    assert (await syncing.sync(db, settings, app.now)).tally.created == 2
    assert [run["state"] for run in db.read(runs.last, 2)] == ["done", "lost"]


async def test_a_pass_that_lost_its_turn_lets_nobody_go(
    db: Database, place: Place, sandbox: Sandbox, give: Give, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_for(place, sandbox)
    give(settings, *users(0, 2))

    def begin_another(*_arguments: object) -> int:
        assert db.write(runs.begin, "another", app.now() + timedelta(days=1))
        return 0

    monkeypatch.setattr(limits, "let_go_since", begin_another)
    with pytest.raises(errors.Failed, match="another one took over"):
        full_pass.run(db, settings, app.now)
    assert db.read(backlog.guarded) == 0
