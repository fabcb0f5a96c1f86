"""Segments as SQL: one condition, one predicate, the same for one user, a claimed batch and the whole table.

A predicate is always true or false, never NULL: a missing value and a value of another type are false, and a
negation is the exact complement. Casts stand behind a CASE on the JSON type, because PostgreSQL may evaluate the
sides of an AND in any order and a failing cast would fail the whole query.

Segment bits are a text of 0 and 1, one for each segment in the settings' order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB

from connector.settings import Settings, conditions
from connector.store import database
from connector.store.schema import users

Predicate = sa.ColumnElement[bool]

_BOOLEANS = (("true", True), ("false", False))
_TEXT_COLUMNS = {"id": users.c.id, "external_id": users.c.external_id, "email": users.c.email}


def bits(settings: Settings, dialect: str) -> sa.ColumnElement[str]:
    """The expression over `users` for a user's segment bits."""
    expression: sa.ColumnElement[str] = sa.literal_column("''", sa.Text)
    for condition in settings.segments.values():
        one = sa.case((predicate(condition, dialect), "1"), else_="0")
        expression = expression.concat(one)
    return expression


def whitelisted(settings: Settings, dialect: str) -> Predicate:
    """The predicate over `users`: in at least one whitelisted segment."""
    return sa.or_(sa.false(), *(predicate(settings.segments[name], dialect) for name in settings.people.segments))


def predicate(condition: conditions.Condition, dialect: str) -> Predicate:
    """The condition as a predicate over `users`."""
    match condition:
        case conditions.Everyone():
            return sa.true()
        case conditions.All(inner):
            return sa.and_(sa.true(), *(predicate(each, dialect) for each in inner))
        case conditions.AnyOf(inner):
            return sa.or_(sa.false(), *(predicate(each, dialect) for each in inner))
        case conditions.NoneOf(inner):
            return sa.not_(sa.or_(sa.false(), *(predicate(each, dialect) for each in inner)))
        case conditions.Attribute(name, operator, value):
            return _compare(_operand(name, dialect), operator, value)


class _Operand(Protocol):
    """One attribute in SQL. Each method gives a predicate that is false for a missing or differently typed value."""

    def exists(self) -> Predicate: ...
    def equals(self, value: conditions.Scalar) -> Predicate: ...
    def among(self, values: Sequence[conditions.Scalar]) -> Predicate: ...
    def text(self, test: str, value: str) -> Predicate: ...
    def holds(self, value: conditions.Scalar) -> Predicate: ...
    def number(self, operator: str, value: float) -> Predicate: ...


def _compare(operand: _Operand, operator: conditions.Operator, value: Any) -> Predicate:
    match operator:
        case "is":
            return operand.equals(value)
        case "is_not":
            return sa.not_(operand.equals(value))
        case "in":
            return operand.among(value)
        case "not_in":
            return sa.not_(operand.among(value))
        case "exists":
            return operand.exists() if value else sa.not_(operand.exists())
        case "contains":
            listed = operand.holds(value)
            return sa.or_(operand.text("contains", value), listed) if isinstance(value, str) else listed
        case "starts_with" | "ends_with":
            return operand.text(operator, value)
        case "gt" | "gte" | "lt" | "lte":
            return operand.number(operator, value)


def _operand(name: str, dialect: str) -> _Operand:
    if name in _TEXT_COLUMNS:
        return _TextColumn(_TEXT_COLUMNS[name], dialect)
    if name == "opted_out":
        return _BooleanColumn()
    if name == "created_at":
        return _Time(users.c.created_at.is_not(None))
    if name.startswith("customerio."):
        return _Time(users.c.customerio[name.removeprefix("customerio.")].as_string().is_not(None))
    return _PostgresJson(name) if dialect == "postgresql" else _SqliteJson(name)


def _text_test(text: Any, test: str, value: str, dialect: str) -> Any:
    """Comparisons by case, without LIKE: its wildcards would have to be escaped, and SQLite's ignores case."""
    if test == "contains":
        find = sa.func.strpos if dialect == "postgresql" else sa.func.instr
        return find(text, value) > 0
    if test == "starts_with":
        return sa.func.substr(text, 1, len(value)) == value
    return sa.func.substr(text, sa.func.length(text) - len(value) + 1, len(value)) == value


def _number_test(number: Any, operator: str, value: Any) -> Any:
    return {"gt": number > value, "gte": number >= value, "lt": number < value, "lte": number <= value}[operator]


def _only_if(guard: Any, test: Any) -> Predicate:
    return sa.case((guard, sa.func.coalesce(test, sa.false())), else_=sa.false())


def _listed(values: Sequence[conditions.Scalar]) -> sa.Select[Any]:
    """The values as rows, on SQLite; one document, because it bounds the variables and the depth of a statement."""
    return sa.select(sa.func.json_each(database.dumps(values)).table_valued("value").c.value)


class _TextColumn:
    def __init__(self, column: sa.Column[Any], dialect: str) -> None:
        self.column, self.dialect = column, dialect

    def exists(self) -> Predicate:
        return self.column.is_not(None)

    def equals(self, value: conditions.Scalar) -> Predicate:
        if not isinstance(value, str):
            return sa.false()
        return sa.func.coalesce(self.column == value, sa.false())

    def among(self, values: Sequence[conditions.Scalar]) -> Predicate:
        texts = [each for each in values if isinstance(each, str)]
        if self.dialect == "sqlite":
            return sa.func.coalesce(self.column.in_(_listed(texts)), sa.false())
        return sa.func.coalesce(self.column == sa.any_(sa.literal(texts, sa.ARRAY(sa.Text))), sa.false())

    def text(self, test: str, value: str) -> Predicate:
        return sa.func.coalesce(_text_test(self.column, test, value, self.dialect), sa.false())

    def holds(self, value: conditions.Scalar) -> Predicate:
        return sa.false()

    def number(self, operator: str, value: float) -> Predicate:
        return sa.false()


class _BooleanColumn:
    def exists(self) -> Predicate:
        return sa.true()

    def equals(self, value: conditions.Scalar) -> Predicate:
        if not isinstance(value, bool):
            return sa.false()
        return users.c.opted_out.is_(value)

    def among(self, values: Sequence[conditions.Scalar]) -> Predicate:
        return sa.or_(sa.false(), *(self.equals(each) for each in (True, False) if any(each is one for one in values)))

    def text(self, test: str, value: str) -> Predicate:
        return sa.false()

    def holds(self, value: conditions.Scalar) -> Predicate:
        return sa.false()

    def number(self, operator: str, value: float) -> Predicate:
        return sa.false()


class _Time(_BooleanColumn):
    """A time is neither text nor number nor boolean: until conditions on time come, only its existence can be asked."""

    def __init__(self, known: Predicate) -> None:
        self.known = known

    def exists(self) -> Predicate:
        return self.known

    def equals(self, value: conditions.Scalar) -> Predicate:
        return sa.false()


class _SqliteJson:
    def __init__(self, name: str) -> None:
        path = "$" + "".join(f'."{part}"' for part in name.split("."))
        self.path = path
        self.type = sa.func.json_type(users.c.attributes, path)
        self.value: sa.ColumnElement[Any] = sa.func.json_extract(users.c.attributes, path)

    def exists(self) -> Predicate:
        return sa.func.coalesce(self.type != "null", sa.false())

    def equals(self, value: conditions.Scalar) -> Predicate:
        if isinstance(value, bool):
            return sa.func.coalesce(self.type == ("true" if value else "false"), sa.false())
        types = ["text"] if isinstance(value, str) else ["integer", "real"]
        return _only_if(self.type.in_(types), self.value == value)

    def among(self, values: Sequence[conditions.Scalar]) -> Predicate:
        texts = [each for each in values if isinstance(each, str)]
        numbers = [each for each in values if not isinstance(each, str | bool)]
        found: sa.ColumnElement[Any] = sa.case(
            (self.type == "text", self.value.in_(_listed(texts))),
            (self.type.in_(["integer", "real"]), self.value.in_(_listed(numbers))),
            *((self.type == word, any(each is one for one in values)) for word, each in _BOOLEANS),
            else_=sa.false(),
        )
        return sa.func.coalesce(found, sa.false())

    def text(self, test: str, value: str) -> Predicate:
        return _only_if(self.type == "text", _text_test(self.value, test, value, "sqlite"))

    def holds(self, value: conditions.Scalar) -> Predicate:
        each = sa.func.json_each(users.c.attributes, self.path).table_valued("value", "type")
        if isinstance(value, bool):
            found = each.c.type == ("true" if value else "false")
        else:
            types = ["text"] if isinstance(value, str) else ["integer", "real"]
            found = sa.and_(each.c.type.in_(types), each.c.value == value)
        return _only_if(self.type == "array", sa.exists(sa.select(1).select_from(each).where(found)))

    def number(self, operator: str, value: float) -> Predicate:
        return _only_if(self.type.in_(["integer", "real"]), _number_test(self.value, operator, value))


class _PostgresJson:
    def __init__(self, name: str) -> None:
        # Step by step: a path (`#>`) would take the step "0" into a list, which no other reading of a name does.
        *groups, last = (sa.cast(part, sa.Text) for part in name.split("."))
        inner: sa.ColumnElement[Any] = users.c.attributes
        for group in groups:
            inner = inner.op("->", return_type=JSONB())(group)
        self.value: sa.ColumnElement[Any] = inner.op("->", return_type=JSONB())(last)
        self.as_text: sa.ColumnElement[Any] = inner.op("->>", return_type=sa.Text())(last)
        self.type = sa.func.jsonb_typeof(self.value)

    def exists(self) -> Predicate:
        return sa.func.coalesce(self.type != "null", sa.false())

    def equals(self, value: conditions.Scalar) -> Predicate:
        return sa.func.coalesce(self.value == _json(value), sa.false())

    def among(self, values: Sequence[conditions.Scalar]) -> Predicate:
        documents = sa.literal([database.dumps(each) for each in values], sa.ARRAY(sa.Text))
        return sa.func.coalesce(self.value == sa.any_(sa.cast(documents, sa.ARRAY(JSONB))), sa.false())

    def text(self, test: str, value: str) -> Predicate:
        return _only_if(self.type == "string", _text_test(self.as_text, test, value, "postgresql"))

    def holds(self, value: conditions.Scalar) -> Predicate:
        return _only_if(self.type == "array", self.value.op("@>", return_type=sa.Boolean())(_json(value)))

    def number(self, operator: str, value: float) -> Predicate:
        number = sa.cast(self.as_text, sa.Numeric)
        # As a numeric too: beside a float PostgreSQL would round what is stored to one.
        exact = sa.cast(sa.literal(repr(value), sa.Text), sa.Numeric)
        return _only_if(self.type == "number", _number_test(number, operator, exact))


def _json(value: conditions.Scalar) -> sa.ColumnElement[Any]:
    return sa.cast(sa.literal(database.dumps(value), sa.Text), JSONB)


def sizes(connection: sa.Connection, settings: Settings) -> dict[str, int]:
    """How many users are in each segment now, in the settings' order."""
    dialect = connection.dialect.name
    return {
        name: connection.execute(
            sa.select(sa.func.count()).select_from(users).where(predicate(condition, dialect))
        ).scalar_one()
        for name, condition in settings.segments.items()
    }
