"""What a condition compares, in SQL: a column of the users' table, or a place in a JSON document.

Each comparison is true, or else false or NULL: a missing value is NULL, and so counts as not true. Nothing is cast that
could fail, whatever the data holds; a guard on the JSON type stands behind each comparison, where it doesn't hide the
value from an index on it.

Paths and names of types are part of the statement's text, not parameters: an index on an expression is found by its
text, and hundreds of conditions would have more parameters than a database takes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB

from connector.settings import Settings, conditions
from connector.store import database, times_in_sql
from connector.store.schema import events, mirror, users

Predicate = sa.ColumnElement[bool]

_TEXT_COLUMNS = {"id": users.c.id, "external_id": users.c.external_id, "email": users.c.email}
_NUMBERS = ("integer", "real")
_BOOLEANS = (("true", True), ("false", False))


@dataclass(frozen=True, slots=True)
class Scope:
    """What conditions are compiled for: all the settings, one dialect, one moment."""

    settings: Settings
    dialect: str
    now: datetime

    @property
    def zone(self) -> str:
        """For times that carry none."""
        return self.settings.people.timezone


class Operand(Protocol):
    """One value of a user or an event. Each method gives a predicate that holds for no missing or other type of value.

    `happened` is true for a time after the first moment and not after the second.
    """

    def exists(self) -> Predicate: ...
    def equals(self, value: conditions.Scalar) -> Predicate: ...
    def among(self, values: Sequence[conditions.Scalar]) -> Predicate: ...
    def text(self, test: str, value: str) -> Predicate: ...
    def holds(self, value: conditions.Scalar) -> Predicate: ...
    def number(self, operator: str, value: float) -> Predicate: ...
    def happened(self, after: datetime, until: datetime) -> Predicate: ...


def attribute(name: str, scope: Scope) -> Operand:
    """What a user's attribute of that name is."""
    if name in _TEXT_COLUMNS:
        return _TextColumn(_TEXT_COLUMNS[name], scope)
    if name == "opted_out":
        return _OptedOut()
    if name == "created_at":
        return _Time(users.c.created_at)
    if name == f"customerio.{conditions.SYNCED}":
        sent = mirror.alias("sent")
        at = sa.select(sent.c.synced_at).where(sent.c.user_id == users.c.id).correlate(users).scalar_subquery()
        return _Time(at)
    if name.startswith("customerio."):
        return _Fact(_document(users.c.customerio, name.removeprefix("customerio."), scope, indexed=False))
    indexed = name in scope.settings.store.indexed_attributes
    return _document(users.c.attributes, name, scope, indexed=indexed)


def event_property(name: str, scope: Scope) -> Operand:
    """What an event's property of that name is."""
    return _document(events.c.properties, name, scope, indexed=False)


def indexed(name: str, dialect: str) -> sa.ColumnElement[Any]:
    """What an index on an attribute holds, in words that the comparisons use too: else it would never be found."""
    document: sa.ColumnClause[Any] = sa.column("attributes", users.c.attributes.type)
    if dialect == "postgresql":
        return _hash(_postgres_value(document, name))
    return sa.func.json_extract(document, _written(_sqlite_path(name)))


def _document(column: sa.Column[Any], name: str, scope: Scope, *, indexed: bool) -> Operand:
    if scope.dialect == "postgresql":
        return _PostgresJson(column, name, scope, indexed=indexed)
    return _SqliteJson(column, name, scope)


def _written(text: str) -> sa.ColumnElement[str]:
    return sa.literal_column("'" + text.replace("'", "''") + "'", sa.Text)


def _text_test(text: Any, test: str, value: str, dialect: str) -> Any:
    """Comparisons by case, without LIKE: its wildcards would have to be escaped, and SQLite's ignores case."""
    if test == "contains":
        find = sa.func.strpos if dialect == "postgresql" else sa.func.instr
        return find(text, value) > 0
    if test == "starts_with":
        return sa.func.substr(text, 1, len(value)) == value
    return sa.func.substr(text, sa.func.length(text) - len(value) + 1, len(value)) == value


def _number_test(number: Any, operator: str, value: Any) -> Any:
    match operator:
        case "gt":
            return number > value
        case "gte":
            return number >= value
        case "lt":
            return number < value
    return number <= value


def _listed(values: Sequence[conditions.Scalar]) -> sa.Select[Any]:
    """The values as rows, on SQLite; one document, because it bounds the variables and the depth of a statement."""
    return sa.select(sa.func.json_each(database.dumps(values)).table_valued("value").c.value)


class _Nothing:
    """Has no value: what the columns' own types leave out."""

    def equals(self, value: conditions.Scalar) -> Predicate:
        return sa.false()

    def among(self, values: Sequence[conditions.Scalar]) -> Predicate:
        return sa.false()

    def text(self, test: str, value: str) -> Predicate:
        return sa.false()

    def holds(self, value: conditions.Scalar) -> Predicate:
        return sa.false()

    def number(self, operator: str, value: float) -> Predicate:
        return sa.false()

    def happened(self, after: datetime, until: datetime) -> Predicate:
        return sa.false()


class _TextColumn(_Nothing):
    def __init__(self, column: sa.Column[Any], scope: Scope) -> None:
        self.column, self.scope = column, scope

    def exists(self) -> Predicate:
        return self.column.is_not(None)

    def equals(self, value: conditions.Scalar) -> Predicate:
        return self.column == value if isinstance(value, str) else sa.false()

    def among(self, values: Sequence[conditions.Scalar]) -> Predicate:
        texts = [each for each in values if isinstance(each, str)]
        if self.scope.dialect == "sqlite":
            return self.column.in_(_listed(texts))
        return self.column == sa.any_(sa.literal(texts, sa.ARRAY(sa.Text)))

    def text(self, test: str, value: str) -> Predicate:
        found: Predicate = _text_test(self.column, test, value, self.scope.dialect)
        return found

    def happened(self, after: datetime, until: datetime) -> Predicate:
        if self.scope.dialect == "postgresql":
            at = times_in_sql.of_json(sa.func.to_jsonb(self.column), self.scope.zone)
        else:
            at = times_in_sql.of_value(sa.cast(self.column, sa.LargeBinary), self.scope.zone)
        return times_in_sql.between(at, after, until)


class _OptedOut(_Nothing):
    def exists(self) -> Predicate:
        return sa.true()

    def equals(self, value: conditions.Scalar) -> Predicate:
        return users.c.opted_out.is_(value) if isinstance(value, bool) else sa.false()

    def among(self, values: Sequence[conditions.Scalar]) -> Predicate:
        return sa.or_(sa.false(), *(self.equals(each) for each in (True, False) if any(each is one for one in values)))


class _Time(_Nothing):
    """A column that holds a time, which is neither text nor number nor boolean."""

    def __init__(self, at: sa.ColumnElement[Any]) -> None:
        self.at = at

    def exists(self) -> Predicate:
        return self.at.is_not(None)

    def happened(self, after: datetime, until: datetime) -> Predicate:
        return sa.and_(self.at > after, self.at <= until)


class _Fact(_Nothing):
    """A time in a document of ours."""

    def __init__(self, fact: Operand) -> None:
        self.fact = fact

    def exists(self) -> Predicate:
        return self.fact.exists()

    def happened(self, after: datetime, until: datetime) -> Predicate:
        return self.fact.happened(after, until)


class _SqliteJson:
    def __init__(self, column: sa.Column[Any], name: str, scope: Scope) -> None:
        self.column, self.zone = column, scope.zone
        self.path = _written(_sqlite_path(name))
        self.type = sa.func.json_type(column, self.path)
        self.value: sa.ColumnElement[Any] = sa.func.json_extract(column, self.path)

    def exists(self) -> Predicate:
        return self.type != _written("null")

    def equals(self, value: conditions.Scalar) -> Predicate:
        return self._same(value, self.value, self.type)

    def among(self, values: Sequence[conditions.Scalar]) -> Predicate:
        texts = [each for each in values if isinstance(each, str)]
        numbers = [each for each in values if not isinstance(each, str | bool)]
        found: list[Predicate] = []
        if texts:
            found.append(sa.and_(self.value.in_(_listed(texts)), self.type == _written("text")))
        if numbers:
            found.append(sa.and_(self.value.in_(_listed(numbers)), self._is_number(self.type)))
        found += [self.type == _written(word) for word, each in _BOOLEANS if any(each is one for one in values)]
        return sa.or_(sa.false(), *found)

    def text(self, test: str, value: str) -> Predicate:
        return sa.and_(self.type == _written("text"), _text_test(self.value, test, value, "sqlite"))

    def holds(self, value: conditions.Scalar) -> Predicate:
        each = sa.func.json_each(self.column, self.path).table_valued("value", "type")
        found = sa.exists(sa.select(1).select_from(each).where(self._same(value, each.c.value, each.c.type)))
        return sa.and_(self.type == _written("array"), found)

    def number(self, operator: str, value: float) -> Predicate:
        return sa.and_(_number_test(self.value, operator, value), self._is_number(self.type))

    def happened(self, after: datetime, until: datetime) -> Predicate:
        # As bytes, because JSON may hold what is no text to Python.
        at = sa.case(
            (self.type == _written("text"), sa.cast(self.value, sa.LargeBinary)),
            (self._is_number(self.type), self.value),
        )
        return times_in_sql.between(times_in_sql.of_value(at, self.zone), after, until)

    def _same(self, value: conditions.Scalar, found: Any, kind: Any) -> Predicate:
        if isinstance(value, bool):
            same: Predicate = kind == _written("true" if value else "false")
            return same
        return sa.and_(found == value, kind == _written("text") if isinstance(value, str) else self._is_number(kind))

    def _is_number(self, kind: Any) -> Any:
        return kind.in_([_written(word) for word in _NUMBERS])


def _sqlite_path(name: str) -> str:
    return "$" + "".join(f'."{part}"' for part in name.split("."))


class _PostgresJson:
    def __init__(self, column: sa.Column[Any], name: str, scope: Scope, *, indexed: bool) -> None:
        self.value = _postgres_value(column, name)
        self.as_text: sa.ColumnElement[Any] = self.value.op("#>>", return_type=sa.Text())(sa.literal_column("'{}'"))
        self.type = sa.func.jsonb_typeof(self.value)
        self.zone, self.indexed = scope.zone, indexed

    def exists(self) -> Predicate:
        return self.type != _written("null")

    def equals(self, value: conditions.Scalar) -> Predicate:
        same: Predicate = self.value == _json(value)
        return sa.and_(_hash(self.value) == _hash(_json(value)), same) if self.indexed else same

    def among(self, values: Sequence[conditions.Scalar]) -> Predicate:
        documents = sa.cast(sa.literal([database.dumps(each) for each in values], sa.ARRAY(sa.Text)), sa.ARRAY(JSONB))
        same: Predicate = self.value == sa.any_(documents)
        if not self.indexed:
            return same
        each = sa.func.unnest(documents).column_valued("each")
        hashes = sa.func.array(sa.select(_hash(each)).scalar_subquery())
        return sa.and_(_hash(self.value) == sa.any_(hashes), same)

    def text(self, test: str, value: str) -> Predicate:
        return sa.and_(self.type == _written("string"), _text_test(self.as_text, test, value, "postgresql"))

    def holds(self, value: conditions.Scalar) -> Predicate:
        return sa.and_(self.type == _written("array"), self.value.op("@>", return_type=sa.Boolean())(_json(value)))

    def number(self, operator: str, value: float) -> Predicate:
        # As documents, exactly and without a cast: other types sort before or after all numbers.
        return sa.and_(_number_test(self.value, operator, _json(value)), self.type == _written("number"))

    def happened(self, after: datetime, until: datetime) -> Predicate:
        return times_in_sql.between(times_in_sql.of_json(self.value, self.zone), after, until)


def _postgres_value(column: sa.ColumnElement[Any], name: str) -> sa.ColumnElement[Any]:
    # Step by step: a path (`#>`) would take the step "0" into a list, which no other reading of a name does.
    value: sa.ColumnElement[Any] = column
    for part in name.split("."):
        value = value.op("->", return_type=JSONB())(_written(part))
    return value


def _json(value: conditions.Scalar) -> sa.ColumnElement[Any]:
    return sa.cast(sa.literal(database.dumps(value), sa.Text), JSONB)


def _hash(value: Any) -> sa.ColumnElement[Any]:
    """Equal documents have equal ones. An index on the value itself would refuse to store what is long."""
    return sa.func.jsonb_hash(value, type_=sa.Integer)
