"""What an import shows while it runs: what columns are taken for, a bar with rate and time left, where it goes on."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from connector.commands.rows.source import Source


class Shown:
    """One file's progress; silent without a console."""

    def __init__(self, console: Console | None, progress: Progress, task: TaskID, name: str) -> None:
        self._console = console
        self._progress = progress
        self._task = task
        self._name = name
        self._began = time.monotonic()
        self._first = 0

    def looked(self, read: int, total: int) -> None:
        """So much of the file is looked at, to find out what its columns hold."""
        self._progress.update(self._task, completed=read, total=total, rate="looking at the columns")

    def columns(self, opened: Source) -> None:
        """Before the first row is stored: what the columns are taken for."""
        self._began = time.monotonic()
        self._progress.reset(self._task, total=opened.size, rate="")
        if opened.layout is not None:
            named = ", ".join(f"{each.name}: {each.type}" for each in opened.layout.columns if each.name)
            self._say(f"{self._name} has {named}")

    def went_on(self, rows: int) -> None:
        """An earlier import has stored so many rows."""
        self._began = time.monotonic()
        self._first = rows
        self._say(f"{self._name}: going on from row {rows + 1:,}, where it was interrupted; --restart begins anew")

    def stored(self, rows: int, position: int) -> None:
        """So many rows are done, and so many bytes of the file."""
        rate = (rows - self._first) / max(time.monotonic() - self._began, 0.001)
        self._progress.update(self._task, completed=position, rate=f"{rows:,} rows, {rate:,.0f}/s")

    def _say(self, text: str) -> None:
        if self._console is not None:
            self._console.print(text, style="dim", highlight=False)


@contextmanager
def bar(console: Console | None, name: str) -> Iterator[Shown]:
    """For as long as the block lasts."""
    progress = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        console=console or Console(stderr=True),
        disable=console is None or not console.is_terminal,
        transient=True,
    )
    with progress:
        yield Shown(console, progress, progress.add_task(name, total=None, rate=""), name)
