"""Notices that the settings file has changed, and reads it when it is whole.

    the folder tells, or a second has passed -> other bytes -> nobody writes it, it stands still, and what it
                                                               means was read in between -> an Edit, or its faults

"Still" means for a quarter of a second. Where nobody can tell whether somebody has the file open for writing (another
user's file, a network's, not Linux; see `settings_file/whole`) it means for two seconds.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Mapping
from pathlib import Path
from typing import NamedTuple, TypeAlias

import watchfiles

from connector import log, settings_file
from connector.errors import Misconfigured
from connector.settings import Settings
from connector.settings_file import whole
from connector.settings_file.whole import Look, StillOpen

_STILL_SECONDS = 0.25
_STILL_SECONDS_WHEN_UNKNOWN = 2.0
# Some mounts tell no changes, and a folder can be swapped whole: the content is compared this often anyway.
_LOOK_MILLISECONDS = 1000
# A store in the same folder changes all the time; it must not keep the file's own change waiting.
_DEBOUNCE_MILLISECONDS = 200

_log = log.get("connector")

_Content: TypeAlias = tuple[bytes | None, bytes | None]


class Edit(NamedTuple):
    """What the file means, and what it said."""

    settings: Settings
    text: str


class _Looks(NamedTuple):
    """The file and the `.env` beside it; None where there is none."""

    settings: Look | None
    env: Look | None

    @property
    def content(self) -> _Content:
        return self.settings and self.settings.data, self.env and self.env.data

    def any_is(self, state: whole.State) -> bool:
        return any(each is not None and each.state == state for each in self)


async def watch(
    path: Path, stop_event: asyncio.Event, asked: asyncio.Event, environ: Mapping[str, str] | None = None
) -> AsyncGenerator[Edit | Misconfigured, None]:
    """What the file says, and what it says after each change of its content (or of the `.env` beside it) and whenever
    it is `asked`, until `stop_event` is set.

    A file that is missing, broken or open for too long is yielded as Misconfigured, once. A save that changes nothing
    yields nothing.
    """
    told: _Content | None = None
    was_open = False
    async with contextlib.aclosing(_moments(path, stop_event, asked)) as moments:
        async for _ in moments:
            if asked.is_set():
                asked.clear()
                told = None
                _log.info("settings_read_again", reason="SIGHUP")
            if told is not None and await asyncio.to_thread(_content, path) == told:
                continue
            found = await _settled(path, stop_event, environ)
            if found is None:
                return
            content, outcome = found
            if isinstance(outcome, StillOpen):
                if not was_open:
                    yield outcome
                told, was_open = None, True
            elif content != told:
                told, was_open = content, False
                yield outcome


async def _settled(
    path: Path, stop_event: asyncio.Event, environ: Mapping[str, str] | None
) -> tuple[_Content, Edit | Misconfigured] | None:
    """What the file says once it is whole: its bytes with those of the `.env`, and their meaning. StillOpen, when it
    isn't within `whole.PATIENCE_SECONDS`; None after `stop_event`."""
    loop = asyncio.get_running_loop()
    until = loop.time() + whole.PATIENCE_SECONDS
    before = await asyncio.to_thread(_looks_of, path)
    while True:
        still = _STILL_SECONDS_WHEN_UNKNOWN if before.any_is("unknown") else _STILL_SECONDS
        await _pause(stop_event, still)
        if stop_event.is_set():
            return None
        found = None
        if not before.any_is("written"):
            found = await asyncio.to_thread(_outcome, path, before.content[0], environ)
        # After the reading, which also resolves secrets by the `.env`: all of it was there all the time.
        now = await asyncio.to_thread(_looks_of, path)
        if found is not None and now == before:
            return now.content, found
        if loop.time() > until:
            is_env = now.env is not None and now.env.state == "written"
            return now.content, StillOpen(_env_of(path) if is_env else path)
        before = now


class _Stop(asyncio.Event):
    """Set when one of the caller's is. watchfiles sets the event it is given when it is cancelled; not theirs."""

    def __init__(self, *theirs: asyncio.Event) -> None:
        super().__init__()
        self._theirs = theirs

    def is_set(self) -> bool:
        return super().is_set() or any(each.is_set() for each in self._theirs)


async def _moments(path: Path, stop_event: asyncio.Event, asked: asyncio.Event) -> AsyncGenerator[None, None]:
    """Yields at once, and when the content may have changed: something happened in the folder, a while has passed,
    or somebody asked."""
    while not stop_event.is_set():
        yield
        folders = await asyncio.to_thread(_folders, path)
        # Folders, not the file: a rename over it would take the watch away with the old file.
        events = watchfiles.awatch(
            *folders,
            watch_filter=None,
            recursive=False,
            debounce=_DEBOUNCE_MILLISECONDS,
            stop_event=_Stop(stop_event, asked),
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


async def _pause(stop_event: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):  # the pause is over, and nobody wants to stop
        await asyncio.wait_for(stop_event.wait(), seconds)


def _folders(path: Path) -> tuple[Path, ...]:
    """The folder of the file, and that of what it links to, as mounted secrets and config maps do."""
    here = path.absolute().parent
    try:
        there = path.resolve().parent
    except (OSError, RuntimeError):  # links in a circle
        return (here,)
    return (here,) if here == there else (here, there)


def _env_of(path: Path) -> Path:
    return path.absolute().parent / ".env"


def _content(path: Path) -> _Content:
    return _bytes(path), _bytes(_env_of(path))


def _bytes(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None


def _looks_of(path: Path) -> _Looks:
    return _Looks(_look(path), _look(_env_of(path)))


def _look(path: Path) -> Look | None:
    try:
        return whole.look(path)
    except OSError:
        return None


def _outcome(path: Path, data: bytes | None, environ: Mapping[str, str] | None) -> Edit | Misconfigured | None:
    """Of the bytes that stood still, not of what the file may hold by now; None where it has come back."""
    try:
        if data is not None:
            return Edit(settings_file.of_bytes(path, data, environ), data.decode())
        settings_file.load(path, environ)
    except Misconfigured as refusal:
        return refusal
    return None
