"""The task that deletes what is no longer kept: raw webhooks that were read, the log of attempts, and events, each
after as long as the settings say, and the counts of what was decided.

    every 10 minutes    look at a page (a reading transaction) -> delete what is old in it (a writing one) -> rest -> …

Receiving goes first: the walk rests many times as long as its page took, so that an append hardly ever finds it in
the way.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TypeAlias

from sqlalchemy.engine import Connection

from connector import log
from connector.settings import Store
from connector.store import decided, retention
from connector.store.database import Database

_EVERY = 600.0
_REST = 20  # times as long as the page took
_log = log.get("retention")

_Look: TypeAlias = Callable[[Connection, datetime, int], retention.Page | None]
_Delete: TypeAlias = Callable[[Connection, datetime, retention.Page], int]
_HowLong: TypeAlias = Callable[[Store], timedelta | None]

_TABLES: dict[str, tuple[_Look, _Delete, _HowLong]] = {
    "webhooks": (retention.old_webhooks, retention.delete_webhooks, lambda kept: kept.webhook_bodies),
    "attempts": (retention.old_attempts, retention.delete_attempts, lambda kept: kept.attempts),
    "events": (retention.old_events, retention.delete_events, lambda kept: kept.events),
}


async def run(db: Database, kept: Callable[[], Store], clock: Callable[[], datetime], stopping: asyncio.Event) -> None:
    """Deletes now and then, until `stopping` is set; what `kept` says, how long, counts from the next page on."""
    while not stopping.is_set():
        await delete_old(db, kept, clock, stopping)
        await _pause(stopping, _EVERY)


async def delete_old(
    db: Database, kept: Callable[[], Store], clock: Callable[[], datetime], stopping: asyncio.Event
) -> dict[str, int]:
    """One walk through each table; how many rows went, by table."""
    deleted = {}
    for table, (look, delete, how_long) in _TABLES.items():

        def before(how_long: _HowLong = how_long) -> datetime | None:
            time = how_long(kept())
            return None if time is None else clock() - time

        deleted[table] = await _walk(db, look, delete, before, stopping)
    await db.run(decided.forget, clock())
    if any(deleted.values()):
        _log.info("retention_deleted", **deleted)
    return deleted


async def _walk(
    db: Database, look: _Look, delete: _Delete, before: Callable[[], datetime | None], stopping: asyncio.Event
) -> int:
    """One walk; `before` is asked for each page, and None keeps everything."""
    loop = asyncio.get_running_loop()
    deleted = after = 0
    while not stopping.is_set():
        began = loop.time()
        if (limit := before()) is None or (page := await db.run_read(look, limit, after)) is None:
            break
        if page.old:
            deleted += await db.run(delete, limit, page)
        after = page.last
        await _pause(stopping, _REST * (loop.time() - began))
    return deleted


async def _pause(stopping: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):  # the pause is over, and nobody wants to stop
        async with asyncio.timeout(seconds):
            await stopping.wait()
