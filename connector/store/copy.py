"""Many rows into PostgreSQL by COPY: into a staging table, and from there to where they belong.

The staging table is one of the session, and gone at the end of the transaction, so nobody else sees it and a crash
leaves nothing behind. COPY itself stops at the first row that is there already; what comes from the staging table may
pass over it.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.engine import Connection

from connector.store import database, driver_errors


class _Statements(NamedTuple):
    stage: str
    copy: str
    types: tuple[str, ...]
    move: str
    drop: str


def insert(connection: Connection, table: sa.Table, rows: Sequence[Mapping[str, Any]], *, keep_old: bool) -> None:
    """Inserts rows that all have the same columns, in their order; see `documents.insert`."""
    names = tuple(rows[0])
    statements = _statements(table, names, keep_old)
    documents = [isinstance(table.c[name].type, sa.JSON) for name in names]
    connection.exec_driver_sql(statements.stage)
    driver: Any = connection.connection
    failure = connection.dialect.loaded_dbapi.Error
    try:
        with driver.cursor() as cursor, cursor.copy(statements.copy) as copy:
            copy.set_types(statements.types)
            for row in rows:
                copy.write_row(
                    [
                        database.dumps(value) if is_document and value is not None else value
                        for value, is_document in zip(row.values(), documents, strict=True)
                    ]
                )
    except failure as error:
        raise driver_errors.without_values(error, statements.copy, failure) from error
    connection.exec_driver_sql(statements.move)
    connection.exec_driver_sql(statements.drop)


@functools.cache
def _statements(table: sa.Table, names: tuple[str, ...], keep_old: bool) -> _Statements:
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
    # A document travels as text: what it is parsed from, on the way out of the staging table.
    is_document = {name: isinstance(table.c[name].type, sa.JSON) for name in names}
    types = {name: "text" if is_document[name] else table.c[name].type.compile(dialect).lower() for name in names}
    staging = f"staging_{table.name}"
    columns = ", ".join(names)
    typed = ", ".join(f"{name} {types[name]}" for name in names)
    moved = ", ".join(f"CAST({name} AS jsonb)" if is_document[name] else name for name in names)
    conflict = " ON CONFLICT DO NOTHING" if keep_old else ""
    return _Statements(
        stage=f"CREATE TEMPORARY TABLE {staging} ({typed}) ON COMMIT DROP",
        copy=f"COPY pg_temp.{staging} ({columns}) FROM STDIN (FORMAT BINARY)",
        types=tuple(types.values()),
        move=f"INSERT INTO {table.name} ({columns}) SELECT {moved} FROM pg_temp.{staging}{conflict}",  # noqa: S608
        drop=f"DROP TABLE pg_temp.{staging}",
    )
