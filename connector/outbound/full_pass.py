"""The full pass: one SQL query finds who differs from the mirror; what it finds becomes pending.

Changed people become pending as they are found. Creates of users who were in the store before, and deletes of people
who left, are counted by the guard: when they are more than the settings allow, none of the kind goes and all are held
until someone approves the hash. So is everything that can't be undone while something is odd (`core/guard`).

The query streams in a read transaction and everything is written in small transactions beside it, so a pass over
a million users never keeps a webhook waiting. A user who became pending in vain costs one look.
"""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import islice
from typing import Any

from sqlalchemy.engine import Connection

from connector import errors, log
from connector.core import decide, guard
from connector.outbound import limits
from connector.outbound.preparation import with_rivals
from connector.settings import Settings
from connector.store import database, facts, held, mirror, pending, runs, users
from connector.store.database import Database

CHUNK = 1000

_log = log.get("pass")


@dataclass
class Found:
    """What a pass found: users whose people changed, creates and deletes let go or held, people within their grace,
    and who can't be created, by reason."""

    changed: int = 0
    released: int = 0
    deletes: int = 0
    leaving: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    holds: list[held.Hold] = field(default_factory=list)

    def counts(self) -> dict[str, Any]:
        """As `runs` keeps it."""
        return {
            "changed": self.changed,
            "released": self.released,
            "deletes": self.deletes,
            "leaving": self.leaving,
            "held": sum(hold.count for hold in self.holds),
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
        state = "held" if found.holds else "done"
    finally:
        db.write(runs.finish, lease, state, found.counts(), clock())
    for hold in found.holds:
        _log.warning(
            "held",
            what=hold.what,
            reason=hold.reason,
            users=hold.count,
            allowed=hold.allowed,
            next=f"connector approve {hold.hash}",
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
    outside: list[tuple[str, datetime | None]] = []
    with db.reader.begin() as connection:
        # Nobody leaves for being looked at late: all of one pass do so at one moment.
        now = turn.now()
        for some in _in_chunks(mirror.differing(connection, settings, now)):
            missing += [each.user_id for each in some if not each.is_person]
            outside += [(each.user_id, each.left_at) for each in some if each.outside]
            changed = [each.user_id for each in some if each.is_person and each.changed]
            left = [each.user_id for each in some if each.outside and each.left_at is None]
            back = [each.user_id for each in some if each.is_person and not each.outside and each.left_at is not None]
            turn.now()
            db.write(_note, changed, left, back, now)
            found.changed += len(changed)
    seen, suspicion = limits.look(db, settings)
    _let_in(db, settings, _creates(db, settings, missing, turn, found), suspicion, turn, found)
    _let_out(db, settings, outside, suspicion, turn, found)
    _rename(db, settings, suspicion, turn, found)
    if suspicion is None or not any(hold.reason in guard.SUSPICIONS for hold in found.holds):
        db.write(facts.see, seen)


def _note(
    connection: Connection, changed: Sequence[str], left: Sequence[str], back: Sequence[str], now: datetime
) -> None:
    """Who was merged away meanwhile is left out here and below: they can't be found under the lock."""
    database.lock_identities(connection)
    pending.mark(connection, users.present(connection, changed), now, pending.FULL_PASS)
    mirror.leave(connection, left, now)
    mirror.come_back(connection, back)


def _release(connection: Connection, user_ids: Sequence[str], how: str, now: datetime) -> None:
    database.lock_identities(connection)
    pending.release(connection, users.present(connection, user_ids), how, now)


def _enter(connection: Connection, what: str, user_ids: Sequence[str], hold_id: int) -> None:
    database.lock_identities(connection)
    held.enter(connection, what, users.present(connection, user_ids), hold_id)


def _let_in(
    db: Database, settings: Settings, creates: list[str], suspicion: str | None, turn: _Pass, found: Found
) -> None:
    now = turn.now()
    verdict = limits.creates(db, settings, len(creates), suspicion, now)
    if verdict.held:
        found.holds.append(_hold(db, settings, held.CREATE, creates, verdict, now))
        return
    for chunk in _chunks(creates):
        db.write(_release, chunk, "guard", turn.now())
    found.released = len(creates)
    db.write(held.clear, held.CREATE)


def _let_out(
    db: Database,
    settings: Settings,
    outside: Sequence[tuple[str, datetime | None]],
    suspicion: str | None,
    turn: _Pass,
    found: Found,
) -> None:
    """Deletes: those who are still within their grace count too, so that a mistake is seen while it can be mended."""
    now = turn.now()
    on_their_way = db.read(pending.leaving)
    waiting = [(user_id, left_at) for user_id, left_at in outside if user_id not in on_their_way]
    verdict = limits.deletes(db, settings, len(waiting), len(on_their_way), suspicion, now)
    if verdict.held:
        found.holds.append(_hold(db, settings, held.DELETE, [user_id for user_id, _ in waiting], verdict, now))
        return
    grace = settings.people.delete.grace
    due = [user_id for user_id, left_at in waiting if (left_at or now) + grace <= now]
    for chunk in _chunks(due):
        db.write(_release, chunk, "delete", turn.now())
    found.deletes = len(due)
    found.leaving = len(waiting) - len(due)
    db.write(held.clear, held.DELETE)


def _rename(db: Database, settings: Settings, suspicion: str | None, turn: _Pass, found: Found) -> None:
    """Another `people.customer_id` gives everybody at Customer.io another id."""
    people = db.read(mirror.count)
    if suspicion != "other_customer_id" or not people:
        db.write(held.clear, held.RENAME)
        return
    current = next(iter(db.read(held.current, held.RENAME)), None)
    now = turn.now()
    if current is None or not current.valid(settings.sent_hash(), now):
        current = db.write(
            held.open_hold,
            hold_id=db.read(held.next_id),
            what=held.RENAME,
            reason=suspicion,
            count=people,
            allowed=0,
            settings_hash=settings.sent_hash(),
            now=now,
        )
    db.write(held.recount, current.id, people)
    found.holds.append(replace(current, count=people))


def _creates(db: Database, settings: Settings, missing: list[str], turn: _Pass, found: Found) -> list[str]:
    """Those of the users whom the worker would really create; the guard must not count the others."""
    creates: list[str] = []
    for chunk in _chunks(missing):
        now = turn.now()
        for subject in with_rivals(db, db.read(users.subjects, chunk, settings, now), settings, now):
            decision = decide.decide(subject, settings, now)
            if decision.verb == "create":
                creates.append(subject.user.id)
            else:
                found.skipped[decision.reason] += 1
    return creates


def _hold(
    db: Database, settings: Settings, what: str, user_ids: Sequence[str], verdict: guard.Verdict, now: datetime
) -> held.Hold:
    """Holds all of them. The present hold stays when nobody came and it can still be approved."""
    before = db.read(held.listed, what)
    wanted = set(user_ids)
    hold_id = db.read(held.next_id)
    for chunk in _chunks(sorted(before - wanted)):
        db.write(held.leave, what, chunk)
    came = sorted(wanted - before)
    for chunk in _chunks(came):
        db.write(_enter, what, chunk, hold_id)
    current = next(iter(db.read(held.current, what)), None)
    is_same = current is not None and current.reason == verdict.reason
    if current is not None and is_same and not came and current.valid(settings.sent_hash(), now):
        db.write(held.recount, current.id, len(wanted))
        return db.read(held.current, what)[0]
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


def _chunks(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(ids), CHUNK):
        yield ids[start : start + CHUNK]


def _in_chunks(found: Iterator[mirror.Differing]) -> Iterator[list[mirror.Differing]]:
    while some := list(islice(found, CHUNK)):
        yield some
