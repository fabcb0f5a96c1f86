"""The lines of rejects files that are about a person who is being erased.

A line goes when its row names them under one of the keys by which rows are told apart, or when one of their identifiers
stands in it as a word of at least four characters. The file is replaced by what is left of it, or removed.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from connector import errors
from connector.core import erased
from connector.records import Identifier

PATTERN = "*.rejects.jsonl"
_KEYS = ("external_id", "email", "anonymous_id", "userId", "anonymousId", "previousId")


@dataclass(frozen=True, slots=True)
class Cleaned:
    """A rejects file, and how many of its lines are gone."""

    path: Path
    lines: int


def clean(folder: Path, names: Collection[Identifier]) -> list[Cleaned]:
    """Takes the lines about them out of the folder's rejects files."""
    values = {each.value for each in names}
    found = []
    for path in sorted(folder.glob(PATTERN)):
        try:
            lines = _clean(path, values, erased.pattern(values))
        except OSError as error:
            raise errors.Failed(f"the rejects file {path} can't be cleaned: {error.strerror}; run it again") from error
        if lines:
            found.append(Cleaned(path, lines))
    return found


def _clean(path: Path, values: set[str], words: re.Pattern[str] | None) -> int:
    with path.open("rb") as file:
        doomed = sum(_is_theirs(line, values, words) for line in file)
        if not doomed:
            return 0
        file.seek(0)
        _replace(path, lambda out: out.writelines(line for line in file if not _is_theirs(line, values, words)))
    return doomed


def _replace(path: Path, write: Callable[[Any], None]) -> None:
    """By a file that is readable by its owner alone, as the one before."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    try:
        with os.fdopen(handle, "wb") as out:
            write(out)
            out.flush()
            os.fsync(out.fileno())
        if Path(name).stat().st_size:
            Path(name).replace(path)
        else:
            path.unlink()
    finally:
        Path(name).unlink(missing_ok=True)


def _is_theirs(line: bytes, values: set[str], words: re.Pattern[str] | None) -> bool:
    text = line.decode(errors="replace")
    try:
        rejected = msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        rejected = None
    row = rejected.get("row") if isinstance(rejected, dict) else None
    if isinstance(row, dict) and any(_said(row, key) in values for key in _KEYS):
        return True
    # Decoded, because what stands there may be escaped.
    return words is not None and any(words.search(each) for each in (text, _plain(row)))


def _said(row: dict[str, Any], key: str) -> str | None:
    value = row.get(key)
    if isinstance(value, str):
        return value.strip().lower() if key == "email" else value.strip()
    return str(value) if isinstance(value, int) else None


def _plain(row: Any) -> str:
    return row if isinstance(row, str) else msgspec.json.encode(row).decode()
