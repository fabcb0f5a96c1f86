"""Many rows as one JSON document in one statement; very many, on PostgreSQL, by COPY.

Hundreds of parameters take PostgreSQL's driver longer than the rows take the database; on SQLite, row by row, a
database thread would hand the interpreter's lock to and fro with the thread that answers requests.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import chain
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.engine import Connection

from connector.store import copy, database
from connector.store.schema import Utc

_ROWS = 100  # in a statement of SQLite's, which takes 32,766 values
BY_COPY = 1000  # rows from which on a staging table costs less than a document


def insert(
    connection: Connection, table: sa.Table, rows: Sequence[Mapping[str, Any]], *, keep_old: bool = False
) -> None:
    """Inserts rows that all have the same columns, in their order. A JSON column holds an object, a list or None.

    `keep_old` leaves out rows that some unique key has already; without it they fail the statement.
    """
    if not rows:
        return
    if len(rows) >= BY_COPY and connection.dialect.name == "postgresql":
        _require_timezones(table, rows)
        copy.insert(connection, table, rows, keep_old=keep_old)
        return
    statement = _insert(connection.dialect.name, table, tuple(rows[0]), keep_old)
    connection.execute(statement, {"document": encoded(connection, table, rows)})


def upsert(
    connection: Connection,
    table: sa.Table,
    columns: tuple[str, ...],
    rows: Sequence[tuple[Any, ...]],
    key: tuple[str, ...],
) -> None:
    """Inserts rows of these columns, in their order; one that has the `key` of another takes its place. No two of the
    rows may have the same."""
    if not rows:
        return
    if connection.dialect.name == "postgresql":
        statement = _upsert("postgresql", table, columns, key)
        named = [dict(zip(columns, row, strict=True)) for row in rows]
        connection.execute(statement, {"document": encoded(connection, table, named)})
        return
    # As values: a document would be parsed anew for each of many columns.
    forms = [_sqlite_form(table.c[name].type) for name in columns]
    by_column = zip(forms, zip(*rows, strict=True), strict=True)
    stored = list(zip(*(map(form, values) if form else values for form, values in by_column), strict=True))
    for some in database.chunks(stored, _ROWS):
        connection.exec_driver_sql(_upsert_rows(table, columns, key, len(some)), tuple(chain.from_iterable(some)))


def encoded(connection: Connection, table: sa.Table, rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows as a JSON list of objects, in the form in which the store's statements read them.

    A time without a timezone is a ValueError.
    """
    times = _require_timezones(table, rows)
    if connection.dialect.name == "postgresql" or not times:
        return database.dumps(rows)
    return database.dumps([{**row, **{name: sqlite_time(row[name]) for name in times}} for row in rows])


def _require_timezones(table: sa.Table, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The names of the columns that hold times."""
    times = [name for name in rows[0] if isinstance(table.c[name].type, Utc)]
    if any(row[name].tzinfo is None for row in rows for name in times if row[name] is not None):
        raise ValueError("a time without a timezone can't be stored")
    return times


@functools.lru_cache(1024)  # most rows of a batch have the same times
def sqlite_time(at: datetime | None) -> str | None:
    """As the column's type writes it."""
    return at.astimezone(UTC).replace(tzinfo=None).isoformat(" ", "microseconds") if at is not None else None


def records(table: sa.Table, columns: Sequence[str], dialect: str) -> str:
    """The document's rows as a table `records` with these columns."""
    if dialect == "postgresql":
        types = postgresql.dialect()  # type: ignore[no-untyped-call]
        typed = ", ".join(f"{name} {table.c[name].type.compile(types)}" for name in columns)
        return f"(SELECT * FROM json_to_recordset(:document) AS r({typed})) AS records"  # noqa: S608 - our columns
    extracted = ", ".join(f"json_extract(value, '$.{name}') AS {name}" for name in columns)
    return f"(SELECT {extracted} FROM json_each(:document)) AS records"  # noqa: S608


@functools.cache
def _upsert(dialect: str, table: sa.Table, columns: tuple[str, ...], key: tuple[str, ...]) -> sa.TextClause:
    return _inserting(dialect, table, columns, f"WHERE true {_take_its_place(columns, key)}")


@functools.lru_cache(_ROWS)
def _upsert_rows(table: sa.Table, columns: tuple[str, ...], key: tuple[str, ...], rows: int) -> str:
    places = ", ".join([f"({', '.join('?' * len(columns))})"] * rows)
    conflict = _take_its_place(columns, key)
    return f"INSERT INTO {table.name} ({', '.join(columns)}) VALUES {places} {conflict}"  # noqa: S608 - our columns


def _take_its_place(columns: tuple[str, ...], key: tuple[str, ...]) -> str:
    taken = ", ".join(f"{name} = excluded.{name}" for name in columns if name not in key)
    return f"ON CONFLICT ({', '.join(key)}) DO UPDATE SET {taken}"


def _sqlite_form(kind: sa.types.TypeEngine[Any]) -> Callable[[Any], Any] | None:
    """What makes of a value what SQLite's driver stores; None where that is the value."""
    if isinstance(kind, Utc):
        return sqlite_time
    return database.dumps if isinstance(kind, sa.JSON) else None


@functools.cache
def _insert(dialect: str, table: sa.Table, columns: tuple[str, ...], keep_old: bool) -> sa.TextClause:
    # SQLite's parser would take ON for a part of a join.
    return _inserting(dialect, table, columns, "WHERE true ON CONFLICT DO NOTHING" if keep_old else "")


def _inserting(dialect: str, table: sa.Table, columns: tuple[str, ...], conflict: str) -> sa.TextClause:
    named = ", ".join(columns)
    source = records(table, columns, dialect)
    return sa.text(f"INSERT INTO {table.name} ({named}) SELECT {named} FROM {source} {conflict}")  # noqa: S608
