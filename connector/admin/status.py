"""`/status` and `connector status`: the state of a store, and of the process when one is asked."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy.engine import Connection

import connector
from connector.core import remarks
from connector.settings import Settings
from connector.store import backlog, decided, events, gate, held, inbox, mirror, runs, users

_RUNS = 5
_DAY = timedelta(hours=24)


def collect(connection: Connection, settings: Settings, now: datetime) -> dict[str, Any]:
    """All that the store can tell. Times are datetimes."""
    waiting = backlog.counts(connection, now)
    arrived = inbox.counts(connection)
    return {
        "version": connector.__version__,
        "settings": {
            "revision": None,
            "hash": settings.sent_hash(),
            "state": "running",
            "reason": None,
            "remarks": [each._asdict() for each in remarks.remarks(settings)],
        },
        "inbox": {**arrived, "last_received_at": inbox.last_received_at(connection)},
        "backlog": {
            "due": waiting.due,
            "waiting": waiting.waiting,
            "parked": waiting.parked,
            "oldest_at": waiting.oldest_at,
        },
        "parked": backlog.parked_reasons(connection),
        "gate": _gate(connection),
        "held": [
            {"hash": hold.hash, "what": hold.what, "count": hold.count, "reason": hold.reason, "since": hold.since}
            for hold in held.current(connection)
        ],
        "decisions": decided.since(connection, now - _DAY),
        "runs": runs.last(connection, _RUNS),
        "stored": {
            "users": users.count(connection),
            "events": events.count(connection),
            "people": mirror.count(connection),
        },
    }


def _gate(connection: Connection) -> dict[str, Any]:
    closed = gate.look(connection)
    if closed is None:
        return {"state": "open", "reason": None, "since": None}
    return {"state": "closed", "reason": closed.reason, "since": closed.since}
