"""How the sandbox delivers webhooks: in order, one by one, again and again; days of it, on a clock that jumps."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from connector.sandbox import track_api
from connector.sandbox.webhooks import delivery, reporting, volume, webhook_bodies
from connector.sandbox.webhooks.clock import Clock, Jumping, Wall
from connector.sandbox.webhooks.delivery import AFTER_AN_HOUR, Delivery, Schedule
from connector.sandbox.webhooks.reporting import Webhooks
from connector.sandbox.webhooks.volume import Mix
from connector.sandbox.webhooks.webhook_bodies import Recipient, Setup, Webhook
from connector.sandbox.webhooks.webhook_sender import TIMEOUT, Answer, Endpoint
from tests.receiver import KEY, Receiver, receiving

START = 1_700_000_000
HOUR, DAY = 3600, 86_400
ANN = Recipient("42", "a@b.co", "d9c106000001")
DOCUMENTED = [400, 401, 402, 403, 404, 405, 410, 429, 500, 502, 521]


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as receiver:
        yield receiver


def webhooks(count: int) -> list[Webhook]:
    return list(webhook_bodies.stream([ANN], [("email", "sent")] * count, random.Random(0), timestamp=START))


@asynccontextmanager
async def delivering(
    url: str, count: int = 1, *, clock: Clock | None = None, timeout_seconds: float = 4.0
) -> AsyncIterator[Delivery]:
    """A delivery at work, with so many webhooks in its queue."""
    queue = Delivery(Endpoint(url, KEY), clock or Jumping(START), timeout_seconds=timeout_seconds)
    for webhook in webhooks(count):
        queue.enqueue(webhook)
    running = asyncio.create_task(queue.run())
    try:
        yield queue
    finally:
        running.cancel()
        await asyncio.wait([running])
        assert running.cancelled(), running.exception()


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0)


def waits(*answers: Answer) -> list[float]:
    schedule = Schedule()
    return [schedule.wait_after(answer) for answer in answers]


def test_the_codes_that_wait_for_an_hour_are_the_documented_ones() -> None:
    assert sorted(AFTER_AN_HOUR) == DOCUMENTED


@pytest.mark.parametrize("status", DOCUMENTED)
def test_after_a_documented_code_the_first_retry_comes_an_hour_later(status: int) -> None:
    assert waits(*[Answer("e", status)] * 4) == [3600, 60, 120, 240]


def test_after_a_connection_that_fails_too() -> None:
    assert waits(*[Answer("e", None, "Connection reset by peer")] * 3) == [3600, 60, 120]


@pytest.mark.parametrize("status", [302, 304, 408, 418, 503, 504])
def test_after_any_other_code_backoff_begins_at_once(status: int) -> None:
    assert waits(*[Answer("e", status)] * 3) == [60, 120, 240]


def test_after_a_timeout_too() -> None:
    assert waits(*[Answer("e", None, TIMEOUT)] * 3) == [60, 120, 240]


def test_the_hour_is_waited_for_once_and_before_the_first_retry_only() -> None:
    assert waits(Answer("e", 503), Answer("e", 500), Answer("e", 500)) == [60, 120, 240]


def test_no_wait_is_longer_than_twelve_hours() -> None:
    assert waits(*[Answer("e", 503)] * 13)[-4:] == [30_720, 12 * HOUR, 12 * HOUR, 12 * HOUR]


async def test_one_that_fails_holds_back_what_is_behind_it(receiver: Receiver) -> None:
    receiver.answers = {2: 500}
    async with delivering(receiver.url, 4) as queue:
        await queue.emptied()
    one, two, three, four = [webhook.event_id for webhook in webhooks(4)]
    assert receiver.tries == [one, two, two, three, four]
    assert [post.at - START for post in receiver.received] == [0, 0, HOUR, HOUR, HOUR]


async def test_the_next_one_is_sent_only_when_the_one_before_it_was_answered(receiver: Receiver) -> None:
    receiver.answers = {1: None}
    async with delivering(receiver.url, 2) as queue:
        await until(lambda: receiver.received)
        for _ in range(100):
            await asyncio.sleep(0)
        assert len(receiver.received) == 1
        assert (queue.status()["backlog"], queue.status()["next_try_at"]) == (2, None)
        receiver.close()
        await queue.emptied()
    assert len(receiver.received) == 2


async def test_each_try_has_its_own_time_and_signature_over_the_same_body(receiver: Receiver) -> None:
    receiver.answers = {1: 429, 2: 503}
    async with delivering(receiver.url) as queue:
        await queue.emptied()
    assert [post.at - START for post in receiver.received] == [0, HOUR, HOUR + 60]
    assert all(post.is_signed() for post in receiver.received)
    assert len({post.headers["X-CIO-Signature"] for post in receiver.received}) == 3
    assert len({post.body for post in receiver.received}) == 1


async def test_no_answer_in_time_is_a_failure_and_is_tried_again_after_a_minute(receiver: Receiver) -> None:
    receiver.answers = {1: None}
    async with delivering(receiver.url, timeout_seconds=0.05) as queue:
        await queue.emptied()
    assert [post.at - START for post in receiver.received] == [0, 60]
    assert [each["answers"] for each in queue.recent()] == [["timeout", 200]]


async def test_a_redirect_is_not_followed_and_is_a_failure(receiver: Receiver) -> None:
    receiver.answers = {1: 307}
    async with delivering(receiver.url) as queue:
        await queue.emptied()
    assert receiver.elsewhere == 0
    assert [post.at - START for post in receiver.received] == [0, 60]
    assert [each["answers"] for each in queue.recent()] == [[307, 200]]


async def test_a_connection_that_is_cut_before_the_answer_waits_for_an_hour() -> None:
    async def cut(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(cut, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    async with server, delivering(f"http://{host}:{port}", clock=Jumping(START, until=START)) as queue:
        await until(lambda: queue.status()["next_try_at"])
        assert queue.status()["next_try_at"] == START + HOUR


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_so_does_one_that_is_refused_and_one_without_tls(receiver: Receiver, scheme: str) -> None:
    url = receiver.url.replace("http", "https") if scheme == "https" else "http://127.0.0.1:9"
    async with delivering(url, clock=Jumping(START, until=START)) as queue:
        await until(lambda: queue.status()["next_try_at"])
        assert queue.status()["next_try_at"] == START + HOUR
    assert receiver.received == []


async def test_after_seven_days_it_is_given_up_and_the_next_one_goes_out(receiver: Receiver) -> None:
    receiver.answers = dict.fromkeys(range(1, 25), 500)
    async with delivering(receiver.url, 3) as queue:
        await queue.emptied()
        status = queue.status()
    given_up, *delivered = [webhook.event_id for webhook in webhooks(3)]
    assert receiver.tries == [given_up] * 24 + delivered
    times = [post.at - START for post in receiver.received]
    assert times[:4] == [0, HOUR, HOUR + 60, HOUR + 180]
    assert times[23] < 7 * DAY
    assert times[24:] == [7 * DAY, 7 * DAY]
    assert (status["delivered"], status["given_up"], status["failed_tries"]) == (2, 1, 24)
    assert [each["outcome"] for each in queue.recent()] == ["delivered", "delivered", "given_up"]


async def test_the_last_try_within_the_seven_days_can_still_succeed(receiver: Receiver) -> None:
    receiver.answers = dict.fromkeys(range(1, 24), 500)
    async with delivering(receiver.url) as queue:
        await queue.emptied()
    assert len(receiver.received) == 24
    assert queue.status()["given_up"] == 0


async def test_status_is_how_the_queue_stands(receiver: Receiver) -> None:
    receiver.answers = {2: 410}
    clock = Jumping(START, until=START)
    async with delivering(receiver.url, 4, clock=clock) as queue:
        await until(lambda: queue.status()["next_try_at"])
        clock.jump_until(START + 600)
        await clock.sleep(600)
        assert queue.status() == {
            "url": receiver.url,
            "now": START + 600,
            "backlog": 3,
            "held_back": 2,
            "head_event_id": webhooks(4)[1].event_id,
            "head_kind": "email.sent",
            "head_age_seconds": 600,
            "head_tries": 1,
            "head_last_answer": 410,
            "next_try_at": START + HOUR,
            "delivered": 1,
            "failed_tries": 1,
            "given_up": 0,
        }
        head, first = queue.recent()
        assert (head["outcome"], head["answers"], first["outcome"]) == ("waiting", [410], "delivered")
        clock.jump_until(math.inf)
        await queue.emptied()
    assert queue.status()["backlog"] == 0
    assert queue.status()["head_event_id"] is None


async def test_an_hour_passes_sooner_on_a_wall_clock_that_is_sped_up(receiver: Receiver) -> None:
    receiver.answers = {1: 500}
    async with delivering(receiver.url, clock=Wall(factor=36_000)) as queue, asyncio.timeout(30):
        await queue.emptied()
    first, second = receiver.received
    assert second.at - first.at >= HOUR - 1


async def test_a_jumping_clock_wakes_sleepers_in_the_order_of_their_moments() -> None:
    clock = Jumping(START)
    woken: list[tuple[str, float]] = []

    async def sleep(name: str, *seconds: float) -> None:
        for each in seconds:
            await clock.sleep(each)
            woken.append((name, clock.now() - START))

    given_up = asyncio.create_task(sleep("given up", 5))
    await asyncio.sleep(0)
    given_up.cancel()
    await asyncio.gather(sleep("late", 10), sleep("often", 4, 4, 4))
    assert woken == [("often", 4), ("often", 8), ("late", 10), ("often", 12)]


def test_a_clock_does_not_run_backwards_or_stand_still() -> None:
    for factor in (0, -1, math.inf, math.nan):
        with pytest.raises(ValueError, match="above 0"):
            Wall(factor)


@asynccontextmanager
async def reporting_sandbox(webhooks: Webhooks) -> AsyncIterator[tuple[aiohttp.ClientSession, str]]:
    """A sandbox that runs these webhooks; a session, and the URL of their routes."""
    app = track_api.create_app(site_id="site", api_key="key", webhooks=webhooks)
    async with track_api.serve(app) as running, aiohttp.ClientSession() as session:
        yield session, running.url + "/sandbox/webhooks"


async def read_until(session: aiohttp.ClientSession, url: str, condition: Callable[[dict[str, Any]], Any]) -> Any:
    """Reads the status back until it is as wanted."""
    async with asyncio.timeout(90):
        while True:
            async with session.get(url) as response:
                status = await response.json()
            if condition(status):
                return status


async def test_ten_thousand_webhooks_wait_behind_one_500_and_all_arrive_in_order(receiver: Receiver) -> None:
    receiver.answers = {5000: 500}
    clock = Jumping(START, until=START)
    mix = Mix(count=10_000, seed=7)
    expected = [each.body for each in volume.reports(mix, volume.STRANGERS, Setup(), START)]
    reports = Webhooks(Endpoint(receiver.url, KEY), clock=clock)
    async with reporting_sandbox(reports) as (session, url):
        async with session.post(url, json={"count": 10_000, "seed": 7}) as response:
            assert response.status == 202
        held = await read_until(session, url, lambda status: status["next_try_at"] and not status["mixes_under_way"])
        assert (held["delivered"], held["backlog"], held["held_back"]) == (4999, 5001, 5000)
        assert held["head_event_id"] == receiver.received[4999].event_id
        assert held["next_try_at"] == START + HOUR

        clock.jump_until(START + HOUR // 2)
        await clock.sleep(HOUR // 2)
        held = await read_until(session, url, bool)
        assert (held["head_age_seconds"], held["head_tries"], held["head_last_answer"]) == (HOUR // 2, 1, 500)
        assert len(receiver.received) == 5000

        clock.jump_until(math.inf)
        await reports.delivery.emptied()
        done = await read_until(session, url, bool)
    assert (done["delivered"], done["backlog"], done["failed_tries"], done["given_up"]) == (10_000, 0, 1, 0)
    bodies = [post.body for post in receiver.received]
    assert bodies == expected[:5000] + expected[4999:]
    assert [post.at - START for post in receiver.received] == [0] * 5000 + [HOUR] * 5001


async def test_a_mix_is_sent_at_its_rate(receiver: Receiver) -> None:
    reports = Webhooks(Endpoint(receiver.url, KEY), clock=Jumping(START))
    async with reporting_sandbox(reports) as (session, url):
        mix = {"count": 21, "per_second": 2, "kinds": {"email.sent": 3, "email_sent": 1}}
        async with session.post(url, json=mix) as response:
            assert response.status == 202
            assert await response.json() == {"count": 21}
        await read_until(session, url, lambda status: status["delivered"] == 21)
    assert [post.json["timestamp"] - START for post in receiver.received] == [number // 2 for number in range(21)]
    assert {post.json.get("event_type", "current") for post in receiver.received} == {"current", "email_sent"}


async def test_where_webhooks_go_can_be_set_while_it_runs(receiver: Receiver) -> None:
    async with reporting_sandbox(Webhooks()) as (session, url):
        async with session.post(url, json={"count": 1}) as response:
            assert response.status == 409
        async with session.put(url, json={"url": receiver.url, "signing_key": KEY}) as response:
            assert response.status == 200
            assert (await response.json())["url"] == receiver.url
        async with session.post(url, json={"count": 1}) as response:
            assert response.status == 202
        await read_until(session, url, lambda status: status["delivered"] == 1)
        async with session.get(url + "/recent") as response:
            (recent,) = await response.json()
    (post,) = receiver.received
    assert post.is_signed()
    assert (recent["event_id"], recent["outcome"], recent["answers"]) == (post.event_id, "delivered", [200])


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
        b'{"count": 1, "tempo": 3}',
    ],
    ids=bytes.decode,
)
async def test_a_mix_that_can_not_be_made_is_refused_in_words(receiver: Receiver, body: bytes) -> None:
    reports = Webhooks(Endpoint(receiver.url, KEY))
    async with reporting_sandbox(reports) as (session, url), session.post(url, data=body) as response:
        assert response.status == 400
        assert (await response.json())["error"]
    assert receiver.received == []


@pytest.mark.parametrize(
    "destination",
    [
        {"url": "", "signing_key": "k"},
        {"url": "ftp://example.com", "signing_key": "k"},
        {"url": "http://", "signing_key": "k"},
        {"url": "http://localhost:port", "signing_key": "k"},
        {"url": "http://localhost", "signing_key": ""},
        {"url": "http://localhost"},
        {"url": "http://localhost", "signing_key": "\ud800"},
    ],
    ids=str,
)
async def test_a_destination_that_is_none_is_refused_in_words(destination: dict[str, str]) -> None:
    async with reporting_sandbox(Webhooks()) as (session, url):
        async with session.put(url, json=destination) as response:
            assert response.status == 400
            assert (await response.json())["error"]
        assert (await read_until(session, url, bool))["url"] == ""


async def test_the_documented_times() -> None:
    assert (delivery.HOUR, delivery.GIVE_UP_AFTER, reporting.webhook_sender.TIMEOUT_SECONDS) == (3600, 7 * DAY, 4.0)
