"""Reads a file whole: not while somebody writes it.

    open -> has nobody it open for writing? -> read -> still nobody, and still the same file?   else: `written`

Linux answers by a read lease (fcntl(2), F_SETLEASE): it is refused while anybody has the file open for writing. It is
given back at once, because who opens the file for writing waits as long as we have it. The signal that would tell us
of them is made SIGURG, which does nothing; the usual one, SIGIO, ends a process.

Only the owner of a file (or CAP_LEASE) may ask, and the answer counts only where all who write go through this kernel:
elsewhere it is `unknown`, and only time can tell. A writer who dies half way looks like one who is done, everywhere.
"""

from __future__ import annotations

import fcntl
import os
import signal
import stat
import time
from pathlib import Path
from typing import Literal, NamedTuple

from connector.errors import Misconfigured

State = Literal["whole", "written", "unknown"]

# Longer than any save takes; then it is somebody who forgot to close it, and has to be told.
PATIENCE_SECONDS = 10.0
_LOOK_AGAIN = 0.05

# File systems of this machine alone. Those of a network refuse the lease for reasons of their own, and what a virtual
# machine shares with its host is written by others than this kernel knows.
_LOCAL = frozenset({"ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs", "zfs", "bcachefs", "tmpfs", "overlay"})


class StillOpen(Misconfigured):
    """Somebody has been writing the file for longer than `PATIENCE_SECONDS`."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"{path} is still open for writing, or changing, after {PATIENCE_SECONDS:.0f} s (still_open): it counts "
            "once it is closed and stands still; `fuser -v` shows who has it open."
        )


class Look(NamedTuple):
    """A file at one moment. The `stamp` is another one after each write, and of each other file."""

    data: bytes
    stamp: tuple[int, ...]
    state: State


def read(path: Path) -> bytes:
    """What the file says once nobody writes it. Blocks up to `PATIENCE_SECONDS`; raises StillOpen then, and OSError."""
    until = time.monotonic() + PATIENCE_SECONDS
    while (found := look(path)).state == "written":
        if time.monotonic() > until:
            raise StillOpen(path)
        time.sleep(_LOOK_AGAIN)
    return found.data


def look(path: Path) -> Look:
    """What the file says now, which may be half of it when the state isn't `whole`. Raises OSError."""
    with path.open("rb", buffering=0) as file:
        opened = os.fstat(file.fileno())
        if not stat.S_ISREG(opened.st_mode):  # a pipe, as of a shell's <(…), is read once, to its end
            return Look(file.read(), (), "unknown")
        before, state = _stamp(opened), _state(file.fileno())
        data = file.read()
        if before != _stamp(path.stat()) or (state == "whole" and _state(file.fileno()) != "whole"):
            state = "written"
    return Look(data, before, state)


def _stamp(found: os.stat_result) -> tuple[int, ...]:
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _state(descriptor: int) -> State:
    if not hasattr(fcntl, "F_SETLEASE"):  # not Linux
        return "unknown"
    try:
        if _file_system(descriptor) not in _LOCAL:
            return "unknown"
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except BlockingIOError:
        return "written"
    except OSError:
        return "unknown"
    return "whole"


def _file_system(descriptor: int) -> str | None:
    """The kind that the open file is on. (Its device would not do: that of btrfs is another one than its mount's.)"""
    about = Path(f"/proc/self/fdinfo/{descriptor}").read_text()
    mount = next((line.split()[1] for line in about.splitlines() if line.startswith("mnt_id:")), None)
    for line in Path("/proc/self/mountinfo").read_text(errors="replace").splitlines():
        where, _, what = line.partition(" - ")
        if where.split(maxsplit=1)[0] == mount:
            return what.split(maxsplit=1)[0]
    return None
