"""What was measured on: figures without it mean nothing."""

from __future__ import annotations

import os
import platform
import sqlite3
import statistics
import time
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path

from tests.benchmarks.stores import Store


def lines(folder: Path, opened: Mapping[str, Store]) -> Iterator[str]:
    """Cores, processor, versions, and what a durable write costs in the folder where the stores are."""
    yield f"machine   {os.cpu_count()} cores, {_processor()}; {platform.system()} {platform.release()}"
    libraries = ", ".join(f"{name} {metadata.version(name)}" for name in ("aiohttp", "uvloop", "sqlalchemy"))
    yield f"versions  Python {platform.python_version()}, {libraries}, SQLite {sqlite3.sqlite_version}"
    for store in opened.values():
        if store.about:
            yield f"          {store.about}"
    yield f"disk      fsync of 4 KiB: {_fsync_ms(folder):.2f} ms (median)"
    yield f"load      {', '.join(f'{load:.2f}' for load in os.getloadavg())} before"


def _processor() -> str:
    try:
        described = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        described = []
    names = [line.partition(":")[2].strip() for line in described if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _fsync_ms(folder: Path) -> float:
    taken = []
    with (folder / "fsync").open("wb", buffering=0) as file:
        for _ in range(200):
            file.write(b"x" * 4096)
            began = time.perf_counter()
            os.fsync(file.fileno())
            taken.append(time.perf_counter() - began)
    return statistics.median(taken) * 1000
