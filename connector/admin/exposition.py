"""`/metrics`: what the process counts, and what is asked of the store each time, in Prometheus' text format."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import NamedTuple, get_args

import sqlalchemy as sa
from aiohttp import web
from aiohttp.typedefs import Handler
from prometheus_client.aiohttp import make_aiohttp_handler
from sqlalchemy.engine import Connection

from connector.core import outage
from connector.metrics import Metrics
from connector.store import backlog, gate, held, inbox, mirror
from connector.store.database import Database

_KINDS = (held.CREATE, held.DELETE, held.RENAME)
_REASONS = get_args(outage.Reason)
_NAN = float("nan")


class _Stored(NamedTuple):
    """What the store was asked; the ages in seconds."""

    inbox: dict[str, float]
    reader_lag: float
    people: float
    backlog: dict[str, float]
    oldest_due: float
    held: dict[str, float]
    gate_closed: float
    gate_seconds: float
    gate_reason: dict[str, float]


_UNKNOWN = _Stored(
    dict.fromkeys(("new", "unread"), _NAN),
    _NAN,
    _NAN,
    dict.fromkeys(("due", "waiting", "leased", "parked"), _NAN),
    _NAN,
    dict.fromkeys(_KINDS, _NAN),
    _NAN,
    _NAN,
    dict.fromkeys(_REASONS, _NAN),
)


def metrics_handler(db: Database, metrics: Metrics, clock: Callable[[], datetime]) -> Handler:
    """A handler. What is asked of the store is NaN while the store can't be reached; the rest is still told."""
    printed = make_aiohttp_handler(metrics.registry)

    async def handle(request: web.Request) -> web.StreamResponse:
        try:
            stored = await db.run_read(_ask, clock())
        except sa.exc.SQLAlchemyError:
            stored = _UNKNOWN
        for gauge, numbers in ((metrics.inbox, stored.inbox), (metrics.backlog, stored.backlog)):
            for state, number in numbers.items():
                gauge.labels(state).set(number)
        for what, number in stored.held.items():
            metrics.held.labels(what).set(number)
        metrics.reader_lag.set(stored.reader_lag)
        metrics.people.set(stored.people)
        metrics.oldest_due.set(stored.oldest_due)
        metrics.gate_closed.set(stored.gate_closed)
        metrics.gate_seconds.set(stored.gate_seconds)
        metrics.gate_reason.clear()  # it may have been one that a newer version has
        for reason, is_it in stored.gate_reason.items():
            metrics.gate_reason.labels(reason).set(is_it)
        return await printed(request)

    return handle


def _ask(connection: Connection, now: datetime) -> _Stored:
    found = backlog.counts(connection, now)
    closed = gate.look(connection)
    holds = {hold.what: hold.count for hold in held.current(connection)}
    return _Stored(
        {**inbox.counts(connection)},
        _age(inbox.oldest_new_at(connection), now),
        mirror.count(connection),
        # Who is with a worker is due later only so that a worker that died doesn't keep them.
        {
            "due": found.due,
            "waiting": found.waiting - found.leased,
            "leased": found.leased,
            "parked": found.parked,
        },
        _age(found.oldest_at, now),
        {what: holds.get(what, 0) for what in _KINDS},
        float(closed is not None),
        _age(closed.since if closed is not None else None, now),
        dict.fromkeys(_REASONS, 0.0) | ({closed.reason: 1.0} if closed is not None else {}),
    )


def _age(at: datetime | None, now: datetime) -> float:
    return max((now - at).total_seconds(), 0) if at is not None else 0
