"""The full pass: one SQL query finds who differs from the mirror; what it finds becomes pending.

Changed people become pending as they are found. Creates of users who were in the store before are counted by the
guard: when they are more than the settings allow, none goes and all are held until someone approves the hash.

The query streams in a read transaction and everything is written in small transactions beside it, so a pass over
a million users never keeps a webhook waiting. A user who became pending in vain costs one look.
"""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy.engine import Connection

from connector import errors, log
from connector.core import decide, guard
from connector.outbound.preparation import with_rivals
from connector.settings import Settings
from connector.store import database, held, mirror, pending, runs, users
from connector.store.database import Database

CHUNK = 1000

_log = log.get("pass")


@dataclass
class Found:
    """What a pass found: users whose people changed, creates let go or held, and who can't be created, by reason."""

    changed: int = 0
    released: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    hold: held.Hold | None = None

    def counts(self) -> dict[str, Any]:
        """As `runs` keeps it."""
        return {
            "changed": self.changed,
            "released": self.released,
            "held": self.hold.count if self.hold else 0,
            "skipped": dict(self.skipped),
        }


def run(db: Database, settings: Settings, clock: Callable[[], datetime]) -> Found | None:
    """One pass over the store, on this thread. None when another one is running there."""
    lease = secrets.token_hex(8)
    if not db.write(runs.begin, lease, clock()):
        return None
    state = "failed"
    found = Found()
    try:
        _find(db, settings, _Pass(db, lease, clock), found)
        state = "held" if found.hold else "done"
    finally:
        db.write(runs.finish, lease, state, found.counts(), clock())
    if found.hold is not None:
        _log.warning(
            "held",
            reason=found.hold.reason,
            creates=found.hold.count,
            allowed=found.hold.allowed,
            next=f"connector approve {found.hold.hash}",
        )
    return found


@dataclass(frozen=True, slots=True)
class _Pass:
    """Our turn; only who has it may let anybody go."""

    db: Database
    lease: str
    clock: Callable[[], datetime]

    def now(self) -> datetime:
        """The time, after making sure that it is still our turn."""
        now = self.clock()
        if not self.db.write(runs.renew, self.lease, now):
            raise errors.Failed("this pass took so long that another one took over")
        return now


def _find(db: Database, settings: Settings, turn: _Pass, found: Found) -> None:
    missing: list[str] = []
    changed: list[str] = []
    with db.reader.begin() as connection:
        for user_id, is_mirrored in mirror.differing(connection, settings, turn.clock()):
            if not is_mirrored:
                missing.append(user_id)
                continue
            changed.append(user_id)
            if len(changed) == CHUNK:
                db.write(_mark, changed, turn.now())
                found.changed += len(changed)
                changed = []
    db.write(_mark, changed, turn.now())
    found.changed += len(changed)

    creates = _creates(db, settings, missing, turn, found)
    now = turn.now()
    released = db.read(_let_go_since, now - timedelta(hours=24))
    verdict = guard.creates(waiting=len(creates), released=released, limit=settings.guard.max_creates)
    if verdict.held:
        found.hold = _hold(db, settings, creates, str(verdict.reason), now)
        return
    for chunk in _chunks(creates):
        db.write(_release, chunk, turn.now())
    found.released = len(creates)
    db.write(held.clear, held.CREATE)


# A pass looks for minutes, and meanwhile a merge may take away whom it found.


def _mark(connection: Connection, user_ids: Sequence[str], now: datetime) -> None:
    database.lock_identities(connection)
    pending.mark(connection, users.present(connection, user_ids), now, pending.FULL_PASS)


def _release(connection: Connection, user_ids: Sequence[str], now: datetime) -> None:
    database.lock_identities(connection)
    pending.release(connection, users.present(connection, user_ids), "guard", now)


def _enter(connection: Connection, user_ids: Sequence[str], hold_id: int) -> None:
    database.lock_identities(connection)
    held.enter(connection, held.CREATE, users.present(connection, user_ids), hold_id)


def _creates(db: Database, settings: Settings, missing: list[str], turn: _Pass, found: Found) -> list[str]:
    """Those of the users whom the worker would really create; the guard must not count the others."""
    creates: list[str] = []
    for chunk in _chunks(missing):
        now = turn.now()
        for subject in with_rivals(db, db.read(users.subjects, chunk, settings, now), settings):
            decision = decide.decide(subject, settings, now)
            if decision.verb == "create":
                creates.append(subject.user.id)
            else:
                found.skipped[decision.reason] += 1
    return creates


def _let_go_since(connection: Connection, since: datetime) -> int:
    """Creates that the guard itself let go: those that happened since then, and those that are on their way."""
    # First those on their way: one who arrives between the two questions is counted twice, not never.
    return pending.guarded(connection) + mirror.guarded_since(connection, since)


def _hold(db: Database, settings: Settings, creates: list[str], reason: str, now: datetime) -> held.Hold:
    """Holds all of them. The present hold stays when nobody came and it can still be approved."""
    before = db.read(held.listed, held.CREATE)
    wanted = set(creates)
    hold_id = db.read(held.next_id)
    for chunk in _chunks(sorted(before - wanted)):
        db.write(held.leave, held.CREATE, chunk)
    came = sorted(wanted - before)
    for chunk in _chunks(came):
        db.write(_enter, chunk, hold_id)
    current = next(iter(db.read(held.current, held.CREATE)), None)
    if current is not None and not came and current.valid(settings.sent_hash(), now):
        db.write(held.recount, current.id, len(wanted))
        return db.read(held.current, held.CREATE)[0]
    return db.write(
        held.open_hold,
        hold_id=hold_id,
        what=held.CREATE,
        reason=reason,
        count=len(wanted),
        allowed=settings.guard.max_creates or 0,
        settings_hash=settings.sent_hash(),
        now=now,
    )


def _chunks(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(ids), CHUNK):
        yield ids[start : start + CHUNK]
