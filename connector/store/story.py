"""Everything that is stored about one user, and whom an id may mean. Reads only; what can be long comes in pages."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from connector.records import Identifier
from connector.store import held
from connector.store.database import Database
from connector.store.held import Hold
from connector.store.schema import attempts, conflicts, events, identifiers, mirror, pending, users
from connector.store.schema import held as held_users

PAGE = 500

# What an id is tried as, in this order.
KINDS = ("user_id", "external_id", "email", "anonymous_id", "customer_id", "cio_id")


class Match(NamedTuple):
    """Whom an id names as one of `KINDS`; `path` are the users who were merged, one into the next, the last is the
    one who is left."""

    kind: str
    path: tuple[str, ...]

    @property
    def user_id(self) -> str:
        return self.path[-1]


@dataclass(frozen=True, slots=True)
class Taken:
    """An identifier that was given for the user, so often, and is another's (None: nobody's any more)."""

    identifier: Identifier
    owner: str | None
    first_at: datetime
    last_at: datetime
    count: int


@dataclass(frozen=True, slots=True)
class Story:
    """One user's rows as they were at one moment; `hold` is what the guard holds them in, if they can be approved."""

    user: dict[str, Any]
    identifiers: list[Identifier]
    pending: dict[str, Any] | None
    is_held: bool
    hold: Hold | None
    conflicts: list[Taken]


def matches(connection: Connection, given: str) -> list[Match]:
    """Everybody whom it names, in the order of `KINDS`, each user once."""
    named = {"user_id": connection.execute(sa.select(users.c.id).where(users.c.id == given)).scalar()}
    wanted = [(kind, given.lower() if kind == "email" else given) for kind in KINDS[1:]]
    rows = connection.execute(
        sa.select(identifiers.c.kind, identifiers.c.user_id).where(
            sa.tuple_(identifiers.c.kind, identifiers.c.value).in_(wanted)
        )
    )
    named |= {row.kind: row.user_id for row in rows}
    if "customer_id" not in named:
        # An email that was sent as the customer id is no identifier of that kind.
        known_as = mirror.c.customer_id.in_({given, given.lower()})
        named["customer_id"] = connection.execute(sa.select(mirror.c.user_id).where(known_as)).scalar()
    found: dict[str, Match] = {}
    for kind in KINDS:
        user_id = named.get(kind)
        if user_id is not None:
            match = Match(kind, _path(connection, user_id))
            found.setdefault(match.user_id, match)
    return list(found.values())


def _path(connection: Connection, user_id: str) -> tuple[str, ...]:
    path = [user_id]
    merged_into = sa.select(users.c.merged_into)
    while (following := connection.execute(merged_into.where(users.c.id == path[-1])).scalar()) is not None:
        path.append(following)
    return tuple(path)


def of_user(connection: Connection, user_id: str) -> Story:
    """What is stored about a user who exists, but for events and attempts."""
    user = connection.execute(sa.select(users).where(users.c.id == user_id)).one()
    named = connection.execute(
        sa.select(identifiers.c.kind, identifiers.c.value)
        .where(identifiers.c.user_id == user_id)
        .order_by(identifiers.c.kind, identifiers.c.value)
    )
    waiting = connection.execute(sa.select(pending).where(pending.c.user_id == user_id)).first()
    listed = sa.select(held_users.c.what).where(held_users.c.user_id == user_id).limit(1)
    what = connection.execute(listed).scalar_one_or_none()
    return Story(
        user=dict(user._mapping),
        identifiers=[Identifier(*each) for each in named],
        pending=dict(waiting._mapping) if waiting is not None else None,
        is_held=what is not None,
        hold=next(iter(held.current(connection, what)), None) if what is not None else None,
        conflicts=_conflicts(connection, user_id),
    )


def _conflicts(connection: Connection, user_id: str) -> list[Taken]:
    same = (identifiers.c.kind == conflicts.c.kind) & (identifiers.c.value == conflicts.c.value)
    rows = connection.execute(
        sa.select(conflicts, identifiers.c.user_id.label("owner"))
        .select_from(conflicts.outerjoin(identifiers, same))
        .where(conflicts.c.user_id == user_id)
        .order_by(conflicts.c.first_at, conflicts.c.kind, conflicts.c.value)
    )
    return [
        Taken(Identifier(row.kind, row.value), row.owner, row.first_at, row.last_at, row._mapping["count"])
        for row in rows
        if row.owner != user_id
    ]


def newest_events(db: Database, user_id: str, limit: int | None) -> list[dict[str, Any]]:
    """The user's events, the latest first by when they happened; `limit` None: all of them."""
    return _newest(db, events, events.c.occurred_at, user_id, limit)


def newest_attempts(db: Database, user_id: str, limit: int | None) -> list[dict[str, Any]]:
    """What did not succeed at once, the latest first."""
    return _newest(db, attempts, attempts.c.id, user_id, limit)


def _newest(
    db: Database, table: sa.Table, order: sa.Column[Any], user_id: str, limit: int | None
) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    while limit is None or len(found) < limit:
        size = PAGE if limit is None else min(PAGE, limit - len(found))
        page = db.read(_page, table, order, user_id, size, found[-1] if found else None)
        found += page
        if len(page) < size:
            break
    return found


def _page(
    connection: Connection,
    table: sa.Table,
    order: sa.Column[Any],
    user_id: str,
    size: int,
    last: dict[str, Any] | None,
) -> list[dict[str, Any]]:
    query = sa.select(table).where(table.c.user_id == user_id).order_by(order.desc(), table.c.id.desc()).limit(size)
    if last is not None:
        at, number = last[order.name], last["id"]
        query = query.where((order < at) | ((order == at) & (table.c.id < number)))
    return [dict(row._mapping) for row in connection.execute(query)]
