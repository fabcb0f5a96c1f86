"""Users and the identifiers that name them.

Everything here that changes identities expects `database.lock_identities` to be held. Email identifiers are in
lower case; `users.email` keeps the letters as they were given.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from connector.records import Identifier, Mirror, OptWord, Subject, User
from connector.settings import Settings
from connector.store import segments
from connector.store.schema import identifiers, mirror, users

CHUNK = 500

_USER_COLUMNS = (
    users.c.id,
    users.c.external_id,
    users.c.email,
    users.c.attributes,
    users.c.known_by,
    users.c.created_at,
    users.c.opted_out,
    users.c.opt_changed_at,
    users.c.version,
)


def find(connection: Connection, wanted: Iterable[Identifier]) -> dict[Identifier, str]:
    """The user whom each identifier names; those that name nobody are absent."""
    by_kind: defaultdict[str, list[str]] = defaultdict(list)
    for each in dict.fromkeys(wanted):
        by_kind[each.kind].append(each.value)
    found: dict[Identifier, str] = {}
    for kind, values in by_kind.items():
        for start in range(0, len(values), CHUNK):
            rows = connection.execute(
                sa.select(identifiers.c.value, identifiers.c.user_id).where(
                    identifiers.c.kind == kind, identifiers.c.value.in_(values[start : start + CHUNK])
                )
            )
            found.update({Identifier(kind, value): user_id for value, user_id in rows})  # type: ignore[arg-type]
    return found


def load(connection: Connection, user_ids: Sequence[str]) -> dict[str, User]:
    """The users with these ids."""
    found: dict[str, User] = {}
    for start in range(0, len(user_ids), CHUNK):
        chosen = users.c.id.in_(user_ids[start : start + CHUNK])
        for row in connection.execute(sa.select(*_USER_COLUMNS).where(chosen)):
            found[row[0]] = User(*row)
    return found


def subjects(connection: Connection, user_ids: Sequence[str], settings: Settings) -> list[Subject]:
    """The users with their memberships as of now and their mirrors; `taken` is not judged yet."""
    bits = segments.bits(settings, connection.dialect.name)
    width = len(_USER_COLUMNS)
    found: list[Subject] = []
    for start in range(0, len(user_ids), CHUNK):
        rows = connection.execute(
            sa.select(*_USER_COLUMNS, bits, *mirror.columns)
            .select_from(users.outerjoin(mirror, mirror.c.user_id == users.c.id))
            .where(users.c.id.in_(user_ids[start : start + CHUNK]))
        )
        for row in rows:
            sent = Mirror(*row[width + 1 :]) if row[width + 1] is not None else None
            found.append(Subject(User(*row[:width]), row[width], sent))
    return found


def add(connection: Connection, new: Sequence[dict[str, Any]], named: Sequence[tuple[Identifier, str]]) -> None:
    """Stores new users (rows of the table) and the identifiers that name users, new or not."""
    if new:
        connection.execute(sa.insert(users), list(new))
    if named:
        connection.execute(
            sa.insert(identifiers),
            [{"kind": each.kind, "value": each.value, "user_id": user_id} for each, user_id in named],
        )


def forget(connection: Connection, named: Sequence[Identifier]) -> None:
    """Identifiers that name nobody any more."""
    for each in named:
        connection.execute(
            sa.delete(identifiers).where(identifiers.c.kind == each.kind, identifiers.c.value == each.value)
        )


def change(connection: Connection, changes: Sequence[dict[str, Any]], now: datetime) -> None:
    """Writes changed users: dicts of id, external_id, email, attributes and created_at, all as they are to be."""
    if changes:
        connection.execute(
            sa.update(users)
            .where(users.c.id == sa.bindparam("of_user"))
            .values(
                external_id=sa.bindparam("new_external_id"),
                email=sa.bindparam("new_email"),
                attributes=sa.bindparam("new_attributes", type_=users.c.attributes.type),
                created_at=sa.bindparam("new_created_at", type_=users.c.created_at.type),
                known_by="own",
                updated_at=now,
                version=users.c.version + 1,
            ),
            [
                {
                    "of_user": each["id"],
                    "new_external_id": each["external_id"],
                    "new_email": each["email"],
                    "new_attributes": each["attributes"],
                    "new_created_at": each["created_at"],
                }
                for each in changes
            ],
        )


def opt(connection: Connection, user_id: str, word: OptWord, now: datetime) -> bool:
    """Keeps the newest word on consent, however late it arrives; on a tie the opt-out. True when that is this one."""
    newer = sa.or_(
        users.c.opt_changed_at.is_(None),
        users.c.opt_changed_at < word.at,
        sa.and_(users.c.opt_changed_at == word.at, sa.true() if word.opted_out else sa.false()),
    )
    different = sa.or_(users.c.opted_out.is_not(word.opted_out), users.c.opt_changed_at.is_distinct_from(word.at))
    result = connection.execute(
        sa.update(users)
        .where(users.c.id == user_id, newer, different)
        .values(opted_out=word.opted_out, opt_changed_at=word.at, updated_at=now, version=users.c.version + 1)
    )
    return result.rowcount > 0


def count(connection: Connection) -> int:
    """How many users are stored."""
    return connection.execute(sa.select(sa.func.count()).select_from(users)).scalar_one()
