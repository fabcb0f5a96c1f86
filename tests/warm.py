"""Starts `connector` commands without the second that their imports take: forked from a process that has made them.

What starts is a process like any other: it has a pid, its own descriptors and environment, an exit status, and
`kill -9` kills it. Only the way to its first line is shorter. A test of that way itself starts `python -m connector`.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from multiprocessing import reduction
from pathlib import Path
from typing import Any

_context = multiprocessing.get_context("forkserver")
# Beside `connector.cli`: what commands import as they go.
_context.set_forkserver_preload(["connector.cli", "psycopg", "sqlalchemy.dialects.postgresql.psycopg", "uvloop"])


class Command:
    """A command that runs, as `subprocess.Popen` would have it; its output goes to two descriptors of ours. It reads
    another one, or nothing, and runs in this folder, or in ours."""

    def __init__(
        self,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        stdout: int,
        stderr: int,
        *,
        stdin: int | None = None,
        folder: Path | None = None,
    ) -> None:
        descriptors = {
            number: _Open(given) for number, given in enumerate((stdin, stdout, stderr)) if given is not None
        }
        self._process = _context.Process(
            target=_become, args=([*arguments], {**environment}, descriptors, folder or Path.cwd()), daemon=True
        )
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid
        self.kill = self._process.kill
        self.terminate = self._process.terminate

    @property
    def returncode(self) -> int | None:
        """None while it runs."""
        return self._process.exitcode

    def poll(self) -> int | None:
        return self.returncode

    def wait(self, seconds: float) -> int:
        """Until it has ended; its exit status."""
        self._process.join(seconds)
        if self.returncode is None:
            raise TimeoutError(f"it still ran after {seconds:g} s")
        return self.returncode


def run(
    arguments: Sequence[str],
    environment: Mapping[str, str],
    seconds: float,
    *,
    reads: bytes = b"",
    folder: Path | None = None,
) -> tuple[int, str]:
    """The exit status of a command that finds this on its stdin, and what it printed: stderr after stdout."""
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        given.write(reads)
        given.seek(0)
        command = Command(arguments, environment, out.fileno(), err.fileno(), stdin=given.fileno(), folder=folder)
        try:
            status = command.wait(seconds)
        finally:
            command.kill()
        shown = b""
        for file in (out, err):
            file.seek(0)
            shown += file.read()
        return status, shown.decode()


class _Open:
    """A descriptor on its way into the other process; there it is the same file under another number."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __reduce__(self) -> tuple[Any, ...]:
        return _arrived, (reduction.DupFd(self.number),)


def _arrived(sent: Any) -> _Open:
    return _Open(sent.detach())


def _become(arguments: list[str], environment: dict[str, str], descriptors: dict[int, _Open], folder: Path) -> None:
    for number, given in descriptors.items():
        os.dup2(given.number, number)
        os.close(given.number)
    if 0 in descriptors:
        sys.stdin = os.fdopen(0)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["connector", *arguments]

    from connector import cli

    cli.main()
