"""The conditions that make a segment, as records. What a condition means for a user is decided in SQL alone, by the
store; `condition_tables` reads them from the settings' tables, `plain` writes them back.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal, TypeAlias

from connector.settings import values
from connector.settings.faults import Path

Operator: TypeAlias = Literal[
    "is",
    "is_not",
    "in",
    "not_in",
    "contains",
    "starts_with",
    "ends_with",
    "exists",
    "gt",
    "gte",
    "lt",
    "lte",
    "within",
    "not_within",
    "within_next",
]
Scalar: TypeAlias = str | bool | int | float
Value: TypeAlias = Scalar | tuple[Scalar, ...] | timedelta


@dataclass(frozen=True, slots=True)
class Everyone:
    """Holds for every user."""


@dataclass(frozen=True, slots=True)
class Attribute:
    """Compares one attribute; `attribute` is a dotted path.

    `value` is a tuple of scalars for `in` and `not_in`, a boolean for `exists`, text for `starts_with` and
    `ends_with`, a number (never a boolean) for `gt` to `lte`, a duration for `within`, `not_within` and `within_next`,
    else any scalar.
    """

    attribute: str
    operator: Operator
    value: Value


@dataclass(frozen=True, slots=True)
class Property:
    """Compares one property of an event, as `Attribute` does an attribute."""

    property: str
    operator: Operator
    value: Value


@dataclass(frozen=True, slots=True)
class Event:
    """Counts a user's events of this name, of the last `within`, for which all of `where` hold.

    Exactly one of `at_least` and `at_most` is set.
    """

    event: str
    at_least: int | None = 1
    at_most: int | None = None
    within: timedelta | None = None
    where: tuple[Property, ...] = ()


@dataclass(frozen=True, slots=True)
class Reference:
    """Holds for who is in another segment."""

    segment: str


@dataclass(frozen=True, slots=True)
class All:
    """Holds when each of its conditions does; there is at least one."""

    conditions: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class AnyOf:
    """Holds when at least one of its conditions does; there is at least one."""

    conditions: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class NoneOf:
    """The exact complement of `AnyOf`: a user for whom nothing is known is in it."""

    conditions: tuple[Condition, ...]


Condition: TypeAlias = Everyone | Attribute | Event | Reference | All | AnyOf | NoneOf


@dataclass(frozen=True, slots=True)
class Segment:
    """A named set of users: those for whom the condition holds. The name of an internal one is not sent."""

    condition: Condition
    internal: bool = False


# Attributes under `customerio.`: the times that its webhooks report, and when we last sent something.
FACTS = ("delivered_at", "opened_at", "clicked_at", "bounced_at", "spammed_at")
SYNCED = "synced_at"


def plain(segment: Segment) -> dict[str, object]:
    """The table that reads back into this segment; equal segments give equal tables."""
    return _plain(segment.condition) | ({"internal": True} if segment.internal else {})


def _plain(condition: Condition) -> dict[str, object]:
    match condition:
        case Everyone():
            return {"everyone": True}
        case Attribute(attribute, operator, value):
            return {"attribute": attribute, operator: _plain_value(value)}
        case Event():
            return _plain_event(condition)
        case Reference(segment):
            return {"segment": segment}
        case All(conditions):
            return {"all": [_plain(each) for each in conditions]}
        case AnyOf(conditions):
            return {"any": [_plain(each) for each in conditions]}
        case NoneOf(conditions):
            return {"none": [_plain(each) for each in conditions]}


def _plain_event(condition: Event) -> dict[str, object]:
    table: dict[str, object] = {"event": condition.event}
    if condition.at_most is not None:
        table["at_most"] = condition.at_most
    else:
        table["at_least"] = condition.at_least
    if condition.within is not None:
        table["within"] = values.duration_text(condition.within)
    if condition.where:
        table["where"] = [{"property": one.property, one.operator: _plain_value(one.value)} for one in condition.where]
    return table


def _plain_value(value: Value) -> object:
    if isinstance(value, timedelta):
        return values.duration_text(value)
    return list(value) if isinstance(value, tuple) else value


def inner(condition: Condition) -> Iterator[tuple[Path, Condition]]:
    """The conditions that this one holds directly, each with its place in the condition's table."""
    match condition:
        case All(held):
            name = "all"
        case AnyOf(held):
            name = "any"
        case NoneOf(held):
            name = "none"
        case _:
            return
    for index, each in enumerate(held):
        yield (name, index), each
