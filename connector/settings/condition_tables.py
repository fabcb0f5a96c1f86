"""How a segment's TOML table is read into conditions, with every problem of it at once.

A table holds exactly one of `all`, `any`, `none`, `attribute`, `event`, `segment`, `everyone`. An `attribute` goes with
exactly one operator, an `event` with a count, `within` and `where`, whose tables compare a `property` likewise.
"""

from __future__ import annotations

from typing import Any

from connector.settings import comparisons, names, references, values
from connector.settings.conditions import (
    FACTS,
    SYNCED,
    All,
    AnyOf,
    Attribute,
    Condition,
    Event,
    Everyone,
    NoneOf,
    Property,
    Reference,
    Segment,
)
from connector.settings.faults import Path, Problem, did_you_mean, kind, refused

_GROUPS: dict[str, type[All | AnyOf | NoneOf]] = {"all": All, "any": AnyOf, "none": NoneOf}
_KINDS = (*_GROUPS, "attribute", "event", "segment", "everyone")
_COUNTS = ("at_least", "at_most")
_OF_EVENTS = (*_COUNTS, "within", "where")
_KNOWN = tuple(dict.fromkeys((*_KINDS, *comparisons.OPERATORS, *_OF_EVENTS, "property", "internal")))
_EXAMPLE = '{ attribute = "plan", is = "pro" }'
_EVENT_EXAMPLE = '{ event = "Order Completed", at_least = 2, within = "30d" }'
_PROPERTY_EXAMPLE = '{ property = "total", gt = 20 }'

MOST_TIMES = 1_000_000


def read(raw: object) -> Segment:
    """A segment from its TOML table (a segment or a condition that is ready is taken as it is).

    Raises pydantic's error with every problem of the table at once.
    """
    if isinstance(raw, Segment):
        return raw
    if isinstance(raw, Everyone | Attribute | Event | Reference | All | AnyOf | NoneOf):
        return Segment(raw)
    problems: list[Problem] = []
    internal = False
    if isinstance(raw, dict) and "internal" in raw:
        internal = raw["internal"]
        raw = {key: value for key, value in raw.items() if key != "internal"}
        if not isinstance(internal, bool):
            problems.append(Problem(("internal",), f"must be true or false, is {kind(internal)}"))
    condition = _condition(raw, (), problems)
    if condition is None or problems:
        raise refused(*problems)
    return Segment(condition, internal)


def _condition(raw: object, where: Path, problems: list[Problem]) -> Condition | None:
    """Reads one table; adds what is wrong with it to `problems` and then returns None."""
    if not isinstance(raw, dict):
        problems.append(Problem(where, f"must be a condition such as {_EXAMPLE}, is {kind(raw)}"))
        return None
    if sum(isinstance(step, int) for step in where) > references.DEEPEST:
        problems.append(Problem(where, f"is nested more than {references.DEEPEST} deep"))
        return None
    kinds = [key for key in raw if key in _KINDS]
    for extra in kinds[1:]:
        message = f"a condition holds one of {comparisons.listed(_KINDS)}; this one holds `{kinds[0]}` already"
        problems.append(Problem((*where, extra), message))
    if not kinds:
        problems += _without_kind(raw, where)
        return None
    chosen = kinds[0]
    problems += _strays(raw, chosen, where)
    match chosen:
        case "attribute":
            return _attribute(raw, where, problems)
        case "event":
            return _event(raw, where, problems)
        case "segment":
            if not isinstance(raw["segment"], str):
                problems.append(Problem((*where, "segment"), f"must be text in quotes, is {kind(raw['segment'])}"))
            return Reference(raw["segment"])
        case "everyone":
            if raw["everyone"] is not True:
                problems.append(Problem((*where, "everyone"), f"can only be true, is {kind(raw['everyone'])}"))
            return Everyone()
    return _group(chosen, raw[chosen], (*where, chosen), problems)


def _strays(raw: dict[str, Any], chosen: str, where: Path) -> list[Problem]:
    """Keys that don't go with a condition of the chosen kind."""
    fitting = {"attribute": comparisons.OPERATORS, "property": comparisons.OPERATORS, "event": _OF_EVENTS}.get(
        chosen, ()
    )
    problems = []
    for key in raw:
        if key in _KINDS or key in fitting or key == chosen:
            continue
        if key not in _KNOWN:
            hint = did_you_mean(key, _KNOWN) or f", a condition holds one of {comparisons.listed(_KINDS)}"
            message = f"unknown key{hint}"
        elif key == "internal":
            message = "belongs to the whole segment, not to a condition in it"
        elif key == "property":
            message = "a `property` is compared in `where` of an `event`"
        elif key in comparisons.OPERATORS:
            message = f"`{key}` compares an `attribute`, it does not go with `{chosen}`"
        else:
            message = f"`{key}` goes with an `event`, not with `{chosen}`"
        problems.append(Problem((*where, key), message))
    return problems


def _without_kind(raw: dict[str, Any], where: Path) -> list[Problem]:
    """What is wrong with a table that says nothing of what it is about."""
    if unknown := [key for key in raw if key not in _KNOWN]:
        # One of them is what should have been the kind.
        return _strays(dict.fromkeys(unknown), "", where)
    if "property" in raw:
        return _strays({"property": None}, "", where)
    if operator := next((key for key in raw if key in comparisons.OPERATORS), None):
        return [Problem(where, f"`{operator}` needs an `attribute` to compare, as in {_EXAMPLE}")]
    if of_event := next((key for key in raw if key in _OF_EVENTS), None):
        return [Problem(where, f"`{of_event}` needs an `event`, as in {_EVENT_EXAMPLE}")]
    if "internal" in raw:
        return _strays({"internal": None}, "", where)
    return [Problem(where, f"must hold one of {comparisons.listed(_KINDS)}, as in {_EXAMPLE}")]


def _group(name: str, raw: object, where: Path, problems: list[Problem]) -> All | AnyOf | NoneOf | None:
    if not isinstance(raw, list):
        problems.append(Problem(where, f"must be a list of conditions, is {kind(raw)}"))
        return None
    if not raw:
        problems.append(Problem(where, "must hold at least one condition; `everyone = true` holds for all users"))
        return None
    if len(raw) > references.MOST:
        message = f"holds {len(raw):,} conditions, {references.MOST} are the most that a database takes"
        problems.append(Problem(where, message))
    read_ones = [_condition(each, (*where, index), problems) for index, each in enumerate(raw)]
    return _GROUPS[name](tuple(one for one in read_ones if one is not None))


def _attribute(raw: dict[str, Any], where: Path, problems: list[Problem]) -> Attribute | None:
    name = raw["attribute"]
    if not isinstance(name, str):
        problems.append(Problem((*where, "attribute"), f"must be text in quotes, is {kind(name)}"))
    elif fault := names.path_fault(name) or _fact_fault(name):
        problems.append(Problem((*where, "attribute"), fault))
    compared = comparisons.read(raw, "attribute", _KINDS, where, problems)
    return None if compared is None else Attribute(name, *compared)


def _fact_fault(name: str) -> str | None:
    """Why this is no fact that is known of a person at Customer.io; None when it is one, or another attribute."""
    group, _, fact = name.partition(".")
    known = (SYNCED, *FACTS)
    if group != "customerio" or not fact or fact in known:
        return None
    hint = did_you_mean(fact, known) or f", but {comparisons.listed(known)}"
    return f"nothing of that name is learnt from Customer.io{hint}"


def _event(raw: dict[str, Any], where: Path, problems: list[Problem]) -> Event:
    name = raw["event"]
    if not isinstance(name, str) or not name:
        problems.append(Problem((*where, "event"), f"must be text in quotes, is {kind(name)}"))
    elif fault := "must not contain a NUL character" if "\0" in name else None:
        problems.append(Problem((*where, "event"), fault))
    elif len(name) > values.LONGEST_EVENT_NAME:
        message = f"must be a name of 1 to {values.LONGEST_EVENT_NAME} characters"
        problems.append(Problem((*where, "event"), message))
    counts = [key for key in raw if key in _COUNTS]
    for extra in counts[1:]:
        message = f"counts with `{counts[0]}` already; put the second count into its own condition"
        problems.append(Problem((*where, extra), message))
    for count in counts:
        fewest = _COUNTS.index("at_most") - _COUNTS.index(count)  # "at most 0" is never; "at least 0" is everybody
        times = raw[count]
        if isinstance(times, bool) or not isinstance(times, int):
            problems.append(Problem((*where, count), f"must be a whole number, is {kind(times)}"))
        elif not fewest <= times <= MOST_TIMES:
            problems.append(Problem((*where, count), f"must be {fewest} to {MOST_TIMES:,}, is {times}"))
    window = comparisons.duration(raw["within"], (*where, "within"), problems) if "within" in raw else None
    filters = _filters(raw["where"], (*where, "where"), problems) if "where" in raw else ()
    at_most = raw.get("at_most")
    return Event(name, None if at_most is not None else raw.get("at_least", 1), at_most, window, filters)


def _filters(raw: object, where: Path, problems: list[Problem]) -> tuple[Property, ...]:
    if not isinstance(raw, list) or not raw:
        problems.append(Problem(where, f"must be a list of conditions such as {_PROPERTY_EXAMPLE}, is {kind(raw)}"))
        return ()
    filters = []
    for index, each in enumerate(raw):
        place = (*where, index)
        if not isinstance(each, dict) or "property" not in each:
            problems.append(Problem(place, f"must be a condition on a property such as {_PROPERTY_EXAMPLE}"))
            continue
        name = each["property"]
        if not isinstance(name, str):
            problems.append(Problem((*place, "property"), f"must be text in quotes, is {kind(name)}"))
        elif fault := names.path_fault(name):
            problems.append(Problem((*place, "property"), fault))
        others = [key for key in each if key in _KINDS]
        problems += [Problem((*place, key), "`where` holds conditions on a `property` and no others") for key in others]
        problems += _strays(each, "property", place)
        compared = comparisons.read(each, "property", ("property",), place, problems)
        if compared is not None:
            filters.append(Property(name, *compared))
    return tuple(filters)
