"""One condition, one predicate over `users`.

A predicate is true or not true, where NULL is as good as false: AND and OR keep that. Negations are moved inwards to
single comparisons, which are made certain before they are negated: so a negation is the exact complement, and
conditions that nest deeply stay within what SQLite's parser takes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import sqlalchemy as sa

from connector.settings import conditions
from connector.store import schema
from connector.store.schema import events, users
from connector.store.segments import operands
from connector.store.segments.operand import Operand, Predicate, Scope

_PART = 20
_NEGATIONS: dict[conditions.Operator, conditions.Operator] = {"is_not": "is", "not_in": "in", "not_within": "within"}


def of(condition: conditions.Condition, scope: Scope, *, wanted: bool = True) -> Predicate:
    """The predicate over `users` of those for whom the condition holds, or doesn't when it is not `wanted`."""
    match condition:
        case conditions.Everyone():
            return sa.true() if wanted else sa.false()
        case conditions.All(inner):
            several = [of(each, scope, wanted=wanted) for each in inner]
            return _every(several) if wanted else _any(several)
        case conditions.AnyOf(inner):
            several = [of(each, scope, wanted=wanted) for each in inner]
            return _any(several) if wanted else _every(several)
        case conditions.NoneOf(inner):
            return of(conditions.AnyOf(inner), scope, wanted=not wanted)
        case conditions.Attribute(name):
            return _compare(operands.attribute(name, scope), condition, scope, wanted=wanted)
        case conditions.Event():
            return _event(condition, scope, wanted=wanted)
        case conditions.Reference(name):
            return of(scope.settings.segments[name].condition, scope, wanted=wanted)


def _every(several: Sequence[Predicate]) -> Predicate:
    return sa.and_(sa.true(), *_in_parts(several, _every))


def _any(several: Sequence[Predicate]) -> Predicate:
    return sa.or_(sa.false(), *_in_parts(several, _any))


def _in_parts(several: Sequence[Predicate], join: Callable[[Sequence[Predicate]], Predicate]) -> Sequence[Predicate]:
    """Many of them as a few: a long chain is a deep expression to SQLite, which takes none deeper than 1,000."""
    if len(several) <= _PART:
        return several
    parts = (join(several[start : start + _PART]) for start in range(0, len(several), _PART))
    return [sa.case((part, sa.true()), else_=sa.false()) for part in parts]


def _compare(
    operand: Operand,
    condition: conditions.Attribute | conditions.Property,
    scope: Scope,
    *,
    wanted: bool = True,
) -> Predicate:
    operator, value = condition.operator, condition.value
    if operator in _NEGATIONS:
        operator, wanted = _NEGATIONS[operator], not wanted
    if operator == "exists":
        wanted = wanted == value
    holds = _holds(operand, operator, value, scope)
    return holds if wanted else sa.not_(sa.func.coalesce(holds, sa.false()))


def _holds(operand: Operand, operator: conditions.Operator, value: Any, scope: Scope) -> Predicate:
    match operator:
        case "is":
            return operand.equals(value)
        case "in":
            return operand.among(value)
        case "exists":
            return operand.exists()
        case "contains":
            listed = operand.holds(value)
            return sa.or_(operand.text("contains", value), listed) if isinstance(value, str) else listed
        case "starts_with" | "ends_with":
            return operand.text(operator, value)
        case "gt" | "gte" | "lt" | "lte":
            return operand.number(operator, value)
        case "within":
            return operand.happened(scope.now - value, scope.now)
        case "within_next":
            return operand.happened(scope.now, scope.now + value)
        case "is_not" | "not_in" | "not_within":
            raise AssertionError(operator)  # taken for the comparison that it negates


def _event(condition: conditions.Event, scope: Scope, *, wanted: bool) -> Predicate:
    """Looks no further than the last event that it takes to know."""
    matching = [events.c.user_id == users.c.id, events.c.name == condition.event, schema.EVENT_NAME_IS_INDEXED]
    if condition.within is not None:
        matching += [events.c.occurred_at > scope.now - condition.within, events.c.occurred_at <= scope.now]
    filters = [_compare(operands.event_property(each.property, scope), each, scope) for each in condition.where]
    matching.append(_every(filters))
    found: sa.Select[Any] = sa.select(sa.literal_column("1")).select_from(events).where(*matching).correlate(users)
    times, at_least = condition.at_least, True
    if condition.at_most is not None:
        times, at_least = condition.at_most + 1, False
    if times is not None and times > 1:
        found = found.limit(1).offset(times - 1)
    return sa.exists(found) if at_least == wanted else sa.not_(sa.exists(found))
