"""What a condition compares, in SQL: a column of the users' table, or a place in a JSON document.

Each comparison is true, or else false or NULL: a missing value is NULL, and so counts as not true. Nothing is cast that
could fail, whatever the data holds; a guard on the JSON type stands behind each comparison, where it doesn't hide the
value from an index on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from connector.settings import conditions
from connector.store import times_in_sql
from connector.store.schema import events, mirror, users
from connector.store.segments import documents, operand
from connector.store.segments.operand import Operand, Predicate, Scope

_TEXT_COLUMNS = {"id": users.c.id, "external_id": users.c.external_id, "email": users.c.email}


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
        return documents.hash_of(documents.postgres_value(document, name))
    return sa.func.json_extract(document, documents.written(documents.sqlite_path(name)))


def _document(column: sa.Column[Any], name: str, scope: Scope, *, indexed: bool) -> Operand:
    if scope.dialect == "postgresql":
        return documents.PostgresJson(column, name, scope, indexed=indexed)
    return documents.SqliteJson(column, name, scope)


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
            return self.column.in_(operand.listed(texts))
        return self.column == sa.any_(sa.literal(texts, sa.ARRAY(sa.Text)))

    def text(self, test: str, value: str) -> Predicate:
        found: Predicate = operand.text_test(self.column, test, value, self.scope.dialect)
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
