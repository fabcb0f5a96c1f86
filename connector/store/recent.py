"""What has just happened in a store, for whoever watches it: each look takes what is new since the last one.

    inbox, events, attempts   by id; on PostgreSQL from a little before the highest, as they appear out of order
    events on their way out   those that were seen due, up to `MOST_AWAITED` at a time
    people                    by `synced_at`, for which there is no index: looked for only when the counters say that
                              somebody was sent, and never for more than a tenth of the time
    decisions                 how much the counters have grown
    gate                      whether it is closed now, and was not before

So a look costs the same whatever the store holds, but for people; and a running connector is told nothing of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple, TypeAlias

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from connector.store import database, gate, schema
from connector.store.schema import attempts, decided, events, inbox, mirror

MOST = 1000  # of each kind in a look
MOST_AWAITED = 10_000  # events on their way out
MOST_BODY = 65_536  # bytes of a message that is looked into

_BEHIND = 1000  # ids that may still appear below the highest one
_LATE = timedelta(seconds=30)  # how long after its moment a person may appear
_SENT = ("create", "update", "delete")

_Counts: TypeAlias = dict[tuple[datetime, str, str], int]


class Arrived(NamedTuple):
    """A message in the inbox; `body` is None when it is a large one."""

    id: int
    at: datetime
    source: str
    state: str
    reason: str | None
    kind: str | None
    body: bytes | None


class Happened(NamedTuple):
    """An event that was stored."""

    id: int
    at: datetime
    source: str
    type: str
    name: str
    user_id: str | None
    outbound: str
    reason: str | None


class Settled(NamedTuple):
    """An event that was sent, skipped or parked."""

    id: int
    at: datetime | None
    type: str
    name: str
    user_id: str | None
    outbound: str
    reason: str | None


class Tried(NamedTuple):
    """What was not plain success."""

    id: int
    at: datetime
    user_id: str
    what: str
    calls: int
    status: int | None
    reason: str
    message: str


class Synced(NamedTuple):
    """A person as they were last sent."""

    user_id: str
    at: datetime
    customer_id: str
    verb: str


class Decided(NamedTuple):
    """So many users more were decided about."""

    verb: str
    reason: str
    users: int


class Gate(NamedTuple):
    """It was closed for that reason; or opened, without one."""

    at: datetime
    reason: str | None


class Look(NamedTuple):
    """All that is new, but for what exceeds `MOST` of a kind: that comes with the next look."""

    arrived: list[Arrived]
    happened: list[Happened]
    settled: list[Settled]
    tried: list[Tried]
    synced: list[Synced]
    decided: list[Decided]
    gate: Gate | None


class _New:
    """The ids of a table that were not seen yet; which were is forgotten far below the highest."""

    def __init__(self, connection: Connection, table: sa.Table) -> None:
        self._table = table
        # SQLite has one writer at a time: there the ids come in order.
        self._behind = 0 if connection.dialect.name == "sqlite" else _BEHIND
        self._highest = self._max(connection)
        self._seen = set(self._ids(connection))

    def rows(self, connection: Connection, columns: Sequence[sa.ColumnElement[Any]]) -> list[tuple[Any, ...]]:
        """In the order of their ids; at most `MOST`."""
        if self._behind == 0:
            # Where the newest rows were deleted, SQLite gives their ids again.
            self._highest = min(self._highest, self._max(connection))
        # Ids first: of most rows no more is looked at.
        new = [number for number in self._ids(connection) if number not in self._seen][:MOST]
        if not new:
            return []
        self._highest = max(self._highest, new[-1])
        self._seen = {number for number in (*self._seen, *new) if number > self._highest - self._behind}
        chosen = self._table.c.id.in_(database.ids(connection))
        query = sa.select(*columns).where(chosen).order_by(self._table.c.id)
        return [tuple(row) for row in connection.execute(query, {"ids": database.dumps(new)})]

    def _max(self, connection: Connection) -> int:
        return connection.execute(sa.select(sa.func.max(self._table.c.id))).scalar() or 0

    def _ids(self, connection: Connection) -> Sequence[int]:
        number = self._table.c.id
        query = sa.select(number).where(number > self._highest - self._behind).order_by(number)
        return connection.execute(query.limit(MOST + self._behind)).scalars().all()


class Watch:
    """From the moment in which it is made. `look` is one read transaction."""

    def __init__(self, connection: Connection, now: datetime) -> None:
        self._inbox, self._events, self._attempts = (_New(connection, each) for each in (inbox, events, attempts))
        self._awaited: set[int] = set()
        self._await(connection)
        self._since = now
        self._people: set[tuple[str, datetime]] = set()
        self._people_left = False
        self._counts = _counts(connection, now)
        self._gate = _gate(connection)

    def look(self, connection: Connection, now: datetime, *, people: bool = True) -> Look:
        """What is new; without `people` those, and what was decided of them, wait for the next look."""
        settled = list(self._settled(connection))
        self._await(connection)
        grown, synced = list[Decided](), list[Synced]()
        counts = _counts(connection, now)
        if people or not self._of_people(counts):
            grown = list(self._grown(counts))
            synced = list(self._synced(connection, now)) if self._of_people(counts) else []
            self._counts = counts
        return Look(
            [Arrived(*row) for row in self._inbox.rows(connection, _ARRIVED)],
            [Happened(*row) for row in self._events.rows(connection, _HAPPENED)],
            settled,
            [Tried(*row) for row in self._attempts.rows(connection, _TRIED)],
            synced,
            grown,
            self._turned(connection, now),
        )

    def _turned(self, connection: Connection, now: datetime) -> Gate | None:
        before, self._gate = self._gate, _gate(connection)
        return None if self._gate == before else Gate(now, self._gate)

    def _of_people(self, counts: _Counts) -> bool:
        """Whether there may be people to be told of."""
        return self._people_left or any(
            users > self._counts.get(key, 0) and key[1] in _SENT for key, users in counts.items()
        )

    def _grown(self, counts: _Counts) -> Iterator[Decided]:
        more: dict[tuple[str, str], int] = {}
        for key, users in counts.items():
            if users > (before := self._counts.get(key, 0)):
                more[key[1:]] = more.get(key[1:], 0) + users - before
        return (Decided(verb, reason, users) for (verb, reason), users in more.items())

    def _await(self, connection: Connection) -> None:
        room = MOST_AWAITED - len(self._awaited)
        due = sa.select(events.c.id).where(schema.EVENT_IS_DUE).limit(MOST)
        self._awaited.update(list(connection.execute(due).scalars())[:room])

    def _settled(self, connection: Connection) -> Iterator[Settled]:
        if not self._awaited:
            return
        chosen = events.c.id.in_(database.ids(connection))
        columns = [events.c[name] for name in ("id", "settled_at", "type", "name", "user_id", "outbound", "reason")]
        query = sa.select(*columns).where(chosen, events.c.outbound != "due").order_by(events.c.settled_at, events.c.id)
        for row in connection.execute(query, {"ids": database.dumps(sorted(self._awaited))}):
            self._awaited.discard(row.id)
            yield Settled(*row)

    def _synced(self, connection: Connection, now: datetime) -> Iterator[Synced]:
        verb = sa.case(
            (mirror.c.deleted_at.is_not(None), "delete"), (mirror.c.created_at == mirror.c.synced_at, "create"),
            else_="update",
        )  # fmt: skip
        columns = (mirror.c.user_id, mirror.c.synced_at, mirror.c.customer_id, verb)
        recent = sa.select(*columns).where(mirror.c.synced_at > self._since)
        rows = connection.execute(recent.order_by(mirror.c.synced_at, mirror.c.user_id).limit(MOST)).all()
        yield from (Synced(*row) for row in rows if (row.user_id, row.synced_at) not in self._people)
        self._people_left = len(rows) == MOST
        # Of so many none waits for those that may appear late.
        self._since = rows[-1].synced_at if self._people_left else max(self._since, now - _LATE)
        self._people = {(row.user_id, row.synced_at) for row in rows if row.synced_at > self._since}


_ARRIVED = (
    inbox.c.id,
    inbox.c.received_at,
    inbox.c.source,
    inbox.c.state,
    inbox.c.reason,
    inbox.c.kind,
    sa.case((sa.func.length(inbox.c.body) <= MOST_BODY, inbox.c.body)),
)
_HAPPENED = tuple(
    events.c[name] for name in ("id", "received_at", "source", "type", "name", "user_id", "outbound", "reason")
)
_TRIED = tuple(attempts.c[name] for name in ("id", "at", "user_id", "what", "calls", "status", "reason", "message"))


def _gate(connection: Connection) -> str | None:
    closed = gate.look(connection)
    return None if closed is None else closed.reason


def _counts(connection: Connection, now: datetime) -> _Counts:
    """By hour, verb and reason, of this hour and the one before."""
    recent = decided.c.hour > now - timedelta(hours=2)
    columns = (decided.c.hour, decided.c.verb, decided.c.reason, decided.c["count"])
    return {
        (hour, verb, reason): users
        for hour, verb, reason, users in connection.execute(sa.select(*columns).where(recent))
    }
