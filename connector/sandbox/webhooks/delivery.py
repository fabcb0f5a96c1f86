"""The vendor's way of delivering: one webhook after the other, each again and again until it is accepted.

    enqueue -> queue -> head -> attempt -> 2xx: delivered, the next one is the head
                         ^         |
                         +- wait <-+ anything else        7 days after its first try: given up, likewise

Follows the reporting-webhooks reference: what isn't answered 2xx within 4 seconds is tried again for up to 7 days,
and what is behind it waits; after some answers (`AFTER_AN_HOUR`, and a connection that fails) the first retry comes
an hour later, after all others backoff begins at once.

Stricter readings of what is unverified, and the choices where nothing is said:
- The schedule: a minute, then twice as long each time, at most 12 hours. The hour comes before its first minute.
- A timeout, a 503, a 504 and a redirect aren't in the list, so they don't wait for the hour. A later answer from
  the list doesn't add an hour: only the first retry waits.
- The 7 days are counted from the webhook's own first try. No try is made at their end, and what is behind waits for
  the end even when no further try fits before it. Then the webhook is gone, and nobody is told.
- Each try carries its own time and signature. A 410 is a failure like others.
- One at a time over the whole webhook, so the receiver's answering time bounds the rate.

The queue is in memory and has no limit. Of those that are over it knows the last 1,000.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Literal

import aiohttp

from connector.sandbox.webhooks import webhook_sender
from connector.sandbox.webhooks.acknowledged import Acknowledged
from connector.sandbox.webhooks.clock import Clock
from connector.sandbox.webhooks.webhook_sender import Answer, Endpoint, Report

AFTER_AN_HOUR = frozenset({400, 401, 402, 403, 404, 405, 410, 429, 500, 502, 521})
HOUR = 3600.0
FIRST_BACKOFF = 60.0
LONGEST_BACKOFF = 12 * HOUR
GIVE_UP_AFTER = 7 * 24 * HOUR

_RECENT_KEPT = 1000

Outcome = Literal["waiting", "delivered", "given_up"]


@dataclass(slots=True)
class Delivering:
    """One webhook on its way; `answers` has a status, or the error in words, for each try. Times: unix seconds.

    `number` counts all that were ever enqueued here.
    """

    number: int
    report: Report
    enqueued_at: float
    outcome: Outcome = "waiting"
    first_try_at: float | None = None
    next_try_at: float | None = None
    ended_at: float | None = None
    answers: list[int | str] = field(default_factory=list)


class Schedule:
    """When a webhook that fails is tried again. One for each webhook; told every answer in turn."""

    def __init__(self) -> None:
        self._answers = 0
        self._backoff = FIRST_BACKOFF

    def wait_after(self, answer: Answer) -> float:
        """Seconds until the next try."""
        self._answers += 1
        if self._answers == 1 and _waits_an_hour(answer):
            return HOUR
        wait, self._backoff = self._backoff, min(2 * self._backoff, LONGEST_BACKOFF)
        return wait


def _waits_an_hour(answer: Answer) -> bool:
    if answer.status is not None:
        return answer.status in AFTER_AN_HOUR
    return answer.error != webhook_sender.TIMEOUT


class Delivery:
    """The queue of one endpoint. `run` empties it for as long as it runs; `endpoint` may be changed meanwhile."""

    def __init__(
        self,
        endpoint: Endpoint,
        clock: Clock,
        *,
        timeout_seconds: float = webhook_sender.TIMEOUT_SECONDS,
        acknowledged: Acknowledged | None = None,
    ) -> None:
        self.endpoint = endpoint
        self._clock = clock
        self._timeout_seconds = timeout_seconds
        self._acknowledged = acknowledged or Acknowledged()
        self._enqueued = 0
        self._queue: deque[Delivering] = deque()
        self._filled = asyncio.Event()
        self._empty = asyncio.Event()
        self._empty.set()
        self._ended: deque[Delivering] = deque(maxlen=_RECENT_KEPT)
        self._delivered = self._failed_tries = self._given_up = 0

    def enqueue(self, report: Report) -> None:
        self._enqueued += 1
        self._queue.append(Delivering(self._enqueued, report, self._clock.now()))
        self._filled.set()
        self._empty.clear()

    async def run(self) -> None:
        """Until cancelled; whatever isn't delivered by then stays in the queue."""
        async with webhook_sender.session_of(self._timeout_seconds) as session:
            while True:
                await self._filled.wait()
                while self._queue:
                    head = self._queue[0]
                    head.outcome = await self._deliver(session, head)
                    head.ended_at = self._clock.now()
                    self._ended.append(self._queue.popleft())
                self._filled.clear()
                self._empty.set()

    async def emptied(self) -> None:
        """Returns when nothing waits any longer."""
        await self._empty.wait()

    async def _deliver(self, session: aiohttp.ClientSession, head: Delivering) -> Outcome:
        schedule = Schedule()
        head.first_try_at = self._clock.now()
        last_moment = head.first_try_at + GIVE_UP_AFTER
        while True:
            signed_at = int(self._clock.now())
            answer = await webhook_sender.attempt(session, self.endpoint, head.report, signed_at)
            head.answers.append(answer.error if answer.status is None else answer.status)
            if answer.accepted:
                self._delivered += 1
                self._acknowledged.add(head.report, self._clock.now())
                return "delivered"
            self._failed_tries += 1
            now = self._clock.now()
            next_try_at = now + schedule.wait_after(answer)
            if next_try_at >= last_moment:
                await self._clock.sleep(last_moment - now)
                self._given_up += 1
                return "given_up"
            head.next_try_at = next_try_at
            await self._clock.sleep(next_try_at - now)
            head.next_try_at = None

    def status(self) -> dict[str, Any]:
        """How the queue stands. `backlog` counts what isn't delivered, the head included; `held_back` what waits
        behind a head that has failed; `next_try_at` is null while a try is under way, and when none comes any more."""
        head = self._queue[0] if self._queue else None
        now = self._clock.now()
        return {
            "url": self.endpoint.url,
            "now": now,
            "backlog": len(self._queue),
            "held_back": len(self._queue) - 1 if head and head.answers else 0,
            "head_event_id": head.report.event_id if head else None,
            "head_kind": head.report.kind if head else None,
            "head_age_seconds": now - head.enqueued_at if head else None,
            "head_tries": len(head.answers) if head else 0,
            "head_last_answer": head.answers[-1] if head and head.answers else None,
            "next_try_at": head.next_try_at if head else None,
            "delivered": self._delivered,
            "failed_tries": self._failed_tries,
            "given_up": self._given_up,
        }

    def waiting(self, after: int | None = None) -> Iterator[Delivering]:
        """What isn't delivered, the head first; `after`: only those with a higher number."""
        passed = 0 if after is None or not self._queue else max(after + 1 - self._queue[0].number, 0)
        return islice(self._queue, passed, None)

    def recent(self, before: int | None = None) -> Iterator[Delivering]:
        """The last ones that were tried, newest first; before them the head if it has failed already. `before`: only
        those with a lower number."""
        head = [each for each in islice(self._queue, 1) if each.answers]
        return (each for each in (*head, *reversed(self._ended)) if before is None or each.number < before)


def shown(each: Delivering) -> dict[str, Any]:
    """As JSON."""
    return {
        "number": each.number,
        "event_id": each.report.event_id,
        "kind": each.report.kind,
        "timestamp": each.report.timestamp,
        "outcome": each.outcome,
        "tries": len(each.answers),
        "answers": each.answers,
        "enqueued_at": each.enqueued_at,
        "first_try_at": each.first_try_at,
        "next_try_at": each.next_try_at,
        "ended_at": each.ended_at,
    }
