"""`connector sync`: reads what has arrived, makes one full pass, and works until nothing is due now.

Safe beside a running connector: what that one has in flight is waited for, not sent twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from connector import errors
from connector.core import hold_words
from connector.inbound import adopting
from connector.inbound.reader import Reader
from connector.outbound import approving, full_pass
from connector.outbound.client import TrackClient
from connector.outbound.tally import Tally
from connector.outbound.throttle import Throttle
from connector.outbound.worker import Worker
from connector.settings import Settings
from connector.store import backlog, gate, held
from connector.store.database import Database
from connector.watching.current import Held, Replaced

_LOOK_AGAIN = 0.2
_PAUSES = 3
_WORTH_SAYING = 25  # looks: a pass of a moment is nothing to tell


@dataclass
class Summary:
    """What one sync did. `waiting` users could not be delivered and are tried again later. `edit` is one of the
    settings that is held: who and what was sent went by those before it. `replaced` says that they took the place of
    others."""

    read: int = 0
    found: full_pass.Found = field(default_factory=full_pass.Found)
    tally: Tally = field(default_factory=Tally)
    waiting: int = 0
    parked: int = 0
    refused: gate.Closed | None = None
    edit: Held | None = None
    replaced: Replaced | None = None
    paused: bool = False

    @property
    def exit_status(self) -> int:
        """0 all delivered, or kept back by `sync.paused`; 1 when somebody could not be delivered in this run, else 3
        when something is held, else 1 while somebody waits for another try. Who only waits must not hide what a person
        has to approve."""
        if self.tally.failed or self.tally.parked or self.refused is not None:
            return 1
        if self.found.holds or self.edit is not None:
            return 3
        return 1 if self.waiting and not self.paused else 0

    def as_json(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "read": self.read,
            "created": self.tally.created,
            "updated": self.tally.updated,
            "deleted": self.tally.deleted,
            "calls": self.tally.calls,
            "skipped": dict(self.tally.skipped + self.found.skipped),
            "failed": dict(self.tally.failed),
            "parked": self.parked,
            "waiting": self.waiting,
            "gate": None if self.refused is None else self.refused.reason,
            "held": [
                {"hash": hold.hash, "what": hold.what, "count": hold.count, "reason": hold.reason}
                for hold in self.found.holds
            ]
            + ([] if self.edit is None else [{"hash": self.edit.hash, "what": "settings", "reason": self.edit.reason}]),
        }


async def sync(
    db: Database, settings: Settings, clock: Callable[[], datetime], console: Console | None = None
) -> Summary:
    """One sync of the whole store. Raises Misconfigured while there is nobody to send to."""
    if not settings.customerio.site_id:
        raise errors.Misconfigured("customerio.site_id is empty: put the workspace's site id and Track API key there")
    summary = Summary()
    summary.read = await Reader(db, lambda: settings, clock).read_outstanding()
    await db.on_thread(lambda: adopting.everything(db, settings, clock))
    summary.found = await _pass(db, settings, clock, console)
    await db.on_thread(lambda: approving.with_the_settings(db, settings, summary.found, clock()))
    if settings.sync.paused:
        left = await db.run_read(backlog.counts, clock())
        summary.paused, summary.waiting, summary.parked = True, left.due + left.waiting, left.parked
        return summary
    worker = Worker(db, clock)
    await worker.gate.ask()  # whatever closed it may be over
    with _bar(console) as progress:
        due = await db.run_read(backlog.counts, clock())
        task = progress.add_task("users", total=due.due)
        throttle = Throttle(db, settings.customerio.rate_per_second)
        async with TrackClient(settings.customerio, throttle) as client:
            pauses = 0
            while pauses < _PAUSES:
                tally = await worker.work_off(settings, client, heard=lambda done: progress.advance(task, done.users))
                summary.tally.add(tally)
                left = await db.run_read(backlog.counts, clock())
                summary.refused = worker.gate.closed
                if summary.refused is not None:
                    break
                if client.paused_for > 0:
                    # Customer.io asked for a rest; it doesn't get to ask for ever.
                    pauses = pauses + 1 if tally.created + tally.updated + tally.deleted == 0 else 0
                    await asyncio.sleep(client.paused_for)
                elif left.due == 0 and left.leased == 0:
                    break
                else:
                    # Someone else's claims: they end, or their leases run out and the users are ours.
                    await asyncio.sleep(_LOOK_AGAIN)
    summary.waiting, summary.parked = left.due + left.waiting, left.parked
    return summary


async def _pass(
    db: Database, settings: Settings, clock: Callable[[], datetime], console: Console | None
) -> full_pass.Found:
    """Our own pass, after the one that may be running; one that died is given up after `runs.LEASE`."""
    waits = 0
    while True:
        found = await db.on_thread(lambda: full_pass.run(db, settings, clock))
        if found is not None:
            return found
        waits += 1
        if console is not None and waits == _WORTH_SAYING:
            console.print("another pass is under way on this store; waiting for it", style="dim")
        await asyncio.sleep(_LOOK_AGAIN)


def describe(summary: Summary) -> Iterator[str]:
    """The summary in words, a line each."""
    tally = summary.tally
    if summary.replaced is not None:
        yield from _replaced(summary.replaced)
    if summary.read:
        yield f"{summary.read:,} webhooks and messages read"
    calls = "1 call" if tally.calls == 1 else f"{tally.calls:,} calls"
    deleted = f", {tally.deleted:,} deleted" if tally.deleted else ""
    yield f"{tally.created:,} created, {tally.updated:,} updated{deleted}, in {calls}"
    if summary.found.leaving:
        yield f"{summary.found.leaving:,} have left and are deleted after people.delete.grace, unless they come back"
    if skipped := tally.skipped + summary.found.skipped:
        yield "skipped: " + ", ".join(f"{count:,} {reason}" for reason, count in skipped.most_common())
    if tally.failed:
        yield "failed: " + ", ".join(f"{count:,} {reason}" for reason, count in tally.failed.most_common())
    if summary.parked:
        now = ", ".join(f"{count:,} {reason}" for reason, count in tally.parked.most_common())
        yield f"{summary.parked:,} parked{f' (now: {now})' if now else ''}: connector replay parked tries them again"
    if summary.refused is not None:
        yield f"Customer.io takes no calls ({summary.refused.reason}): {summary.refused.message}"
    if summary.paused:
        yield f"sync.paused is true: nothing was sent, {summary.waiting:,} wait"
    elif summary.waiting:
        yield f"{summary.waiting:,} wait for another try"
    if summary.edit is not None:
        yield f"HELD: the settings would do more than the guard allows: {summary.edit.reason}. Those before them go on."
        yield f"  let them go:       connector approve {summary.edit.hash}"
    for hold in summary.found.holds:
        yield from _held(hold)


def _replaced(them: Replaced) -> Iterator[str]:
    yield f"these settings are revision {them.by} now, in place of revision {them.number}"
    yield (
        "  a running connector with another file sends nothing from now on, until its file says the same "
        f"(connector settings diff {them.number} {them.by}), or is saved with another change or read again (SIGHUP)"
    )


def _held(hold: held.Hold) -> Iterator[str]:
    would, why = hold_words.would(hold.what, hold.count), hold_words.why(hold.reason, hold.allowed)
    yield f"HELD ({hold.reason}): {would}; {why}. Nothing was done."
    ways = hold_words.commands(hold.what, hold.hash)
    for way, command in zip(("let them go:", "only some of them:"), ways, strict=False):
        yield f"  {way:<18} {command}"


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
