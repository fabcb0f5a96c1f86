"""CSV: the first row names the columns, dots in a name nest, an empty cell says nothing.

Between the columns stands a comma, a semicolon or a tab, whichever finds the columns that rows need. Quoting that is
broken refuses the whole file, before anything of it is stored: where the next row begins would be a guess.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import IO, Any

from connector import errors
from connector.commands.rows import Bad, Line, Shape, columns, fields
from connector.commands.rows.columns import Column, Type

_SEPARATORS = (",", ";", "\t")
_MAX_LINE = 1024 * 1024
_LOOK = 1000


@dataclass(frozen=True, slots=True)
class Layout:
    """How the file is written, and what its columns hold."""

    separator: str
    columns: tuple[Column, ...]


def layout(
    file: IO[str],
    name: str,
    shape: Shape,
    renamed: Mapping[str, str],
    types: Mapping[str, Type],
    watch: Callable[[], None],
) -> Layout:
    """Reads all of the file once; `watch` is called now and then meanwhile. Raises Misconfigured with what to do."""
    texts = _lines(file, name)
    first = next(texts, None)
    if first is None:
        raise errors.Misconfigured(f"{name} is empty: the first line of a CSV names its columns")
    separator = _separator(first, shape, renamed)
    rows = csv.reader(_again(first, texts), delimiter=separator, strict=True)
    try:
        found = columns.named(next(rows), shape, renamed, types, name)
        guess = columns.Guess(found, shape, types)
        while some := list(islice(rows, _LOOK)):
            guess.look([cells for cells in some if len(cells) == len(found)])
            watch()
    except csv.Error as error:
        raise errors.Misconfigured(
            f"{name} can't be read as CSV, line {rows.line_num}: {error}; a quote there or further up may not be closed"
        ) from error
    return Layout(separator, guess.columns(name))


def lines(file: IO[str], name: str, layout: Layout) -> Iterator[Line]:
    """The rows in order; blank lines are none, nor are rows of empty cells, which spreadsheets leave at the end."""
    rows = csv.reader(_lines(file, name), delimiter=layout.separator, strict=True)
    next(rows)
    before = rows.line_num
    for cells in rows:
        number, before = before + 1, rows.line_num
        if any(cells):
            yield _line(number, cells, layout.columns)


def _line(number: int, cells: list[str], of: Sequence[Column]) -> Line:
    size = sum(map(len, cells)) + len(cells)
    if len(cells) != len(of):
        bad = Bad("wrong_columns", f"the row has {len(cells)} cells, the header {len(of)}")
        return Line(number, cells, size, bad)
    raw = {column.name: cell for column, cell in zip(of, cells, strict=True) if column.name}
    values: dict[str, Any] = {}
    for column, cell in zip(of, cells, strict=True):
        if not cell or not column.name:
            continue
        value = cell if column.type == "text" else columns.typed(column.type, cell)
        if value is None:
            return Line(number, raw, size, Bad("wrong_type", f"{column.name} is no {column.type}"))
        if not _nest(values, column.path, value):
            bad = Bad("wrong_columns", f"{column.name} is a value and a group of values")
            return Line(number, raw, size, bad)
    return Line(number, raw, size, values)


def _nest(values: dict[str, Any], path: Sequence[str], value: Any) -> bool:
    """Puts the value where its dotted header says; False when something that is no group stands there."""
    *groups, last = path
    inner: Any = values
    for group in groups:
        inner = inner.setdefault(group, {})
        if not isinstance(inner, dict):
            return False
    if last in inner:
        return False
    inner[last] = value
    return True


def _separator(header: str, shape: Shape, renamed: Mapping[str, str]) -> str:
    """The one that finds most of the columns that mean something here, and then the one that finds most columns."""

    def found(separator: str) -> tuple[int, int]:
        try:
            cells = next(csv.reader([header], delimiter=separator))
        except csv.Error:
            return (0, 0)
        names = {renamed.get(cell.strip().lower(), cell.strip()).lower() for cell in cells}
        return (len(names & {*shape.plain, *fields.IDENTIFIERS}), len(cells))

    return max(_SEPARATORS, key=found)


def _lines(file: IO[str], name: str) -> Iterator[str]:
    """The lines of text, none of them endless; U+FFFD for every NUL, which PostgreSQL can't store."""
    number = 0
    while line := file.readline(_MAX_LINE + 1):
        number += 1
        if len(line) > _MAX_LINE:
            raise errors.Misconfigured(f"{name} can't be read as CSV: line {number} is longer than 1 MiB")
        yield line.replace("\0", "\ufffd") if "\0" in line else line


def _again(first: str, rest: Iterator[str]) -> Iterator[str]:
    yield first
    yield from rest
