"""Secrets are references in the settings, `env:NAME` or `file:PATH`, and become values here.

Nothing here quotes a value: a text where a reference belongs may be the secret itself. So may the name in a reference,
pasted there by mistake: it is quoted only where it looks like a name.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from connector.errors import Fault
from connector.settings import faults as faults
from connector.settings.faults import Problem
from connector.settings.secret_places import LITERAL_TOO, PLACES, STORE
from connector.settings_file import whole

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_LOOKS_LIKE_A_VARIABLE = re.compile(r"[A-Z][A-Z0-9_]*")
_LOOKS_LIKE_A_PATH = re.compile(r"[./]")
_ASSIGNMENT = re.compile(r"\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=\s*(.*)", re.DOTALL)
_DOUBLE_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"\s*(?:#.*)?')
_SINGLE_QUOTED = re.compile(r"'([^']*)'\s*(?:#.*)?")
_COMMENT = re.compile(r"(?:^|\s)#.*")
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t"}

# More than any key or URL; a reference to an endless device must not fill the memory.
_LARGEST_FILE = 64 * 1024


def resolved(raw: dict[str, Any], folder: Path, environ: Mapping[str, str]) -> tuple[dict[str, Any], list[Problem]]:
    """The settings with values for references. One that can't be resolved is a problem, and left empty.

    Files are relative to `folder`. What isn't text is left for the model to refuse.
    """
    raw = copy.deepcopy(raw)
    problems = []
    for place in PLACES:
        for where, holder, key in _held(raw, place):
            try:
                holder[key] = _value(holder[key], folder, environ, literal_too=place in LITERAL_TOO)
            except _UnresolvedError as unresolved:
                problems.append(Problem(where, str(unresolved)))
                # The default stands in for a store that can't be named, so that the rest can still be judged.
                holder[key] = "sqlite:///unknown" if place == STORE else ""
    return raw, problems


def environment(folder: Path, environ: Mapping[str, str]) -> tuple[dict[str, str], list[Fault]]:
    """The environment, and below it what the `.env` file beside the settings says, if there is one.

    Lines are `NAME=value`, with or without `export`, quotes and a `# comment`; nothing is expanded.
    """
    try:
        data = whole.read(folder / ".env")
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return dict(environ), []
    except OSError as error:
        return dict(environ), [Fault(".env", None, f"can't be read: {error.strerror}")]
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return dict(environ), [Fault(".env", None, "is not UTF-8 text")]
    named: dict[str, str] = {}
    mistakes = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = _ASSIGNMENT.fullmatch(line)
        value = _unquoted(match[2].strip()) if match else None
        if match is None or value is None:
            mistakes.append(Fault(".env", number, "is not NAME=value, or a quote is not closed"))
        else:
            named[match[1]] = value
    return {**named, **environ}, mistakes


class _UnresolvedError(Exception):
    """Why a reference has no value; never holds the value."""


def _held(raw: dict[str, Any], place: tuple[str, ...]) -> Iterator[tuple[faults.Path, Any, Any]]:
    """The places that are there and hold text: path, the table or list around it, key or index in that."""
    table, key, *rest = place
    holder = raw.get(table)
    if not isinstance(holder, dict) or key not in holder:
        return
    if not rest:
        if isinstance(holder[key], str):
            yield (table, key), holder, key
    elif isinstance(holder[key], list):
        for index, item in enumerate(holder[key]):
            if isinstance(item, str):
                yield (table, key, index), holder[key], index


def _value(written: str, folder: Path, environ: Mapping[str, str], *, literal_too: bool) -> str:
    scheme, colon, name = written.partition(":")
    if colon and scheme == "env":
        value = _variable(name, environ)
    elif colon and scheme == "file":
        value = _content(name, folder)
    elif literal_too or not written:
        return written
    else:
        raise _UnresolvedError('is secret, so it is not written here but as "env:NAME" or "file:PATH"')
    if value != value.strip():
        raise _UnresolvedError(f"the value of this {scheme}: reference has a space or line break at an end")
    if not value.isprintable() or not (value.isascii() or literal_too):
        raise _UnresolvedError(f"the value of this {scheme}: reference has characters that no key has")
    return value


def _variable(name: str, environ: Mapping[str, str]) -> str:
    if not _VARIABLE.fullmatch(name):
        raise _UnresolvedError('needs the name of an environment variable after "env:"')
    if name not in environ:
        shown = f" {name}" if _LOOKS_LIKE_A_VARIABLE.fullmatch(name) else ""
        raise _UnresolvedError(f"the environment variable{shown} is not set{faults.did_you_mean(name, environ)}")
    return environ[name]


def _content(name: str, folder: Path) -> str:
    if not name or "\0" in name:
        raise _UnresolvedError('needs the path of a file after "file:"')
    path = folder / name
    shown = faults.quoted(str(path))
    named = shown if _LOOKS_LIKE_A_PATH.search(name) else "of that name"
    try:
        if path.exists() and not path.is_file():
            raise _UnresolvedError(f"{shown} is not a file")
        with path.open("rb") as file:
            data = file.read(_LARGEST_FILE + 1)
    except FileNotFoundError:
        raise _UnresolvedError(f"there is no file {named}") from None
    except OSError as error:
        raise _UnresolvedError(f"the file {named} can't be read: {error.strerror}") from None
    if len(data) > _LARGEST_FILE:
        raise _UnresolvedError(f"the file {shown} is too large for a secret")
    try:
        return data.decode().rstrip("\r\n")
    except UnicodeDecodeError:
        raise _UnresolvedError(f"the file {shown} is not UTF-8 text") from None


def _unquoted(value: str) -> str | None:
    """What the right side of an assignment means; None when a quote is not closed."""
    if value.startswith('"'):
        match = _DOUBLE_QUOTED.fullmatch(value)
        return re.sub(r"\\(.)", lambda m: _ESCAPES.get(m[1], m[1]), match[1]) if match else None
    if value.startswith("'"):
        match = _SINGLE_QUOTED.fullmatch(value)
        return match[1] if match else None
    return _COMMENT.sub("", value).strip()
