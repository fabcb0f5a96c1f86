"""A workspace that outlives its process: every operation goes into an SQLite file before it is applied.

    start:      file -> each operation, at the time it had -> the rules of `state` -> people, events, suppressions, …
    operation:  file, committed -> the rules of `state`

The rules are a function of the operations and their times and of nothing else, so going through the file again
gives the same workspace, whatever a workspace comes to hold. What isn't part of it is of one run: the calls as
received, the webhooks that wait, the faults.

A commit is in the file when its process is killed; when the machine loses power, the last ones may be lost, and
the file is whole. One sandbox at a time has the file; another one is refused.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import msgspec

from connector import errors
from connector.sandbox.operations import Operation
from connector.sandbox.state import State

_APPLICATION_ID = 0x63696F73  # "cios", so that no other database is taken for ours
_FORMAT = 1
_TABLE = "CREATE TABLE operations (number INTEGER PRIMARY KEY, at REAL NOT NULL, operation TEXT NOT NULL) STRICT"


class StateFile:
    """The operations of one workspace, in the order applied."""

    def __init__(self, path: Path) -> None:
        """Opens the file, makes it when there is none. An `errors.Misconfigured` when it can't be used."""
        self._path = path
        self._decoder = msgspec.json.Decoder(Operation)
        try:
            # The sandbox has one event loop on one thread; a request's answer waits for its commit.
            self._connection = sqlite3.connect(path, isolation_level=None, timeout=0, check_same_thread=False)
        except sqlite3.Error as error:
            raise self._unusable(str(error)) from error
        try:
            self._prepare()
        except sqlite3.Error as error:
            self._connection.close()
            raise self._unusable(str(error)) from error
        except errors.Misconfigured:
            self._connection.close()
            raise

    def add(self, at: float, operation: Operation) -> None:
        row = (at, msgspec.json.encode(operation).decode())
        self._connection.execute("INSERT INTO operations (at, operation) VALUES (?, ?)", row)

    def go_through(self, apply: Callable[[float, Operation], None]) -> None:
        """Each operation at the time it had. An `errors.Misconfigured` for the first that can't be read or applied."""
        try:
            for number, at, written in self._connection.execute("SELECT * FROM operations ORDER BY number"):
                self._apply_line(number, at, written, apply)
        except sqlite3.Error as error:
            raise self._unusable(str(error)) from error

    def _apply_line(self, number: int, at: float, written: str, apply: Callable[[float, Operation], None]) -> None:
        try:
            operation = self._decoder.decode(written)
        except (msgspec.DecodeError, RecursionError) as error:
            raise self._unusable(f"operation {number} can't be read: {error}") from error
        try:
            apply(at, operation)
        except Exception as error:
            # Whatever it is: the sandbox wrote only what it could apply, so somebody else wrote this line.
            raise self._unusable(f"operation {number} can't be applied: {error}") from error

    def close(self) -> None:
        self._connection.close()

    def _prepare(self) -> None:
        execute = self._connection.execute
        execute("PRAGMA locking_mode = EXCLUSIVE")
        execute("PRAGMA journal_mode = WAL")
        execute("PRAGMA synchronous = NORMAL")
        execute("BEGIN EXCLUSIVE")
        empty = execute("SELECT count(*) FROM sqlite_schema").fetchone() == (0,)
        if empty:
            execute(f"PRAGMA application_id = {_APPLICATION_ID}")
            execute(f"PRAGMA user_version = {_FORMAT}")
            execute(_TABLE)
        if execute("PRAGMA application_id").fetchone() != (_APPLICATION_ID,):
            raise self._unusable("it is a database of something else")
        if execute("PRAGMA user_version").fetchone() != (_FORMAT,):
            raise self._unusable("another version of the sandbox wrote it; start with a new file")
        execute("COMMIT")

    def _unusable(self, why: str) -> errors.Misconfigured:
        return errors.Misconfigured(f"the state file {self._path} can't be used: {why}")


class KeptState(State):
    """A state that is what its file says, and writes there what it is told. The clock stands still meanwhile."""

    def __init__(self, file: StateFile, now: Callable[[], float], *, email_updates_by_id: bool = False) -> None:
        self._at: float | None = None
        super().__init__(lambda: now() if self._at is None else self._at, email_updates_by_id=email_updates_by_id)
        self._wall_clock = now
        self._file = file
        file.go_through(self._apply_at)

    def apply(self, operation: Operation) -> None:
        at = self._wall_clock()
        self._file.add(at, operation)
        self._apply_at(at, operation)

    def _apply_at(self, at: float, operation: Operation) -> None:
        self._at = at
        try:
            super().apply(operation)
        finally:
            self._at = None
