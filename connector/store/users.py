"""Users and the identifiers that name them.

Everything here that changes identities expects `database.lock_identities` to be held. Email identifiers are in
lower case; `users.email` keeps the letters as they were given.
"""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from connector.records import Identifier, Learnt, Mirror, Preference, Subject, User
from connector.settings import Settings
from connector.store import database, documents, segments
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
    users.c.fresh_until,
    users.c.merged_into,
    users.c.opted_by,
)


_LEARNT = ("opted_out", "opt_changed_at", "customerio", "preferences", "opted_by")

# One document as the only parameter: hundreds of them take PostgreSQL's driver longer than the look-up takes. OFFSET
# keeps the planner at one look-up by the primary key for each, whatever it guesses of the document.
_FIND_POSTGRES = sa.text("""
    SELECT found.kind, found.value, found.user_id
    FROM (SELECT pair ->> 0 AS kind, pair ->> 1 AS value FROM json_array_elements(:wanted) AS pairs(pair)) AS wanted
    CROSS JOIN LATERAL (
        SELECT kind, value, user_id FROM identifiers
        WHERE identifiers.kind = wanted.kind AND identifiers.value = wanted.value OFFSET 0
    ) AS found
""")
_IDS_SQLITE = sa.text("SELECT value FROM json_each(:ids)").columns(id=sa.Text)
_IDS_POSTGRES = sa.text("SELECT value FROM json_array_elements_text(:ids)").columns(id=sa.Text)


def _ids(connection: Connection) -> sa.TextualSelect:
    return _IDS_POSTGRES if connection.dialect.name == "postgresql" else _IDS_SQLITE


def find(connection: Connection, wanted: Iterable[Identifier]) -> dict[Identifier, str]:
    """The user whom each identifier names; those that name nobody are absent."""
    if connection.dialect.name == "postgresql":
        document = database.dumps(list(dict.fromkeys(wanted)))
        rows = connection.execute(_FIND_POSTGRES, {"wanted": document}).all()
        return {Identifier(kind, value): user_id for kind, value, user_id in rows}
    by_kind: defaultdict[str, list[str]] = defaultdict(list)
    for each in dict.fromkeys(wanted):
        by_kind[each.kind].append(each.value)
    found: dict[Identifier, str] = {}
    for kind, values in by_kind.items():
        for start in range(0, len(values), CHUNK):
            chosen = database.among(connection, identifiers.c.value, values[start : start + CHUNK])
            rows = connection.execute(
                sa.select(identifiers.c.value, identifiers.c.user_id).where(identifiers.c.kind == kind, chosen)
            ).all()
            found.update({Identifier(kind, value): user_id for value, user_id in rows})  # type: ignore[arg-type]
    return found


def named_by(connection: Connection, user_ids: Iterable[str], kinds: Iterable[str]) -> set[str]:
    """Those of the users who have an identifier of one of these kinds."""
    ids = _ids(connection)
    # The kind is not asked for: SQLite would look through all identifiers of that kind.
    query = sa.select(identifiers.c.user_id, identifiers.c.kind).where(identifiers.c.user_id.in_(ids))
    wanted = set(kinds)
    found = connection.execute(query, {"ids": database.dumps(sorted(user_ids))})
    return {user_id for user_id, kind in found if kind in wanted}


def lock(connection: Connection, user_ids: Iterable[str]) -> None:
    """What is read of these users below is what they are until the end of the transaction, whatever plain SQL writes;
    before their pending rows are locked, because SQL asks in that order too. On SQLite the whole store is."""
    database.lock(connection, users.c.id, set(user_ids), key_share=True)


def load(connection: Connection, user_ids: Sequence[str]) -> dict[str, User]:
    """The users with these ids."""
    found: dict[str, User] = {}
    for some in database.chunks(user_ids, CHUNK):
        chosen = database.among(connection, users.c.id, some)
        for row in connection.execute(sa.select(*_USER_COLUMNS).where(chosen)):
            found[row[0]] = User(*row)
    return found


def present(connection: Connection, user_ids: Sequence[str]) -> list[str]:
    """Those of the users who are there still: a merge takes users away. Until the end of the transaction it takes none
    if the identity lock is held."""
    ids = _IDS_POSTGRES if connection.dialect.name == "postgresql" else _IDS_SQLITE
    query = sa.select(users.c.id).where(users.c.id.in_(ids))
    return list(connection.execute(query, {"ids": database.dumps(user_ids)}).scalars())


def subjects(connection: Connection, user_ids: Sequence[str], settings: Settings, now: datetime) -> list[Subject]:
    """The users with their memberships as of `now` and their mirrors; `taken` is not judged yet. The visitors whom they
    were are read only where the settings send visitors."""
    bits = segments.bits(settings, connection.dialect.name, now)
    width = len(_USER_COLUMNS)
    found: list[Subject] = []
    for start in range(0, len(user_ids), CHUNK):
        chosen = user_ids[start : start + CHUNK]
        cio_ids, anonymous_ids = _others(connection, chosen)
        if not settings.events.anonymous:
            anonymous_ids = {}
        elif anonymous_ids:
            anonymous_ids = _free(connection, anonymous_ids)
        rows = connection.execute(
            sa.select(*_USER_COLUMNS, users.c.preferences, bits, *mirror.columns)
            .select_from(users.outerjoin(mirror, mirror.c.user_id == users.c.id))
            # Not as a document: the planner counts them, and so looks up the events of each by the index.
            .where(database.among(connection, users.c.id, chosen))
        )
        for row in rows.all():
            sent = Mirror(*row[width + 2 :]) if row[width + 2] is not None else None
            user = User(*row[:width])
            preferences = _preferences(row[width]) if row[width] else {}
            found.append(
                Subject(
                    user,
                    row[width + 1],
                    sent,
                    cio_id=cio_ids.get(user.id),
                    preferences=preferences,
                    anonymous_ids=tuple(anonymous_ids.get(user.id, ())),
                )
            )
    return found


def _others(connection: Connection, user_ids: Sequence[str]) -> tuple[dict[str, str], dict[str, list[str]]]:
    """By user the id that Customer.io itself gave (of several, which merges leave, none can be trusted to be alive),
    and the anonymous ids, sorted."""
    found: dict[str, str | None] = {}
    anonymous: dict[str, list[str]] = {}
    # As an expression of the kind: by the column itself, SQLite would look through all identifiers of that kind.
    asked = (identifiers.c.kind + "").in_(("cio_id", "anonymous_id"))
    theirs = identifiers.c.user_id.in_(_ids(connection))
    rows = connection.execute(
        sa.select(identifiers.c.user_id, identifiers.c.kind, identifiers.c.value).where(theirs, asked),
        {"ids": database.dumps(user_ids)},
    )
    for user_id, kind, value in rows.all():
        if kind == "cio_id":
            found[user_id] = value if user_id not in found else None
        elif kind == "anonymous_id":
            anonymous.setdefault(user_id, []).append(value)
    cio_ids = {user_id: value for user_id, value in found.items() if value is not None}
    return cio_ids, {user_id: sorted(values) for user_id, values in anonymous.items()}


def _free(connection: Connection, anonymous_ids: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """Without those that name another person at Customer.io: of somebody who was merged into the user and is a person
    there still. With one of these, Customer.io would take nothing of an identify."""
    roots = {user_id: user_id for user_id in anonymous_ids}
    bound: defaultdict[str, set[str]] = defaultdict(set)
    newest = list(roots)
    while newest:
        merged = users.c.merged_into.in_(_ids(connection))
        rows = connection.execute(
            sa.select(users.c.id, users.c.merged_into, mirror.c.anonymous_ids)
            .select_from(users.outerjoin(mirror, (mirror.c.user_id == users.c.id) & mirror.c.deleted_at.is_(None)))
            .where(merged),
            {"ids": database.dumps(newest)},
        )
        newest = []
        for user_id, survivor, theirs in rows:
            roots[user_id] = roots[survivor]
            bound[roots[survivor]].update(theirs or ())
            newest.append(user_id)
    return {
        user_id: [each for each in values if each not in bound[user_id]] for user_id, values in anonymous_ids.items()
    }


def add(connection: Connection, new: Sequence[dict[str, Any]], named: Sequence[tuple[Identifier, str]]) -> None:
    """Stores new users (rows of the table) and the identifiers that name users, new or not."""
    documents.insert(connection, users, new)
    rows = [{"kind": each.kind, "value": each.value, "user_id": user_id} for each, user_id in named]
    documents.insert(connection, identifiers, rows)


def forget(connection: Connection, named: Sequence[tuple[Identifier, str]]) -> None:
    """Identifiers that don't name these users any more."""
    for each, user_id in named:
        chosen = identifiers.c.kind == each.kind, identifiers.c.value == each.value, identifiers.c.user_id == user_id
        connection.execute(sa.delete(identifiers).where(*chosen))


def forget_cio_ids(connection: Connection, user_ids: Sequence[str]) -> None:
    """Customer.io's own ids end with the person whom they named."""
    if user_ids:
        chosen = identifiers.c.user_id.in_(user_ids), identifiers.c.kind == "cio_id"
        connection.execute(sa.delete(identifiers).where(*chosen))


def change(connection: Connection, changes: Sequence[Mapping[str, Any]], now: datetime) -> None:
    """Writes changed users: rows of id, external_id, email, attributes, known_by, created_at and fresh_until, all as
    they are to be. They differ from their mirrors now."""
    if changes:
        document = documents.encoded(connection, users, changes)
        connection.execute(_change(connection.dialect.name, tuple(changes[0])), {"document": document, "now": now})


@functools.cache
def _change(dialect: str, columns: tuple[str, ...]) -> sa.TextClause:
    source = documents.records(users, columns, dialect)
    taken = ", ".join(f"{name} = records.{name}" for name in columns if name != "id")
    statement = f"UPDATE users SET {taken}, updated_at = :now, version = users.version + 1 FROM {source} "  # noqa: S608
    statement += "WHERE users.id = records.id"
    return sa.text(statement).bindparams(sa.bindparam("now", type_=users.c.updated_at.type))


def learnt(connection: Connection, user_ids: Sequence[str]) -> dict[str, Learnt]:
    """What webhooks have taught about these users so far."""
    ids = _ids(connection)
    rows = connection.execute(
        sa.select(users.c.id, *(users.c[name] for name in _LEARNT)).where(users.c.id.in_(ids)),
        {"ids": database.dumps(user_ids)},
    )
    return {
        user_id: Learnt(opted_out, opt_changed_at, facts, _preferences(preferences), opted_by)
        for user_id, opted_out, opt_changed_at, facts, preferences, opted_by in rows
    }


def _preferences(stored: dict[str, dict[str, list[Any]]]) -> dict[str, dict[str, Preference]]:
    return {group: {name: Preference(*entry) for name, entry in entries.items()} for group, entries in stored.items()}


def remember(connection: Connection, changed: Mapping[str, Learnt], now: datetime) -> None:
    """Writes what webhooks have taught, by user."""
    if not changed:
        return
    rows = [
        {
            "id": user_id,
            "opted_out": each.opted_out,
            "opt_changed_at": each.opt_changed_at,
            "customerio": each.facts,
            "preferences": each.preferences,
            "opted_by": each.opted_by,
        }
        for user_id, each in changed.items()
    ]
    document = documents.encoded(connection, users, rows)
    connection.execute(_remember(connection.dialect.name), {"document": document, "now": now})


@functools.cache
def _remember(dialect: str) -> sa.TextClause:
    source = documents.records(users, ("id", *_LEARNT), dialect)
    taken = ", ".join(f"{name} = records.{name}" for name in _LEARNT)
    statement = f"UPDATE users SET {taken}, updated_at = :now FROM {source} WHERE users.id = records.id"  # noqa: S608
    return sa.text(statement).bindparams(sa.bindparam("now", type_=users.c.updated_at.type))


def touch(connection: Connection, user_ids: Sequence[str]) -> None:
    """Something changed that Customer.io may have to hear: these users differ from their mirrors now."""
    ids = _ids(connection)
    connection.execute(
        sa.update(users).where(users.c.id.in_(ids)).values(version=users.c.version + 1),
        {"ids": database.dumps(user_ids)},
    )


def count(connection: Connection) -> int:
    """How many users are stored."""
    return connection.execute(sa.select(sa.func.count()).select_from(users)).scalar_one()
