"""The task that keeps the indexes on attributes as the settings list them: at the start, after each edit, and now and
then, because another process that has an older file may have dropped some.

    the list changed -> store/indexes.apply on a database thread -> what was made and dropped is logged

While other processes have newer settings nothing is dropped: it may be theirs.
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
_ANEW = 600.0
_log = log.get("indexes")


async def run(
    db: Database, settings: Callable[[], Settings], is_stale: Callable[[], bool], stopping: asyncio.Event
) -> None:
    """Until `stopping` is set. `is_stale` says whether other processes have newer settings."""
    loop = asyncio.get_running_loop()
    applied: tuple[tuple[str, ...], bool] | None = None
    until = 0.0
    while not stopping.is_set():
        wanted = settings().store.indexed_attributes, not is_stale()
        pause = _LOOK
        if wanted != applied or loop.time() >= until:
            changes = await _apply(db, *wanted, stopping)
            if changes is None:
                pause = _AGAIN
            else:
                applied, until = wanted, loop.time() + _ANEW
                if any(changes):
                    _log.info("indexes_changed", made=list(changes.made), dropped=len(changes.dropped))
        await _pause(stopping, pause)


async def _apply(db: Database, wanted: tuple[str, ...], drops: bool, stopping: asyncio.Event) -> indexes.Changes | None:
    building = asyncio.create_task(db.on_thread(lambda: indexes.apply(db, wanted, drops=drops)))
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
