"""What every value that a condition compares can be asked, and what it is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

import sqlalchemy as sa

from connector.settings import Settings, conditions
from connector.store import database

Predicate = sa.ColumnElement[bool]


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


def text_test(text: Any, test: str, value: str, dialect: str) -> Any:
    """Comparisons by case, without LIKE: its wildcards would have to be escaped, and SQLite's ignores case."""
    if test == "contains":
        find = sa.func.strpos if dialect == "postgresql" else sa.func.instr
        return find(text, value) > 0
    if test == "starts_with":
        return sa.func.substr(text, 1, len(value)) == value
    return sa.func.substr(text, sa.func.length(text) - len(value) + 1, len(value)) == value


def number_test(number: Any, operator: str, value: Any) -> Any:
    """The comparison of two numbers that an operator stands for."""
    match operator:
        case "gt":
            return number > value
        case "gte":
            return number >= value
        case "lt":
            return number < value
    return number <= value


def listed(values: Sequence[conditions.Scalar]) -> sa.Select[Any]:
    """The values as rows, on SQLite; one document, because it bounds the variables and the depth of a statement."""
    return sa.select(sa.func.json_each(database.dumps(values)).table_valued("value").c.value)
