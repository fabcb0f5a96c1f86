"""The reader: turns raw webhooks into users, events and opt-outs, in arrival order.

    inbox (new) -> core/normalize -> whose is it -> users, identifiers, events, opt-outs, pending -> inbox (read)

One transaction reads a batch while it holds the identity lock, so that any number of readers and imports can run
and each person becomes one user. When a batch is refused by the database, it is read again with a savepoint for
each message, and the one that can't be stored stays unread as `store_refused` (or as `reader_failed`, when the fault is
the reader's own).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeAlias

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from ulid import ULID

from connector import log
from connector.core import learnt, naming, normalize, ulid
from connector.metrics import Metrics
from connector.records import Event, Identifier, InboxRow, Reading, Word
from connector.settings import Settings
from connector.store import database, events, inbox, pending, users
from connector.store.database import Database

BATCH = 125
_BATCH_BYTES = 4 * 1024 * 1024  # read, they take several times as much memory

_POLL = 2.0
_QUIET = 0.02
_REST = 6  # times as long as the batch took: at least a seventh of the time is the reader's, however busy it gets
_PAUSE_AFTER_FAILURE = 5.0
# SQLite's lock is not fair: whoever waits for it looks every tenth of a second, and is passed over by a writer in
# another process that lets go of it for less.
_WITHOUT_A_GAP = 0.3
_GAP = 0.12
_log = log.get("reader")


Outcome: TypeAlias = Counter[tuple[str, str | None]]
"""What became of a batch's messages: how many by state and reason."""


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
        """Until cancelled. A store that fails is tried again after a pause; nothing is lost meanwhile."""
        loop = asyncio.get_running_loop()
        while True:
            pause = _POLL
            self._wake.clear()
            try:
                began = loop.time()
                while await self._read_batch():
                    await self._rest(_REST * (loop.time() - began))
                    began = loop.time()
            except sa.exc.SQLAlchemyError as error:
                _log.error("read_failed", error=type(error).__name__)
                pause = _PAUSE_AFTER_FAILURE
            try:
                async with asyncio.timeout(pause):
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
    return isinstance(error, sa.exc.StatementError) and database.refused_a_value(error)


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
            _log.error("webhook_unread", reason=reason, error=type(error).__name__)
            inbox.mark(connection, [inbox.Mark(row.id, "unread", reason, None)])
            found = Counter({("unread", reason): 1})
        outcome.update(found)
    return outcome


@dataclass
class _Batch:
    """What a batch will write, and who is known by now, users made in this very batch included."""

    known: dict[Identifier, str]
    with_ids: set[str]  # of the users whose email is named, those whom an id names too
    new_users: list[dict[str, Any]] = field(default_factory=list)
    named: list[tuple[Identifier, str]] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    words: defaultdict[str, list[Word]] = field(default_factory=lambda: defaultdict(list))
    marks: list[inbox.Mark] = field(default_factory=list)

    def name(self, identifier: Identifier, user_id: str) -> None:
        if identifier not in self.known:
            self.known[identifier] = user_id
            self.named.append((identifier, user_id))


def _apply(connection: Connection, rows: Sequence[InboxRow], settings: Settings, now: datetime) -> Outcome:
    readings: list[tuple[InboxRow, Reading]] = []
    marks: list[inbox.Mark] = []
    for row in rows:
        found = normalize.read(row.source_id, row.body, row.received_at, settings.webhooks.names)
        if not isinstance(found, Reading):
            marks.append(inbox.Mark(row.id, "unread", found.reason, found.kind))
        elif naming.ignored(found.kind, settings.webhooks.ignore):
            marks.append(inbox.Mark(row.id, "ignored", None, found.kind))
            if found.word is not None and normalize.says_consent(found.kind):
                readings.append((row, found))
        else:
            marks.append(inbox.Mark(row.id, "read", None, found.kind))
            readings.append((row, found))
    lookups = [_lookups(reading.identifiers, settings) for _, reading in readings]
    known = users.find(connection, [each for of_one in lookups for each in of_one])
    batch = _Batch(known, _with_ids(connection, known, lookups, settings), marks=marks)
    for (row, reading), of_one in zip(readings, lookups, strict=True):
        _place(batch, row, reading, of_one, settings)
    users.add(connection, batch.new_users, batch.named)
    events.add(connection, batch.events)
    _learn(connection, batch.words, now)
    inbox.mark(connection, batch.marks)
    return Counter((mark.state, mark.reason) for mark in batch.marks)


def _with_ids(
    connection: Connection,
    known: Mapping[Identifier, str],
    lookups: Sequence[Sequence[Identifier]],
    settings: Settings,
) -> set[str]:
    """Of the users whom nothing but an email matches, those who have an id that Customer.io could know them by."""
    by_email = {known[of_one[-1]] for of_one in lookups if _by_email_alone(of_one, known)}
    kinds = {"customer_id", "external_id"} & {"customer_id", *settings.people.customer_id}
    return users.named_by(connection, by_email, kinds) if by_email else set()


def _by_email_alone(lookups: Sequence[Identifier], known: Mapping[Identifier, str]) -> bool:
    """The webhook names an id, and it is nobody's here; the email is somebody's."""
    if len(lookups) < 2 or lookups[0].kind != "customer_id" or lookups[-1].kind != "email":
        return False
    return lookups[-1] in known and not any(each in known for each in lookups[:-1])


def _learn(connection: Connection, words: Mapping[str, Sequence[Word]], now: datetime) -> None:
    """Facts and preferences don't make a user due: no attribute is sent of them, and the next pass sees who is in
    another segment now."""
    if not words:
        return
    known = users.learnt(connection, list(words))
    after = {user_id: learnt.learn(before, words[user_id]) for user_id, before in known.items()}
    users.remember(connection, {user_id: each for user_id, each in after.items() if each != known[user_id]}, now)
    opted = [
        user_id
        for user_id, each in after.items()
        if (each.opted_out, each.opt_changed_at) != (known[user_id].opted_out, known[user_id].opt_changed_at)
    ]
    if opted:
        users.touch(connection, opted)
        pending.mark_mirrored(connection, opted, now)


def _place(batch: _Batch, row: InboxRow, reading: Reading, lookups: Sequence[Identifier], settings: Settings) -> None:
    """Finds or makes the user of one reading and notes what follows from it."""
    matched = [each for each in lookups if each in batch.known]
    owners = [batch.known[each] for each in matched]
    user_id = owners[0] if owners else None
    context = reading.context
    word = reading.word
    # It may be about somebody else, who only shares the email of a user whose own id is another one.
    is_doubtful = user_id in batch.with_ids and _by_email_alone(lookups, batch.known)
    if word is not None and is_doubtful:
        word = learnt.without_consent(word)
    if user_id is None and lookups:
        user_id = _make_user(batch, reading.identifiers, settings, row.received_at)
    elif any(owner != user_id for owner in owners):
        # The strongest identifier wins, the other user keeps theirs.
        context = {**context, "flags": [*context.get("flags", []), "identity_conflict"]}
    if user_id is not None:
        for each in reading.identifiers:
            if each.kind == "cio_id" and not is_doubtful:
                batch.name(each, user_id)
        if word is not None:
            batch.words[user_id].append(word)
    if naming.ignored(reading.kind, settings.webhooks.ignore):
        return
    batch.events.append(
        Event(
            source=row.source,
            source_id=reading.source_id,
            user_id=user_id,
            type="track",
            name=reading.name,
            properties=reading.properties,
            context=context,
            occurred_at=reading.occurred_at,
            received_at=row.received_at,
            activity_id=ulid.activity_id(row.source, reading.source_id, reading.occurred_at),
        )
    )


def _make_user(batch: _Batch, named: Sequence[Identifier], settings: Settings, seen_at: datetime) -> str:
    """A user whom only Customer.io has told us of: never sent, until our own data knows them too."""
    user_id = str(ULID())
    ours = settings.people.customer_id[0] == "external_id"
    stored = [Identifier("external_id", each.value) if each.kind == "customer_id" and ours else each for each in named]
    values = {each.kind: each.value for each in stored}
    batch.new_users.append(
        {
            "id": user_id,
            "external_id": values.get("external_id"),
            "email": values.get("email"),
            "attributes": {},
            "known_by": "customerio",
            "created_at": None,
            "first_seen_at": seen_at,
            "updated_at": seen_at,
            "opted_out": False,
            "opt_changed_at": None,
            "version": 1,
        }
    )
    for each in stored:
        batch.name(each, user_id)
    if not {"customer_id", "external_id"}.isdisjoint(values):
        batch.with_ids.add(user_id)
    return user_id


def _lookups(named: Sequence[Identifier], settings: Settings) -> list[Identifier]:
    """Where to look for the user, strongest first: the customer id as it was sent, our own id, cio_id, email."""
    lookups: list[Identifier] = []
    for each in named:
        lookups.append(each)
        if each.kind == "customer_id" and "external_id" in settings.people.customer_id:
            lookups.append(Identifier("external_id", each.value))
    return lookups
