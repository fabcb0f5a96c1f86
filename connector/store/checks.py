"""What plain SQL may not write: what nobody could read would stop the passes of everybody.

So the writer hears of it at once. Our own statements never write such values.
"""

from __future__ import annotations

from collections.abc import Iterator

import sqlalchemy as sa

_DAY = "[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]"
_SECOND = f"{_DAY} [0-2][0-9]:[0-5][0-9]:[0-5][0-9]"
_MICROSECOND = f"{_SECOND}.{'[0-9]' * 6}"


def an_object(table: str, column: str) -> Iterator[sa.CheckConstraint]:
    """JSON, and an object."""
    yield _check(table, column, "sqlite", f"json_valid({column}) AND json_type({column}) = 'object'")
    yield _check(table, column, "postgresql", f"jsonb_typeof({column}) = 'object'")


def times(table: str, *columns: str) -> Iterator[sa.CheckConstraint]:
    """Between the years 1 and 9999, where there is one; on SQLite as `schema.Utc` writes it, or without a fraction, as
    CURRENT_TIMESTAMP does."""
    for column in columns:
        written = f"({column} GLOB '{_SECOND}' OR {column} GLOB '{_MICROSECOND}') AND substr({column}, 12, 2) < '24'"
        # Counted on by nothing, a 31st of February becomes one of March, and a 32nd NULL.
        is_day = f"date(substr({column}, 1, 10), '+0 days') IS substr({column}, 1, 10)"
        is_one = f"{written} AND {is_day} AND substr({column}, 1, 4) <> '0000'"
        yield _check(table, column, "sqlite", f"{column} IS NULL OR ({is_one})")
        within = f"{column} >= '0001-01-01 00:00:00+00' AND {column} < '10000-01-01 00:00:00+00'"
        yield _check(table, column, "postgresql", within)


def _check(table: str, column: str, dialect: str, condition: str) -> sa.CheckConstraint:
    constraint: sa.CheckConstraint = sa.CheckConstraint(condition, name=f"ck_{table}_{column}").ddl_if(dialect=dialect)
    return constraint
