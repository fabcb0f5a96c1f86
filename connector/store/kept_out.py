"""Keyed hashes of what named people who were erased, so that nothing late brings them back.

The key is random and made with the first hash. All hashes of one erasure have its time, which tells those of one
person from those of the next.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from connector.records import Identifier
from connector.store import database, story
from connector.store.schema import erased, facts

KEY_BYTES = 32

_KEY = "erasure_key"
_HASH_BYTES = 16

# As for `users.find`: one document, and one look-up by the primary key for each.
_KNOWN_POSTGRES = sa.text("""
    SELECT found.kind, found.hash, found.at
    FROM (SELECT pair ->> 0 AS kind, pair ->> 1 AS hash FROM json_array_elements(:wanted) AS pairs(pair)) AS wanted
    CROSS JOIN LATERAL (
        SELECT kind, hash, at FROM erased WHERE erased.kind = wanted.kind AND erased.hash = wanted.hash OFFSET 0
    ) AS found
""").columns(erased.c.kind, erased.c.hash, erased.c.at)
_KNOWN_SQLITE = sa.text("""
    SELECT erased.kind, erased.hash, erased.at
    FROM json_each(:wanted) AS wanted
    CROSS JOIN erased ON erased.kind = wanted.value ->> 0 AND erased.hash = wanted.value ->> 1
""").columns(erased.c.kind, erased.c.hash, erased.c.at)


class Kept(NamedTuple):
    """What is kept of one identifier: its kind, the hash, and when its owner was erased."""

    kind: str
    hash: str
    at: datetime


def hashed(key: bytes, kind: str, value: str) -> str:
    """What is kept of an identifier. Without the key nobody can try addresses against it, nor tell that one value was
    an identifier of two kinds."""
    text = value.lower() if kind == "email" else value
    return hashlib.blake2b(f"{kind}\0{text}".encode(), key=key, digest_size=_HASH_BYTES).hexdigest()


def among(connection: Connection, names: Iterable[Identifier]) -> frozenset[Identifier]:
    """Those of the identifiers that were an erased person's."""
    key = _key(connection)
    if key is None:
        return frozenset()
    by_hash: dict[tuple[str, str], Identifier] = {(each.kind, hashed(key, *each)): each for each in names}
    return frozenset(by_hash[kept.kind, kept.hash] for kept in _known(connection, by_hash))


def of_value(connection: Connection, given: str) -> list[Kept]:
    """What is kept of this value, as whatever kind it named somebody who was erased."""
    key = _key(connection)
    if key is None:
        return []
    return sorted(_known(connection, [(kind, hashed(key, kind, given)) for kind in story.KINDS]))


def of_moment(connection: Connection, at: datetime) -> list[Kept]:
    """Everything that is kept of who was erased at this moment."""
    rows = connection.execute(sa.select(erased).where(erased.c.at == at).order_by(erased.c.kind, erased.c.hash))
    return [Kept(*row) for row in rows]


def add(connection: Connection, names: Iterable[tuple[str, str]], now: datetime) -> datetime:
    """Keeps these kinds and values out; returns since when that is so, which is earlier when it was begun before. The
    identity lock is held."""
    key = _key(connection) or _make_key(connection)
    hashes = [(kind, hashed(key, kind, value)) for kind, value in dict.fromkeys(names)]
    at = min((kept.at for kept in _known(connection, hashes)), default=now)
    rows = [{"kind": kind, "hash": each, "at": at} for kind, each in hashes]
    connection.execute(database.insert(connection, erased).on_conflict_do_nothing(), rows)
    return at


def remove(connection: Connection, kept: Sequence[Kept]) -> None:
    """Whoever has these may come again; the identity lock is held."""
    for each in kept:
        connection.execute(sa.delete(erased).where(erased.c.kind == each.kind, erased.c.hash == each.hash))


def _known(connection: Connection, wanted: Iterable[tuple[str, str]]) -> list[Kept]:
    statement = _KNOWN_POSTGRES if connection.dialect.name == "postgresql" else _KNOWN_SQLITE
    return [Kept(*row) for row in connection.execute(statement, {"wanted": database.dumps(list(wanted))})]


def _key(connection: Connection) -> bytes | None:
    stored = connection.execute(sa.select(facts.c.value).where(facts.c.name == _KEY)).scalar_one_or_none()
    return None if stored is None else bytes.fromhex(stored["key"])


def _make_key(connection: Connection) -> bytes:
    key = secrets.token_bytes(KEY_BYTES)
    connection.execute(sa.insert(facts).values(name=_KEY, value={"key": key.hex()}))
    return key
