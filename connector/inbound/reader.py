"""The reader: turns raw webhooks and messages into users, events and opt-outs, in arrival order.

    inbox (new) -> core/normalize        -> webhook_readings -> batch: users, identifiers, events, ... -> inbox (read)
                -> core/tracking_message -> messages         ->

One transaction reads a batch while it holds the identity lock, so that any number of readers and imports can run
and each person becomes one user. When a batch is refused by the database, it is read again with a savepoint for
each message, and the one that can't be stored stays unread as `store_refused` (or as `reader_failed`, when the fault is
the reader's own). What is about somebody who was erased is ignored, and nothing of it stays (`core/erased`).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import TypeAlias

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from connector import log
from connector.core import erased, naming, normalize, tracking_message
from connector.inbound import messages, webhook_readings
from connector.inbound.batch import Batch
from connector.inbound.identities import Identities
from connector.metrics import Metrics
from connector.records import Identifier, InboxRow, Message, Reading
from connector.settings import Settings
from connector.store import database, driver_errors, erasure, inbox, kept_out
from connector.store.database import Database

BATCH = 125
_BATCH_BYTES = 4 * 1024 * 1024  # read, they take several times as much memory

_POLL = 2.0
_QUIET = 0.02
_REST = 6  # times as long as the batch took: at least a seventh of the time is the reader's, however busy it gets
# SQLite's lock is not fair: whoever waits for it looks every tenth of a second, and is passed over by a writer in
# another process that lets go of it for less.
_WITHOUT_A_GAP = 0.3
_GAP = 0.12
_log = log.get("reader")


Outcome: TypeAlias = Counter[tuple[str, str, str | None]]
"""What became of a batch's messages: how many by source, state and reason."""


class Reader:
    """Reads whenever something was appended, and now and then for what another process left.

    A burst is received first and read after it: as long as messages keep coming, the reader rests between batches,
    because it shares the interpreter, and on SQLite the one writer, with whoever waits for an answer.
    """

    def __init__(
        self,
        db: Database,
        settings: Callable[[], Settings],
        clock: Callable[[], datetime],
        metrics: Metrics | None = None,
    ) -> None:
        self._db = db
        self._settings = settings
        self._clock = clock
        self._metrics = metrics if metrics is not None else Metrics()
        self._wake = asyncio.Event()
        self._gap_at: float | None = None

    def wake(self) -> None:
        """Something was appended."""
        self._wake.set()

    async def run(self) -> None:
        """Until cancelled. Raises what the store raises; begun again, it goes on where it was."""
        loop = asyncio.get_running_loop()
        while True:
            self._wake.clear()
            began = loop.time()
            while await self._read_batch():
                await self._rest(_REST * (loop.time() - began))
                began = loop.time()
            try:
                async with asyncio.timeout(_POLL):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def read_outstanding(self) -> int:
        """Reads until nothing is new, with gaps in which another process can append; returns how many that were."""
        total = 0
        while outcome := await self._read_batch():
            total += outcome.total()
            await self._let_others_write()
        return total

    async def _let_others_write(self) -> None:
        loop = asyncio.get_running_loop()
        if self._gap_at is None:
            self._gap_at = loop.time()
        if self._db.dialect == "sqlite" and loop.time() - self._gap_at > _WITHOUT_A_GAP:
            await asyncio.sleep(_GAP)
            self._gap_at = loop.time()

    async def _read_batch(self) -> Outcome:
        outcome = await self._db.on_thread(lambda: read_batch(self._db, self._settings(), self._clock()))
        self._metrics.read_batch(outcome)
        return outcome

    async def _rest(self, at_most: float) -> None:
        """Until no message has come for a moment."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(at_most):
                while self._wake.is_set():
                    self._wake.clear()
                    await asyncio.sleep(_QUIET)


def read_batch(db: Database, settings: Settings, now: datetime) -> Outcome:
    """Reads the oldest new messages, at most BATCH of them, durably; empty when there were none."""
    try:
        return db.write(_read, settings, now, BATCH)
    except Exception as error:
        if isinstance(error, sa.exc.SQLAlchemyError) and not _refused_a_value(error):
            raise
        return db.write(_read_singly, settings, now, BATCH)


def _refused_a_value(error: sa.exc.SQLAlchemyError) -> bool:
    return isinstance(error, sa.exc.StatementError) and driver_errors.refused_a_value(error)


def _read(connection: Connection, settings: Settings, now: datetime, limit: int) -> Outcome:
    database.lock_identities(connection)
    rows = inbox.take(connection, limit, _BATCH_BYTES)
    return _apply(connection, rows, settings, now)


def _read_singly(connection: Connection, settings: Settings, now: datetime, limit: int) -> Outcome:
    database.lock_identities(connection)
    outcome: Outcome = Counter()
    rows = inbox.take(connection, limit, _BATCH_BYTES)
    for row in rows:
        try:
            with connection.begin_nested():
                found = _apply(connection, [row], settings, now)
        except Exception as error:
            if isinstance(error, sa.exc.SQLAlchemyError) and not _refused_a_value(error):
                raise
            reason = "store_refused" if isinstance(error, sa.exc.SQLAlchemyError) else "reader_failed"
            _log.error("message_unread", source=row.source, reason=reason, error=type(error).__name__)
            inbox.mark(connection, [inbox.Mark(row.id, "unread", reason, None)])
            found = Counter({(row.source, "unread", reason): 1})
        outcome.update(found)
    return outcome


def _apply(connection: Connection, rows: Sequence[InboxRow], settings: Settings, now: datetime) -> Outcome:
    read = [(row, *_read_one(row, settings)) for row in rows]
    told = {row.id: messages.lookups(found) for row, found, _ in read if isinstance(found, Message)}
    reported = {
        row.id: webhook_readings.lookups(found, settings) for row, found, _ in read if isinstance(found, Reading)
    }
    wanted = {row.id: reported[row.id] for row, found, mark in read if row.id in reported and _is_wanted(found, mark)}
    identities = Identities.load(connection, _all(told), _all(wanted))
    gone = kept_out.among(connection, {*_all(told), *_all(reported)})
    names_wanted = list(wanted.values())
    batch = Batch(
        identities,
        webhook_readings.with_ids(connection, identities, names_wanted, settings),
        webhook_readings.lives(connection, identities, names_wanted),
    )
    marks = []
    for row, found, mark in read:
        names = told.get(row.id) or reported.get(row.id) or []
        if gone and erased.is_about(names, gone, lambda each: identities.owner(each) is not None):
            mark = inbox.Mark(row.id, "ignored", erased.ERASED, mark.kind)  # noqa: PLW2901
        elif isinstance(found, Message):
            messages.place(batch, row, messages.without(found, gone), settings, now)
        elif row.id in wanted and isinstance(found, Reading):
            names = [each for each in names if each not in gone]
            webhook_readings.place(batch, row, webhook_readings.without(found, gone), names, settings)
        marks.append(mark)
    batch.write(connection, settings, now)
    inbox.mark(connection, marks)
    erasure.empty(connection, [mark.id for mark in marks if mark.reason == erased.ERASED])
    return Counter((row.source, mark.state, mark.reason) for row, mark in zip(rows, marks, strict=True))


def _all(lookups: Mapping[int, Sequence[Identifier]]) -> list[Identifier]:
    return [name for of_one in lookups.values() for name in of_one]


def _is_wanted(found: Reading | Message | None, mark: inbox.Mark) -> bool:
    """Of a kind that is ignored, only what somebody says of their consent."""
    if mark.state != "ignored":
        return True
    return isinstance(found, Reading) and found.word is not None and normalize.says_consent(found.kind)


def _read_one(row: InboxRow, settings: Settings) -> tuple[Reading | Message | None, inbox.Mark]:
    """What the row says, None when it can't be read, and what becomes of the row."""
    if row.source == inbox.INTAKE:
        message = tracking_message.read(row.source_id, row.body, row.received_at)
        if isinstance(message, Message):
            return message, inbox.Mark(row.id, "read", None, message.type)
        return None, inbox.Mark(row.id, "unread", message.reason, message.kind)
    found = normalize.read(row.source_id, row.body, row.received_at, settings.webhooks.names)
    if not isinstance(found, Reading):
        return None, inbox.Mark(row.id, "unread", found.reason, found.kind)
    is_ignored = naming.ignored(found.kind, settings.webhooks.ignore)
    return found, inbox.Mark(row.id, "ignored" if is_ignored else "read", None, found.kind)
