"""The gate: closed while Customer.io as a whole takes no calls of ours. One row, for all workers of a store.

    open --close--> closed --take_probe--> one process makes a call --open_again--> open
                      ^                                |
                      +---- give_back, keep_closed ----+

While it is closed nobody claims but for the probe, of which there is one at a time: whoever takes it moves `probe_at`
past a lease, so that a process that dies with it holds nobody up for longer. What a probe found counts only while it is
still that process's: `ask` and the lease's end make it somebody else's. A store without the row has an open gate.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from connector.store import database
from connector.store.schema import gate

LEASE = timedelta(seconds=60)
FIRST_WAIT = timedelta(seconds=5)
LAST_WAIT = timedelta(minutes=5)

_ONLY = 1
_OPEN = "open"
_CLOSED = "closed"
_COLUMNS = (gate.c.reason, gate.c.message, gate.c.since, gate.c.probe_at, gate.c.probes)


@dataclass(frozen=True, slots=True)
class Closed:
    """Why, and since when; when the next probe is due; how many found it closed since it closed, or was asked for."""

    reason: str
    message: str
    since: datetime
    probe_at: datetime
    probes: int


def look(connection: Connection) -> Closed | None:
    """None while it is open."""
    row = connection.execute(sa.select(*_COLUMNS).where(gate.c.state == _CLOSED)).one_or_none()
    return None if row is None else Closed(*row)


def close(connection: Connection, reason: str, message: str, now: datetime, jitter: float) -> Closed:
    """Closes it, and the first probe is due soon. One that is closed already gets the newer reason and keeps the rest.
    The message is shown and logged: nobody's data may be in it."""
    statement = database.insert(connection, gate)
    excluded = statement.excluded
    # Opening it left no token and no probes behind.
    changed = {"state": _CLOSED, "reason": excluded.reason, "message": excluded.message} | {
        name: sa.case((gate.c.state == _CLOSED, gate.c[name]), else_=excluded[name]) for name in ("since", "probe_at")
    }
    row = {
        "id": _ONLY,
        "state": _CLOSED,
        "reason": reason,
        "message": message,
        "since": now,
        "probe_at": now + wait(0) * jitter,
        "probe_token": None,
        "probes": 0,
    }
    upsert = statement.on_conflict_do_update(index_elements=[gate.c.id], set_=changed).returning(*_COLUMNS)
    return Closed(*connection.execute(upsert, row).one())


def take_probe(connection: Connection, token: str, now: datetime) -> bool:
    """True when the probe was due and is ours now: make one call, and tell what it found under the same token."""
    due = (gate.c.state == _CLOSED, gate.c.probe_at <= now)
    return _change(connection, due, probe_at=now + LEASE, probe_token=token)


def open_again(connection: Connection, token: str) -> bool:
    """Our probe's call was taken. False when the probe is no longer ours: somebody else's finds out."""
    nothing = dict.fromkeys(("reason", "message", "since", "probe_at", "probe_token"))
    return _change(connection, _ours(token), state=_OPEN, probes=0, **nothing)


def keep_closed(
    connection: Connection, token: str, reason: str, message: str, now: datetime, jitter: float
) -> Closed | None:
    """Our probe found it as bad as before, or bad for another reason; the next one waits twice as long. `jitter` is
    about 1. None when the probe is no longer ours."""
    probes = connection.execute(sa.select(gate.c.probes).where(*_ours(token))).scalar_one_or_none()
    if probes is None:
        return None
    kept = {"reason": reason, "message": message, "probes": probes + 1, "probe_token": None}
    ours = _change(connection, _ours(token), **kept, probe_at=now + wait(probes + 1) * jitter)
    return look(connection) if ours else None


def give_back(connection: Connection, token: str, now: datetime) -> bool:
    """Our probe made no call, for example because nobody is due; it is due as it was."""
    return _change(connection, _ours(token), probe_at=now, probe_token=None)


def ask(connection: Connection, now: datetime) -> bool:
    """After a start or an edit of the settings: a probe is due now, and the waits begin anew. One under way goes by
    what was before, or died with the last process; it counts no more. False while the gate is open."""
    return _change(connection, (gate.c.state == _CLOSED,), probe_at=now, probe_token=None, probes=0)


def wait(probes: int) -> timedelta:
    """From the gate's closing, or the last of so many probes, to the next: doubles from 5 seconds to 5 minutes."""
    return min(FIRST_WAIT * (1 << min(probes, 16)), LAST_WAIT)


def _ours(token: str) -> tuple[sa.ColumnElement[bool], ...]:
    return gate.c.state == _CLOSED, gate.c.probe_token == token


def _change(connection: Connection, where: tuple[sa.ColumnElement[bool], ...], **values: Any) -> bool:
    return connection.execute(sa.update(gate).where(*where).values(**values)).rowcount > 0
