"""Reads the settings file.

    whole -> bytes -> text -> tomllib -> secrets -> review -> Settings
                                                 every problem gets its line from lines

Whatever is wrong ends in one Misconfigured with all faults. No message holds the value of a secret.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import SecretStr, ValidationError

from connector.errors import Fault, Misconfigured
from connector.settings import Settings, Store, difference
from connector.settings import faults as faults
from connector.settings_file import lines as key_lines
from connector.settings_file import review, secrets, whole

_SQLITE = "sqlite:///"
_BYTE_ORDER_MARKS = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")
_TOML_FAULT = re.compile(r"(.*) \(at (?:line (\d+), column \d+|end of document)\)", re.DOTALL)

# Deeper than any condition may nest; what comes after walks the tree by calling itself.
_DEEPEST = 64


def load(path: Path, environ: Mapping[str, str] | None = None, *, place: Path | None = None) -> Settings:
    """The settings in a file, with secrets resolved and relative paths made absolute, from the file's folder; or from
    that of another `place`, where the file would mean this.

    `environ` (by default the process's own) goes before a `.env` beside the file. Raises Misconfigured with
    every fault, in the order of the file. Waits for whoever is writing it, as `whole.read` does.
    """
    try:
        data = whole.read(path)
    except FileNotFoundError:
        hint = "`connector init` makes one, or copy settings.example.toml there, or name another with --settings"
        raise Misconfigured(f"There is no settings file {path}: {hint}.") from None
    except IsADirectoryError:
        raise Misconfigured(f"{path} is a folder, not a settings file.") from None
    except OSError as error:
        raise Misconfigured(f"The settings file {path} can't be read: {error.strerror}.") from None
    return of_bytes(path, data, environ, place=place)


def of_text(path: Path, text: str, environ: Mapping[str, str] | None = None) -> Settings:
    """What the file would mean if this text stood in it, for example that of an older revision; as `load` does it."""
    return of_bytes(path, text.encode(), environ)


def restart_needed(old: Settings, new: Settings) -> tuple[str, ...]:
    """The keys that differ and take effect only after a restart, as TOML paths."""
    return difference.needs_restart(old, new)


def of_bytes(
    path: Path, data: bytes, environ: Mapping[str, str] | None = None, *, place: Path | None = None
) -> Settings:
    """As `of_text`, of what was read."""
    text = _text(path, data)
    raw = _parsed(path, text)
    folder = (place or path).absolute().parent
    known, mistakes = secrets.environment(folder, os.environ if environ is None else environ)
    valued, unresolved = secrets.resolved(raw, folder, known)
    settings, problems = review.review(valued, unresolved)
    if settings is None or mistakes:
        lines = key_lines.of(text)
        located = [_fault(problem, raw, lines) for problem in problems]
        raise _misconfigured(path, [*mistakes, *sorted(located, key=lambda fault: fault.line or 0)])
    return settings.model_copy(update={"store": _anchored(path, folder, settings.store)})


def _text(path: Path, data: bytes) -> str:
    if data.startswith(_BYTE_ORDER_MARKS):
        raise _misconfigured(path, [Fault("", 1, "starts with a byte order mark; save it as UTF-8 without one")])
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise _misconfigured(path, [Fault("", line, "is not UTF-8 text")]) from None
    if not text.strip():
        # Legal, and all defaults; but it is what a save looks like that was cut short.
        raise _misconfigured(path, [Fault("", None, "is empty; a comment alone would mean all defaults")])
    return text


def _parsed(path: Path, text: str) -> dict[str, Any]:
    try:
        raw = tomllib.loads(text)
    except RecursionError:
        raise _misconfigured(path, [Fault("", None, "is nested too deep")]) from None
    except ValueError as error:
        # tomllib quotes keys and single characters, never values.
        match = _TOML_FAULT.fullmatch(str(error))
        if match is None:
            # Python's own refusal, of a number with thousands of digits, knows no line.
            raise _misconfigured(path, [Fault("", None, "holds a number that is too long")]) from None
        line = int(match[2]) if match[2] else text.rstrip().count("\n") + 1
        raise _misconfigured(path, [Fault("", line, f"is not TOML: {match[1]}")]) from None
    if _nested_deeper(raw, _DEEPEST):
        raise _misconfigured(path, [Fault("", None, "is nested too deep")])
    return raw


def _nested_deeper(raw: dict[str, Any], deepest: int) -> bool:
    """Whether some value is inside more tables and lists than that."""
    level: list[Any] = [raw]
    for _ in range(deepest):
        level = [inner for outer in level for inner in (outer.values() if isinstance(outer, dict) else outer)]
        level = [inner for inner in level if isinstance(inner, dict | list)]
    return bool(level)


def _fault(problem: faults.Problem, raw: dict[str, Any], lines: dict[faults.Path, int]) -> Fault:
    """Where the file has the problem. What the model sees as a table or list may be written as one text."""
    holder: Any = raw
    depth = 0
    while depth < len(problem.where) and isinstance(holder, dict | list):
        step: Any = problem.where[depth]
        holder = holder[step] if isinstance(holder, list) or step in holder else {}
        depth += 1
    where = problem.where[:depth]
    return Fault(faults.written(where), key_lines.line(lines, where), problem.message)


def _misconfigured(path: Path, found: Iterable[Fault]) -> Misconfigured:
    all_of_them = tuple(found)
    count = "1 fault" if len(all_of_them) == 1 else f"{len(all_of_them)} faults"
    return Misconfigured(f"The settings file {path} can't be used, {count}:", all_of_them)


def _anchored(path: Path, folder: Path, store: Store) -> Store:
    """With an SQLite path that means the same file from every working directory."""
    url = store.url.get_secret_value()
    if not url.startswith(_SQLITE):
        return store
    try:
        anchored = Store(url=SecretStr(f"{_SQLITE}{folder / url.removeprefix(_SQLITE)}"))
    except ValidationError:
        message = "can't be relative here: a URL can't hold the ? or control character in this folder's path"
        raise _misconfigured(path, [Fault("store.url", None, message)]) from None
    return store.model_copy(update={"url": anchored.url})
