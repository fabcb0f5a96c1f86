"""Full passes: asked for, running (one at a time in a store), and how the last ones went."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from connector.store import database
from connector.store.schema import runs

PASS = "pass"  # noqa: S105 - the kind of a run
LEASE = timedelta(seconds=45)
KEPT = 1000
_ANSWERING = ("done", "held")
# As the index has it: SQLite and PostgreSQL compare the words.
_ACTIVE = runs.c.state.in_([sa.literal_column("'running'"), sa.literal_column("'asked'")])


def ask(connection: Connection, now: datetime) -> None:
    """Asks whoever runs on this store for a full pass; asking twice is asking once. A pass under way doesn't answer it:
    it may have looked before the caller's transaction ends."""
    statement = database.insert(connection, runs).on_conflict_do_update(
        index_elements=[runs.c.kind, runs.c.state], index_where=_ACTIVE, set_={"started_at": now, "lease": None}
    )
    connection.execute(statement, {"kind": PASS, "state": "asked", "started_at": now, "counts": {}})


def asked(connection: Connection, now: datetime) -> bool:
    """True when a pass was asked for, and none is under way that may answer it."""
    its_pass = runs.alias()
    under_way = sa.exists().where(
        its_pass.c.lease == runs.c.lease, its_pass.c.state == "running", its_pass.c.lease_until >= now
    )
    request = sa.exists().where(runs.c.kind == PASS, runs.c.state == "asked", ~under_way)
    return connection.execute(sa.select(request)).scalar_one()


def begin(connection: Connection, lease: str, now: datetime, *, answers: bool = True) -> bool:
    """Begins a pass, which answers what was asked so far when it ends well, unless it is for some users only. False
    when another one runs."""
    connection.execute(
        sa.update(runs)
        .where(runs.c.kind == PASS, runs.c.state == "running", runs.c.lease_until < now)
        .values(state="lost", finished_at=now)
    )
    started = database.insert(connection, runs).on_conflict_do_nothing().returning(runs.c.id)
    row = {
        "kind": PASS,
        "state": "running",
        "started_at": now,
        "lease": lease,
        "lease_until": now + LEASE,
        "counts": {},
    }
    begun = connection.execute(started, row).scalar_one_or_none()
    if begun is None:
        return False
    if answers:
        connection.execute(sa.update(runs).where(runs.c.kind == PASS, runs.c.state == "asked").values(lease=lease))
    connection.execute(sa.delete(runs).where(runs.c.id <= begun - KEPT))
    return True


def renew(connection: Connection, lease: str, now: datetime) -> bool:
    """Keeps our pass ours for another while. False when it was given up as lost meanwhile: stop then."""
    ours = sa.update(runs).where(runs.c.lease == lease, runs.c.state == "running").values(lease_until=now + LEASE)
    return connection.execute(ours).rowcount > 0


def finish(connection: Connection, lease: str, state: str, counts: dict[str, Any], now: datetime) -> None:
    """Ends our pass: `done`, `held`, `stopped` or `failed`, with what it found. The first two answer the request that
    was there when it began; one that came later stays."""
    connection.execute(
        sa.update(runs)
        .where(runs.c.lease == lease, runs.c.state == "running")
        .values(state=state, counts=counts, finished_at=now)
    )
    if state in _ANSWERING:
        connection.execute(sa.delete(runs).where(runs.c.lease == lease, runs.c.state == "asked"))


def last(connection: Connection, limit: int) -> list[dict[str, Any]]:
    """The newest passes, newest first."""
    rows = connection.execute(
        sa.select(runs.c.kind, runs.c.state, runs.c.started_at, runs.c.finished_at, runs.c.counts)
        .where(runs.c.state != "asked")
        .order_by(runs.c.id.desc())
        .limit(limit)
    )
    return [dict(row._mapping) for row in rows]
