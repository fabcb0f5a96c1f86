"""Rows of files into the store.

    rows.source -> a chunk of rows -> upsert | inbox, the rejects, how far we are: one transaction -> the next chunk

A chunk is as large as a transaction of a quarter of a second takes, because a running connector waits for it. Rows
that can't be taken go to FILE.rejects.jsonl with their line and reason; the others are stored all the same. Whoever is
interrupted goes on behind the last chunk that was committed, and importing the same file again changes nothing.
"""

from __future__ import annotations

import functools
import gc
import hashlib
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import sqlalchemy as sa
from rich.console import Console
from sqlalchemy.engine import Connection

from connector.commands import import_progress
from connector.commands.import_progress import Shown
from connector.commands.import_rejects import Rejects
from connector.commands.rows import Bad, Line, Shape, event_rows, message_rows, source, user_rows
from connector.commands.rows.source import Options, Source
from connector.inbound import upsert
from connector.records import EventRow, Received, UserRow
from connector.settings import Events, Settings
from connector.store import driver_errors, imports, inbox, runs
from connector.store.database import Database

_FIRST_CHUNK = 1000
_FEWEST_ROWS, _MOST_ROWS = 100, 3000
_MOST_BYTES = 2 * 1024 * 1024
_SECONDS = 0.25  # of a transaction
_COLLECT_CHUNKS = 20
_COLLECT_AFTER = 100_000  # objects made and not freed since
# SQLite's lock is not fair: who waits for it looks every tenth of a second, and must find it free then.
_GAP = 0.12
_NEW_OR_NOT = ("stored", "duplicate")
# What becomes of events that are to be sent; all of them are stored.
SENDING = ("triggering", "due", "too_old", "not_whitelisted")
_REFUSED = {"store_refused": "the database can't hold something in this row"}


@dataclass(frozen=True, slots=True)
class Kind:
    """What is imported: rows of which shape, how a chunk is stored (one word for each row), which of those words are
    refusals, and which a summary has, in their order. Imports of another `name` never go on with each other."""

    name: str
    shape: Shape
    store: Callable[[Connection, Sequence[Any], datetime], Sequence[str]]
    refusals: Mapping[str, str]
    words: tuple[str, ...]


@dataclass
class Summary:
    """What became of a file's rows; of those before `went_on_at`, an earlier run has stored what wasn't rejected."""

    results: Counter[str] = field(default_factory=Counter)
    rejected: Counter[str] = field(default_factory=Counter)
    rejects: Path | None = None
    went_on_at: int = 0

    @property
    def stored(self) -> int:
        """Rows that are in the store now, by this run."""
        return self.results.total() - self.erased

    def count(self, word: str) -> int:
        """How many rows became that; an event is stored whether or not it will be sent."""
        return self.results[word] + (sum(self.results[each] for each in SENDING) if word == "stored" else 0)

    @property
    def erased(self) -> int:
        """Rows about people who were erased: not taken, and kept nowhere, not among the rejects either."""
        return self.results["erased"]


class What(StrEnum):
    """What `import` reads."""

    users = "users"
    events = "events"
    messages = "messages"


def collect_less() -> None:
    """A chunk's rows are no cycles, and looking through them again and again takes a tenth of the time; what it leaves
    behind of SQLAlchemy's is collected every `_COLLECT_CHUNKS`."""
    gc.set_threshold(_COLLECT_AFTER, 20, 100)


def kind(what: What, *, send: Events | None = None, opt_out: str = "") -> Kind:
    """How it is imported; `send` is for events and says which of them are due, `opt_out` is the attribute of users that
    says they have unsubscribed."""
    match what:
        case What.users:
            return replace(USERS, store=functools.partial(_store_users, opt_out=opt_out))
        case What.events:
            store = functools.partial(_store_events, send=send)
            name = "events" if send is None else "events to send"
            return Kind(name, event_rows.SHAPE, store, {}, _NEW_OR_NOT)
        case What.messages:
            return Kind("messages", message_rows.SHAPE, _append, {}, _NEW_OR_NOT)


def _store_users(
    connection: Connection, batch: Sequence[UserRow], now: datetime, *, opt_out: str = ""
) -> Sequence[str]:
    return upsert.upsert(connection, batch, now, opt_out)


def _store_events(
    connection: Connection, batch: Sequence[EventRow], now: datetime, *, send: Events | None
) -> Sequence[str]:
    return upsert.events(connection, batch, now, send)


def _append(connection: Connection, batch: Sequence[Received], _now: datetime) -> Sequence[str]:
    """How many are new is all that the inbox tells; which ones, nobody asks."""
    new = inbox.append(connection, inbox.INTAKE, batch)
    return ["stored"] * new + ["duplicate"] * (len(batch) - new)


USERS = Kind("users", user_rows.SHAPE, _store_users, upsert.TAKEN, ("created", "updated", "unchanged"))


def one(
    db: Database,
    settings: Settings,
    kind: Kind,
    path: Path,
    clock: Callable[[], datetime],
    options: Options = source.DEFAULTS,
    console: Console | None = None,
    *,
    restart: bool = False,
) -> Summary:
    """Imports one file; shows its columns' types and a progress bar on `console` when there is one."""
    with (
        import_progress.bar(console, "stdin" if path == source.STDIN else path.name) as shown,
        source.opened(path, kind.shape, options, shown.looked) as opened,
        closing(Rejects(opened.rejects)) as rejects,
    ):
        shown.columns(opened)
        running = _Import(
            db, kind, opened, rejects, clock, ZoneInfo(settings.people.timezone), _key(kind, opened, options)
        )
        running.all(shown, restart=restart)
    summary = running.summary
    summary.rejected = rejects.counts
    summary.rejects = rejects.path if rejects.counts else None
    if summary.stored or summary.went_on_at:
        db.write(runs.ask, clock())
    return summary


def users(
    db: Database, settings: Settings, path: Path, clock: Callable[[], datetime], console: Console | None = None
) -> Summary:
    """Imports one file of users."""
    return one(db, settings, kind(What.users, opt_out=settings.people.opt_out), path, clock, console=console)


def _key(kind: Kind, opened: Source, options: Options) -> str | None:
    """The same for the same rows read in the same way, wherever the file lies; None for what can't come again."""
    if opened.digest is None:
        return None
    said = [kind.name, opened.form, opened.digest, sorted(options.renamed.items()), sorted(options.types.items())]
    return hashlib.sha256(msgspec.json.encode(said)).hexdigest()


@dataclass
class _Import:
    """An import of one file under way; the first `done` rows are stored, or rejected for good."""

    db: Database
    kind: Kind
    opened: Source
    rejects: Rejects
    clock: Callable[[], datetime]
    zone: ZoneInfo
    key: str | None
    summary: Summary = field(default_factory=Summary)
    done: int = 0
    free_since: float = 0.0  # the monotonic time at which others could write

    def all(self, shown: Shown, *, restart: bool) -> None:
        lines = self.opened.lines()
        self._begin(lines, shown, restart=restart)
        size, chunks = _FIRST_CHUNK, 0
        while size := self._chunk(lines, size):
            shown.stored(self.done, self.opened.position())
            chunks += 1
            if chunks % _COLLECT_CHUNKS == 0:
                gc.collect()
        if self.key is not None:
            self.db.write(imports.finish, self.key)

    def _begin(self, lines: Iterator[Line], shown: Shown, *, restart: bool) -> None:
        if self.key is not None:
            self.done = self.db.write(imports.begin, self.key, self.clock(), anew=restart)
        if not self.done:
            self.rejects.begin()
            return
        number = 0
        for line in islice(lines, self.done):
            number = line.number
        self.rejects.go_on(number)
        self.summary.went_on_at = self.done + 1
        shown.went_on(self.done)

    def _chunk(self, lines: Iterator[Line], most: int) -> int:
        """Stores the next rows, at most so many; returns how many should be the next, 0 when there are no more."""
        chunk = [(line, self._read(line)) for line in _some(lines, most)]
        if not chunk:
            return 0
        if self.db.dialect == "sqlite":
            time.sleep(max(0.0, self.free_since + _GAP - time.monotonic()))
        began = time.monotonic()
        self.summary.results += self.db.write(self._store, chunk, self.clock())
        self.free_since = time.monotonic()
        self.done += len(chunk)
        return max(_FEWEST_ROWS, min(_MOST_ROWS, round(len(chunk) * _SECONDS / (self.free_since - began))))

    def _read(self, line: Line) -> Any:
        if isinstance(line.values, Bad):
            return line.values
        return self.kind.shape.read(line.values, self.clock(), self.zone)

    def _store(self, connection: Connection, chunk: Sequence[tuple[Line, Any]], now: datetime) -> Counter[str]:
        taken = [(line, record) for line, record in chunk if not isinstance(record, Bad)]
        for line, record in chunk:
            if isinstance(record, Bad):
                self.rejects.add(line, record)
        words = _stored(connection, self.kind, [record for _, record in taken], now) if taken else []
        refusals = {**self.kind.refusals, **_REFUSED}
        results: Counter[str] = Counter()
        for (line, _), word in zip(taken, words, strict=True):
            if word in refusals:
                self.rejects.add(line, Bad(word, refusals[word]))
            else:
                results[word] += 1
        self.rejects.flush()
        if self.key is not None:
            imports.advance(connection, self.key, self.done + len(chunk), now)
        return results


def _some(lines: Iterator[Line], most: int) -> Iterator[Line]:
    size = 0
    for number, line in enumerate(lines, start=1):
        yield line
        size += line.size
        if number >= most or size >= _MOST_BYTES:
            return


def _stored(connection: Connection, kind: Kind, records: Sequence[Any], now: datetime) -> list[str]:
    """A word for each; what the database refuses is halved until the one row stands alone that it can't hold."""
    try:
        with connection.begin_nested():
            return list(kind.store(connection, records, now))
    except sa.exc.StatementError as error:
        if not driver_errors.refused_a_value(error):
            raise
    if len(records) == 1:
        return ["store_refused"]
    half = len(records) // 2
    return _stored(connection, kind, records[:half], now) + _stored(connection, kind, records[half:], now)
