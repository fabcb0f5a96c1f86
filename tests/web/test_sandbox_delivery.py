"""How the sandbox delivers webhooks: in order, one by one, again and again; days of it, on a clock that jumps."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from connector.sandbox.webhooks import delivery, reporting, webhook_bodies
from connector.sandbox.webhooks.clock import Clock, Jumping, Wall
from connector.sandbox.webhooks.delivery import AFTER_AN_HOUR, Delivery, Schedule
from connector.sandbox.webhooks.webhook_bodies import Recipient, Webhook
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
    url: str, count: int = 1, *, clock: Clock | None = None, timeout_seconds: float = 60.0
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
    assert [each["answers"] for each in map(delivery.shown, queue.recent())] == [["timeout", 200]]


async def test_a_redirect_is_not_followed_and_is_a_failure(receiver: Receiver) -> None:
    receiver.answers = {1: 307}
    async with delivering(receiver.url) as queue:
        await queue.emptied()
    assert receiver.elsewhere == 0
    assert [post.at - START for post in receiver.received] == [0, 60]
    assert [each["answers"] for each in map(delivery.shown, queue.recent())] == [[307, 200]]


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
    assert [each["outcome"] for each in map(delivery.shown, queue.recent())] == ["delivered", "delivered", "given_up"]


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
        head, first = map(delivery.shown, queue.recent())
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


async def test_the_documented_times() -> None:
    assert (delivery.HOUR, delivery.GIVE_UP_AFTER, reporting.webhook_sender.TIMEOUT_SECONDS) == (3600, 7 * DAY, 4.0)
