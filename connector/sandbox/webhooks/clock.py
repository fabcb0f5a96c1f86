"""The time that the webhook sender lives in: an hour before a retry is an hour, or over in a moment.

Whoever waits is given a clock and asks it for both, `now` and `sleep`, so that they always agree. Only the sender's
own waits are sped up. The receiver isn't: the four seconds that it has for an answer are always real ones.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import math
import time
from typing import Protocol


class Clock(Protocol):
    """`now` is in unix seconds and never goes back."""

    def now(self) -> float: ...

    async def sleep(self, seconds: float) -> None: ...


class Wall:
    """Real time, or real time that runs `factor` times as fast from the moment the clock is made."""

    def __init__(self, factor: float = 1.0) -> None:
        if not 0 < factor < math.inf:
            raise ValueError("the factor must be a number above 0")
        self._factor = factor
        self._since = time.time()
        self._started = time.monotonic()

    def now(self) -> float:
        return self._since + (time.monotonic() - self._started) * self._factor

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds / self._factor)


class Jumping:
    """Stands still while anybody has something to do, then jumps to the moment for which the first sleeper waits.

    Sleepers wake in the order of their moments, each having run on to its next wait before the next one wakes. An
    answer that is waited for from outside doesn't hold the clock. It never jumps beyond `until`.
    """

    def __init__(self, start: float, until: float = math.inf) -> None:
        self._now = start
        self._until = until
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._order = itertools.count()
        self._jump: asyncio.Handle | None = None

    def now(self) -> float:
        return self._now

    async def sleep(self, seconds: float) -> None:
        woken = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._now + max(seconds, 0.0), next(self._order), woken))
        self._jump_soon()
        await woken

    def jump_until(self, moment: float) -> None:
        """Lets the clock jump as far as this. Called from the loop in which the sleepers are."""
        self._until = moment
        self._jump_soon()

    def _jump_soon(self) -> None:
        if self._jump is None:
            self._jump = asyncio.get_running_loop().call_soon(self._wake_first)

    def _wake_first(self) -> None:
        self._jump = None
        while self._sleepers and self._sleepers[0][2].done():  # its task was cancelled
            heapq.heappop(self._sleepers)
        if self._sleepers and self._sleepers[0][0] <= self._until:
            moment, _, woken = heapq.heappop(self._sleepers)
            self._now = max(self._now, moment)
            woken.set_result(None)
            self._jump_soon()  # queued behind the task that was just woken
