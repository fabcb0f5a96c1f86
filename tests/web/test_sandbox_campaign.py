"""What the sandbox reports of its own accord: changed consent, and the mails of a pretend campaign."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest

from connector.sandbox import operations, track_api
from connector.sandbox.operations import Identifier
from connector.sandbox.state import State
from connector.sandbox.webhooks.clock import Jumping
from connector.sandbox.webhooks.reporting import Webhooks
from connector.sandbox.webhooks.webhook_bodies import Setup
from connector.sandbox.webhooks.webhook_sender import Endpoint
from tests.receiver import KEY, Receiver, receiving

START = 1_700_000_000
CREDENTIALS = {"Authorization": aiohttp.encode_basic_auth("site", "key")}
ULID = "01E4C4CT6YDC7Y5M7FE1GWWPQJ"
PREFERENCES = "cio_subscription_preferences"


@dataclass
class Sandbox:
    """A sandbox that reports to a receiver; calls to its Track API, and what it reported."""

    session: aiohttp.ClientSession
    url: str
    state: State
    webhooks: Webhooks
    receiver: Receiver

    async def put(self, customer_id: str, **attributes: Any) -> None:
        url = f"{self.url}/api/v1/customers/{customer_id}"
        async with self.session.put(url, json=attributes) as response:
            assert response.status == 200

    async def track(self, customer_id: str, name: str = "signed up", **more: Any) -> None:
        url = f"{self.url}/api/v1/customers/{customer_id}/events"
        async with self.session.post(url, json={"name": name, **more}) as response:
            assert response.status == 200

    async def batch(self, *operations: dict[str, Any]) -> None:
        people = [{"type": "person", "identifiers": {"id": "42"}, **operation} for operation in operations]
        async with self.session.post(f"{self.url}/api/v2/batch", json={"batch": people}) as response:
            assert response.status == 200

    async def reported(self, count: int) -> list[dict[str, Any]]:
        """All reports so far; waits until there are so many, and sees to it that there aren't more."""
        await self.put("the last one", unsubscribed=True)
        async with asyncio.timeout(30):
            while len(self.receiver.received) < count + 1:
                await asyncio.sleep(0)
        bodies = [json.loads(post.body) for post in self.receiver.received]
        assert bodies[-1]["data"]["customer_id"] == "the last one", bodies
        assert all(post.is_signed() for post in self.receiver.received)
        return bodies[:-1]

    async def kinds(self, count: int) -> list[str]:
        return [f"{each['object_type']}.{each['metric']}" for each in await self.reported(count)]


@pytest.fixture
async def sandbox(request: pytest.FixtureRequest) -> AsyncIterator[Sandbox]:
    """Its clock jumps; `signed up` starts the campaign. A parameter is how the webhook is set up."""
    setup = getattr(request, "param", Setup())
    state = State(lambda: START)
    async with receiving() as receiver:
        endpoint = Endpoint(receiver.url, KEY)
        webhooks = Webhooks(endpoint, clock=Jumping(START), setup=setup, campaign_event="signed up")
        app = track_api.create_app(state, site_id="site", api_key="key", webhooks=webhooks)
        async with track_api.serve(app) as running, aiohttp.ClientSession(headers=CREDENTIALS) as session:
            yield Sandbox(session, running.url, state, webhooks, receiver)


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


async def test_the_set_event_starts_a_mail_that_is_opened_and_clicked(sandbox: Sandbox) -> None:
    await sandbox.put("42", email="a@b.co")
    await sandbox.track("42", id=ULID)
    async with asyncio.timeout(30):
        while len(sandbox.receiver.received) < 4:
            await asyncio.sleep(0)
    reports = await sandbox.reported(4)
    assert [(each["object_type"], each["metric"], each["timestamp"] - START) for each in reports] == [
        ("email", "sent", 0),
        ("email", "delivered", 2),
        ("email", "opened", 62),
        ("email", "clicked", 92),
    ]
    assert len({each["data"]["delivery_id"] for each in reports}) == 1
    assert len({each["event_id"] for each in reports}) == 4
    assert {each["data"]["trigger_event_id"] for each in reports} == {ULID}
    assert {each["data"]["recipient"] for each in reports} == {"a@b.co"}


async def test_an_event_that_is_ignored_as_repeated_starts_nothing(sandbox: Sandbox) -> None:
    await sandbox.put("42", email="a@b.co")
    await sandbox.track("42", id=ULID)
    await sandbox.track("42", id=ULID)
    async with asyncio.timeout(30):
        while len(sandbox.receiver.received) < 4:
            await asyncio.sleep(0)
    assert len({each["data"]["delivery_id"] for each in await sandbox.reported(4)}) == 1


async def test_other_events_pages_and_old_events_start_nothing(sandbox: Sandbox) -> None:
    await sandbox.put("42", email="a@b.co")
    await sandbox.track("42", "Signed up")
    await sandbox.track("42", type="page")
    await sandbox.track("42", timestamp=START - 72 * 3600 - 1)
    assert await sandbox.kinds(0) == []


async def test_an_event_of_72_hours_ago_starts_a_mail(sandbox: Sandbox) -> None:
    await sandbox.put("42", email="a@b.co")
    await sandbox.track("42", timestamp=START - 72 * 3600)
    async with asyncio.timeout(30):
        while len(sandbox.receiver.received) < 4:
            await asyncio.sleep(0)
    assert {each["data"]["trigger_event_id"] for each in await sandbox.reported(4)} == {None}


async def test_nobody_is_mailed_who_is_unsubscribed_or_has_no_email(sandbox: Sandbox) -> None:
    await sandbox.put("42", email="a@b.co", unsubscribed=True)
    await sandbox.track("42")
    await sandbox.put("43")
    await sandbox.track("43")
    assert await sandbox.kinds(1) == ["customer.unsubscribed"]


async def test_two_mails_at_once_are_told_apart_by_their_delivery(sandbox: Sandbox) -> None:
    await sandbox.put("42", email="a@b.co")
    await sandbox.put("43", email="c@d.co")
    await asyncio.gather(sandbox.track("42"), sandbox.track("43"))
    async with asyncio.timeout(30):
        while len(sandbox.receiver.received) < 8:
            await asyncio.sleep(0)
    lives: dict[str, list[str]] = {}
    for each in await sandbox.reported(8):
        lives.setdefault(each["data"]["delivery_id"], []).append(each["metric"])
    assert list(lives.values()) == [["sent", "delivered", "opened", "clicked"]] * 2


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
