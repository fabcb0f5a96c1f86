"""`connector sync`: reads what has arrived, makes one full pass, and works until nothing is due now.

Safe beside a running connector: what that one has in flight is waited for, not sent twice. With `--user` it decides and
works for nobody but these users, under the guard as it is for everybody, and shows the calls.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from connector import errors
from connector.commands import replay_parked
from connector.commands.calls_shown import Shown
from connector.commands.sync_summary import Summary
from connector.inbound import adopting
from connector.inbound.reader import Reader
from connector.outbound import approving, full_pass
from connector.outbound.client import TrackClient
from connector.outbound.throttle import Throttle
from connector.outbound.worker import Worker
from connector.settings import Settings
from connector.store import backlog, event_counts
from connector.store.database import Database

_LOOK_AGAIN = 0.2
_PAUSES = 3
_WORTH_SAYING = 25  # looks: a pass of a moment is nothing to tell


async def sync(
    db: Database,
    settings: Settings,
    clock: Callable[[], datetime],
    console: Console | None = None,
    given: Sequence[str] | None = None,
) -> Summary:
    """One sync of the whole store, or of whom the `given` IDs name, as `connector person` takes them. Raises
    Misconfigured while there is nobody to send to, and for an ID of nobody."""
    if not settings.customerio.site_id:
        raise errors.Misconfigured("customerio.site_id is empty: put the workspace's site id and Track API key there")
    summary = Summary()
    summary.read = await Reader(db, lambda: settings, clock).read_outstanding()
    await db.on_thread(lambda: adopting.everything(db, settings, clock))
    only = None
    if given is not None:
        only = await db.on_thread(lambda: _named(db, given))
        summary.shown = Shown(shows=settings.log.personal_data)
    run = _Run(db, settings, clock, console, only)
    found = summary.found = await run.full_pass()
    await db.on_thread(lambda: approving.with_the_settings(db, settings, found, clock(), only=only))
    if settings.sync.paused:
        summary.paused = True
    else:
        await run.work(summary)
    await run.look(summary)
    return summary


def _named(db: Database, given: Sequence[str]) -> frozenset[str]:
    try:
        return frozenset(db.read(replay_parked.named, given))
    except errors.Failed as nobody:
        raise errors.Misconfigured(str(nobody)) from None


@dataclass(frozen=True)
class _Run:
    """Of everybody, or of `only` these users."""

    db: Database
    settings: Settings
    clock: Callable[[], datetime]
    console: Console | None
    only: frozenset[str] | None

    async def full_pass(self) -> full_pass.Found:
        """Our own, after the one that may be running; one that died is given up after `runs.LEASE`."""
        waits = 0
        while True:
            found = await self.db.on_thread(lambda: full_pass.run(self.db, self.settings, self.clock, only=self.only))
            if found is not None:
                return found
            waits += 1
            if self.console is not None and waits == _WORTH_SAYING:
                self.console.print("another pass is under way on this store; waiting for it", style="dim")
            await asyncio.sleep(_LOOK_AGAIN)

    async def work(self, summary: Summary) -> None:
        """Until nothing is due now, or no calls are taken; what came of it is added to the summary."""
        worker = Worker(self.db, self.clock, only=self.only)
        await worker.gate.ask()  # whatever closed it may be over
        with _bar(self.console) as progress:
            task = progress.add_task("users", total=(await self._backlog()).due)
            throttle = Throttle(self.db, self.settings.customerio.rate_per_second)
            heard = None if summary.shown is None else summary.shown.heard
            async with TrackClient(self.settings.customerio, throttle, heard) as client:
                pauses = 0
                while pauses < _PAUSES:
                    tally = await worker.work_off(
                        self.settings, client, heard=lambda done: progress.advance(task, done.users)
                    )
                    summary.tally.add(tally)
                    left = await self._backlog()
                    summary.refused = worker.gate.closed
                    if summary.refused is not None:
                        break
                    if client.paused_for > 0:
                        # Customer.io asked for a rest; it doesn't get to ask for ever.
                        got_on = tally.created + tally.updated + tally.deleted + tally.events > 0
                        pauses = 0 if got_on else pauses + 1
                        await asyncio.sleep(client.paused_for)
                    elif left.due == 0 and left.leased == 0:
                        break
                    else:
                        # Someone else's claims: they end, or their leases run out and the users are ours.
                        await asyncio.sleep(_LOOK_AGAIN)

    async def look(self, summary: Summary) -> None:
        """Adds who waits, is parked, or held."""
        left = await self._backlog()
        summary.waiting, summary.parked = left.due + left.waiting, left.parked
        if self.only is not None:
            summary.parked_events = await self.db.run_read(event_counts.parked, self.only)
        limit = self.settings.guard.max_events_per_user
        if limit is not None:
            waiting = await self.db.run_read(event_counts.held, limit, self.clock(), self.only)
            summary.events_held = waiting if waiting.users else None

    async def _backlog(self) -> backlog.Counts:
        return await self.db.run_read(backlog.counts, self.clock(), self.only)


def _bar(console: Console | None) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console or Console(stderr=True),
        disable=console is None or not console.is_terminal,
        transient=True,
    )
