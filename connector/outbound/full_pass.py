"""The full pass: one SQL query finds who differs from the mirror; what it finds becomes pending.

Changed people become pending as they are found. Creates of users who were in the store before, and deletes of people
who left, are counted by the guard: when they are more than the settings allow, none of the kind goes and all are held
until someone approves the hash. So is everything that can't be undone while something is odd (`core/guard`).

The query streams in a read transaction and everything is written in small transactions beside it, so a pass over
a million users never keeps a webhook waiting. A user who became pending in vain costs one look. Only the ids of those
are kept on whom the guard has a word, and packed.

A pass for `only` some users counts, judges and holds like any other, and lets nobody else go.
"""

from __future__ import annotations

import secrets
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import islice
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from connector import errors, log
from connector.core import hold_words
from connector.outbound import entering, holding, limits, preparation
from connector.outbound.many_ids import ManyIds
from connector.settings import Settings
from connector.store import approvals, backlog, database, facts, held, mirror, pending, runs, standing, users
from connector.store.database import Database

CHUNK = 1000
_STRETCH = 5000
_RENEW_SECONDS = runs.LEASE.total_seconds() / 4

_log = log.get("pass")


@dataclass
class Found:
    """What a pass found: users whose people changed, creates and deletes let go or held, people within their grace,
    and who can't be created, by reason. Of `named` users only, where a pass is for so many: the holds are those that
    one of them is in."""

    changed: int = 0
    released: int = 0
    deletes: int = 0
    leaving: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    holds: list[held.Hold] = field(default_factory=list)
    named: int | None = None

    def counts(self) -> dict[str, Any]:
        """As `runs` keeps it."""
        named = {} if self.named is None else {"named": self.named}
        return {
            **named,
            "changed": self.changed,
            "released": self.released,
            "deletes": self.deletes,
            "leaving": self.leaving,
            "held": sum(hold.count for hold in self.holds),
            "skipped": dict(self.skipped),
        }


class CutShort(Exception):
    """`going` said no: the pass let nobody else go, and the next one finds the rest."""


def run(
    db: Database,
    settings: Settings,
    clock: Callable[[], datetime],
    going: Callable[[], bool] = lambda: True,
    only: frozenset[str] | None = None,
) -> Found | None:
    """One pass over the store, on this thread; for `only` these users, all of whom are looked at then. None when
    another one is running there. Raises CutShort soon after `going` says no."""
    lease = secrets.token_hex(8)
    if not db.write(runs.begin, lease, clock(), answers=only is None):
        return None
    state = "failed"
    found = Found(named=None if only is None else len(only))
    try:
        with _renewed(db, lease, clock):
            turn = _Pass(db, lease, clock, going, only)
            _find(db, settings, turn, found)
            if only is not None:
                _look_at(db, turn, only, found)
        waiting = [hold for hold in found.holds if not approved(db, settings, hold, clock())]
        state = "held" if waiting else "done"
    except CutShort:
        state = "stopped"
        raise
    finally:
        db.write(runs.finish, lease, state, found.counts(), clock())
    for hold in waiting:
        _log.warning(
            "held",
            what=hold.what,
            reason=hold.reason,
            users=hold.count,
            allowed=hold.allowed,
            would=hold_words.would(hold.what, hold.count),
            why=hold_words.why(hold.reason, hold.allowed),
            next=" or ".join(hold_words.commands(hold.what, hold.hash)),
        )
    return found


def approved(db: Database, settings: Settings, hold: held.Hold, now: datetime) -> bool:
    """Whether it was approved with the settings, so that it goes right after the pass: so many, and what the guard lets
    go by itself."""
    count = db.read(approvals.counted, settings.sent_hash(), hold.what, now)
    return count > 0 and hold.count <= count + hold.allowed


def look_again(db: Database) -> None:
    """The next query finds everybody: they were compared with their new ids, and left as they are."""
    last: str | None = ""
    while last is not None:
        last = db.write(mirror.look_again, last, _STRETCH)


@contextmanager
def _renewed(db: Database, lease: str, clock: Callable[[], datetime]) -> Iterator[None]:
    """Keeps our turn ours however long one query takes: else two processes take it from each other for ever."""
    ended = threading.Event()

    def renew() -> None:
        while not ended.wait(_RENEW_SECONDS):
            try:
                if not db.write(runs.renew, lease, clock()):
                    return
            except sa.exc.SQLAlchemyError as error:
                _log.warning("pass_not_renewed", reason="store", error=type(error).__name__)

    thread = threading.Thread(target=renew, name="pass-lease", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@dataclass(frozen=True, slots=True)
class _Pass:
    """Our turn; only who has it may let anybody go: `only` these users, or everybody."""

    db: Database
    lease: str
    clock: Callable[[], datetime]
    going: Callable[[], bool]
    only: frozenset[str] | None

    def theirs(self, user_ids: Iterable[str]) -> list[str]:
        """Those of them whom the pass is for."""
        return [each for each in user_ids if self.only is None or each in self.only]

    def now(self) -> datetime:
        """The time, after making sure that it is still our turn."""
        now = self.clock()
        if not self.db.write(runs.renew, self.lease, now):
            raise errors.Failed("this pass took so long that another one took over")
        if not self.going():  # last: nothing comes between this and what is written next
            raise CutShort
        return now


def _find(db: Database, settings: Settings, turn: _Pass, found: Found) -> None:
    missing = ManyIds()
    outside = _Outside()
    if db.read(held.current, held.RENAME) and preparation.may_rename(db, settings):
        look_again(db)  # it was approved, and whoever approved it came no further
    db.write(_try_anew, settings.mapping_hash(), turn.now(), turn.only)
    while turn.only is None and not settings.people.delete.enabled and db.write(mirror.stay, _STRETCH):
        turn.now()
    with db.reader.begin() as connection:
        # Nobody leaves for being looked at late: all of one pass do so at one moment.
        now = turn.now()
        for some in _in_chunks(standing.differing(connection, settings, now)):
            missing.add(each.user_id for each in some if not each.is_person)
            outside.add(some, settings, now)
            inside = [each for each in some if each.is_person and not each.outside]
            changed = turn.theirs(each.user_id for each in some if each.is_person and each.changed)
            left = turn.theirs(each.user_id for each in some if each.outside and each.left_at is None)
            back = turn.theirs(each.user_id for each in inside if each.left_at is not None)
            turn.now()
            if changed:
                db.write(_note, changed, now)
            if left or back:
                db.write(_move, left, back, now)
            found.changed += len(changed)
    seen, suspicion = limits.look(db, settings)
    limits.forget(db, now)
    _let_in(db, settings, _creates(db, settings, missing, turn, found), suspicion, turn, found)
    _let_out(db, settings, outside, suspicion, turn, found)
    _rename(db, settings, suspicion, turn, found)
    is_new_id = suspicion == "other_customer_id" and not any(hold.reason == suspicion for hold in found.holds)
    if turn.only is None and (suspicion is None or is_new_id):
        db.write(facts.see, seen)


def _look_at(db: Database, turn: _Pass, only: frozenset[str], found: Found) -> None:
    """All of them become due, but for those whose creates are held; other people's holds are not told."""
    theirs: list[held.Hold] = []
    creates: set[str] = set()
    for hold in found.holds:
        if hold.what == held.RENAME:
            listed = {user_id for user_id, life in db.read(mirror.lives, only).items() if life is not None}
        else:
            listed = db.read(held.among, hold.what, sorted(only))
        if listed:
            theirs.append(hold)
        if hold.what == held.CREATE:
            creates = listed
    found.holds = theirs
    db.write(_note, sorted(only - creates), turn.now())


@dataclass
class _Outside:
    """People in no whitelisted segment whose deletes nobody has let go, and those of them whose grace is over."""

    waiting: ManyIds = field(default_factory=ManyIds)
    due: ManyIds = field(default_factory=ManyIds)

    def add(self, some: Sequence[standing.Differing], settings: Settings, now: datetime) -> None:
        grace = settings.people.delete.grace
        waiting = [each for each in some if each.outside and not each.let_go]
        self.waiting.add(each.user_id for each in waiting)
        self.due.add(each.user_id for each in waiting if (each.left_at or now) + grace <= now)


def _try_anew(connection: Connection, mapping_hash: str, now: datetime, only: Collection[str] | None) -> None:
    database.lock_identities(connection)
    backlog.look_again(connection, mapping_hash, now, only)


def _note(connection: Connection, changed: Sequence[str], now: datetime) -> None:
    """Who was merged away meanwhile is left out here and below: they can't be found under the lock."""
    database.lock_identities(connection)
    pending.mark(connection, users.present(connection, changed), now, pending.FULL_PASS)


def _move(connection: Connection, left: Sequence[str], back: Sequence[str], now: datetime) -> None:
    mirror.lock(connection, [*left, *back])
    mirror.leave(connection, left, now)
    mirror.come_back(connection, back)


def _release(connection: Connection, user_ids: Sequence[str], how: str, now: datetime) -> None:
    database.lock_identities(connection)
    pending.release(connection, users.present(connection, user_ids), how, now)


def _let_in(
    db: Database, settings: Settings, creates: ManyIds, suspicion: str | None, turn: _Pass, found: Found
) -> None:
    now = turn.now()
    verdict = limits.creates(db, settings, len(creates), suspicion, now)
    if verdict.held:
        found.holds.append(holding.hold(db, settings, held.CREATE, creates, verdict, turn.now))
        return
    for chunk in creates.chunks():
        found.released += _let_go(db, turn, chunk, "guard")
    _nobody_is_held(db, turn, held.CREATE)


def _let_out(
    db: Database, settings: Settings, outside: _Outside, suspicion: str | None, turn: _Pass, found: Found
) -> None:
    """Deletes: those who are still within their grace count too, so that a mistake is seen while it can be mended."""
    now = turn.now()
    verdict = limits.deletes(db, settings, len(outside.waiting), suspicion, now)
    if verdict.held:
        found.holds.append(holding.hold(db, settings, held.DELETE, outside.waiting, verdict, turn.now))
        return
    for chunk in outside.due.chunks():
        found.deletes += _let_go(db, turn, chunk, "delete")
    found.leaving = sum(len(turn.theirs(chunk)) for chunk in outside.waiting.chunks()) - found.deletes
    _nobody_is_held(db, turn, held.DELETE)


def _let_go(db: Database, turn: _Pass, user_ids: Sequence[str], how: str) -> int:
    if theirs := turn.theirs(user_ids):
        db.write(_release, theirs, how, turn.now())
    return len(theirs)


def _nobody_is_held(db: Database, turn: _Pass, what: str) -> None:
    if turn.only is None:
        db.write(held.clear, what)
    else:
        db.write(held.take_off, what, sorted(turn.only))


def _rename(db: Database, settings: Settings, suspicion: str | None, turn: _Pass, found: Found) -> None:
    """Another `people.customer_id` gives everybody at Customer.io another id."""
    now = turn.now()
    people = db.read(mirror.count)
    if suspicion != "other_customer_id" or not people:
        db.write(held.clear, held.RENAME)
        return
    current = next(iter(db.read(held.current, held.RENAME)), None)
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
    db.write(held.recount, current.id, people, 0)
    found.holds.append(replace(current, count=people))


def _creates(db: Database, settings: Settings, missing: ManyIds, turn: _Pass, found: Found) -> ManyIds:
    """Those of the users whom the worker would really create; the guard must not count the others."""
    creates = ManyIds()
    for chunk in missing.chunks():
        now = turn.now()
        looked_at = entering.look(db, chunk, settings, now)
        creates.add(looked_at.creates)
        if turn.only is None:
            found.skipped += looked_at.kept_out
    return creates


def _in_chunks(found: Iterator[standing.Differing]) -> Iterator[list[standing.Differing]]:
    while some := list(islice(found, CHUNK)):
        yield some
