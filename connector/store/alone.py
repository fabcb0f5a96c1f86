"""Who has a part of a connector (`serve`, `work`) on a SQLite store. It has one writer, so of each part a second one on
the same file is refused: whoever has it locks a file beside the store's, as long as it runs. PostgreSQL takes any
number.
"""

from __future__ import annotations

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from connector import errors

_SQLITE = "sqlite:///"
_TRIES = 3
_TRY_AGAIN = 0.01


@contextmanager
def only_one(url: str, part: str) -> Iterator[None]:
    """Ours for the length of the block. Raises StoreInUse where somebody else has it."""
    if not url.startswith(_SQLITE):
        yield
        return
    file = url.removeprefix(_SQLITE)
    try:
        # Closed below; it is held as long as the process runs.
        lock = _path(url, part).open("w")
    except OSError as error:
        raise errors.Misconfigured(f"store.url: {file} can't be made: {error.strerror}") from error
    with lock:
        if not _locked(lock):
            does = "receives" if part == "serve" else "sends"
            raise errors.StoreInUse(f"another connector runs on {file} already, and {does}; stop it first")
        yield


def is_taken(url: str, part: str) -> bool:
    """Whether somebody has it now; False on PostgreSQL, where nobody has it alone."""
    if not url.startswith(_SQLITE):
        return False
    try:
        with _path(url, part).open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False  # there is no such file: nobody ever had it
    return False


def _path(url: str, part: str) -> Path:
    return Path(f"{url.removeprefix(_SQLITE)}.{part}.lock")


def _locked(lock: TextIO) -> bool:
    for _ in range(_TRIES):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            time.sleep(_TRY_AGAIN)  # somebody may only have looked (`is_taken`)
        else:
            return True
    return False
