"""Lets go what the guard holds: when a person approves its hash, or has approved the settings that lead to it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from datetime import datetime

from sqlalchemy.engine import Connection

from connector import errors, log
from connector.core import guard
from connector.outbound import full_pass, limits
from connector.records import Seen
from connector.settings import Settings
from connector.store import approvals, database, facts, held, pending, runs, users
from connector.store.database import Database

CHUNK = 5000
SHORTEST = 4  # characters of a hash: less is a slip, or a variable of a script that is empty
_APPROVED = {held.CREATE: "approved", held.DELETE: "delete_approved", held.RENAME: ""}

_log = log.get("pass")


def approve(
    db: Database,
    settings: Settings,
    prefix: str,
    first: int | None,
    now: datetime,
    going: Callable[[], bool] = lambda: True,
) -> int:
    """Lets those go who stood on the list when the hash was made and are still held; returns how many. Raises CutShort
    soon after `going` says no: the others stay held.

    Raises Misconfigured for a hash that names nothing, names several things, is older than a day, or was made
    under other settings; and for a change of everybody's id, which goes as a whole, with `first`.
    """
    hold = _hold(db, prefix)
    if not hold.valid(settings.sent_hash(), now):
        why = "is over 24 hours old" if hold.settings_hash == settings.sent_hash() else "was made under other settings"
        raise errors.Misconfigured(f"{hold.hash} {why}: run `connector sync` to see what would happen now")
    if hold.what == held.RENAME and first is not None:
        raise errors.Misconfigured(f"{hold.hash} is one change of all ids: it goes as a whole, without --first")
    return _let_all_go(db, settings, hold, first, now, going)


def _let_all_go(
    db: Database,
    settings: Settings,
    hold: held.Hold,
    first: int | None,
    now: datetime,
    going: Callable[[], bool],
    approved_with: str | None = None,
) -> int:
    """As `approve`. `approved_with` is the hash of the settings with which it was; what goes is taken off that."""
    released = 0
    while first is None or released < first:
        if not going():
            raise full_pass.CutShort
        size = CHUNK if first is None else min(CHUNK, first - released)
        count = db.write(_release, hold, size, now, approved_with)
        released += count
        if count < size:
            break
    if hold.reason in guard.SUSPICIONS and db.read(_is_settled, hold):
        # What was odd is so no more: the next pass compares with what is there now.
        noted, _ = limits.look(db, settings)
        shrank = hold.reason == "store_shrank"
        db.write(_see, replace(noted, users=db.read(users.count)) if shrank else noted, hold.what, approved_with)
        if hold.what == held.RENAME:
            full_pass.look_again(db)
        # Last: where this stops halfway, a pass finds the hold and goes on.
        db.write(held.clear, held.RENAME)
    return hold.count if hold.what == held.RENAME else released


def _hold(db: Database, prefix: str) -> held.Hold:
    if len(prefix) < SHORTEST:
        raise errors.Misconfigured(
            f"give the hash, or at least its first {SHORTEST} characters; `connector approve` lists them"
        )
    found = db.read(held.by_hash, prefix)
    if not found:
        raise errors.Misconfigured(f"nothing is held under {prefix}; `connector approve` lists what is")
    if len(found) > 1:
        raise errors.Misconfigured(f"{prefix} is the beginning of {len(found)} hashes; give more of it")
    return found[0]


def _release(connection: Connection, hold: held.Hold, limit: int, now: datetime, approved_with: str | None) -> int:
    if hold.what == held.RENAME:
        return 0
    database.lock_identities(connection)  # or a merge takes one of them away between the next two statements
    user_ids = held.approvable(connection, hold, limit)
    _let_go(connection, hold.what, user_ids, now)
    if approved_with is not None:
        # Here: whoever is killed after this leaves no approval for others. With the last of them it is over.
        approvals.used(connection, approved_with, hold.what, len(user_ids) if len(user_ids) == limit else None)
    return len(user_ids)


def _see(connection: Connection, noted: Seen, what: str, approved_with: str | None) -> None:
    facts.see(connection, noted)
    if approved_with is not None:
        approvals.used(connection, approved_with, what)


def _release_some(connection: Connection, what: str, user_ids: Sequence[str], settings_hash: str, now: datetime) -> int:
    """Those of the users who are held, and how many that were; what was approved with the settings is so much less for
    the others."""
    database.lock_identities(connection)
    listed = sorted(held.among(connection, what, user_ids))
    _let_go(connection, what, listed, now)
    approvals.used(connection, settings_hash, what, len(listed))
    return len(listed)


def _let_go(connection: Connection, what: str, user_ids: Sequence[str], now: datetime) -> None:
    pending.release(connection, user_ids, _APPROVED[what], now)
    held.take_off(connection, what, user_ids)


def _is_settled(connection: Connection, hold: held.Hold) -> bool:
    """Whether all of it was approved. That everybody gets another id is a question of its own."""
    if hold.what == held.RENAME:
        return True
    return not held.listed(connection, hold.what, "", 1) and not held.current(connection, held.RENAME)


def with_the_settings(
    db: Database,
    settings: Settings,
    found: full_pass.Found,
    now: datetime,
    going: Callable[[], bool] = lambda: True,
    only: Collection[str] | None = None,
) -> None:
    """After a pass: what it holds goes if it was approved with the settings. What came since, beyond that and beyond
    what the guard lets go by itself, is held like anything else. With `only`, it goes for nobody but these users, and
    not what concerns everybody."""
    for hold in list(found.holds):
        if not full_pass.approved(db, settings, hold, now):
            continue
        if only is None:
            released = _let_all_go(db, settings, hold, None, now, going, settings.sent_hash())
            if hold.what == held.RENAME:
                db.write(runs.ask, now)
        elif hold.what == held.RENAME:
            continue
        else:
            released = db.write(_release_some, hold.what, sorted(only), settings.sent_hash(), now)
        found.holds.remove(hold)
        _log.info("let_go", reason="approved_with_the_settings", what=hold.what, hash=hold.hash, users=released)
