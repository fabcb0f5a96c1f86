"""The two loops of sending, for as long as the connector runs: the worker's and the full pass's."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

from connector import errors, log
from connector.outbound import approving, full_pass
from connector.outbound.client import TrackClient
from connector.outbound.tally import Tally
from connector.outbound.throttle import Throttle
from connector.outbound.worker import Worker
from connector.settings import Customerio, Settings
from connector.store import runs
from connector.store.database import Database

_MOMENT = 1.0

_log = log.get("worker")


class _Turns(Throttle):
    """Our turns to call, as long as `may` says so, and until there are none."""

    def __init__(self, db: Database, rate: float, may: Callable[[], bool]) -> None:
        super().__init__(db, rate)
        self._may = may

    async def slot(self) -> bool:
        """False also when no call may go out any more, be it that this is known only when our turn comes."""
        return self._may() and await super().slot() and self._may()

    def end(self) -> None:
        """Nobody gets a turn from now on, nor waits for one: what has not begun stays unsent."""
        self._pause(math.inf)


class Outbound:
    """The worker's loop and the pass's, with the client for the settings in force. `before_pass` runs before each
    pass, on a database thread and under the same settings. `heard` is told what calls and claims came to, and how many
    went out. While `is_stale` says that others have newer settings, nothing is sent or let go; while `sync.paused` is
    set, passes go on.

    When the settings are others, of what goes by the ones before only what has begun still ends: one try of a call, and
    the record of what came of it; one transaction of a pass, of at most `approving.CHUNK` users. The rest of a claim is
    given back, and the pass begins anew.
    """

    def __init__(
        self,
        db: Database,
        settings: Callable[[], Settings],
        edited: asyncio.Event,
        clock: Callable[[], datetime],
        before_pass: Callable[[Settings], object],
        heard: Callable[[Tally], None] = lambda _tally: None,
        is_stale: Callable[[], bool] = lambda: False,
    ) -> None:
        self._db = db
        self._settings = settings
        self._edited = edited
        self._clock = clock
        self._before_pass = before_pass
        self._worker = Worker(db, clock)
        self._stopping = asyncio.Event()
        self._heard = heard
        self._is_stale = is_stale
        self._working_by: Settings | None = None
        self._made_for: Customerio | None = None
        self._client: TrackClient | None = None
        self._turns: _Turns | None = None
        self._calls_told = 0
        self.alive_at = self._clock()

    def stop(self) -> None:
        """No new claims, and no new calls; those under way end."""
        self._stopping.set()
        if self._turns is not None:
            self._turns.end()

    async def work(self) -> None:
        """Until stopped: claim after claim, and a rest of `sync.latency` when nobody is due."""
        try:
            while not self._stopping.is_set():
                settings = self._settings()
                client = await self._client_for(settings.customerio)
                if client is not None and self._may_send(settings):
                    await self._work_off(settings, client)
                self.alive_at = self._clock()
                await self._rest()
        finally:
            self.alive_at = self._clock()
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
            may = settings.customerio.site_id and not self._is_stale()
            if may and (due or await self._db.run_read(runs.asked, self._clock())):
                began = self._clock()
                due = await self._pass(settings) is None
            await self._rest()

    async def _pass(self, settings: Settings) -> full_pass.Found | None:
        def going() -> bool:
            return not self._stopping.is_set() and not self._is_stale() and self._finds_the_same(settings)

        def run() -> full_pass.Found | None:
            self._before_pass(settings)
            found = full_pass.run(self._db, settings, self._clock, going)
            if found is not None:
                approving.with_the_settings(self._db, settings, found, self._clock(), going)
            return found

        with contextlib.suppress(full_pass.CutShort):  # we stop, or the settings are others by now
            return await self._db.on_thread(run)
        return None

    def _finds_the_same(self, settings: Settings) -> bool:
        """Whether a pass by the settings in force would be the same: a log level is no reason to begin anew."""
        now = self._settings()
        return now is settings or now.sent_hash() == settings.sent_hash()

    async def _work_off(self, settings: Settings, client: TrackClient) -> None:
        def going() -> bool:
            self.alive_at = self._clock()
            return not self._stopping.is_set() and self._may_go_on(settings)

        self._working_by = settings
        # Where the credentials lead elsewhere, the gate has closed and said why.
        try:
            with contextlib.suppress(errors.Misconfigured):
                await self._worker.work_off(settings, client, going, lambda tally: self._hear(tally, client))
        finally:
            self._tell(Tally(), client)

    def _may_go_on(self, settings: Settings | None) -> bool:
        return settings is self._settings() and self._may_send(settings)

    def _may_send(self, settings: Settings) -> bool:
        return not settings.sync.paused and not self._is_stale()

    def _tell(self, tally: Tally, client: TrackClient) -> None:
        """Which call a tally comes from can't be told, so it goes with all that went out since the last one."""
        calls, self._calls_told = client.calls - self._calls_told, client.calls
        self._heard(replace(tally, calls=calls))

    def _hear(self, tally: Tally, client: TrackClient) -> None:
        self._tell(tally, client)
        if tally.failed:
            _log.warning("undelivered", **dict(tally.failed))
        if tally.parked:
            _log.warning("parked", next="connector replay parked", **dict(tally.parked))

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
        """The client for a workspace; None while no credentials are set, and nothing is sent then. The one before it is
        closed."""
        if settings != self._made_for:
            former, self._client = self._client, None
            if former is not None:
                await former.__aexit__(None, None, None)
            self._made_for = None
            if settings is not None and settings.site_id:
                await self._worker.gate.ask()
                self._turns, self._calls_told = self._turns_for(settings), 0
                self._client = await TrackClient(settings, self._turns).__aenter__()
                if self._stopping.is_set():
                    self._turns.end()
            self._made_for = settings
        return self._client

    def _turns_for(self, settings: Customerio) -> _Turns:
        return _Turns(self._db, settings.rate_per_second, lambda: self._may_go_on(self._working_by))
