"""The gate as a worker meets it: asked before each claim, told what calls found.

    passage() -> open     claim as usual; each answer goes through `saw`, and what it returns to `close`
              -> closed   claim nothing, for `wait` seconds or so
              -> probe    a small claim, one real call, and its answer to `probed`; or `failed`, or `unused`

No user's attempt is counted for what closed the gate or found it closed. Several processes share the gate through the
store, and each of them logs once what it learns of it.
"""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import Callable, Hashable
from datetime import datetime
from typing import Literal, TypeAlias

from connector import log
from connector.core import outage
from connector.core.outcome import Answer
from connector.store import gate
from connector.store.database import Database

Passage: TypeAlias = Literal["open", "probe", "closed"]

_log = log.get("worker")


class Gate:
    """One for each process. Errors of the store are the caller's; nothing is known then, so nothing may be sent."""

    def __init__(self, db: Database, clock: Callable[[], datetime]) -> None:
        self._db = db
        self._clock = clock
        self._window = outage.Window()
        self._token = ""
        self._closed: gate.Closed | None = None
        # What was read before another's write must not be taken for newer than that.
        self._one_by_one = asyncio.Lock()

    @property
    def closed(self) -> gate.Closed | None:
        """Why, and since when, as last seen; None while it is open."""
        return self._closed

    @property
    def wait(self) -> float:
        """Seconds until asking again is worth it, by what was last seen; 0 when it is now."""
        if self._closed is None:
            return 0
        return max((self._closed.probe_at - self._clock()).total_seconds(), 0)

    async def passage(self) -> Passage:
        """Whether to claim. With `probe` this process has the only one there is, for `store.gate.LEASE`."""
        async with self._one_by_one:
            now = self._clock()
            found = await self._db.run_read(gate.look)
            self._see(found)
            if found is None:
                return "open"
            if found.probe_at > now:
                return "closed"
            token = secrets.token_hex(8)
            if not await self._db.run(gate.take_probe, token, now):
                return "closed"
            self._token = token
            return "probe"

    async def probed(self, answer: Answer) -> bool:
        """What the probe's call was answered. True when it was taken, and the gate is open by it."""
        if not outage.went_out(answer):
            await self.unused()
            return False
        found = outage.of_answer(answer)
        if found is not None:
            await self.failed(*found)
            return False
        await self.opened()
        return self._closed is None

    async def opened(self) -> None:
        """The probe's call was taken; that what it held was refused says so as well."""
        async with self._one_by_one:
            if await self._db.run(gate.open_again, self._token):
                self._see(None)

    async def failed(self, reason: outage.Reason, message: str) -> None:
        """The probe found this. The next one waits twice as long."""
        async with self._one_by_one:
            found = await self._db.run(gate.keep_closed, self._token, reason, message, self._clock(), _jitter())
            if found is not None:
                self._see(found)

    async def unused(self) -> None:
        """The probe made no call: nobody is due, or there is no slot for one. It is due as it was."""
        async with self._one_by_one:
            await self._db.run(gate.give_back, self._token, self._clock())

    async def close(self, reason: outage.Reason, message: str) -> None:
        """Nobody claims from now on. Closing again with another reason changes the reason."""
        async with self._one_by_one:
            self._see(await self._db.run(gate.close, reason, message, self._clock(), _jitter()))

    async def ask(self) -> None:
        """After a start, and after an edit of what reaches Customer.io: the next passage is a probe at once."""
        async with self._one_by_one:
            await self._db.run(gate.ask, self._clock())

    def saw(self, answer: Answer, about: Hashable = None) -> outage.Outage | None:
        """What to close the gate with, after this answer to a call of a usual claim; see `outage.Window.saw`."""
        return self._window.saw(answer, self._clock(), about)

    def _see(self, found: gate.Closed | None) -> None:
        before, self._closed = self._closed, found
        if found is None:
            if before is not None:
                self._window.clear()
                closed_for = (self._clock() - before.since).total_seconds()
                _log.info("gate_opened", reason=before.reason, after_seconds=round(closed_for, 1))
        elif before is None or before.reason != found.reason:
            # Not under `message`, which is masked: this one tells of nobody.
            _log.error("gate_closed", reason=found.reason, what=found.message, since=found.since.isoformat())


def _jitter() -> float:
    return random.uniform(0.8, 1.2)  # noqa: S311 - spreads load, guards nothing
