"""`/status` and `connector status`: the state of a store, and of the process when one is asked."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy.engine import Connection

import connector
from connector import log
from connector.core import remarks
from connector.settings import Settings
from connector.store import (
    approvals,
    backlog,
    decided,
    event_counts,
    events,
    gate,
    held,
    inbox,
    mirror,
    revisions,
    runs,
    throttle,
    users,
)
from connector.store.attempts import Attempted
from connector.store.revisions import Revision

_RUNS = 5
_DAY = timedelta(hours=24)


def collect(connection: Connection, settings: Settings, now: datetime) -> dict[str, Any]:
    """All that the store can tell. Times are datetimes."""
    waiting = backlog.counts(connection, now)
    arrived = inbox.counts(connection)
    return {
        "version": connector.__version__,
        "settings": _settings(connection, settings),
        "inbox": {**arrived, "last_received_at": inbox.last_received_at(connection)},
        "backlog": {
            "due": waiting.due,
            "waiting": waiting.waiting,
            "parked": waiting.parked,
            "oldest_at": waiting.oldest_at,
        },
        "parked": backlog.parked_reasons(connection),
        "parked_newest": _told(backlog.parked_newest(connection), settings),
        "gate": _gate(connection),
        "rates": _rates(connection, settings, now),
        "held": [
            {"hash": hold.hash, "what": hold.what, "count": hold.count, "reason": hold.reason, "since": hold.since}
            for hold in (*held.current(connection), approvals.held_edit(connection))
            if hold is not None
        ],
        "events": _events(connection, settings, now),
        "decisions": decided.since(connection, now - _DAY),
        "runs": runs.last(connection, _RUNS),
        "stored": {
            "users": users.count(connection),
            "events": events.count(connection),
            "people": mirror.count(connection),
        },
    }


def _settings(connection: Connection, settings: Settings) -> dict[str, Any]:
    """As the store knows them; a process that runs knows more of its own."""
    in_force, newest = revisions.newest_applied(connection), revisions.newest(connection)
    state, reason = "running", None
    if (edit := approvals.waiting(connection)) is not None:
        state, reason = "edit_held", f"{edit.reason}: connector approve {edit.hash}"
    elif newest is not None and newest.state == "refused":
        state, reason = "edit_refused", newest.reason
    elif (older := _older(connection, settings, in_force)) is not None and in_force is not None:
        state, reason = "superseded", _superseded(older.number, in_force.number)
    elif settings.sync.paused:
        state, reason = "paused", "sync.paused is true: nothing is sent"
    return {
        "revision": None if in_force is None else in_force.number,
        "hash": settings.sent_hash() if in_force is None else in_force.hash,
        "state": state,
        "reason": reason,
        "remarks": [each._asdict() for each in remarks.remarks(settings)],
    }


def _older(connection: Connection, settings: Settings, in_force: Revision | None) -> Revision | None:
    """The revision that the settings are, where others on this store have taken up a newer one: a process with these
    sends nothing. Of settings that nobody has read yet nothing is known; and on SQLite nobody else sends."""
    if in_force is None or in_force.hash == settings.sent_hash() or connection.dialect.name == "sqlite":
        return None
    known = revisions.by_hash(connection, settings.sent_hash())
    return known if known is not None and known.state == "applied" else None


def _superseded(older: int, newer: int) -> str:
    return (
        f"this file says what revision {older} said, and revision {newer} was taken up from another: a process with "
        f"this file sends nothing (`connector settings diff {older} {newer}`)"
    )


def _events(connection: Connection, settings: Settings, now: datetime) -> dict[str, Any]:
    """What became of events; `held` are due too, and wait for their user's next hours."""
    limit = settings.guard.max_events_per_user
    found = event_counts.HeldEvents(0, 0) if limit is None else event_counts.held(connection, limit, now)
    held_by = {"reason": event_counts.LIMIT, **found._asdict()} if found.users else None
    newest = _told(event_counts.parked_newest(connection), settings)
    return {**event_counts.counts(connection), "parked_newest": newest, "held": held_by}


def _told(newest: Mapping[str, Attempted], settings: Settings) -> dict[str, dict[str, Any]]:
    """Attempts by reason. Customer.io's words may quote a person's data."""
    hidden = {} if settings.log.personal_data else {"message": log.HIDDEN}
    return {reason: each._asdict() | (hidden if each.message else {}) for reason, each in newest.items()}


def _rates(connection: Connection, settings: Settings, now: datetime) -> dict[str, Any]:
    """Calls a second that Customer.io may get of all processes of the store, and until when it gets none; how many it
    got of one, only that process knows."""
    most = settings.customerio.rate_per_second
    pace = throttle.look(connection, most, lambda: now)
    return {
        "calls_per_second": None,
        "rate_per_second": most,
        "allowed": round(pace.rate, 2),
        "paused_until": pace.paused_until,
    }


def _gate(connection: Connection) -> dict[str, Any]:
    closed = gate.look(connection)
    if closed is None:
        return {"state": "open", "reason": None, "since": None}
    return {"state": "closed", "reason": closed.reason, "since": closed.since}
