"""Group commit: requests that arrive while a commit is under way share the next one. One statement, one fsync.

    append -> waiting -> one transaction for all that wait -> whoever waited is answered

What is appended together, as a batch of messages is, is stored whole or not at all. Whoever has waited for
`_ANSWER_WITHIN` is told to come back, whether or not the commit goes on; so is who comes when too much is waiting
already. What was told to come back may be stored all the same: the repeat is then a duplicate.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

from connector import errors, log
from connector.metrics import Arrivals
from connector.records import Received
from connector.store import inbox
from connector.store.database import Database

RETRY_AFTER = 10

_ANSWER_WITHIN = 3.0  # Customer.io waits 4 seconds
_GROUP_ROWS = 500
_GROUP_BYTES = 8 * 1024 * 1024
_WAITING_BYTES = 64 * 1024 * 1024

_LOGS = {inbox.CUSTOMERIO: log.get("webhooks"), inbox.INTAKE: log.get("intake")}

Stored = asyncio.Future[None]


class _Waiting(NamedTuple):
    """Messages that go into one transaction, how many bytes they have, and who waits for them."""

    rows: Sequence[Received]
    size: int
    stored: Stored


class Appender:
    """`append` returns once the messages are durable; all of them come from the inbox's `source`. `appended` is called
    after each commit, `failed` with what a commit raised: true when that is said in the log already."""

    def __init__(
        self,
        database: Database,
        source: str,
        appended: Callable[[], None],
        metrics: Arrivals,
        failed: Callable[[Exception], bool] = lambda _error: False,
    ) -> None:
        self._database = database
        self._source = source
        self._appended = appended
        self._failed = failed
        self._metrics = metrics
        self._log = _LOGS[source]
        self._waiting: list[_Waiting] = []
        self._waiting_bytes = 0
        self._commits: asyncio.Task[None] | None = None
        self._unanswered: deque[tuple[float, Stored]] = deque()
        self._lateness: asyncio.TimerHandle | None = None

    async def append(self, *received: Received) -> None:
        """Raises Unavailable when the store can't take it now, or not soon enough."""
        if self._waiting_bytes > _WAITING_BYTES:
            raise errors.Unavailable("store_busy", "too much is waiting to be stored; send it again", RETRY_AFTER)
        loop = asyncio.get_running_loop()
        stored: Stored = loop.create_future()
        size = sum(len(row.body) for row in received)
        self._waiting.append(_Waiting(received, size, stored))
        self._waiting_bytes += size
        self._unanswered.append((loop.time() + _ANSWER_WITHIN, stored))
        if self._lateness is None:
            # One timer for all: a timer for each request costs a tenth of what receiving it costs.
            self._lateness = loop.call_later(_ANSWER_WITHIN, self._answer_late)
        if self._commits is None or self._commits.done():
            self._commits = asyncio.create_task(self._commit_all())
        await stored

    async def drain(self) -> None:
        """Waits until everything that was accepted is stored or refused."""
        if self._commits is not None:
            await self._commits
        if self._lateness is not None:
            self._lateness.cancel()
            self._lateness = None

    def _answer_late(self) -> None:
        loop = asyncio.get_running_loop()
        while self._unanswered and self._unanswered[0][0] <= loop.time():
            _, stored = self._unanswered.popleft()
            if not stored.done():
                stored.set_exception(errors.Unavailable("store_slow", "the store is slow; send it again", RETRY_AFTER))
        self._lateness = loop.call_at(self._unanswered[0][0], self._answer_late) if self._unanswered else None

    async def _commit_all(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            group = self._next_group()
            rows = [row for waiting in group for row in waiting.rows]
            problem: errors.Unavailable | None = None
            began = loop.time()
            try:
                stored = await self._database.run_append(inbox.append, self._source, rows)
            except Exception as error:  # noqa: BLE001 - whatever it is, who waits must be answered
                if not self._failed(error):
                    self._log.error("append_failed", rows=len(rows), error=type(error).__name__)
                problem = errors.Unavailable("store_unavailable", "the store can't take it now", RETRY_AFTER)
            else:
                self._count(rows, stored, loop.time() - began)
            for *_, answer in group:
                if answer.done():  # answered late or cancelled; the row is stored or will be sent again
                    continue
                if problem is None:
                    answer.set_result(None)
                else:
                    answer.set_exception(problem)
            while self._unanswered and self._unanswered[0][1].done():
                self._unanswered.popleft()
            self._appended()

    def _count(self, rows: list[Received], stored: int, seconds: float) -> None:
        metrics = self._metrics
        metrics.commit_seconds.observe(seconds)
        metrics.commit_rows.observe(len(rows))
        metrics.stored.inc(stored)
        metrics.duplicate.inc(len(rows) - stored)
        for reason, number in Counter(row.unread_reason for row in rows if row.unread_reason).items():
            metrics.unread.labels(reason).inc(number)

    def _next_group(self) -> list[_Waiting]:
        size = rows = count = 0
        for waiting in self._waiting:
            if count and (rows + len(waiting.rows) > _GROUP_ROWS or size + waiting.size > _GROUP_BYTES):
                break
            size += waiting.size
            rows += len(waiting.rows)
            count += 1
        group, self._waiting = self._waiting[:count], self._waiting[count:]
        self._waiting_bytes -= size
        return group
