"""What the sandbox reports of its own accord: changed consent."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import aiohttp
import pytest

from connector.sandbox import operations, track_api
from connector.sandbox.operations import Identifier, Merge
from connector.sandbox.state import State
from connector.sandbox.webhooks.reporting import Webhooks
from connector.sandbox.webhooks.webhook_bodies import Setup
from tests.campaign_sandbox import CREDENTIALS, START, Sandbox, campaign_sandbox

PREFERENCES = "cio_subscription_preferences"


@pytest.fixture
async def sandbox(request: pytest.FixtureRequest) -> AsyncIterator[Sandbox]:
    """A parameter is how the webhook is set up."""
    async with campaign_sandbox(getattr(request, "param", Setup())) as sandbox:
        yield sandbox


async def test_an_opt_out_through_the_api_is_reported(sandbox: Sandbox) -> None:
    await sandbox.put("42", email="a@b.co")
    await sandbox.put("42", unsubscribed=True)
    (report,) = await sandbox.reported(1)
    assert (report["object_type"], report["metric"], report["timestamp"]) == ("customer", "unsubscribed", START)
    assert report["data"] == {
        "customer_id": "42",
        "identifiers": {"id": "42", "email": "a@b.co", "cio_id": "d9c100000001"},
        "email_address": "a@b.co",
    }


async def test_an_opt_in_too_and_the_same_value_again_is_not(sandbox: Sandbox) -> None:
    for value in (True, True, "true", 1, False, False, "no"):
        await sandbox.put("42", unsubscribed=value)
    assert await sandbox.kinds(2) == ["customer.unsubscribed", "customer.subscribed"]


async def test_a_person_who_is_new_and_unsubscribed_is_reported(sandbox: Sandbox) -> None:
    await sandbox.put("42", unsubscribed=True)
    assert await sandbox.kinds(1) == ["customer.unsubscribed"]


async def test_unsubscribed_false_is_reported_where_nothing_was_set(sandbox: Sandbox) -> None:
    await sandbox.put("42", unsubscribed=False)
    assert await sandbox.kinds(1) == ["customer.subscribed"]


async def test_clearing_an_opt_out_is_reported_and_clearing_an_opt_in_is_not(sandbox: Sandbox) -> None:
    await sandbox.put("42", unsubscribed=True)
    await sandbox.put("42", unsubscribed=None)
    await sandbox.put("43", unsubscribed=False)
    await sandbox.put("43", unsubscribed=None)
    assert await sandbox.kinds(3) == ["customer.unsubscribed", "customer.subscribed", "customer.subscribed"]


async def test_what_changes_nothing_is_not_reported(sandbox: Sandbox) -> None:
    await sandbox.put("42", plan="pro", _timestamp=START)
    await sandbox.put("42", unsubscribed=True, _timestamp=START - 1)
    await sandbox.put("43", unsubscribed=True, _update=True)
    assert await sandbox.kinds(0) == []


async def test_a_batch_reports_each_change_in_it(sandbox: Sandbox) -> None:
    await sandbox.batch(
        {"action": "identify", "attributes": {"unsubscribed": True}},
        {"action": "identify", "attributes": {"unsubscribed": False}},
    )
    assert await sandbox.kinds(2) == ["customer.unsubscribed", "customer.subscribed"]


async def test_another_writers_opt_out_is_reported_too(sandbox: Sandbox) -> None:
    await sandbox.put("42", plan="pro")
    sandbox.state.edit("id", "42", unsubscribed=True)
    assert await sandbox.kinds(1) == ["customer.unsubscribed"]


async def test_an_opt_out_in_the_edit_that_renames_the_person_is_reported(sandbox: Sandbox) -> None:
    await sandbox.put("42", plan="pro")
    sandbox.state.edit("id", "42", id="43", unsubscribed=True)
    (report,) = await sandbox.reported(1)
    assert (report["metric"], report["data"]["customer_id"]) == ("unsubscribed", "43")


async def test_what_a_merge_filled_in_is_not_reported_with_the_next_change(sandbox: Sandbox) -> None:
    await sandbox.put("1", plan="pro")
    await sandbox.put("2", unsubscribed=True)
    sandbox.state.apply(Merge(Identifier("id", "1"), Identifier("id", "2")))
    await sandbox.put("1", plan="team")
    assert await sandbox.kinds(1) == ["customer.unsubscribed"]


async def test_a_change_of_what_a_merge_filled_in_is_reported(sandbox: Sandbox) -> None:
    await sandbox.put("1", plan="pro")
    await sandbox.put("2", unsubscribed=True)
    sandbox.state.apply(Merge(Identifier("id", "1"), Identifier("id", "2")))
    await sandbox.put("1", unsubscribed=None)
    assert await sandbox.kinds(2) == ["customer.unsubscribed", "customer.subscribed"]


async def test_an_opt_out_found_by_the_identifier_in_the_body_is_compared_with_what_was(sandbox: Sandbox) -> None:
    await sandbox.put("a@b.co", unsubscribed=True)
    await sandbox.put("42", email="A@b.co", unsubscribed=True)
    assert await sandbox.kinds(1) == ["customer.unsubscribed"]


async def test_changed_preferences_are_reported_without_saying_which(sandbox: Sandbox) -> None:
    await sandbox.put("42", **{PREFERENCES: {"topics": {"topic_1": True}}})
    await sandbox.put("42", **{PREFERENCES: {"topics": {"topic_1": True}}})
    (report,) = await sandbox.reported(1)
    assert report["metric"] == "cio_subscription_preferences_changed"
    assert report["data"].keys() == {"customer_id", "identifiers", "email_address"}


@pytest.mark.parametrize("sandbox", [Setup(body_content=True)], indirect=True, ids=["body content"])
async def test_with_body_content_all_preferences_come_as_json_in_a_string(sandbox: Sandbox) -> None:
    await sandbox.put("42", **{PREFERENCES: {"topics": {"topic_1": True}}})
    await sandbox.put("42", **{f"{PREFERENCES}.topics.topic_2": False})
    await sandbox.put("42", **{PREFERENCES: None})
    reports = await sandbox.reported(3)
    assert [json.loads(report["data"]["content"]) for report in reports] == [
        {"topics": {"topic_1": True}},
        {"topics": {"topic_1": True, "topic_2": False}},
        {},
    ]


async def test_without_a_url_nothing_waits_to_be_reported() -> None:
    webhooks = Webhooks(campaign_event="signed up")
    app = track_api.create_app(State(lambda: START), site_id="site", api_key="key", webhooks=webhooks)
    async with track_api.serve(app) as running, aiohttp.ClientSession(headers=CREDENTIALS) as session:
        async with session.put(f"{running.url}/api/v1/customers/42", json={"unsubscribed": True}) as response:
            assert response.status == 200
        assert webhooks.status()["backlog"] == 0


async def test_what_was_there_before_is_not_reported(sandbox: Sandbox) -> None:
    state = State(lambda: START)
    state.apply(operations.identify(Identifier("id", "42"), {"unsubscribed": True}, update_only=False, timestamp=None))
    sandbox.webhooks.reactions.follow(state)
    for value in (True, False):
        who = Identifier("id", "42")
        state.apply(operations.identify(who, {"unsubscribed": value}, update_only=False, timestamp=None))
    assert await sandbox.kinds(1) == ["customer.subscribed"]
