"""Reading a users file: CSV with headers (dots nest) or JSONL, one row a user.

A row has `external_id`, `email`, `anonymous_id` and `created_at`; every other key is an attribute. An empty cell
says nothing, a null in JSONL removes the attribute. What a CSV column holds is guessed from all of its cells: whole
numbers, numbers, true and false, else text; identifiers are always text, and so is anything with leading zeros.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import msgspec

from connector import errors
from connector.core import text, times
from connector.records import UserRow

_MAX_ID = 1000
_MAX_DEPTH = 100
_INTEGER = re.compile(r"-?(0|[1-9]\d{0,14})")
_NUMBER = re.compile(r"-?(0|[1-9]\d{0,14})(\.\d{1,15})?")
_IDENTIFIERS = ("external_id", "email", "anonymous_id")
_BUILTIN = (*_IDENTIFIERS, "created_at")


@dataclass(frozen=True, slots=True)
class Bad:
    """A row that can't be taken: one reason word, and a sentence."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Line:
    """A row of the file with its line number, counted from 1; `raw` is what stood there."""

    number: int
    raw: Any
    row: UserRow | Bad


@dataclass(frozen=True, slots=True)
class Source:
    """A file that is ready to be read: how many bytes it has, and what the columns of a CSV hold."""

    path: Path
    size: int
    types: dict[str, str]

    def lines(self, zone: ZoneInfo, read: Callable[[int], None]) -> Iterator[Line]:
        """The rows in order; `read` hears how many bytes each took."""
        return _csv_lines(self, zone, read) if self.types else _jsonl_lines(self, zone, read)


def open_source(path: Path) -> Source:
    """Looks at the file's ending and, for a CSV, at all of its cells once. Raises Misconfigured with what to do."""
    suffix = path.suffix.lower()
    if suffix not in {".csv", ".jsonl", ".ndjson"}:
        raise errors.Misconfigured(f"{path}: name the file .csv or .jsonl, so that it's clear how to read it")
    try:
        size = path.stat().st_size
        return Source(path, size, _column_types(path) if suffix == ".csv" else {})
    except OSError as error:
        raise errors.Misconfigured(f"{path} can't be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise errors.Misconfigured(f"{path} is not UTF-8 text; save it as UTF-8") from error
    except csv.Error as error:
        raise errors.Misconfigured(f"{path} can't be read as CSV: {error}") from error


def _column_types(path: Path) -> dict[str, str]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file)
        headers = next(reader, None)
        if not headers:
            raise errors.Misconfigured(f"{path} is empty: the first line of a CSV names its columns")
        if repeated := {name for name in headers if headers.count(name) > 1}:
            raise errors.Misconfigured(f"{path} names a column twice: {', '.join(sorted(repeated))}")
        if not any(name in _IDENTIFIERS for name in headers):
            raise errors.Misconfigured(f"{path} needs a column external_id, email or anonymous_id")
        possible = [["integer", "number", "boolean"] for _ in headers]
        seen = [False] * len(headers)
        for cells in reader:
            for column, cell in enumerate(cells[: len(headers)]):
                if cell:
                    seen[column] = True
                    possible[column] = [each for each in possible[column] if _fits(each, cell)]
    types = {}
    for column, name in enumerate(headers):
        plain = name in _BUILTIN or not possible[column] or not seen[column]
        types[name] = "text" if plain else possible[column][0]
    return types


def _fits(kind: str, cell: str) -> bool:
    if kind == "boolean":
        return cell in {"true", "false", "True", "False", "TRUE", "FALSE"}
    return (_INTEGER if kind == "integer" else _NUMBER).fullmatch(cell) is not None


def _csv_lines(source: Source, zone: ZoneInfo, read: Callable[[int], None]) -> Iterator[Line]:
    with source.path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file)
        headers = next(reader)
        for cells in reader:
            read(sum(len(cell.encode()) + 1 for cell in cells))
            if not cells:
                continue
            raw = dict(zip(headers, cells, strict=False))
            if len(cells) != len(headers):
                bad = Bad("wrong_columns", f"the row has {len(cells)} cells, the header {len(headers)}")
                yield Line(reader.line_num, cells, bad)
                continue
            nested: dict[str, Any] = {}
            clash = next((name for name, cell in raw.items() if cell and not _nest(nested, name, cell, source)), None)
            if clash is not None:
                yield Line(reader.line_num, raw, Bad("wrong_columns", f"{clash} is a value and a group of values"))
                continue
            yield Line(reader.line_num, raw, to_row(nested, zone))


def _nest(nested: dict[str, Any], name: str, cell: str, source: Source) -> bool:
    """Puts the cell where its dotted header says; False when something that is no group stands there."""
    *groups, last = name.split(".")
    inner = nested
    for group in groups:
        inner = inner.setdefault(group, {})
        if not isinstance(inner, dict):
            return False
    if last in inner:
        return False
    inner[last] = _typed(source.types[name], cell)
    return True


def _typed(kind: str, cell: str) -> Any:
    match kind:
        case "integer":
            return int(cell)
        case "number":
            return float(cell)
        case "boolean":
            return cell.lower() == "true"
    return cell


def _jsonl_lines(source: Source, zone: ZoneInfo, read: Callable[[int], None]) -> Iterator[Line]:
    with source.path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            read(len(line))
            if number == 1:
                line = line.removeprefix(b"\xef\xbb\xbf")  # noqa: PLW2901 - a byte order mark is no part of the row
            if not line.strip():
                continue
            try:
                raw = msgspec.json.decode(line)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                shown = line.decode(errors="replace").rstrip("\n")
                yield Line(number, shown, Bad("not_json", f"the line is no JSON: {error}"))
                continue
            if not isinstance(raw, dict):
                yield Line(number, raw, Bad("wrong_shape", "the line is no JSON object"))
                continue
            yield Line(number, raw, to_row(raw, zone))


def to_row(raw: dict[str, Any], zone: ZoneInfo) -> UserRow | Bad:
    """A row as the store takes it, or why not. `created_at` is ISO 8601, unix seconds or milliseconds."""
    if text.deeper_than(_MAX_DEPTH, raw):
        return Bad("too_deep", f"the row is nested more than {_MAX_DEPTH} deep")
    raw = text.without_nul(raw)
    named: dict[str, str | None] = {}
    for name in _IDENTIFIERS:
        value = raw.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and name != "email":
            value = str(value)
        if value is not None and not isinstance(value, str):
            return Bad("bad_identifier", f"{name} must be text")
        named[name] = (value or "").strip() or None
        if len((named[name] or "").encode()) > _MAX_ID:
            return Bad("bad_identifier", f"{name} is longer than {_MAX_ID} bytes")
    if not any(named.values()):
        return Bad("no_identifier", "the row needs an external_id, an email or an anonymous_id")
    if named["email"] is not None and text.email_address(named["email"]) != named["email"].lower():
        return Bad("bad_email", "the email is no address")
    created_at = _time(raw.get("created_at"), zone)
    if isinstance(created_at, Bad):
        return created_at
    attributes = {name: value for name, value in raw.items() if name not in _BUILTIN}
    return UserRow(named["external_id"], named["email"], named["anonymous_id"], created_at, attributes)


def _time(value: Any, zone: ZoneInfo) -> datetime | Bad | None:
    if value is None or value == "":
        return None
    at = None
    if isinstance(value, str):
        at = times.from_number(float(value)) if _NUMBER.fullmatch(value) else times.parse(value.strip(), zone)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        at = times.from_number(value)
    return at if at is not None else Bad("bad_time", "created_at is no ISO 8601 time and no unix time")
