"""`connector approve [HASH]`: lists what the guard holds; with a hash lets it go."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy.engine import Connection

from connector import errors
from connector.core import guard
from connector.records import Seen
from connector.settings import Settings
from connector.store import database, facts, held, mirror, pending, users
from connector.store.database import Database

CHUNK = 5000
_APPROVED = {held.CREATE: "approved", held.DELETE: "delete_approved", held.RENAME: ""}
SHORTEST = 4  # characters of a hash: less is a slip, or a variable of a script that is empty


def listed(db: Database) -> list[dict[str, Any]]:
    """What is held, as `--json` prints it."""
    return [
        {"hash": hold.hash, "what": hold.what, "count": hold.count, "reason": hold.reason, "since": hold.since}
        for hold in db.read(held.current)
    ]


def approve(db: Database, settings: Settings, prefix: str, first: int | None, now: datetime) -> int:
    """Lets those go who stood on the list when the hash was made and are still held; returns how many.

    Raises Misconfigured for a hash that names nothing, names several things, is older than a day, or was made
    under other settings; and for a change of everybody's id, which goes as a whole, with `first`.
    """
    hold = _hold(db, prefix)
    if not hold.valid(settings.sent_hash(), now):
        why = "is over 24 hours old" if hold.settings_hash == settings.sent_hash() else "was made under other settings"
        raise errors.Misconfigured(f"{hold.hash} {why}: run `connector sync` to see what would happen now")
    if hold.what == held.RENAME and first is not None:
        raise errors.Misconfigured(f"{hold.hash} is one change of all ids: it goes as a whole, without --first")
    released = 0
    while first is None or released < first:
        size = CHUNK if first is None else min(CHUNK, first - released)
        count = db.write(_release, hold, size, now)
        released += count
        if count < size:
            break
    if hold.reason in guard.SUSPICIONS and db.read(_is_settled, hold):
        # What was odd is so no more: the next pass compares with what is there now.
        db.write(facts.see, Seen(db.read(users.count), settings.people.customer_id))
        db.write(held.clear, held.RENAME)
    if hold.what == held.RENAME:
        _look_again(db)
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


def _release(connection: Connection, hold: held.Hold, limit: int, now: datetime) -> int:
    if hold.what == held.RENAME:
        return 0
    database.lock_identities(connection)  # or a merge takes one of them away between the next two statements
    user_ids = held.approvable(connection, hold, limit)
    pending.release(connection, user_ids, _APPROVED[hold.what], now)
    held.leave(connection, hold.what, user_ids)
    current = {each.what: each for each in held.current(connection)}
    if hold.what in current:
        left = current[hold.what].count - len(user_ids)
        if left > 0:
            held.recount(connection, current[hold.what].id, left)
        else:
            held.clear(connection, hold.what)
    return len(user_ids)


def _look_again(db: Database) -> None:
    """At everybody: they were compared with their new ids, and left as they are."""
    last: str | None = ""
    while last is not None:
        last = db.write(mirror.look_again, last, CHUNK)


def _is_settled(connection: Connection, hold: held.Hold) -> bool:
    """Whether all of it was approved. That everybody gets another id is a question of its own."""
    if hold.what == held.RENAME:
        return True
    return not held.listed(connection, hold.what) and not held.current(connection, held.RENAME)


def describe(holds: Sequence[dict[str, Any]]) -> Iterator[str]:
    """What is held, in words."""
    if not holds:
        yield "nothing is held"
    for hold in holds:
        yield (
            f"{hold['hash']}  {hold['what']} {hold['count']:,} users  ({hold['reason']}, "
            f"since {hold['since']:%Y-%m-%d %H:%M} UTC)"
        )
