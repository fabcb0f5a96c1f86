"""The conditions that make a segment: their records, and how a TOML table is read into them.

A table holds exactly one of `all`, `any`, `none`, `attribute`, `everyone`; an `attribute` goes with exactly
one operator. What a condition means for a user is decided in SQL alone, by the store.
"""

from __future__ import annotations

import math
import unicodedata
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, cast, get_args

from connector.settings.faults import Path, Problem, did_you_mean, kind, refused

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
]
Scalar: TypeAlias = str | bool | int | float


@dataclass(frozen=True, slots=True)
class Everyone:
    """Holds for every user."""


@dataclass(frozen=True, slots=True)
class Attribute:
    """Compares one attribute; `attribute` is a dotted path.

    `value` is a tuple of scalars for `in` and `not_in`, a boolean for `exists`, text for `starts_with` and
    `ends_with`, a number (never a boolean) for `gt` to `lte`, else any scalar.
    """

    attribute: str
    operator: Operator
    value: Scalar | tuple[Scalar, ...]


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


Condition: TypeAlias = Everyone | Attribute | All | AnyOf | NoneOf

# Times that Customer.io's webhooks report; attributes under these names with `customerio.` before them.
FACTS = ("delivered_at", "opened_at", "clicked_at", "bounced_at", "spammed_at")

_OPERATORS: tuple[str, ...] = get_args(Operator)
_GROUPS: dict[str, type[All | AnyOf | NoneOf]] = {"all": All, "any": AnyOf, "none": NoneOf}
_KINDS = (*_GROUPS, "attribute", "everyone")
_LATER = ("event", "segment", "internal", "within", "not_within", "within_next")
_EVENT_ONLY = ("at_least", "at_most", "where", "within", "property")
_EXAMPLE = '{ attribute = "plan", is = "pro" }'
_NOTHING = "must hold one of `all`, `any`, `none`, `attribute`, `everyone`"

# Deeper ones are a mistake, and would meet the limits of SQL parsers.
_DEEPEST = 20
_MOST = 500


def read(raw: object) -> Condition:
    """The condition of a segment from its TOML table (a ready condition is passed on).

    Raises pydantic's error with every problem of the table at once.
    """
    if isinstance(raw, Everyone | Attribute | All | AnyOf | NoneOf):
        return raw
    problems: list[Problem] = []
    condition = _condition(raw, (), problems)
    if condition is None or problems:
        raise refused(*problems)
    return condition


def plain(condition: Condition) -> dict[str, object]:
    """The table that reads back into this condition; equal conditions give equal tables."""
    match condition:
        case Everyone():
            return {"everyone": True}
        case Attribute(attribute, operator, value):
            return {"attribute": attribute, operator: list(value) if isinstance(value, tuple) else value}
        case All(conditions):
            return {"all": [plain(each) for each in conditions]}
        case AnyOf(conditions):
            return {"any": [plain(each) for each in conditions]}
        case NoneOf(conditions):
            return {"none": [plain(each) for each in conditions]}


def attribute_name_fault(name: str) -> str | None:
    """Why this can't be the dotted path of an attribute; None when it can."""
    if not all(name.split(".")):
        return "must be the name of an attribute, with no empty part between its dots" if name else "is empty"
    if any(c in '"\\' or unicodedata.category(c) == "Cc" for c in name):
        return "must not contain a double quote, a backslash or a control character"
    return None


def _fact_fault(name: str) -> str | None:
    """Why this is no fact that Customer.io reports; None when it is one, or another attribute."""
    group, _, fact = name.partition(".")
    if group != "customerio" or not fact or fact in FACTS:
        return None
    if fact == "synced_at":
        return "conditions on customerio.synced_at are not yet supported in this version"
    return f"nothing of that name is learnt from Customer.io{did_you_mean(fact, FACTS) or ', but ' + _listed(FACTS)}"


def _condition(raw: object, where: Path, problems: list[Problem]) -> Condition | None:
    """Reads one table; adds what is wrong with it to `problems` and then returns None."""
    if not isinstance(raw, dict):
        problems.append(Problem(where, f"must be a condition such as {_EXAMPLE}, is {kind(raw)}"))
        return None
    if sum(isinstance(step, int) for step in where) > _DEEPEST:
        problems.append(Problem(where, f"is nested more than {_DEEPEST} deep"))
        return None
    before = len(problems)
    _unreadable_keys(raw, where, problems)
    kinds = [key for key in raw if key in _KINDS]
    operators = [key for key in raw if key in _OPERATORS]
    for extra in kinds[1:]:
        message = f"a condition holds one of {_listed(_KINDS)}; this one holds `{kinds[0]}` already"
        problems.append(Problem((*where, extra), message))
    if not kinds:
        # An unknown or later key is what should have been one, and is told already.
        if len(problems) == before:
            fault = f"`{operators[0]}` needs an `attribute` to compare" if operators else _NOTHING
            problems.append(Problem(where, f"{fault}, as in {_EXAMPLE}"))
        return None
    if kinds[0] == "attribute":
        return _attribute(raw, operators, where, problems)
    for operator in operators:
        message = f"`{operator}` compares an `attribute`, it does not go with `{kinds[0]}`"
        problems.append(Problem((*where, operator), message))
    if kinds[0] == "everyone":
        if raw["everyone"] is not True:
            problems.append(Problem((*where, "everyone"), f"can only be true, is {kind(raw['everyone'])}"))
        return Everyone()
    return _group(kinds[0], raw[kinds[0]], (*where, kinds[0]), problems)


def _unreadable_keys(raw: dict[str, Any], where: Path, problems: list[Problem]) -> None:
    for key in raw:
        if key in _KINDS or key in _OPERATORS or ("event" in raw and key in _EVENT_ONLY):
            continue
        if key in _LATER:
            message = f"conditions with `{key}` are not yet supported in this version"
        else:
            known = (*_KINDS, *_OPERATORS, *_LATER)
            message = f"unknown key{did_you_mean(key, known) or ', a condition holds one of ' + _listed(_KINDS)}"
        problems.append(Problem((*where, key), message))


def _group(name: str, raw: object, where: Path, problems: list[Problem]) -> All | AnyOf | NoneOf | None:
    if not isinstance(raw, list):
        problems.append(Problem(where, f"must be a list of conditions, is {kind(raw)}"))
        return None
    if not raw:
        problems.append(Problem(where, "must hold at least one condition; `everyone = true` holds for all users"))
        return None
    if len(raw) > _MOST:
        problems.append(Problem(where, f"holds {len(raw):,} conditions, {_MOST} are the most that a database takes"))
    read_ones = [_condition(each, (*where, index), problems) for index, each in enumerate(raw)]
    return _GROUPS[name](tuple(one for one in read_ones if one is not None))


def _attribute(raw: dict[str, Any], operators: list[str], where: Path, problems: list[Problem]) -> Attribute | None:
    name = raw["attribute"]
    if not isinstance(name, str):
        problems.append(Problem((*where, "attribute"), f"must be text in quotes, is {kind(name)}"))
    elif fault := attribute_name_fault(name) or _fact_fault(name):
        problems.append(Problem((*where, "attribute"), fault))
    if not operators:
        if raw.keys() <= set(_KINDS):  # any other key is what should have been one, and is told already
            problems.append(Problem(where, f"`attribute` goes with one of {_listed(_OPERATORS)}"))
        return None
    for extra in operators[1:]:
        message = f"compares with `{operators[0]}` already; put the second comparison into its own condition"
        problems.append(Problem((*where, extra), message))
    operator = operators[0]
    value = raw[operator]
    if isinstance(value, list) and operator in ("in", "not_in"):
        return _compared_list(name, operator, value, (*where, operator), problems)
    if fault := _value_fault(operator, value):
        problems.append(Problem((*where, operator), fault))
    return Attribute(name, cast("Operator", operator), value)


def _compared_list(
    name: str, operator: str, values: list[object], where: Path, problems: list[Problem]
) -> Attribute | None:
    if not values:
        problems.append(Problem(where, "must hold at least one value"))
        return None
    for index, value in enumerate(values):
        if fault := _scalar_fault(value):
            problems.append(Problem((*where, index), fault))
    return Attribute(name, cast("Operator", operator), cast("tuple[Scalar, ...]", tuple(values)))


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


def _listed(words: tuple[str, ...]) -> str:
    return ", ".join(f"`{word}`" for word in words)
