"""Segments for a terminal: sizes, members, and conditions in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any, Protocol

import msgspec

from connector.settings import All, AnyOf, Attribute, Condition, Event, Everyone, NoneOf, Property, Reference, values


class Verdict(Protocol):
    """Whether a condition holds, and those that it is made of."""

    @property
    def condition(self) -> Condition: ...
    @property
    def holds(self) -> bool: ...
    @property
    def inner(self) -> Sequence[Verdict]: ...


def sizes(listed: Sequence[dict[str, Any]]) -> Iterator[str]:
    """A line for each segment."""
    if not listed:
        yield "the settings name no segments"
    width = max((len(each["name"]) for each in listed), default=0)
    for each in listed:
        flags = [flag for flag in ("whitelisted", "internal") if each[flag]]
        yield f"{each['name']:<{width}}  {each['users']:>9,} users  {', '.join(flags)}".rstrip()


def member(found: dict[str, Any]) -> str:
    """A line for a user of a segment."""
    return f"{found['id']}  {found['external_id'] or '-':<20}  {found['email'] or '-'}"


def inside(found: Mapping[str, bool]) -> Iterator[str]:
    """A line for each segment: whether a user is in it."""
    for name, holds in found.items():
        yield f"{'yes' if holds else 'no':<3}  {name}"


def verdict(found: Verdict, depth: int = 0) -> Iterator[str]:
    """A line for the condition, and lines for those in it, further in."""
    yield f"{'yes' if found.holds else 'no':<3}  {'  ' * depth}{words(found.condition)}"
    for each in found.inner:
        yield from verdict(each, depth + 1)


def words(condition: Condition) -> str:
    """A condition as it would be said; of a group only which one it is."""
    match condition:
        case Everyone():
            return "everyone"
        case All():
            return "all of"
        case AnyOf():
            return "at least one of"
        case NoneOf():
            return "none of"
        case Reference(segment):
            return f"in the segment {_written(segment)}"
        case Attribute(name, operator, value):
            return _compared(name, operator, value)
        case Event():
            return _event(condition)


def _event(condition: Event) -> str:
    if condition.at_most == 0:
        told = f"never {_written(condition.event)}"
    elif condition.at_most is not None:
        told = f"{_written(condition.event)} at most {condition.at_most:,} times"
    elif condition.at_least == 1:
        told = _written(condition.event)
    else:
        told = f"{_written(condition.event)} at least {condition.at_least:,} times"
    if condition.within is not None:
        told += f" within the last {values.duration_text(condition.within)}"
    return told + (f" where {' and '.join(map(_property, condition.where))}" if condition.where else "")


def _property(condition: Property) -> str:
    return _compared(condition.property, condition.operator, condition.value)


def _compared(name: str, operator: str, value: Any) -> str:
    if isinstance(value, timedelta):
        window = "within the next" if operator == "within_next" else f"{operator.replace('_', ' ')} the last"
        return f"{name} {window} {values.duration_text(value)}"
    if operator == "exists":
        return f"{name} {'exists' if value else 'does not exist'}"
    listed = ", ".join(map(_written, value)) if isinstance(value, tuple) else _written(value)
    return f"{name} {operator.replace('_', ' ')} {listed}"


def _written(value: Any) -> str:
    return msgspec.json.encode(value).decode()
