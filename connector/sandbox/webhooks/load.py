"""Webhooks as a load: over several connections at once, as fast as they are answered, each until it is accepted.

    reports, in turn -> whichever connection is free -> attempt -> 2xx: acknowledged
                                        ^                  |
                                        +- a short wait <--+ anything else

This isn't the vendor's way, that is `delivery`: nothing is held back behind one that fails, so the order is lost, and
the next try comes soon, as long as it takes. It is for a receiver that is pushed to its limit, or killed and started
again meanwhile. The waits are real ones, like the four seconds for an answer: the receiver isn't sped up.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp

from connector.sandbox.webhooks import webhook_sender
from connector.sandbox.webhooks.acknowledged import Acknowledged
from connector.sandbox.webhooks.clock import Clock
from connector.sandbox.webhooks.webhook_sender import Endpoint, Report


class Load:
    """`reports` are asked for one by one; `endpoint` is asked for at each try, so that it may be changed meanwhile."""

    def __init__(
        self,
        reports: AsyncIterator[Report],
        endpoint: Callable[[], Endpoint],
        clock: Clock,
        acknowledged: Acknowledged,
        *,
        connections: int,
        retry_seconds: float,
        timeout_seconds: float = webhook_sender.TIMEOUT_SECONDS,
    ) -> None:
        self._reports = reports
        self._endpoint = endpoint
        self._clock = clock
        self._acknowledged = acknowledged
        self._connections = connections
        self._retry_seconds = retry_seconds
        self._timeout_seconds = timeout_seconds
        self._taking = asyncio.Lock()
        self._on_their_way = self._delivered = self._failed_tries = 0
        self._last_failure: int | str | None = None

    async def run(self) -> None:
        """Until all are accepted."""
        session = webhook_sender.session_of(self._timeout_seconds, self._connections)
        async with session, asyncio.TaskGroup() as tasks:
            for _ in range(self._connections):
                tasks.create_task(self._send_in_turn(session))

    def status(self) -> dict[str, Any]:
        """`last_failure` is a status, or the error in words."""
        return {
            "connections": self._connections,
            "on_their_way": self._on_their_way,
            "delivered": self._delivered,
            "failed_tries": self._failed_tries,
            "last_failure": self._last_failure,
        }

    async def _send_in_turn(self, session: aiohttp.ClientSession) -> None:
        while (report := await self._next()) is not None:
            self._on_their_way += 1
            await self._deliver(session, report)
            self._on_their_way -= 1
            self._delivered += 1
            self._acknowledged.add(report, self._clock.now())

    async def _next(self) -> Report | None:
        async with self._taking:  # an iterator can't be asked twice at once
            return await anext(self._reports, None)

    async def _deliver(self, session: aiohttp.ClientSession, report: Report) -> None:
        while True:
            signed_at = int(self._clock.now())
            answer = await webhook_sender.attempt(session, self._endpoint(), report, signed_at)
            if answer.accepted:
                return
            self._failed_tries += 1
            self._last_failure = answer.error if answer.status is None else answer.status
            await asyncio.sleep(self._retry_seconds)
