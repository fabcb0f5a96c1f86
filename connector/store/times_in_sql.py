"""What is a time, inside SQL: one function for each store, `connector_time`, in whole microseconds since 1970.

On SQLite it calls `core/times` on every connection; on PostgreSQL a migration made it, in PL/pgSQL. Both give NULL for
what is no time, and never fail. A test holds both against one table of values.
"""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import sqlalchemy as sa

from connector.core import times

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def register(connection: sqlite3.Connection) -> None:
    """Gives a connection of SQLite the function."""
    connection.create_function("connector_time", 2, _time, deterministic=True)


def of_value(value: sa.ColumnElement[Any], zone: str) -> sa.ColumnElement[int]:
    """On SQLite: of a number, or of text as bytes."""
    return sa.func.connector_time(value, zone, type_=sa.BigInteger)


def of_json(value: sa.ColumnElement[Any], zone: str) -> sa.ColumnElement[int]:
    """On PostgreSQL: of a JSON document."""
    return sa.func.connector_time(value, zone, type_=sa.BigInteger)


def between(at: sa.ColumnElement[int], after: datetime, until: datetime) -> sa.ColumnElement[bool]:
    """True for a time after the first moment and not after the second."""
    return at.between(_microseconds(after) + 1, _microseconds(until))


def _time(value: object, zone: str) -> int | None:
    at = None
    match value:
        case bytes() if value.isascii():
            at = times.parse(value.decode("ascii"), ZoneInfo(zone))
        case int() | float():
            at = times.from_number(value)
    return None if at is None else _microseconds(at)


def _microseconds(at: datetime) -> int:
    return (at - _EPOCH) // _MICROSECOND
