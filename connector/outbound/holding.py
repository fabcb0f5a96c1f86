"""Writes down what a pass holds: the list of everybody who is held, and the hold by which a person lets them go."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime

from sqlalchemy.engine import Connection

from connector.core import guard
from connector.outbound.many_ids import CHUNK, ManyIds
from connector.settings import Settings
from connector.store import database, held, users
from connector.store.database import Database


def hold(
    db: Database,
    settings: Settings,
    what: str,
    wanted: ManyIds,
    verdict: guard.Verdict,
    turn: Callable[[], datetime],
) -> held.Hold:
    """Holds all of them. The present hold stays when nobody came and it can still be approved. `turn` is the time, or
    raises when it isn't the pass's turn any more."""
    hold_id = db.read(held.next_id)
    _take_off(db, what, wanted, turn)
    for chunk in wanted.chunks():
        turn()
        listed = db.read(held.among, what, chunk)
        new = sorted(user_id for user_id in chunk if user_id not in listed)
        if new:
            db.write(_enter, what, new, hold_id)
    now = turn()
    current = next(iter(db.read(held.current, what)), None)
    is_same = current is not None and current.reason == verdict.reason
    # Whoever a pass entered that was stopped before it opened their hold has come too.
    is_good = current is not None and current.valid(settings.sent_hash(), now) and not db.read(held.came_since, current)
    if current is not None and is_same and is_good:
        db.write(held.recount, current.id, len(wanted), verdict.allowed or 0)
        return replace(current, count=len(wanted), allowed=verdict.allowed or 0)
    return db.write(
        held.open_hold,
        hold_id=hold_id,
        what=what,
        reason=str(verdict.reason),
        count=len(wanted),
        allowed=verdict.allowed or 0,
        settings_hash=settings.sent_hash(),
        now=now,
    )


def _take_off(db: Database, what: str, wanted: ManyIds, turn: Callable[[], datetime]) -> None:
    """Whoever is held and would not go any more."""
    is_wanted = wanted.lookup()
    after = ""
    while listed := db.read(held.listed, what, after, CHUNK):
        turn()
        if gone := [user_id for user_id in listed if not is_wanted(user_id)]:
            db.write(held.leave, what, gone)
        after = listed[-1]


def _enter(connection: Connection, what: str, user_ids: Sequence[str], hold_id: int) -> None:
    """But for who was merged away meanwhile."""
    database.lock_identities(connection)
    held.enter(connection, what, users.present(connection, user_ids), hold_id)
