"""What the proof shows while it runs: bars on a terminal, a line for each stage elsewhere."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from connector.commands.prove.killing import Killed
from connector.commands.prove.options import Wanted
from connector.commands.prove.settling import Left


class Shown:
    """A context manager: bars for as long as it lasts."""

    def __init__(self, console: Console, wanted: Wanted) -> None:
        self._console = console
        self._began = time.monotonic()
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[more]}", markup=False),
            console=console,
            disable=not console.is_terminal,
            transient=True,
        )
        self._kills = self._progress.add_task("kills", total=wanted.kills, more="")
        self._webhooks = self._progress.add_task("webhooks", total=None, more="")

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def say(self, text: str) -> None:
        """A line that stays, with the seconds since the start."""
        self._console.print(f"{time.monotonic() - self._began:4.0f} s  {text}", style="dim")

    def killed(self, killed: Killed, webhooks: int, edits: int, events: int) -> None:
        """After each kill."""
        under_way = f"{killed.sending:,} kills with users in flight, {killed.restarts:,} restarts"
        more = f"{edits:,} edits, {events:,} events, {under_way}"
        self._progress.update(self._kills, completed=killed.kills, more=more)
        self.webhooks(webhooks)

    def webhooks(self, acknowledged: int) -> None:
        """So many answers 200 by now."""
        self._progress.update(self._webhooks, completed=acknowledged)

    def left(self, left: Left) -> None:
        """While all is waited for."""
        people = f"{left.leaving:,} leaving, {left.behind:,} behind"
        more = f"{left.unread:,} to read, {left.pending:,} pending, {left.events:,} events due, {people}"
        self._progress.update(self._kills, more=more)
