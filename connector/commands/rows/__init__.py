"""Rows of files: opened (`source`), taken apart as CSV or JSONL (`csv_rows`, `jsonl_rows`), and read as what they are
(`user_rows`, `event_rows`, `message_rows`).

    source -> csv_rows | jsonl_rows -> Line -> user_rows | event_rows | message_rows -> a record, or Bad
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from zoneinfo import ZoneInfo

Form = Literal["csv", "jsonl"]


@dataclass(frozen=True, slots=True)
class Bad:
    """A row that can't be taken: one reason word, and a sentence without anything of what stands in the row."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Line:
    """A row of the file: the number of the line where it begins, counted from 1, what stood there, and about how many
    bytes that was. `values` are bytes where rows of the shape are read whole."""

    number: int
    raw: Any
    size: int
    values: dict[str, Any] | bytes | Bad


@dataclass(frozen=True, slots=True)
class Shape:
    """What rows of one kind consist of, and how one is `read`: a record, or Bad.

    `plain` are the keys that have a meaning of their own, always text in a CSV; `groups` are those that only hold
    others, such as `properties.total`. `open` rows may have any other key too. `needed` are the plain columns without
    which no row of a CSV could be taken. A `whole` row is read from the bytes of its line by someone else; it is never
    one of a CSV.
    """

    what: str
    plain: tuple[str, ...]
    groups: tuple[str, ...]
    open: bool
    needed: tuple[str, ...]
    read: Callable[[Any, datetime, ZoneInfo], Any]
    whole: bool = False
