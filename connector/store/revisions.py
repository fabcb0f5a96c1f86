"""The revisions of the settings: what the file said each time that it said something else, and what became of it.

    applied    in force from then on, until the next one that is applied
    held       would do more than the guard allows: the one before it stays in force
    refused    could not be read; the reason says why, and its text is not kept: anything may stand in it

Numbers count from 1 without a gap. Secrets are only references in a text; the password in a store's URL is masked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from connector.settings import secret_places
from connector.store.schema import settings_revisions as revisions

State = Literal["applied", "held", "refused"]


@dataclass(frozen=True, slots=True)
class Revision:
    """`hash` is `Settings.sent_hash`, and `text` what the file said; a refused one has neither. `changed` are the
    words of `difference`, `counts` what a plan said of it."""

    number: int
    at: datetime
    state: State
    hash: str | None
    changed: tuple[str, ...] = ()
    counts: Mapping[str, Any] = field(default_factory=dict)
    reason: str | None = None
    text: str | None = None


def add(
    connection: Connection,
    state: State,
    hash_: str | None,
    text: str | None,
    now: datetime,
    *,
    changed: Sequence[str] = (),
    counts: Mapping[str, Any] | None = None,
    reason: str | None = None,
) -> Revision:
    """The newest revision from now on. What the newest one says already is not said again: of processes that see the
    same edit, the first one adds it. Nor is an edit held that was approved while it was judged once more: it is in
    force. Raises ValueError for a text in which a secret may stand: it can't have been read as settings."""
    lock(connection)
    kept = None
    if state != "refused":
        kept = None if text is None else secret_places.shareable(text)
        if kept is None or hash_ is None:
            raise ValueError("settings in whose text a secret may stand are no revision")
    before = newest(connection)
    if before is not None and (before.state, before.hash, before.text, before.reason) == (state, hash_, kept, reason):
        return before
    in_force = newest_applied(connection)
    if state == "held" and in_force is not None and in_force.hash == hash_:
        return in_force
    row = Revision(
        before.number + 1 if before is not None else 1,
        now,
        state,
        hash_,
        tuple(changed),
        dict(counts or {}),
        reason,
        kept,
    )
    connection.execute(
        sa.insert(revisions).values({name: getattr(row, name) for name in Revision.__slots__} | {"changed": [*changed]})
    )
    return row


def lock(connection: Connection) -> None:
    """Whoever adds or approves one waits for the other; who reads doesn't."""
    if connection.dialect.name == "postgresql":
        connection.execute(sa.text("LOCK TABLE settings_revisions IN SHARE ROW EXCLUSIVE MODE"))


def settle(connection: Connection, number: int, state: State, reason: str | None = None) -> bool:
    """What became of a revision that is held; False when it isn't any more."""
    held = sa.update(revisions).where(revisions.c.number == number, revisions.c.state == "held")
    return connection.execute(held.values(state=state, reason=reason)).rowcount > 0


def newest(connection: Connection) -> Revision | None:
    """Whatever became of it."""
    return _first(connection, sa.true())


def newest_applied(connection: Connection, before: int | None = None) -> Revision | None:
    """The one that is in force; with `before`, the one that was, before that number."""
    applied = revisions.c.state == "applied"
    return _first(connection, applied if before is None else applied & (revisions.c.number < before))


def is_told(connection: Connection, hash_: str, text: str) -> bool:
    """Whether one that was applied said so, since the last that had another hash."""
    applied = revisions.c.state == "applied"
    other = _first(connection, applied & (revisions.c.hash != hash_))
    since = revisions.c.number > (other.number if other is not None else 0)
    return _first(connection, applied & since & (revisions.c.hash == hash_) & (revisions.c.text == text)) is not None


def of(connection: Connection, number: int) -> Revision | None:
    """The one of this number."""
    return _first(connection, revisions.c.number == number)


def by_hash(connection: Connection, hash_: str) -> Revision | None:
    """The newest one with this hash."""
    return _first(connection, revisions.c.hash == hash_)


def history(connection: Connection, limit: int | None = None) -> list[Revision]:
    """The newest first."""
    return _found(connection, sa.true(), limit)


def _first(connection: Connection, where: sa.ColumnElement[bool]) -> Revision | None:
    return next(iter(_found(connection, where, 1)), None)


def _found(connection: Connection, where: sa.ColumnElement[bool], limit: int | None) -> list[Revision]:
    columns = [revisions.c[name] for name in Revision.__slots__]
    rows = connection.execute(sa.select(*columns).where(where).order_by(revisions.c.number.desc()).limit(limit))
    return [Revision(**{**row._mapping, "changed": tuple(row.changed)}) for row in rows]
