"""Holds what the file says against the model, and finds everything that is wrong in one look.

What must agree with what can only be judged when each value is right. So wrong values are set aside, the rest is
judged again, and what follows only from a value that was set aside stays unsaid.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from connector.settings import Pick, Settings
from connector.settings import faults as faults
from connector.settings.faults import Path, Problem

# For a list from which entries were set aside: the old index of each that is left.
_Numbers = dict[Path, list[int]]


def review(raw: dict[str, Any], known: Iterable[Problem]) -> tuple[Settings | None, list[Problem]]:
    """The settings, or all problems, the `known` ones first. `raw` is not changed."""
    problems = list(known)
    rest, numbers = raw, _Numbers()
    for _ in ("each value", "what must agree"):
        try:
            settings = Settings.model_validate(rest)
        except ValidationError as error:
            wrong = list(faults.found(error))
        else:
            return (None if problems else settings), problems
        told = [problem.where for problem in problems]
        for where, message in wrong:
            original = _renumbered(where, numbers)
            if not any(_overlap(original, other) for other in told):
                problems.append(Problem(original, message or _unknown_key(original)))
        rest, numbers = _without(rest, [where for where, _ in wrong])
    return None, problems


def _overlap(one: Path, other: Path) -> bool:
    """Whether one place holds the other."""
    shorter = min(len(one), len(other))
    return one[:shorter] == other[:shorter]


def _without(raw: dict[str, Any], places: Iterable[Path]) -> tuple[dict[str, Any], _Numbers]:
    """A copy without what stands at the places, so that defaults take over."""
    rest = copy.deepcopy(raw)
    gone: dict[Path, set[int]] = {}
    for where in places:
        if where[:1] == ("segments",) and len(where) > 1:
            # A segment stays under its name, so that those who name it aren't blamed.
            rest["segments"][where[1]] = {"everyone": True}
        else:
            _set_aside(rest, where, gone)
    numbers: _Numbers = {}
    for where, indexes in gone.items():
        entries = _at(rest, where)
        numbers[where] = [index for index in range(len(entries)) if index not in indexes]
        entries[:] = [entries[index] for index in numbers[where]]
    return rest, numbers


def _set_aside(rest: dict[str, Any], where: Path, gone: dict[Path, set[int]]) -> None:
    holder: Any = rest
    for depth, step in enumerate(where):
        if isinstance(holder, list) and isinstance(step, int):
            gone.setdefault(where[:depth], set()).add(step)
            return
        if not isinstance(holder, dict) or step not in holder:
            return
        inner = holder[step]
        if depth == len(where) - 1 or not isinstance(inner, dict | list):
            del holder[step]
            return
        holder = inner


def _at(raw: Any, where: Path) -> Any:
    for step in where:
        raw = raw[step]
    return raw


def _renumbered(where: Path, numbers: Mapping[Path, list[int]]) -> Path:
    """A place in what is left, as a place in the whole."""
    for entries, kept in numbers.items():
        depth = len(entries)
        if where[:depth] == entries and len(where) > depth and isinstance(index := where[depth], int):
            return (*entries, kept[index], *where[depth + 1 :])
    return where


def _unknown_key(where: Path) -> str:
    """What to say about a key that the model doesn't have at this place."""
    *_, key = where
    table = where[:-1]
    if table[:2] == ("people", "attributes"):
        own = sorted(field.alias or name for name, field in Pick.model_fields.items())
        return f"unknown key{faults.did_you_mean(str(key), own) or _known(own)}"
    tables = _tables()
    own = tables[table]
    hint = faults.did_you_mean(str(key), own)
    homes = [other for other, keys in tables.items() if other and key in keys]
    if homes:
        belongs = " or ".join(map(_header, homes))
        return f"unknown key here, it belongs to {belongs}{hint}"
    if hint:
        return f"unknown {'key' if table else 'key or table'}{hint}"
    elsewhere = {name: other for other, keys in tables.items() for name in keys}
    if meant := faults.near(str(key), elsewhere):
        return f"unknown key; did you mean {faults.quoted(meant)}, which belongs to {_header(elsewhere[meant])}?"
    return f"unknown key{_known(own)}"


def _known(keys: Iterable[str]) -> str:
    return f"; known here: {', '.join(keys)}"


def _header(table: Path) -> str:
    return f"[{faults.written(table)}]"


def _tables() -> dict[Path, list[str]]:
    """The keys of each table that has fixed ones; () is the top of the file."""
    tables: dict[Path, list[str]] = {(): list(Settings.model_fields)}
    for name, field in Settings.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            tables[name,] = list(field.annotation.model_fields)
    return tables
