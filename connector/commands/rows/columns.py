"""The columns of a CSV: what the header calls them, and what their cells hold.

A column is text unless all of its cells are whole numbers, numbers, or true and false; numbers with leading zeros are
text too, because they are somebody's postcode. Columns with a meaning of their own are always text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from connector import errors
from connector.commands.rows import Shape, fields
from connector.core import document

Type = Literal["text", "integer", "number", "boolean"]

TYPES: tuple[Type, ...] = get_args(Type)

_GUESSES: tuple[tuple[Type, re.Pattern[str]], ...] = (
    ("integer", re.compile(r"-?(0|[1-9]\d{0,14})", re.ASCII)),
    ("number", re.compile(r"-?(0|[1-9]\d{0,14})(\.\d{1,17})?", re.ASCII)),
    ("boolean", re.compile(r"true|false", re.ASCII | re.IGNORECASE)),
)
_INTEGER = re.compile(r"[+-]?\d{1,100}", re.ASCII)
_NUMBER = re.compile(r"[+-]?\d{1,100}(\.\d{1,100})?([eE][+-]?\d{1,2})?", re.ASCII)
_BOOLEAN = re.compile(r"true|false", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Column:
    """`name` as the row has it; `path` is the same, cut at its dots. A column without a name holds nothing."""

    name: str
    path: tuple[str, ...]
    type: Type


def named(
    header: Sequence[str], shape: Shape, renamed: Mapping[str, str], types: Mapping[str, Type], file: str
) -> tuple[Column, ...]:
    """The columns as header and options name them; those that `types` leaves open are text for now.

    Raises Misconfigured when rows of this shape can't be made of them.
    """
    given = [cell.strip() for cell in header]
    _require_present(renamed, [each.lower() for each in given], "--map", file)
    names = [_meant(renamed.get(each.lower(), each), shape) for each in given]
    if repeated := sorted({each for each in names if each and names.count(each) > 1}):
        raise errors.Misconfigured(f"{file} names a column twice: {', '.join(repeated)}")
    _require_present(types, names, "--types", file)
    columns = tuple(Column(each, _path(each), types.get(each, "text")) for each in names)
    _require_shape(columns, shape, file)
    return columns


def _meant(name: str, shape: Shape) -> str:
    """Names that mean something here are known in any case."""
    lower = name.lower()
    if lower in shape.plain:
        return lower
    group, dot, rest = name.partition(".")
    return f"{group.lower()}.{rest}" if dot and group.lower() in shape.groups else name


def _path(name: str) -> tuple[str, ...]:
    parts = tuple(name.split("."))
    return parts if all(parts) else (name,)


def _require_present(options: Mapping[str, Any], names: Sequence[str], option: str, file: str) -> None:
    if absent := [each for each in options if each not in names]:
        raise errors.Misconfigured(
            f"{option}: {file} has no column {', '.join(absent)}; it has {', '.join(each for each in names if each)}"
        )


def _require_shape(columns: Sequence[Column], shape: Shape, file: str) -> None:
    names = [each.name for each in columns]
    if not set(names) & set(fields.IDENTIFIERS):
        raise errors.Misconfigured(
            f"{file} needs a column external_id, email or anonymous_id (`--map 'Customer No=external_id'` renames one)"
        )
    if absent := [each for each in shape.needed if each not in names]:
        raise errors.Misconfigured(f"{file} needs a column {' and '.join(absent)} (`--map 'Its header=NAME'` renames)")
    if any(len(each.path) >= document.MAX_DEPTH for each in columns):
        raise errors.Misconfigured(f"{file} has a header with {document.MAX_DEPTH} dots or more")
    if shape.open:
        return
    for each in columns:
        if each.name and each.name not in shape.plain and not (each.path[0] in shape.groups and len(each.path) > 1):
            raise errors.Misconfigured(
                f"{file}: unknown_column: {each.name} is no part of {shape.what}; if it is a property, "
                f"add --map '{each.name}=properties.{each.name}'"
            )


class Guess:
    """What the columns hold, from all of their cells."""

    def __init__(self, columns: Sequence[Column], shape: Shape, fixed: Mapping[str, Type]) -> None:
        self._columns = columns
        self._seen = [False] * len(columns)
        settled = [each.name in shape.plain or each.name in fixed for each in columns]
        self._possible = [() if is_settled else _GUESSES for is_settled in settled]

    def look(self, rows: Sequence[Sequence[str]]) -> None:
        """Takes in rows that have a cell for every column."""
        for column, cells in enumerate(zip(*rows, strict=True)):
            given = set(cells)
            given.discard("")
            if not given:
                continue
            self._seen[column] = True
            possible = self._possible[column]
            if possible:
                self._possible[column] = tuple(each for each in possible if all(map(each[1].fullmatch, given)))

    def columns(self, file: str) -> tuple[Column, ...]:
        """The columns with their types. Raises Misconfigured when one without a name holds something."""
        found = []
        for number, (column, seen, possible) in enumerate(
            zip(self._columns, self._seen, self._possible, strict=True), start=1
        ):
            if not column.name and seen:
                raise errors.Misconfigured(f"{file}: column {number} holds something and its header is blank")
            guessed = possible[0][0] if possible and seen else column.type
            found.append(replace(column, type=guessed))
        return tuple(found)


def typed(kind: Type, cell: str) -> Any:
    """The cell as what the column holds; None when it isn't that."""
    match kind:
        case "text":
            return cell
        case "boolean":
            return cell.lower() == "true" if _BOOLEAN.fullmatch(cell) else None
        case "integer":
            return int(cell) if _INTEGER.fullmatch(cell) else None
        case "number":
            if _INTEGER.fullmatch(cell):
                return int(cell)
            return float(cell) if _NUMBER.fullmatch(cell) else None
