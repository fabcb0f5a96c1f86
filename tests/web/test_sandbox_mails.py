"""The mails of the pretend campaign: what starts one, whose it is, how its life is reported and read back."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator

import pytest

from connector.sandbox.operations import Delete, Identifier
from connector.sandbox.webhooks import reporting
from tests.campaign_sandbox import START, Sandbox, campaign_sandbox

ULID = "01E4C4CT6YDC7Y5M7FE1GWWPQJ"


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with campaign_sandbox() as sandbox:
        yield sandbox


async def test_the_set_event_starts_a_mail_that_is_opened_and_clicked(sandbox: Sandbox) -> None:
    await sandbox.put("42", email="a@b.co")
    await sandbox.track("42", id=ULID)
    await sandbox.received(4)
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
    await sandbox.received(4)
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
    await sandbox.received(4)
    assert {each["data"]["trigger_event_id"] for each in await sandbox.reported(4)} == {None}


async def test_nobody_is_mailed_who_is_unsubscribed_or_has_no_email(sandbox: Sandbox) -> None:
    await sandbox.put("42", email="a@b.co", unsubscribed=True)
    await sandbox.track("42")
    await sandbox.put("43")
    await sandbox.track("43")
    assert await sandbox.kinds(1) == ["customer.unsubscribed"]


async def test_the_recipient_is_who_it_was_when_the_mail_was_sent_also_once_deleted(sandbox: Sandbox) -> None:
    sandbox.clock.jump_until(START)
    await sandbox.put("42", email="a@b.co")
    await sandbox.track("42")
    await sandbox.received(1)
    await sandbox.put("42", id="42", plan="pro")
    sandbox.state.apply(Delete(Identifier("id", "42")))
    sandbox.clock.jump_until(math.inf)
    await sandbox.received(4)
    lives = [each["data"] for each in await sandbox.reported(4)]
    assert [each["recipient"] for each in lives] == ["a@b.co"] * 4
    assert {tuple(each["identifiers"].values()) for each in lives} == {("42", "a@b.co", "d9c100000001")}
    assert [each["customer_id"] for each in lives] == ["42", "", "", ""]


async def test_a_renamed_person_stays_the_recipient_of_the_mail_by_the_old_name(sandbox: Sandbox) -> None:
    sandbox.clock.jump_until(START)
    await sandbox.put("42", email="a@b.co")
    await sandbox.track("42")
    await sandbox.received(1)
    sandbox.state.edit("id", "42", email="c@d.co")
    sandbox.clock.jump_until(math.inf)
    await sandbox.received(4)
    assert {each["data"]["recipient"] for each in await sandbox.reported(4)} == {"a@b.co"}


async def test_an_anonymous_event_starts_a_mail_once_it_is_attached(sandbox: Sandbox) -> None:
    await sandbox.anonymous("visitor", timestamp=START - 72 * 3600, id=ULID)
    await sandbox.put("42", email="a@b.co", anonymous_id="visitor")
    await sandbox.received(4)
    assert {each["data"]["trigger_event_id"] for each in await sandbox.reported(4)} == {ULID}


async def test_so_does_one_that_comes_shortly_after_the_identify(sandbox: Sandbox) -> None:
    await sandbox.put("42", email="a@b.co", anonymous_id="visitor")
    await sandbox.anonymous("visitor")
    await sandbox.received(4)
    assert len(await sandbox.reported(4)) == 4


async def test_an_anonymous_event_that_is_attached_after_72_hours_starts_nothing(sandbox: Sandbox) -> None:
    await sandbox.anonymous("visitor")
    sandbox.state.clock = lambda: START + 72 * 3600 + 1
    await sandbox.put("42", email="a@b.co", anonymous_id="visitor")
    assert await sandbox.kinds(0) == []


async def test_an_attached_event_mails_nobody_whom_the_same_identify_unsubscribes(sandbox: Sandbox) -> None:
    await sandbox.anonymous("visitor")
    await sandbox.put("42", email="a@b.co", anonymous_id="visitor", unsubscribed=True)
    assert await sandbox.kinds(1) == ["customer.unsubscribed"]


async def test_each_delivery_is_read_back_with_its_recipient_and_the_times_of_its_states(sandbox: Sandbox) -> None:
    sandbox.clock.jump_until(START)
    await sandbox.put("42", email="a@b.co")
    await sandbox.put("43", email="c@d.co")
    await sandbox.track("42", id=ULID)
    await sandbox.track("43")
    await sandbox.received(2)
    sandbox.clock.jump_until(START + 2)
    await sandbox.received(4)
    (second,), following = await sandbox.get("/sandbox/deliveries?limit=1")
    (first,), none = await sandbox.get(following)
    assert (second["number"], second["recipient"], none) == (2, "c@d.co", "")
    assert first == {
        "number": 1,
        "delivery_id": sandbox.receiver.received[0].json["data"]["delivery_id"],
        "type": "email",
        "recipient": "a@b.co",
        "identifiers": {"id": "42", "email": "a@b.co", "cio_id": "d9c100000001"},
        "campaign_id": 7,
        "action_id": 42,
        "trigger_event_id": ULID,
        "metrics": {"sent": START, "delivered": START + 2},
    }


async def test_deliveries_are_kept_where_no_webhook_goes(sandbox: Sandbox) -> None:
    sandbox.webhooks.delivery.endpoint = reporting.NOWHERE
    await sandbox.put("42", email="a@b.co")
    await sandbox.track("42")
    async with asyncio.timeout(30):
        while "clicked" not in (await sandbox.get("/sandbox/deliveries"))[0][0]["metrics"]:
            await asyncio.sleep(0)


async def test_two_mails_at_once_are_told_apart_by_their_delivery(sandbox: Sandbox) -> None:
    await sandbox.put("42", email="a@b.co")
    await sandbox.put("43", email="c@d.co")
    await asyncio.gather(sandbox.track("42"), sandbox.track("43"))
    await sandbox.received(8)
    lives: dict[str, list[str]] = {}
    for each in await sandbox.reported(8):
        lives.setdefault(each["data"]["delivery_id"], []).append(each["metric"])
    assert list(lives.values()) == [["sent", "delivered", "opened", "clicked"]] * 2
