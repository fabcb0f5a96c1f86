"""Indexes on attributes that the settings name, kept equal to the settings while the connector works.

Their names hold a hash of what they index, so that one with another definition is another index. On PostgreSQL they are
built and dropped CONCURRENTLY, each by itself and outside of any transaction: nobody waits for them. A build that was
interrupted leaves an invalid index behind, which is dropped and built anew. On SQLite, which has one writer, a build
is an ordinary transaction, a second or two for a million users, in which messages wait.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from connector.store.database import Database
from connector.store.segments import operands

PREFIX = "ix_users_attribute_"
_LOCK = 0x63696E  # one at a time builds and drops


class Changes(NamedTuple):
    """What was done, by attributes that are indexed now and by names of indexes that are gone."""

    made: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()


def apply(db: Database, attributes: Sequence[str], *, drops: bool = True) -> Changes | None:
    """Makes the indexes that are missing and, where it `drops`, drops those that are not listed; None when another
    process is at it."""
    if db.dialect == "sqlite":
        return db.write(_apply_sqlite, attributes, drops=drops)
    with db.writer.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        # Tried, never waited for: a build waits for every statement under way, and so for who waits for its lock.
        if not connection.execute(sa.select(sa.func.pg_try_advisory_lock(_LOCK))).scalar_one():
            return None
        try:
            return _apply_postgres(connection, attributes, drops=drops)
        finally:
            connection.execute(sa.select(sa.func.pg_advisory_unlock(_LOCK)))


def interrupt(connection: Connection) -> None:
    """Ends the build that is under way, if one is, on PostgreSQL; what it leaves behind is built anew another time."""
    if connection.dialect.name == "postgresql":
        connection.execute(
            sa.text("""
                SELECT pg_cancel_backend(pid) FROM pg_locks JOIN pg_database ON pg_database.oid = pg_locks.database
                WHERE locktype = 'advisory' AND objid = :lock AND granted AND datname = current_database()
            """),
            {"lock": _LOCK},
        )


def _apply_sqlite(connection: Connection, attributes: Sequence[str], *, drops: bool) -> Changes:
    wanted = _wanted(connection, attributes)
    there = connection.execute(
        sa.text("SELECT name FROM sqlite_master WHERE type = 'index' AND substr(name, 1, length(:prefix)) = :prefix"),
        {"prefix": PREFIX},
    ).scalars()
    present = set(there)
    dropped = sorted(present - wanted.keys()) if drops else []
    made = [name for name in wanted if name not in present]
    for name in dropped:
        connection.execute(sa.text(f"DROP INDEX {name}"))
    for name in made:
        connection.exec_driver_sql(f"CREATE INDEX {name} ON users ({wanted[name].expression})")
    return Changes(_attributes(wanted, made), tuple(dropped))


def _apply_postgres(connection: Connection, attributes: Sequence[str], *, drops: bool) -> Changes:
    wanted = _wanted(connection, attributes)
    found = connection.execute(
        sa.text("""
            SELECT pg_class.relname, pg_index.indisvalid FROM pg_index
            JOIN pg_class ON pg_class.oid = pg_index.indexrelid
            WHERE pg_index.indrelid = to_regclass('users') AND starts_with(pg_class.relname, :prefix)
        """),
        {"prefix": PREFIX},
    )
    valid = {str(name): bool(is_valid) for name, is_valid in found}
    dropped = sorted(name for name, is_valid in valid.items() if (not is_valid if name in wanted else drops))
    made = [name for name in wanted if not valid.get(name)]
    for name in dropped:
        connection.execute(sa.text(f"DROP INDEX CONCURRENTLY IF EXISTS {name}"))
    for name in made:
        connection.exec_driver_sql(f"CREATE INDEX CONCURRENTLY {name} ON users ({wanted[name].expression})")
    if made:
        # The planner knows what an expression's values are like only after this.
        connection.execute(sa.text("ANALYZE users"))
    return Changes(_attributes(wanted, made), tuple(name for name in dropped if name not in wanted))


class _Wanted(NamedTuple):
    attribute: str
    expression: str


def _wanted(connection: Connection, attributes: Sequence[str]) -> dict[str, _Wanted]:
    """By the names of the indexes."""
    wanted = {}
    for attribute in dict.fromkeys(attributes):
        indexed = operands.indexed(attribute, connection.dialect.name)
        expression = str(indexed.compile(dialect=connection.dialect, compile_kwargs={"literal_binds": True}))
        digest = hashlib.blake2b(expression.encode(), digest_size=6).hexdigest()
        wanted[PREFIX + digest] = _Wanted(attribute, expression)
    return wanted


def _attributes(wanted: dict[str, _Wanted], names: Iterable[str]) -> tuple[str, ...]:
    return tuple(wanted[name].attribute for name in names)
