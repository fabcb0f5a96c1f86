"""Who leaves every whitelisted segment is deleted at Customer.io when the grace is over, and may come back."""

from __future__ import annotations

import json
from typing import Any

import pytest

from connector.commands import sync as syncing
from connector.commands import sync_summary
from connector.outbound import full_pass
from connector.records import Received
from connector.settings import Settings
from connector.store import inbox, schema
from connector.store.database import Database
from tests.places import Give, Place, Sandbox
from tests.store import given
from tests.sync.clock import Clock

PEOPLE = """segments = ["Paying"]
attributes = ["plan", "seats"]
customer_id = "code"
[people.delete]
enabled = true
"""
SEGMENTS = '"Paying" = { attribute = "plan", in = ["pro", "team"] }'


@pytest.fixture(params=["batch", "single"])
def api(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def settings(place: Place, sandbox: Sandbox, api: str) -> Settings:
    place.track_url = sandbox.url
    place.more = {"people": PEOPLE, "segments": SEGMENTS}
    return place.write(customerio=place.customerio(f'api = "{api}"', "rate_per_second = 10000")).settings()


def user(number: int, plan: str = "pro", **more: Any) -> dict[str, Any]:
    names = {"external_id": f"u{number}", "email": f"u{number}@example.com", "code": f"c{number}"}
    return {**names, "plan": plan, **more}


def says(db: Database, clock: Clock, kind: str, customer_id: str, **data: Any) -> None:
    """A webhook of Customer.io about this person."""
    at = int(clock.now.timestamp())
    body = given.webhook(f"{kind} {customer_id} {at}", kind, at=at, identifiers={"id": customer_id}, **data)
    db.write(inbox.append, inbox.CUSTOMERIO, [Received(f"{kind} {customer_id} {at}", clock.now, body)])


def deletes(sandbox: Sandbox) -> int:
    return sandbox.state.applied["deleted"]


async def test_who_leaves_is_deleted_when_the_grace_is_over_and_not_before(
    db: Database, settings: Settings, sandbox: Sandbox, give: Give, clock: Clock
) -> None:
    give(settings, user(1), user(2))
    await syncing.sync(db, settings, clock)
    give(settings, user(1, "free"))
    for hours in (0, 23.9):
        clock.move(hours=hours)
        summary = await syncing.sync(db, settings, clock)
        assert (summary.tally.deleted, summary.found.leaving, summary.exit_status) == (0, 1, 0)
        assert sorted(sandbox.people()) == ["c1", "c2"]
    assert "have left and are deleted after people.delete.grace" in "\n".join(sync_summary.describe(summary))
    clock.move(hours=0.2)
    summary = await syncing.sync(db, settings, clock)
    assert (summary.tally.deleted, summary.tally.calls, summary.exit_status) == (1, 1, 0)
    assert list(sandbox.people()) == ["c2"]
    again = await syncing.sync(db, settings, clock)
    assert (again.tally.calls, again.found.counts()["changed"]) == (0, 0)


async def test_who_is_back_within_the_grace_stays_and_leaves_anew_the_next_time(
    db: Database, settings: Settings, sandbox: Sandbox, give: Give, clock: Clock
) -> None:
    give(settings, user(1))
    await syncing.sync(db, settings, clock)
    give(settings, user(1, "free"))
    await syncing.sync(db, settings, clock)
    clock.move(hours=20)
    give(settings, user(1, "team"))
    await syncing.sync(db, settings, clock)
    assert sandbox.people()["c1"]["plan"] == "team"
    give(settings, user(1, "free"))
    for _ in range(2):
        await syncing.sync(db, settings, clock)
        clock.move(hours=20)
    assert (deletes(sandbox), list(sandbox.people())) == (0, ["c1"])
    await syncing.sync(db, settings, clock)
    assert deletes(sandbox) == 1


async def test_a_return_counts_when_a_pass_has_seen_it_though_nothing_could_be_sent(
    db: Database, settings: Settings, sandbox: Sandbox, give: Give, clock: Clock
) -> None:
    give(settings, user(1), user(2))
    await syncing.sync(db, settings, clock)
    give(settings, user(1, "free"))
    await syncing.sync(db, settings, clock)
    give(settings, user(1))
    full_pass.run(db, settings, clock)
    clock.move(hours=25)
    give(settings, user(1, "free"))
    found = full_pass.run(db, settings, clock)
    assert found is not None
    assert (found.deletes, found.leaving) == (0, 1)


async def test_with_deletion_off_they_stay_and_their_grace_begins_when_it_is_switched_on(
    db: Database, settings: Settings, place: Place, sandbox: Sandbox, give: Give, clock: Clock
) -> None:
    give(settings, user(1))
    await syncing.sync(db, settings, clock)
    kept = place.write(people=PEOPLE.replace("true", "false")).settings()
    give(kept, user(1, "free"))
    await syncing.sync(db, kept, clock)
    clock.move(days=30)
    assert (await syncing.sync(db, kept, clock)).tally.calls == 0
    assert (await syncing.sync(db, settings, clock)).found.leaving == 1
    clock.move(hours=24)
    assert (await syncing.sync(db, settings, clock)).tally.deleted == 1


async def test_the_id_that_was_sent_is_deleted_and_not_the_one_they_have_today(
    db: Database, settings: Settings, sandbox: Sandbox, give: Give, clock: Clock
) -> None:
    give(settings, user(1), user(2))
    await syncing.sync(db, settings, clock)
    give(settings, user(1, "free", code="c2"))
    await syncing.sync(db, settings, clock)
    clock.move(hours=24)
    await syncing.sync(db, settings, clock)
    assert list(sandbox.people()) == ["c2"]
    (person,) = [each for each in given.rows(db, schema.mirror) if each["deleted_at"]]
    assert (person["customer_id"], person["attributes"], person["deleted_at"]) == ("c1", {}, clock.now)


async def test_only_people_of_ours_are_deleted(
    db: Database, settings: Settings, sandbox: Sandbox, give: Give, clock: Clock
) -> None:
    says(db, clock, "email.opened", "c9")
    give(settings, user(1, "free"))
    for _ in range(3):
        summary = await syncing.sync(db, settings, clock)
        clock.move(hours=25)
    assert (summary.tally.calls, deletes(sandbox)) == (0, 0)


async def test_who_comes_back_after_a_delete_brings_opt_out_and_topics_and_waits_a_minute(
    db: Database, settings: Settings, sandbox: Sandbox, give: Give, clock: Clock
) -> None:
    give(settings, user(1))
    await syncing.sync(db, settings, clock)
    says(db, clock, "customer.unsubscribed", "c1")
    refused = json.dumps({"topics": {"topic_1": False, "topic_2": True}})
    says(db, clock, "customer.cio_subscription_preferences_changed", "c1", content=refused)
    give(settings, user(1, "free"))
    await syncing.sync(db, settings, clock)
    clock.move(hours=24)
    await syncing.sync(db, settings, clock)
    assert sandbox.people() == {}
    give(settings, user(1, "pro"))
    clock.move(seconds=59)
    waiting = await syncing.sync(db, settings, clock)
    assert (waiting.tally.calls, waiting.found.skipped) == (0, {"just_deleted": 1})
    clock.move(seconds=1)
    summary = await syncing.sync(db, settings, clock)
    assert (summary.tally.created, summary.exit_status) == (1, 0)
    (person,) = sandbox.state.people
    assert (person.id, person.unsubscribed) == ("c1", True)
    assert person.attributes["cio_subscription_preferences"] == {"topics": {"topic_1": False, "topic_2": True}}
    assert (await syncing.sync(db, settings, clock)).tally.calls == 0


async def test_another_user_with_the_id_of_the_deleted_waits_a_minute_too(
    db: Database, settings: Settings, sandbox: Sandbox, give: Give, clock: Clock
) -> None:
    give(settings, user(1))
    await syncing.sync(db, settings, clock)
    give(settings, user(1, "free"))
    await syncing.sync(db, settings, clock)
    clock.move(hours=24)
    await syncing.sync(db, settings, clock)
    give(settings, user(2, code="c1"))
    assert (await syncing.sync(db, settings, clock)).found.skipped == {"just_deleted": 1}
    clock.move(seconds=60)
    assert (await syncing.sync(db, settings, clock)).tally.created == 1
    assert sandbox.people()["c1"]["email"] == "u2@example.com"


async def test_a_delete_that_customerio_could_not_take_is_tried_again(
    db: Database, settings: Settings, place: Place, sandbox: Sandbox, give: Give, clock: Clock
) -> None:
    give(settings, user(1))
    await syncing.sync(db, settings, clock)
    give(settings, user(1, "free"))
    await syncing.sync(db, settings, clock)
    clock.move(hours=24)
    url = place.track_url
    place.track_url = "http://127.0.0.1:9"
    refused = (await syncing.sync(db, place.write().settings(), clock)).refused
    assert refused is not None
    assert refused.reason == "unreachable"
    place.track_url = url
    clock.move(minutes=1)
    summary = await syncing.sync(db, settings, clock)
    assert (summary.tally.deleted, summary.exit_status, sandbox.people()) == (1, 0, {})
