"""The task that keeps the indexes on attributes as the settings list them: at the start, and after each edit.

    the list changed -> store/indexes.apply on a database thread -> what was made and dropped is logged

A stop doesn't wait for a build: it is interrupted, and begun again at the next start.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

import sqlalchemy as sa

from connector import log
from connector.settings import Settings
from connector.store import indexes
from connector.store.database import Database

_LOOK = 1.0
_INTERRUPT = 0.2
_AGAIN = 60.0  # after another process was found at it
_log = log.get("indexes")


async def run(db: Database, settings: Callable[[], Settings], stopping: asyncio.Event) -> None:
    """Until `stopping` is set."""
    applied: tuple[str, ...] | None = None
    while not stopping.is_set():
        wanted = settings().store.indexed_attributes
        pause = _LOOK
        if wanted != applied:
            changes = await _apply(db, wanted, stopping)
            if changes is None:
                pause = _AGAIN
            else:
                applied = wanted
                if any(changes):
                    _log.info("indexes_changed", made=list(changes.made), dropped=len(changes.dropped))
        await _pause(stopping, pause)


async def _apply(db: Database, wanted: tuple[str, ...], stopping: asyncio.Event) -> indexes.Changes | None:
    building = asyncio.create_task(db.on_thread(lambda: indexes.apply(db, wanted)))
    stopped = asyncio.create_task(stopping.wait())
    try:
        await asyncio.wait((building, stopped), return_when=asyncio.FIRST_COMPLETED)
        while not building.done():
            # Again, because between two statements there is nothing to interrupt.
            await db.run_read(indexes.interrupt)
            await asyncio.wait((building,), timeout=_INTERRUPT)
        return await building
    except sa.exc.OperationalError:
        if not stopping.is_set():
            raise
        return None
    finally:
        stopped.cancel()


async def _pause(stopping: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):  # the pause is over, and nobody wants to stop
        async with asyncio.timeout(seconds):
            await stopping.wait()
