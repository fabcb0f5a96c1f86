"""The two loops of sending, for as long as the connector runs: the worker's and the full pass's."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from datetime import datetime

from connector import errors, log
from connector.outbound import full_pass
from connector.outbound.client import TrackClient
from connector.outbound.worker import Worker
from connector.settings import Customerio, Settings
from connector.store import runs
from connector.store.database import Database

_MOMENT = 1.0

_log = log.get("worker")


def track_client(settings: Customerio) -> TrackClient | None:
    """The client for a workspace; None while no credentials are set, and nothing is sent then."""
    return TrackClient(settings) if settings.site_id else None


class Outbound:
    """The worker's loop and the pass's, with the client for the settings in force. `before_pass` runs before each
    pass, on a database thread."""

    def __init__(
        self,
        db: Database,
        settings: Callable[[], Settings],
        edited: asyncio.Event,
        clock: Callable[[], datetime],
        before_pass: Callable[[], object],
    ) -> None:
        self._db = db
        self._settings = settings
        self._edited = edited
        self._clock = clock
        self._before_pass = before_pass
        self._worker = Worker(db, clock)
        self._stopping = asyncio.Event()
        self._refusal = ""
        self._made_for: Customerio | None = None
        self._client: TrackClient | None = None
        self.alive_at = self._clock()

    def stop(self) -> None:
        """No new claims."""
        self._stopping.set()

    async def work(self) -> None:
        """Until stopped: claim after claim, and a rest of `sync.latency` when nobody is due."""
        try:
            while not self._stopping.is_set():
                settings = self._settings()
                client = await self._client_for(settings.customerio)
                users = 0
                if client is not None and client.paused_for == 0:
                    users = await self._work_once(settings, client)
                self.alive_at = self._clock()
                if users == 0:
                    await self._rest()
        finally:
            await self._client_for(None)

    async def passes(self) -> None:
        """Until stopped: a pass at the start, every `sync.every`, after an edit, and when one was asked for."""
        due = True
        began = self._clock()
        while not self._stopping.is_set():
            settings = self._settings()
            if self._edited.is_set() or self._clock() - began >= settings.sync.every:
                due = True
                self._edited.clear()
            if (due or await self._db.run_read(runs.asked)) and settings.customerio.site_id:
                began = self._clock()
                due = await self._pass(settings) is None
            await self._rest()

    async def _pass(self, settings: Settings) -> full_pass.Found | None:
        await self._db.on_thread(self._before_pass)
        return await self._db.on_thread(lambda: full_pass.run(self._db, settings, self._clock))

    async def _work_once(self, settings: Settings, client: TrackClient) -> int:
        try:
            tally = await self._worker.work_once(settings, client)
        except errors.Misconfigured as refusal:
            if str(refusal) != self._refusal:
                self._refusal = str(refusal)
                _log.error("not_sending", reason="misconfigured", what=str(refusal))
            return 0
        self._refusal = ""
        if tally.failed:
            _log.warning("undelivered", **dict(tally.failed))
        return tally.users - tally.untried

    async def _rest(self) -> None:
        """For `sync.latency`, but no longer than a moment after an edit or a stop."""
        rested = 0.0
        while rested < self._settings().sync.latency.total_seconds() and not self._stopping.is_set():
            moment = min(self._settings().sync.latency.total_seconds() - rested, _MOMENT)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(moment):
                    await self._stopping.wait()
            rested += moment

    async def _client_for(self, settings: Customerio | None) -> TrackClient | None:
        if settings != self._made_for:
            if self._client is not None:
                await self._client.__aexit__(None, None, None)
            self._client = track_client(settings) if settings is not None else None
            if self._client is not None:
                await self._client.__aenter__()
            self._made_for = settings
        return self._client
