"""The rows that an import could not take: FILE.rejects.jsonl, with line, reason, and what stood there.

It is made when the first row is rejected, readable by its owner alone, because people's data are in it. What a chunk
rejects is on the disk before the chunk is committed; whoever goes on from that chunk drops what is behind it.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import msgspec

from connector import errors
from connector.commands.rows import Bad, Line


class Rejects:
    """The file, open when there is something in it; `counts` by reason."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.counts: Counter[str] = Counter()
        self._file: IO[bytes] | None = None

    def begin(self) -> None:
        """Those of an earlier import are over."""
        with self._writing():
            self.path.unlink(missing_ok=True)

    def go_on(self, after: int) -> None:
        """Keeps those of lines up to this one."""
        if not self.path.exists():
            return
        with self._writing(), self.path.open("r+b") as file:
            end = 0
            for row in file:
                found = _read(row)
                if found is None or found["line"] > after:
                    break
                self.counts[found["reason"]] += 1
                end += len(row)
            file.truncate(end)

    def add(self, line: Line, bad: Bad) -> None:
        """For the next `flush`."""
        self.counts[bad.reason] += 1
        row = {"line": line.number, "reason": bad.reason, "message": bad.message, "row": line.raw}
        with self._writing():
            if self._file is None:
                self._file = os.fdopen(_private(self.path), "ab")
            self._file.write(msgspec.json.encode(row) + b"\n")

    def flush(self) -> None:
        """What was added is on the disk."""
        if self._file is not None:
            with self._writing():
                self._file.flush()
                os.fsync(self._file.fileno())

    def close(self) -> None:
        """The file, if there is one."""
        if self._file is not None:
            self._file.close()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise errors.Failed(f"the rejects file {self.path} can't be written: {error.strerror}") from error


def _private(path: Path) -> int:
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    os.fchmod(descriptor, 0o600)  # also one that was there
    return descriptor


def _read(row: bytes) -> dict[str, Any] | None:
    """None for what was cut off by a crash."""
    try:
        found = msgspec.json.decode(row) if row.endswith(b"\n") else None
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return found if isinstance(found, dict) and {"line", "reason"} <= found.keys() else None
