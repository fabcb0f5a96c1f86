"""Follows the settings while the connector runs: the file, SIGHUP, and what others made of them in the store.

    noticing | SIGHUP -> the latest edit -> edits
    every second      -> the newest revision: our own | the edit that is held here, approved | somebody else's

An edit that comes while another is judged cuts that short, and is judged in its place.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from connector import errors, log
from connector.store import revisions
from connector.store.database import Database
from connector.watching import edits, noticing
from connector.watching.current import Current
from connector.watching.noticing import Edit

_LOOK_SECONDS = 1.0
# Of processes that see the same edit, one is the first; the others are given this long to come to the same.
_PATIENCE_SECONDS = 10.0

_log = log.get("connector")


async def follow(
    path: Path, current: Current, db: Database, clock: Callable[[], datetime], stopping: asyncio.Event
) -> None:
    """Until `stopping`: a valid edit takes effect between units of work, or is held; a broken one is shown, and the
    settings in force stay."""
    edits.remark(current.settings)
    await _Following(path, current, db, clock, stopping).run()


class _Following:
    def __init__(
        self, path: Path, current: Current, db: Database, clock: Callable[[], datetime], stopping: asyncio.Event
    ) -> None:
        self._path, self._current, self._db, self._stopping = path, current, db, stopping
        self._edits = edits.Edits(path, current, db, clock, self._is_newest)
        self._latest: Edit | errors.Misconfigured | None = None
        self._news = asyncio.Event()
        self._foreign_since: float | None = None

    async def run(self) -> None:
        if self._current.is_stale():
            self._say_superseded()
        reading = asyncio.create_task(self._read())
        try:
            while not self._stopping.is_set():
                with contextlib.suppress(TimeoutError):  # the pause is over, and nothing came
                    await asyncio.wait_for(self._news.wait(), _LOOK_SECONDS)
                self._news.clear()
                edit, self._latest = self._latest, None
                if edit is not None:
                    await self._edits.take(edit)
                elif reading.done():
                    reading.result()
                    return
                await self._look()
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    async def _read(self) -> None:
        known = self._current.file
        async with contextlib.aclosing(noticing.watch(self._path, self._stopping, self._current.read_again)) as found:
            async for edit in found:
                # The first is what was there at the start: news only where it isn't what the start has read.
                if known is None or not isinstance(edit, Edit) or edit.settings != known:
                    self._arrived(edit)
                known = None
        self._news.set()

    def _arrived(self, edit: Edit | errors.Misconfigured) -> None:
        self._latest = edit
        self._news.set()

    def _is_newest(self) -> bool:
        return self._latest is None and not self._stopping.is_set()

    async def _look(self) -> None:
        """What the store says of our revision: approved meanwhile, or another one was taken up."""
        newest = await self._db.run_read(revisions.newest_applied)
        current = self._current
        if newest is None or newest.number == current.revision:
            self._foreign_since = None
        elif current.held is not None and newest.hash == current.held.hash:
            self._foreign_since = None
            self._edits.approved(current.held, newest)
        elif newest.hash == current.settings.sent_hash():
            current.revision, current.waits_for, self._foreign_since = newest.number, None, None
            if current.held is not None:
                await self._edits.hold_again(current.held)
        elif current.waits_for != newest.number:
            now = asyncio.get_running_loop().time()
            self._foreign_since = self._foreign_since or now
            if now - self._foreign_since >= _PATIENCE_SECONDS:
                current.waits_for = newest.number
                self._say_superseded()

    def _say_superseded(self) -> None:
        current = self._current
        _log.error(
            "settings_superseded",
            hash=current.settings.sent_hash(),
            revision=current.revision,
            waits_for=current.waits_for,
            next=current.next_when_stale(),
        )
