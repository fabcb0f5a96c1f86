"""The task that deletes what is no longer kept: raw webhooks that were read and the log of attempts, as long as the
settings say, and the counts of what was decided.

    every 10 minutes    look at a page (a reading transaction) -> delete what is old in it (a writing one) -> rest -> …

Receiving goes first: the walk rests many times as long as its page took, so that an append hardly ever finds it in
the way.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from datetime import datetime

from sqlalchemy.engine import Connection

from connector import log
from connector.settings import Settings
from connector.store import decided, retention
from connector.store.database import Database

_EVERY = 600.0
_REST = 20  # times as long as the page took
_log = log.get("retention")


async def run(
    db: Database, settings: Callable[[], Settings], clock: Callable[[], datetime], stopping: asyncio.Event
) -> None:
    """Deletes now and then, until `stopping` is set; an edit of the settings counts from the next page on."""
    while not stopping.is_set():
        await delete_old(db, settings, clock, stopping)
        await _pause(stopping, _EVERY)


async def delete_old(
    db: Database, settings: Callable[[], Settings], clock: Callable[[], datetime], stopping: asyncio.Event
) -> dict[str, int]:
    """One walk through each table; how many rows went, by table."""
    deleted = {
        "webhooks": await _walk(
            db,
            retention.old_webhooks,
            retention.delete_webhooks,
            lambda: clock() - settings().store.webhook_bodies,
            stopping,
        ),
        "attempts": await _walk(
            db, retention.old_attempts, retention.delete_attempts, lambda: clock() - settings().store.attempts, stopping
        ),
    }
    await db.run(decided.forget, clock())
    if any(deleted.values()):
        _log.info("retention_deleted", webhooks=deleted["webhooks"], attempts=deleted["attempts"])
    return deleted


async def _walk(
    db: Database,
    look: Callable[[Connection, datetime, int], retention.Page | None],
    delete: Callable[[Connection, datetime, retention.Page], int],
    before: Callable[[], datetime],
    stopping: asyncio.Event,
) -> int:
    loop = asyncio.get_running_loop()
    deleted = after = 0
    while not stopping.is_set():
        began = loop.time()
        page = await db.run_read(look, before(), after)
        if page is None:
            break
        if page.old:
            deleted += await db.run(delete, before(), page)
        after = page.last
        await _pause(stopping, _REST * (loop.time() - began))
    return deleted


async def _pause(stopping: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):  # the pause is over, and nobody wants to stop
        async with asyncio.timeout(seconds):
            await stopping.wait()
