"""`POST /webhooks/customerio`: verify, append, answer.

Customer.io waits 4 seconds for an answer, and everything behind a webhook that fails is held back, for an hour or
more after most codes (https://docs.customer.io/api/webhooks/). So an authentic body is never answered 4xx (but
for 413 above 16 MiB): it is appended whole, committed with full durability, answered 200, and read later.

Requests that arrive while a commit is under way share the next one (group commit): one statement, one fsync.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime

from aiohttp import web

from connector import errors, log
from connector.core import normalize, signature
from connector.records import Received
from connector.settings import Settings
from connector.store import inbox
from connector.store.database import Database

MAX_BODY_BYTES = 16 * 1024 * 1024
PATH = "/webhooks/customerio"

_ANSWER_WITHIN = 3.0
_RETRY_AFTER = 10
_GROUP_ROWS = 500
_GROUP_BYTES = 8 * 1024 * 1024
_WAITING_BYTES = 64 * 1024 * 1024

_log = log.get("webhooks")


class Appender:
    """Group commit. `append` returns once the message is durable; whoever waits meanwhile shares a commit."""

    def __init__(self, database: Database, appended: Callable[[], None]) -> None:
        self._database = database
        self._appended = appended
        self._waiting: list[tuple[Received, asyncio.Future[None]]] = []
        self._waiting_bytes = 0
        self._commits: asyncio.Task[None] | None = None

    async def append(self, received: Received) -> None:
        """Raises Unavailable when the store can't take it, or too much is waiting for it already."""
        if self._waiting_bytes > _WAITING_BYTES:
            raise errors.Unavailable("store_busy", "too much is waiting to be stored; send it again", _RETRY_AFTER)
        stored: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((received, stored))
        self._waiting_bytes += len(received.body)
        if self._commits is None or self._commits.done():
            self._commits = asyncio.create_task(self._commit_all())
        await stored

    async def drain(self) -> None:
        """Waits until everything that was accepted is stored or refused."""
        if self._commits is not None:
            await self._commits

    async def _commit_all(self) -> None:
        while self._waiting:
            group = self._next_group()
            rows = [received for received, _ in group]
            problem: errors.Unavailable | None = None
            try:
                await self._database.run_append(inbox.append, inbox.CUSTOMERIO, rows)
            except Exception as error:  # noqa: BLE001 - whatever it is, who waits must be answered
                _log.error("append_failed", rows=len(rows), error=type(error).__name__)
                problem = errors.Unavailable("store_unavailable", "the store can't take it now", _RETRY_AFTER)
            for _, stored in group:
                if stored.done():  # its request was cancelled; the row is stored or will be sent again
                    continue
                if problem is None:
                    stored.set_result(None)
                else:
                    stored.set_exception(problem)
            self._appended()

    def _next_group(self) -> list[tuple[Received, asyncio.Future[None]]]:
        size = count = 0
        for received, _ in self._waiting:
            if count == _GROUP_ROWS or (count and size + len(received.body) > _GROUP_BYTES):
                break
            size += len(received.body)
            count += 1
        group, self._waiting = self._waiting[:count], self._waiting[count:]
        self._waiting_bytes -= size
        return group


class Receiver:
    """The handler, and how many requests were refused since the start (a wrong key shows there first)."""

    def __init__(self, settings: Callable[[], Settings], appender: Appender, clock: Callable[[], datetime]) -> None:
        self._settings = settings
        self._appender = appender
        self._clock = clock
        self.refused_signatures = 0
        self.last_refused_at: datetime | None = None

    async def handle(self, request: web.Request) -> web.Response:
        """200 once durable; 401, 413 or 503 as the module says."""
        keys = self._settings().webhooks.signing_keys
        if not keys:
            raise errors.Unavailable(
                "no_signing_key", "webhooks.signing_keys is empty: put the webhook's signing key there", _RETRY_AFTER
            )
        body = await request.read()
        headers = request.headers
        if not signature.verify(
            (key.get_secret_value() for key in keys),
            headers.get("X-CIO-Timestamp"),
            headers.get("X-CIO-Signature"),
            body,
        ):
            self._count_refused()
            raise errors.Refused(401, "bad_signature", "the signature is missing or made with another key")
        reason = "too_large" if len(body) > normalize.MAX_READ_BYTES else None
        received = Received(normalize.source_id(body), self._clock(), body, reason)
        try:
            async with asyncio.timeout(_ANSWER_WITHIN):
                await self._appender.append(received)
        except TimeoutError:
            raise errors.Unavailable("store_slow", "the store is slow; send it again", _RETRY_AFTER) from None
        return web.Response()

    def _count_refused(self) -> None:
        self.refused_signatures += 1
        self.last_refused_at = self._clock()
        if self.refused_signatures & (self.refused_signatures - 1) == 0:  # at 1, 2, 4, 8 …: loud, but no flood
            _log.warning("webhook_refused", reason="bad_signature", refused=self.refused_signatures)
