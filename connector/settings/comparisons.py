"""The comparing half of a condition's table: one operator and a value that it can compare with."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Any, cast, get_args

from pydantic_core import PydanticCustomError

from connector.settings import values
from connector.settings.conditions import Operator, Scalar, Value
from connector.settings.faults import Path, Problem, kind

OPERATORS: tuple[str, ...] = get_args(Operator)
_DURATIONS = ("within", "not_within", "within_next")


def read(
    raw: dict[str, Any], subject: str, others: tuple[str, ...], where: Path, problems: list[Problem]
) -> tuple[Operator, Value] | None:
    """The operator of a table and its value. Without one, any key that is none of `others` is what should have been
    one, and is told already."""
    operators = [key for key in raw if key in OPERATORS]
    if not operators:
        if raw.keys() <= set(others):
            problems.append(Problem(where, f"`{subject}` goes with one of {listed(OPERATORS)}"))
        return None
    for extra in operators[1:]:
        message = f"compares with `{operators[0]}` already; put the second comparison into its own condition"
        problems.append(Problem((*where, extra), message))
    operator = operators[0]
    value = raw[operator]
    place = (*where, operator)
    if operator in _DURATIONS:
        return cast("Operator", operator), duration(value, place, problems) or timedelta()
    if operator in ("in", "not_in") and isinstance(value, list):
        return cast("Operator", operator), _compared_list(value, place, problems)
    if fault := _value_fault(operator, value):
        problems.append(Problem(place, fault))
    return cast("Operator", operator), value


def duration(value: object, where: Path, problems: list[Problem]) -> timedelta | None:
    try:
        return values.duration(value)
    except PydanticCustomError as error:
        problems.append(Problem(where, error.message()))
        return None


def _compared_list(given: list[object], where: Path, problems: list[Problem]) -> tuple[Scalar, ...]:
    if not given:
        problems.append(Problem(where, "must hold at least one value"))
    for index, value in enumerate(given):
        if fault := _scalar_fault(value):
            problems.append(Problem((*where, index), fault))
    return cast("tuple[Scalar, ...]", tuple(given))


def _value_fault(operator: str, value: object) -> str | None:
    """Why a condition can't compare with this value; None when it can."""
    match operator:
        case "in" | "not_in":
            return f"must be a list, is {kind(value)}"
        case "exists":
            return None if isinstance(value, bool) else f"must be true or false, is {kind(value)}"
        case "gt" | "gte" | "lt" | "lte":
            if isinstance(value, bool) or not isinstance(value, int | float):
                return f"must be a number, is {kind(value)}"
        case "starts_with" | "ends_with":
            if not isinstance(value, str) or not value:
                return f"must be text in quotes, is {kind(value)}"
    return _scalar_fault(value)


def _scalar_fault(value: object) -> str | None:
    match value:
        case bool():
            return None
        case str():
            # PostgreSQL's text can't hold it, and no stored attribute does.
            return "must not contain a NUL character" if "\0" in value else None
        case int():
            # Beyond, the databases' integers overflow.
            return None if -(2**63) <= value < 2**63 else "must fit into 64 bits"
        case float():
            return None if math.isfinite(value) else f"must be a number, is {kind(value)}"
    return f"must be text, a number, true or false, is {kind(value)}"


def listed(words: tuple[str, ...]) -> str:
    """The words as a sentence quotes them."""
    return ", ".join(f"`{word}`" for word in words)
