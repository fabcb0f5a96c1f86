"""Values inside of JSON documents, compared in the words of either store.

Paths and names of types are part of the statement's text, not parameters: an index on an expression is found by its
text, and hundreds of conditions would have more parameters than a database takes.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB

from connector.settings import conditions
from connector.store import database, times_in_sql
from connector.store.segments import operand
from connector.store.segments.operand import Predicate, Scope

_NUMBERS = ("integer", "real")
_BOOLEANS = (("true", True), ("false", False))


class SqliteJson:
    """A place in a document, on SQLite."""

    def __init__(self, column: sa.Column[Any], name: str, scope: Scope) -> None:
        self.column, self.zone = column, scope.zone
        self.path = written(sqlite_path(name))
        self.type = sa.func.json_type(column, self.path)
        self.value: sa.ColumnElement[Any] = sa.func.json_extract(column, self.path)

    def exists(self) -> Predicate:
        return self.type != written("null")

    def equals(self, value: conditions.Scalar) -> Predicate:
        return self._same(value, self.value, self.type)

    def among(self, values: Sequence[conditions.Scalar]) -> Predicate:
        texts = [each for each in values if isinstance(each, str)]
        numbers = [each for each in values if not isinstance(each, str | bool)]
        found: list[Predicate] = []
        if texts:
            found.append(sa.and_(self.value.in_(operand.listed(texts)), self.type == written("text")))
        if numbers:
            found.append(sa.and_(self.value.in_(operand.listed(numbers)), self._is_number(self.type)))
        found += [self.type == written(word) for word, each in _BOOLEANS if any(each is one for one in values)]
        return sa.or_(sa.false(), *found)

    def text(self, test: str, value: str) -> Predicate:
        return sa.and_(self.type == written("text"), operand.text_test(self.value, test, value, "sqlite"))

    def holds(self, value: conditions.Scalar) -> Predicate:
        each = sa.func.json_each(self.column, self.path).table_valued("value", "type")
        found = sa.exists(sa.select(1).select_from(each).where(self._same(value, each.c.value, each.c.type)))
        return sa.and_(self.type == written("array"), found)

    def number(self, operator: str, value: float) -> Predicate:
        return sa.and_(operand.number_test(self.value, operator, value), self._is_number(self.type))

    def happened(self, after: datetime, until: datetime) -> Predicate:
        # As bytes, because JSON may hold what is no text to Python.
        at = sa.case(
            (self.type == written("text"), sa.cast(self.value, sa.LargeBinary)),
            (self._is_number(self.type), self.value),
        )
        return times_in_sql.between(times_in_sql.of_value(at, self.zone), after, until)

    def _same(self, value: conditions.Scalar, found: Any, kind: Any) -> Predicate:
        if isinstance(value, bool):
            same: Predicate = kind == written("true" if value else "false")
            return same
        return sa.and_(found == value, kind == written("text") if isinstance(value, str) else self._is_number(kind))

    def _is_number(self, kind: Any) -> Any:
        return kind.in_([written(word) for word in _NUMBERS])


def sqlite_path(name: str) -> str:
    """A dotted path in SQLite's words."""
    return "$" + "".join(f'."{part}"' for part in name.split("."))


class PostgresJson:
    """A place in a document, on PostgreSQL; `indexed` when there may be an index by its hash."""

    def __init__(self, column: sa.Column[Any], name: str, scope: Scope, *, indexed: bool) -> None:
        self.value = postgres_value(column, name)
        self.as_text: sa.ColumnElement[Any] = self.value.op("#>>", return_type=sa.Text())(sa.literal_column("'{}'"))
        self.type = sa.func.jsonb_typeof(self.value)
        self.zone, self.indexed = scope.zone, indexed

    def exists(self) -> Predicate:
        return self.type != written("null")

    def equals(self, value: conditions.Scalar) -> Predicate:
        same: Predicate = self.value == _json(value)
        return sa.and_(hash_of(self.value) == hash_of(_json(value)), same) if self.indexed else same

    def among(self, values: Sequence[conditions.Scalar]) -> Predicate:
        documents = sa.cast(sa.literal([database.dumps(each) for each in values], sa.ARRAY(sa.Text)), sa.ARRAY(JSONB))
        same: Predicate = self.value == sa.any_(documents)
        if not self.indexed:
            return same
        each = sa.func.unnest(documents).column_valued("each")
        hashes = sa.func.array(sa.select(hash_of(each)).scalar_subquery())
        return sa.and_(hash_of(self.value) == sa.any_(hashes), same)

    def text(self, test: str, value: str) -> Predicate:
        return sa.and_(self.type == written("string"), operand.text_test(self.as_text, test, value, "postgresql"))

    def holds(self, value: conditions.Scalar) -> Predicate:
        return sa.and_(self.type == written("array"), self.value.op("@>", return_type=sa.Boolean())(_json(value)))

    def number(self, operator: str, value: float) -> Predicate:
        # As documents, exactly and without a cast: other types sort before or after all numbers.
        return sa.and_(operand.number_test(self.value, operator, _json(value)), self.type == written("number"))

    def happened(self, after: datetime, until: datetime) -> Predicate:
        return times_in_sql.between(times_in_sql.of_json(self.value, self.zone), after, until)


def postgres_value(column: sa.ColumnElement[Any], name: str) -> sa.ColumnElement[Any]:
    """What a dotted path leads to."""
    # Step by step: a path (`#>`) would take the step "0" into a list, which no other reading of a name does.
    value: sa.ColumnElement[Any] = column
    for part in name.split("."):
        value = value.op("->", return_type=JSONB())(written(part))
    return value


def _json(value: conditions.Scalar) -> sa.ColumnElement[Any]:
    return sa.cast(sa.literal(database.dumps(value), sa.Text), JSONB)


def hash_of(value: Any) -> sa.ColumnElement[Any]:
    """Equal documents have equal ones. An index on the value itself would refuse to store what is long."""
    return sa.func.jsonb_hash(value, type_=sa.Integer)


def written(text: str) -> sa.ColumnElement[str]:
    """Text as the statement has it."""
    return sa.literal_column("'" + text.replace("'", "''") + "'", sa.Text)
