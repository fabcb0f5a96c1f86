"""Webhooks over HTTP: what waits and what went out, settings while it runs, mixes, and errors that can be seen."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from typing import Any

import pytest

from connector.sandbox import operations
from connector.sandbox.operations import Identifier
from connector.sandbox.webhooks import volume
from connector.sandbox.webhooks.clock import Jumping
from connector.sandbox.webhooks.reporting import Webhooks
from connector.sandbox.webhooks.volume import Mix
from connector.sandbox.webhooks.webhook_bodies import Setup
from connector.sandbox.webhooks.webhook_sender import Endpoint
from tests.receiver import KEY, Receiver, receiving
from tests.reporting_sandbox import Sandbox, patient, reporting_sandbox

START = 1_700_000_000
HOUR = 3600


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as receiver:
        yield receiver


def identify(sandbox: Sandbox, customer_id: str, **attributes: Any) -> None:
    who = Identifier("id", customer_id)
    sandbox.state.apply(operations.identify(who, attributes, update_only=False, timestamp=None))


# Looking


async def test_ten_thousand_webhooks_wait_behind_one_500_and_all_arrive_in_order(receiver: Receiver) -> None:
    receiver.answers = {5000: 500}
    clock = Jumping(START, until=START)
    mix = Mix(count=10_000, seed=7)
    expected = [each.body for each in volume.reports(mix, volume.STRANGERS, Setup(), START)]
    reports = patient(Endpoint(receiver.url, KEY), clock=clock)
    async with reporting_sandbox(reports) as sandbox:
        assert await sandbox.send(count=10_000, seed=7) == {"count": 10_000, "seed": 7}
        held = await sandbox.until(lambda status: status["next_try_at"] and not status["mixes_under_way"])
        assert (held["delivered"], held["backlog"], held["held_back"]) == (4999, 5001, 5000)
        assert held["head_event_id"] == receiver.received[4999].event_id
        assert held["next_try_at"] == START + HOUR

        clock.jump_until(START + HOUR // 2)
        await clock.sleep(HOUR // 2)
        held = await sandbox.status()
        assert (held["head_age_seconds"], held["head_tries"], held["head_last_answer"]) == (HOUR // 2, 1, 500)
        assert len(receiver.received) == 5000

        clock.jump_until(math.inf)
        await reports.delivery.emptied()
        done = await sandbox.status()
    assert (done["delivered"], done["backlog"], done["failed_tries"], done["given_up"]) == (10_000, 0, 1, 0)
    bodies = [post.body for post in receiver.received]
    assert bodies == expected[:5000] + expected[4999:]
    assert [post.at - START for post in receiver.received] == [0] * 5000 + [HOUR] * 5001


async def test_what_waits_comes_in_pages_the_head_first(receiver: Receiver) -> None:
    receiver.answers = {3: 500}
    clock = Jumping(START, until=START)
    async with reporting_sandbox(patient(Endpoint(receiver.url, KEY), clock=clock)) as sandbox:
        await sandbox.send(count=8, kinds=["email.sent"])
        await sandbox.until(lambda status: status["next_try_at"])
        pages = await sandbox.pages("/webhooks/queue?limit=4")
        assert [[each["number"] for each in page] for page in pages] == [[3, 4, 5, 6], [7, 8]]
        head, second = pages[0][:2]
        assert (head["event_id"], head["answers"], head["next_try_at"]) == (
            receiver.received[2].event_id,
            [500],
            START + HOUR,
        )
        assert (second["outcome"], second["tries"], second["enqueued_at"]) == ("waiting", 0, START)
        clock.jump_until(math.inf)
        await sandbox.until(lambda status: status["delivered"] == 8)
        assert await sandbox.pages("/webhooks/queue?after=3") == [[]]


async def test_what_was_tried_comes_in_pages_the_newest_first(receiver: Receiver) -> None:
    receiver.answers = {5: 500}
    clock = Jumping(START, until=START)
    async with reporting_sandbox(patient(Endpoint(receiver.url, KEY), clock=clock)) as sandbox:
        await sandbox.send(count=8)
        await sandbox.until(lambda status: status["next_try_at"])
        pages = await sandbox.pages("/webhooks/recent?limit=2")
    assert [[(each["number"], each["outcome"]) for each in page] for page in pages] == [
        [(5, "waiting"), (4, "delivered")],
        [(3, "delivered"), (2, "delivered")],
        [(1, "delivered")],
    ]


async def test_of_what_was_tried_the_last_thousand_are_known(receiver: Receiver) -> None:
    async with reporting_sandbox(patient(Endpoint(receiver.url, KEY))) as sandbox:
        await sandbox.send(count=1010)
        await sandbox.until(lambda status: status["delivered"] == 1010)
        (page,) = await sandbox.pages("/webhooks/recent?limit=10000")
    assert [each["number"] for each in page] == list(range(1010, 10, -1))


async def test_what_was_accepted_comes_in_pages_with_the_time_of_what_it_reports(receiver: Receiver) -> None:
    receiver.answers = {2: 503}
    async with reporting_sandbox(patient(Endpoint(receiver.url, KEY), clock=Jumping(START))) as sandbox:
        await sandbox.send(count=5, per_second=1, duplicates=1)
        await sandbox.until(lambda status: status["acknowledged"] == 10)
        pages = await sandbox.pages("/webhooks/acknowledged?limit=4")
    assert [len(page) for page in pages] == [4, 4, 2]
    found = [each for page in pages for each in page]
    assert [each["number"] for each in found] == list(range(1, 11))
    accepted = [post for number, post in enumerate(receiver.received, 1) if number != 2]
    assert [(each["event_id"], each["timestamp"]) for each in found] == [
        (post.event_id, post.json["timestamp"]) for post in accepted
    ]
    assert [(each["kind"].rpartition(".")[2], each["customer_id"]) for each in found] == [
        (post.json.get("metric") or post.json["event_type"], post.json["data"]["customer_id"]) for post in accepted
    ]
    assert all(each["at"] >= each["timestamp"] for each in found)


@pytest.mark.parametrize("path", ["/webhooks/queue", "/webhooks/recent", "/webhooks/acknowledged", "/deliveries"])
@pytest.mark.parametrize("query", ["limit=0", "limit=10001", "after=x"])
async def test_what_is_no_number_is_answered_400(path: str, query: str) -> None:
    async with reporting_sandbox(Webhooks()) as sandbox:
        status, answer = await sandbox.call("GET", f"{path}?{query}")
    assert (status, query.partition("=")[0] in answer["error"]) == (400, True)


# Errors


class Broken(Jumping):
    """Nobody can sleep by it."""

    async def sleep(self, seconds: float) -> None:
        raise RuntimeError("the clock fell down")


async def test_delivery_that_was_ended_by_an_error_says_so(
    receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    receiver.answers = {1: 500}
    async with reporting_sandbox(patient(Endpoint(receiver.url, KEY), clock=Broken(START))) as sandbox:
        await sandbox.send(count=2)
        status = await sandbox.until(lambda status: not status["delivering"])
        assert status["failures"] == ["delivery: RuntimeError: the clock fell down"]
        assert status["backlog"] == 2
        assert (await sandbox.call("POST", "/webhooks", {"count": 1}))[0] == 503
    assert [record.levelname for record in caplog.records] == ["ERROR"]


@pytest.mark.parametrize("connections", [{}, {"connections": 4}], ids=["in order", "over connections"])
async def test_a_mix_that_was_ended_by_an_error_says_so_and_takes_nothing_with_it(
    receiver: Receiver, caplog: pytest.LogCaptureFixture, connections: dict[str, int]
) -> None:
    webhooks = patient(Endpoint(receiver.url, KEY), clock=Broken(START))
    async with reporting_sandbox(webhooks) as sandbox:
        await sandbox.send(count=2, per_second=1, **connections)  # the second one waits for its turn
        status = await sandbox.until(lambda status: status["failures"])
        assert status["failures"] == ["a mix: RuntimeError: the clock fell down"]
        assert (status["delivering"], status["mixes_under_way"]) == (True, 0)
        accepted = status["acknowledged"] + status["backlog"]
        await sandbox.send(count=2)
        await sandbox.until(lambda status: status["acknowledged"] == accepted + 2)
    assert [record.levelname for record in caplog.records] == ["ERROR"]


# Setting


async def test_where_webhooks_go_can_be_set_while_it_runs(receiver: Receiver) -> None:
    async with reporting_sandbox(Webhooks()) as sandbox:
        assert (await sandbox.call("POST", "/webhooks", {"count": 1}))[0] == 409
        assert (await sandbox.set(url=receiver.url, signing_key=KEY))["url"] == receiver.url
        await sandbox.send(count=1)
        await sandbox.until(lambda status: status["delivered"] == 1)
        (recent,) = await sandbox.get("/webhooks/recent")
    (post,) = receiver.received
    assert post.is_signed()
    assert (recent["event_id"], recent["outcome"], recent["answers"]) == (post.event_id, "delivered", [200])


async def test_a_setting_that_is_not_named_stays_as_it_is(receiver: Receiver) -> None:
    webhooks = Webhooks(Endpoint("http://127.0.0.1:9/", KEY), campaign_event="signed up", setup=Setup(only_ids=True))
    async with reporting_sandbox(webhooks) as sandbox:
        status = await sandbox.set(url=receiver.url)
        assert (status["campaign_event"], status["only_ids"], status["body_content"]) == ("signed up", True, False)
        assert webhooks.delivery.endpoint == Endpoint(receiver.url, KEY)
        assert (await sandbox.set(campaign_event=None))["campaign_event"] is None
        await sandbox.set(signing_key="another")
        assert webhooks.delivery.endpoint == Endpoint(receiver.url, "another")
        assert (await sandbox.set())["url"] == receiver.url


async def test_what_is_in_webhooks_can_be_set_while_it_runs(receiver: Receiver) -> None:
    preferences = {"topics": {"topic_1": True}}
    async with reporting_sandbox(patient(Endpoint(receiver.url, KEY))) as sandbox:
        await sandbox.set(body_content=True, only_ids=True, object_type_type=True)
        identify(sandbox, "42", email="a@b.co", cio_subscription_preferences=preferences)
        await sandbox.until(lambda status: status["delivered"] == 1)
        await sandbox.send(count=1, kinds=["email.sent"])
        await sandbox.until(lambda status: status["delivered"] == 2)
    changed, sent = (post.json for post in receiver.received)
    assert changed["object_type_type"] == "customer"
    assert changed["data"]["content"] == '{"topics":{"topic_1":true}}'
    assert changed["data"]["identifiers"] == sent["data"]["identifiers"] == {"id": "42"}
    assert "headers" in sent["data"]


@pytest.mark.parametrize(
    "settings",
    [
        {"url": "", "signing_key": "k"},
        {"url": "ftp://example.com", "signing_key": "k"},
        {"url": "http://", "signing_key": "k"},
        {"url": "http://localhost:port", "signing_key": "k"},
        {"url": "http://localhost", "signing_key": ""},
        {"url": "http://localhost"},
        {"url": "http://localhost", "signing_key": "\ud800"},
        {"url": "http://localhost", "signing_key": "k", "body_content": "yes"},
        {"url": "http://localhost", "signing_key": "k", "colour": "red"},
    ],
    ids=str,
)
async def test_settings_that_are_none_are_refused_in_words_and_change_nothing(settings: dict[str, Any]) -> None:
    async with reporting_sandbox(Webhooks()) as sandbox:
        before = await sandbox.status()
        status, answer = await sandbox.call("PUT", "/webhooks", settings)
        assert (status, bool(answer["error"])) == (400, True)
        after = await sandbox.status()
    assert before | {"now": 0} == after | {"now": 0}


# Mixes


async def test_a_mix_is_sent_at_its_rate(receiver: Receiver) -> None:
    async with reporting_sandbox(patient(Endpoint(receiver.url, KEY), clock=Jumping(START))) as sandbox:
        await sandbox.send(count=21, per_second=2, kinds={"email.sent": 3, "email_sent": 1})
        await sandbox.until(lambda status: status["delivered"] == 21)
    assert [post.json["timestamp"] - START for post in receiver.received] == [number // 2 for number in range(21)]
    assert {post.json.get("event_type", "current") for post in receiver.received} == {"current", "email_sent"}


async def ids_of(webhooks: Webhooks, receiver: Receiver, *mixes: dict[str, Any]) -> list[str]:
    async with reporting_sandbox(webhooks) as sandbox:
        for number, mix in enumerate(mixes, 1):
            await sandbox.send(count=30, **mix)
            await sandbox.until(lambda status, number=number: status["delivered"] == 30 * number)
    return [post.event_id for post in receiver.received]


@pytest.mark.parametrize("seed", [None, 7])
async def test_mixes_without_a_seed_of_their_own_repeat_no_ids(receiver: Receiver, seed: int | None) -> None:
    webhooks = patient(Endpoint(receiver.url, KEY), clock=Jumping(START), seed=seed)
    assert len(set(await ids_of(webhooks, receiver, {}, {}, {"kinds": ["email_sent"]}))) == 90


async def test_a_seed_of_the_sandbox_makes_them_repeatable_and_no_seed_makes_them_fresh() -> None:
    seen: dict[int | None, list[list[str]]] = {7: [], None: []}
    for seed in (7, 7, None, None):
        async with receiving() as receiver:
            webhooks = patient(Endpoint(receiver.url, KEY), clock=Jumping(START), seed=seed)
            seen[seed].append(await ids_of(webhooks, receiver, {}, {}))
    assert seen[7][0] == seen[7][1]
    assert not set(seen[None][0]) & set(seen[None][1])


async def test_the_seed_of_a_mix_can_be_asked_for_again(receiver: Receiver) -> None:
    webhooks = patient(Endpoint(receiver.url, KEY), clock=Jumping(START))
    async with reporting_sandbox(webhooks) as sandbox:
        seed = (await sandbox.send(count=30))["seed"]
        await sandbox.send(count=30, seed=seed)
        await sandbox.until(lambda status: status["delivered"] == 60)
    ids = [post.event_id for post in receiver.received]
    assert ids[:30] == ids[30:]


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b'{"count": 0}',
        b'{"count": 1, "kinds": []}',
        b'{"count": 1, "kinds": ["email.eaten"]}',
        b'{"count": 1, "kinds": {"email.sent": 0}}',
        b'{"count": 1, "people": []}',
        b'{"count": 1, "people": ["nobody"]}',
        b'{"count": 1, "per_second": 0}',
        b'{"count": 1, "duplicates": 2}',
        b'{"count": 1, "connections": 0}',
        b'{"count": 1, "tempo": 3}',
        b"[" * 100_000,
        b'{"count": 1, "people": ["\xff"]}',
    ],
    ids=lambda body: repr(body[:50]),
)
async def test_a_mix_that_can_not_be_made_is_refused_in_words(receiver: Receiver, body: bytes) -> None:
    async with reporting_sandbox(patient(Endpoint(receiver.url, KEY))) as sandbox:
        status, answer = await sandbox.call("POST", "/webhooks", body)
    assert (status, bool(answer["error"])) == (400, True)
    assert receiver.received == []


async def test_a_mix_is_about_the_people_that_it_names(receiver: Receiver) -> None:
    async with reporting_sandbox(patient(Endpoint(receiver.url, KEY))) as sandbox:
        for customer_id in ("41", "42", "43"):
            identify(sandbox, customer_id, email=f"{customer_id}@b.co")
        await sandbox.send(count=20, kinds=["email.sent"], people=["42"])
        await sandbox.until(lambda status: status["delivered"] == 20)
    assert {post.json["data"]["customer_id"] for post in receiver.received} == {"42"}
