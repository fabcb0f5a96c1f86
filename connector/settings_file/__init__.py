"""Reads the settings file, and watches it while the connector runs.

    bytes -> text -> tomllib -> secrets -> review -> Settings
                                        every problem gets its line from lines

Whatever is wrong ends in one Misconfigured with all faults. No message holds the value of a secret.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import tomllib
from collections.abc import AsyncGenerator, Iterable, Mapping
from pathlib import Path
from typing import Any

import watchfiles
from pydantic import SecretStr, ValidationError

from connector.errors import Fault, Misconfigured
from connector.settings import Settings, Store, difference
from connector.settings import faults as faults
from connector.settings_file import lines as key_lines
from connector.settings_file import review, secrets

_SQLITE = "sqlite:///"
_BYTE_ORDER_MARKS = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")
_TOML_FAULT = re.compile(r"(.*) \(at (?:line (\d+), column \d+|end of document)\)", re.DOTALL)

# Deeper than any condition may nest; what comes after walks the tree by calling itself.
_DEEPEST = 64

# A slow save is waited for until the content has stood still this long.
_SETTLED_SECONDS = 0.25
# Some mounts tell no changes, and a folder can be swapped whole: the content is compared this often anyway.
_LOOK_MILLISECONDS = 1000
# A store in the same folder changes all the time; it must not keep the file's own change waiting.
_DEBOUNCE_MILLISECONDS = 200


def load(path: Path, environ: Mapping[str, str] | None = None) -> Settings:
    """The settings in a file, with secrets resolved and relative paths made absolute, from the file's folder.

    `environ` (by default the process's own) goes before a `.env` beside the file. Raises Misconfigured with
    every fault, in the order of the file.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        hint = "`connector init` makes one, or copy settings.example.toml there, or name another with --settings"
        raise Misconfigured(f"There is no settings file {path}: {hint}.") from None
    except IsADirectoryError:
        raise Misconfigured(f"{path} is a folder, not a settings file.") from None
    except OSError as error:
        raise Misconfigured(f"The settings file {path} can't be read: {error.strerror}.") from None
    return _loaded(path, data, environ)


def of_text(path: Path, text: str, environ: Mapping[str, str] | None = None) -> Settings:
    """What the file would mean if this text stood in it, for example that of an older revision; as `load` does it."""
    return _loaded(path, text.encode(), environ)


def restart_needed(old: Settings, new: Settings) -> tuple[str, ...]:
    """The keys that differ and take effect only after a restart, as TOML paths."""
    return difference.needs_restart(old, new)


def watch(
    path: Path, stop_event: asyncio.Event, environ: Mapping[str, str] | None = None
) -> AsyncGenerator[Settings | Misconfigured, None]:
    """What the file says after each change of its content (or of the `.env` beside it), until `stop_event` is set.

    Changes count from this call on: call it before `load`, and no edit falls between the two. A file that is
    missing or broken is yielded as Misconfigured, once. A save that changes nothing yields nothing.
    """
    return _changes(path, stop_event, environ, _content(path))


def _loaded(path: Path, data: bytes, environ: Mapping[str, str] | None) -> Settings:
    text = _text(path, data)
    raw = _parsed(path, text)
    folder = path.absolute().parent
    known, mistakes = secrets.environment(folder, os.environ if environ is None else environ)
    valued, unresolved = secrets.resolved(raw, folder, known)
    settings, problems = review.review(valued, unresolved)
    if settings is None or mistakes:
        lines = key_lines.of(text)
        located = [_fault(problem, raw, lines) for problem in problems]
        raise _misconfigured(path, [*mistakes, *sorted(located, key=lambda fault: fault.line or 0)])
    return settings.model_copy(update={"store": _anchored(path, settings.store)})


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


def _anchored(path: Path, store: Store) -> Store:
    """With an SQLite path that means the same file from every working directory."""
    url = store.url.get_secret_value()
    if not url.startswith(_SQLITE):
        return store
    try:
        anchored = Store(url=SecretStr(f"{_SQLITE}{path.absolute().parent / url.removeprefix(_SQLITE)}"))
    except ValidationError:
        message = "can't be relative here: a URL can't hold the ? or control character in this folder's path"
        raise _misconfigured(path, [Fault("store.url", None, message)]) from None
    return store.model_copy(update={"url": anchored.url})


class _EitherStop(asyncio.Event):
    """Set when the caller's event is. watchfiles sets the event it is given when it is cancelled; not theirs."""

    def __init__(self, theirs: asyncio.Event) -> None:
        super().__init__()
        self._theirs = theirs

    def is_set(self) -> bool:
        return super().is_set() or self._theirs.is_set()


async def _changes(
    path: Path,
    stop_event: asyncio.Event,
    environ: Mapping[str, str] | None,
    seen: tuple[bytes | None, bytes | None],
) -> AsyncGenerator[Settings | Misconfigured, None]:
    async with contextlib.aclosing(_looks(path, stop_event)) as looks:
        async for _ in looks:
            content = await asyncio.to_thread(_content, path)
            while content != seen and not stop_event.is_set():
                before = content
                await _pause(stop_event, _SETTLED_SECONDS)
                content = await asyncio.to_thread(_content, path)
                if content == before:
                    break
            if content != seen and not stop_event.is_set():
                seen = content
                yield await asyncio.to_thread(_outcome, path, content[0], environ)


async def _looks(path: Path, stop_event: asyncio.Event) -> AsyncGenerator[None, None]:
    """Yields when the content may have changed: something happened in the folder, or a while has passed."""
    while not stop_event.is_set():
        folders = await asyncio.to_thread(_folders, path)
        # Folders, not the file: a rename over it would take the watch away with the old file.
        events = watchfiles.awatch(
            *folders,
            watch_filter=None,
            recursive=False,
            debounce=_DEBOUNCE_MILLISECONDS,
            stop_event=_EitherStop(stop_event),
            rust_timeout=_LOOK_MILLISECONDS,
            yield_on_timeout=True,
        )
        try:
            async with contextlib.aclosing(events):
                async for _ in events:
                    yield
                    if folders != await asyncio.to_thread(_folders, path):
                        break
        except (OSError, RuntimeError, ExceptionGroup):
            # The folder is away, or the system is out of watches: then by the clock alone. (watchfiles' own error
            # is a RuntimeError, in a group when it comes while waiting.)
            await _pause(stop_event, _LOOK_MILLISECONDS / 1000)
            yield


async def _pause(stop_event: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stop_event.wait(), seconds)


def _folders(path: Path) -> tuple[Path, ...]:
    """The folder of the file, and that of what it links to, as mounted secrets and config maps do."""
    here = path.absolute().parent
    try:
        there = path.resolve().parent
    except (OSError, RuntimeError):  # links in a circle
        return (here,)
    return (here,) if here == there else (here, there)


def _content(path: Path) -> tuple[bytes | None, bytes | None]:
    return _bytes(path), _bytes(path.absolute().parent / ".env")


def _bytes(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None


def _outcome(path: Path, data: bytes | None, environ: Mapping[str, str] | None) -> Settings | Misconfigured:
    """Of the bytes that stood still, not of what the file may hold by now."""
    try:
        return load(path, environ) if data is None else _loaded(path, data, environ)
    except Misconfigured as refusal:
        return refusal
