"""Requests that were refused, noted in the store for `check` and `status`: a wrong key shows there first.

Anybody can send what will be refused, so the store hears of it once a second at most, and the log at 1, 2, 4, 8 …
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from datetime import datetime

import sqlalchemy as sa

from connector import log
from connector.store import refusals
from connector.store.database import Database

BAD_SIGNATURE = "bad_signature"
BAD_WRITE_KEY = "bad_write_key"

_PAUSE = 1.0
_log = log.get("requests")


class Refused:
    """How many requests were refused since the start, and when the last one was; `what` they would have brought."""

    def __init__(self, database: Database, clock: Callable[[], datetime], what: str = "webhook") -> None:
        self._database = database
        self._event = f"{what}_refused"
        self._clock = clock
        self._noted: Counter[str] = Counter()
        self._changed = asyncio.Event()
        self.count = 0
        self.last_at: datetime | None = None

    def note(self, reason: str) -> None:
        """One more was refused."""
        self.count += 1
        self.last_at = self._clock()
        self._noted[reason] += 1
        self._changed.set()
        if self.count & (self.count - 1) == 0:
            _log.warning(self._event, reason=reason, refused=self.count)

    async def keep(self) -> None:
        """Writes what was noted to the store, until cancelled. Raises what the store raises; begun again, it goes on
        where it was."""
        while True:
            await self._changed.wait()
            await self.flush()
            await asyncio.sleep(_PAUSE)

    async def flush(self) -> None:
        """Writes what was noted and not written yet. When the store fails it stays noted, and the error is raised."""
        self._changed.clear()
        noted = Counter(self._noted)
        if not noted:
            return
        self._noted.clear()
        try:
            await self._database.run(_write, noted, self._clock())
        except sa.exc.SQLAlchemyError:
            self._noted.update(noted)
            self._changed.set()
            raise


def _write(connection: sa.Connection, noted: Counter[str], now: datetime) -> None:
    for reason, number in noted.items():
        refusals.add(connection, reason, number, now)
