"""The processes of the proof: one sandbox, and connectors that are killed and started again.

Their logs stay in the folder. None outlives the `async with` that has them.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from connector import errors

_LOOK_AGAIN = 0.02
_START_SECONDS = 90.0
_STOP_SECONDS = 60.0
_TRACK_URL = re.compile(r'track_url = "(.+)"')
_STARTED = ('"event":"listening"', '"event": "listening"', '"event":"working"', '"event": "working"')
_LAST_WORDS = 20


class Child:
    """A process that can be started again under the same name."""

    def __init__(self, name: str, arguments: Sequence[str], folder: Path) -> None:
        self.name = name
        self._command = [sys.executable, "-m", "connector", *arguments]
        self._log = folder / f"{name}.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._from = 0

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._from = log.tell()
            self._process = subprocess.Popen(  # noqa: S603 - our own command
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                env=_environment(),
                start_new_session=True,  # Ctrl-C is for us; we end them
            )

    @property
    def has_ended(self) -> bool:
        return self._process is None or self._process.poll() is not None

    def said(self) -> str:
        """What it has logged since its start."""
        with self._log.open("rb") as log:
            log.seek(self._from)
            return log.read().decode(errors="replace")

    @property
    def has_started(self) -> bool:
        said = self.said()
        return any(each in said for each in _STARTED)

    async def started(self) -> None:
        """Until it says that it has; returns at once when it has ended."""
        until = time.monotonic() + _START_SECONDS
        while not self.has_ended and not self.has_started:
            if time.monotonic() > until:
                raise errors.Failed(f"{self.name} did not start within {_START_SECONDS:.0f} s: see {self._log}")
            await asyncio.sleep(_LOOK_AGAIN)

    def kill(self) -> None:
        """kill -9, and what is left of it is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    async def stop(self) -> int:
        """SIGTERM; the exit status, -9 when it had to be killed."""
        process = self._process
        if process is None:
            return 0
        process.send_signal(signal.SIGTERM)
        until = time.monotonic() + _STOP_SECONDS
        while process.poll() is None:
            if time.monotonic() > until:
                self.kill()
            await asyncio.sleep(_LOOK_AGAIN)
        return process.returncode or 0

    def last_words(self) -> str:
        """The end of what it has logged since its start."""
        return "\n".join(self.said().splitlines()[-_LAST_WORDS:])


@dataclass(frozen=True, slots=True)
class Sandbox:
    """A `connector sandbox` that keeps its journal in a file."""

    child: Child
    url: str
    journal: Path


@asynccontextmanager
async def sandbox(folder: Path, options: Sequence[str]) -> AsyncIterator[Sandbox]:
    """For as long as the block lasts."""
    journal = folder / "sandbox.db"
    child = Child("sandbox", ["sandbox", "--port", "0", "--state", str(journal), *options], folder)
    child.start()
    try:
        until = time.monotonic() + _START_SECONDS
        while (found := _TRACK_URL.search(child.said())) is None:
            if child.has_ended or time.monotonic() > until:
                raise errors.Failed(f"the sandbox did not start:\n{child.last_words()}")
            await asyncio.sleep(_LOOK_AGAIN)
        yield Sandbox(child, found[1], journal)
    finally:
        child.kill()


@asynccontextmanager
async def connectors(folder: Path, settings: Path, roles: Sequence[str]) -> AsyncIterator[list[Child]]:
    """One for each role, which is a command; they run for as long as the block lasts."""
    children = [
        Child(f"{role}-{number}", ["--settings", str(settings), role], folder) for number, role in enumerate(roles, 1)
    ]
    try:
        for child in children:
            child.start()
            await child.started()
            if child.has_ended:
                raise errors.Failed(f"{child.name} did not start:\n{child.last_words()}")
        yield children
    finally:
        for child in children:
            child.kill()


def free_port() -> int:
    """A port that nobody has now; the connectors take it again after each kill."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def ended(children: Sequence[Child]) -> Iterator[Child]:
    """Those that are not running."""
    return (each for each in children if each.has_ended)


def _environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("CONNECTOR_")}
    return {**kept, "NO_COLOR": "1", "COLUMNS": "200"}
