"""`/status` and `connector status`: the state of a store, and of the process when one is asked."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy.engine import Connection

import connector
from connector.settings import Settings
from connector.store import events, held, inbox, mirror, pending, runs, users

_RUNS = 5


def collect(connection: Connection, settings: Settings, now: datetime) -> dict[str, Any]:
    """All that the store can tell. Times are datetimes. Nothing closes the gate in this version."""
    backlog = pending.counts(connection, now)
    arrived = inbox.counts(connection)
    return {
        "version": connector.__version__,
        "settings": {"revision": None, "hash": settings.sent_hash(), "state": "running", "reason": None},
        "inbox": {**arrived, "last_received_at": inbox.last_received_at(connection)},
        "backlog": {
            "due": backlog.due,
            "waiting": backlog.waiting,
            "parked": 0,
            "oldest_at": backlog.oldest_at,
        },
        "gate": {"state": "open", "reason": None, "since": None},
        "held": [
            {"hash": hold.hash, "what": hold.what, "count": hold.count, "reason": hold.reason, "since": hold.since}
            for hold in held.current(connection)
        ],
        "runs": runs.last(connection, _RUNS),
        "stored": {
            "users": users.count(connection),
            "events": events.count(connection),
            "people": mirror.count(connection),
        },
    }
