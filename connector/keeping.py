"""The tasks of a connector, and the store that all of them need: one that fails begins again.

    failed, and the store is away    said once for all; somebody tries to write until it can be done; all begin again
    failed for another reason        said with its traceback, and begun again after a pause

So neither an outage of the store nor a fault in one direction ends the process, or fills the log.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from typing import Any

import sqlalchemy as sa

from connector import log
from connector.store import database, driver_errors
from connector.store.database import Database

_PAUSE_AFTER_FAILURE = 5.0
_FIRST_LOOK = 0.5
_LAST_LOOK = 5.0
_LAST_LOOK_WHEN_UNSTABLE = 30.0
_STABLE_SECONDS = 60.0
_SAY_AGAIN = 60.0

_log = log.get("connector")


class Keeper:
    """Keeps tasks running until it is stopped."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._stopping = asyncio.Event()
        self._looking: asyncio.Task[None] | None = None
        self._back_at: float | None = None
        self._look = _FIRST_LOOK

    @property
    def store_is_away(self) -> bool:
        """True from the first failure that says so until the store takes writes again."""
        return self._looking is not None

    def stop(self) -> None:
        """What fails from now on isn't begun again."""
        self._stopping.set()

    async def keep(self, name: str, run: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Runs it, and again after each failure, until it ends by itself."""
        while True:
            try:
                await run()
            except Exception as error:  # noqa: BLE001 - logged by type, and tried again; all else goes on meanwhile
                if self.is_told(error) and self._looking is not None:
                    await asyncio.wait((self._looking,))
                else:
                    _log.error("task_failed", task=name, error=type(error).__name__, exc_info=error)
                    await self._pause(_PAUSE_AFTER_FAILURE)
                if self._stopping.is_set():
                    return
            else:
                return

    def is_told(self, error: Exception) -> bool:
        """True when the error says that the store is away, which is then in the log, and looked after."""
        word = driver_errors.unreachable(error)
        if word is None:
            return False
        if self._looking is None:
            self._looking = asyncio.create_task(self._look_for_it(word))
        return True

    async def _look_for_it(self, word: str) -> None:
        loop = asyncio.get_running_loop()
        began = said_at = loop.time()
        # A disk that is full for some writes, and not for others, comes and goes; that is said ever more seldom.
        unstable = self._back_at is not None and began - self._back_at < _STABLE_SECONDS
        look = self._look = min(2 * self._look, _LAST_LOOK_WHEN_UNSTABLE) if unstable else _FIRST_LOOK
        _log.error("store_unreachable", error=word)
        try:
            while not self._stopping.is_set():
                await self._pause(look)
                try:
                    await self._db.run(database.try_to_write)
                except sa.exc.SQLAlchemyError as error:
                    word = driver_errors.unreachable(error) or type(error).__name__
                else:
                    _log.info("store_reachable", after_seconds=round(loop.time() - began, 1))
                    self._back_at = loop.time()
                    return
                look = max(look, min(2 * look, _LAST_LOOK))
                if loop.time() - said_at >= _SAY_AGAIN:
                    said_at = loop.time()
                    _log.error("store_unreachable", error=word, for_seconds=round(said_at - began))
        finally:
            self._looking = None

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):  # the pause is over, and nobody wants to stop
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
