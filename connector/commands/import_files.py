"""`connector import users FILE…`: rows of a file become users, in chunks of one transaction each.

Rows that can't be taken go to FILE.rejects.jsonl with their line and reason; the others are stored all the same.
Importing the same file again changes nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import IO
from zoneinfo import ZoneInfo

import msgspec
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from connector import errors
from connector.commands import rows
from connector.inbound import upsert
from connector.records import UserRow
from connector.settings import Settings
from connector.store import runs
from connector.store.database import Database

CHUNK = 1000


@dataclass
class Summary:
    """What became of a file's rows."""

    results: Counter[str] = field(default_factory=Counter)
    rejected: Counter[str] = field(default_factory=Counter)
    rejects: Path | None = None

    @property
    def stored(self) -> int:
        """Rows whose user is in the store as the row says."""
        return self.results.total()


def users(
    db: Database, settings: Settings, path: Path, clock: Callable[[], datetime], console: Console | None = None
) -> Summary:
    """Imports one file; shows the columns' types and a progress bar on `console` when there is one."""
    source = rows.open_source(path)
    if console is not None and source.types:
        guessed = ", ".join(f"{name}: {kind}" for name, kind in source.types.items())
        console.print(f"{path.name} has {guessed}", style="dim", highlight=False)
    summary = Summary()
    zone = ZoneInfo(settings.people.timezone)
    with ExitStack() as stack:
        progress = stack.enter_context(_bar(console))
        task = progress.add_task(path.name, total=source.size)
        rejects = _Rejects(path, stack, summary)
        lines = source.lines(zone, lambda size: progress.advance(task, size))
        while chunk := list(islice(lines, CHUNK)):
            _store(db, chunk, clock(), summary, rejects)
        progress.update(task, completed=source.size)
    if summary.stored:
        db.write(runs.ask, clock())
    return summary


def _store(db: Database, chunk: Sequence[rows.Line], now: datetime, summary: Summary, rejects: _Rejects) -> None:
    taken = [(line, line.row) for line in chunk if isinstance(line.row, UserRow)]
    for line in chunk:
        if isinstance(line.row, rows.Bad):
            rejects.add(line, line.row.reason, line.row.message)
    results = db.write(upsert.upsert, [row for _, row in taken], now) if taken else []
    for (line, _), result in zip(taken, results, strict=True):
        if result in upsert.TAKEN:
            rejects.add(line, result, upsert.TAKEN[result])
        else:
            summary.results[result] += 1


class _Rejects:
    """The rejects file, made when the first row is rejected."""

    def __init__(self, path: Path, stack: ExitStack, summary: Summary) -> None:
        self._path = path.with_name(path.name + ".rejects.jsonl")
        self._stack = stack
        self._summary = summary
        self._file: IO[bytes] | None = None

    def add(self, line: rows.Line, reason: str, message: str) -> None:
        if self._file is None:
            try:
                self._file = self._stack.enter_context(self._path.open("wb"))
            except OSError as error:
                raise errors.Failed(f"the rejects file {self._path} can't be written: {error.strerror}") from error
            self._summary.rejects = self._path
        self._summary.rejected[reason] += 1
        row = {"line": line.number, "reason": reason, "message": message, "row": line.raw}
        self._file.write(msgspec.json.encode(row) + b"\n")


def _bar(console: Console | None) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TimeRemainingColumn(),
        console=console or Console(stderr=True),
        disable=console is None or not console.is_terminal,
        transient=True,
    )


def describe(summary: Summary) -> Iterator[str]:
    """The summary in words, a line each."""
    counts = [f"{summary.results[word]:,} {word}" for word in ("created", "updated", "unchanged")]
    yield ", ".join(counts)
    if summary.rejected:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in sorted(summary.rejected.items()))
        yield f"{summary.rejected.total():,} rejected ({reasons}), see {summary.rejects}"
