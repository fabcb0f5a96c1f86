"""Imports: rows a second, COPY against the multi-row insert, and memory; BENCH_USERS says how many users [1000000].

Each import is a process of its own, `python -m tests.benchmarks.imports URL FILE TRANSPORT`, on a fresh store. Users
have an external_id, an email and 20 attributes. An import of changes finds all of them at Customer.io, so that each row
makes its user due. The transports are compared on as many as 100,000 users, interleaved.
"""

from __future__ import annotations

import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import sqlalchemy as sa

from connector import app, cli
from connector.commands import import_files
from connector.settings import Settings
from connector.store import documents, schema
from connector.store.database import Database
from tests.benchmarks import memory
from tests.benchmarks.stores import Store

_ROOT = Path(__file__).parents[2]
_SQLITE_TARGET = 9000
_COPY_TARGET = 1.4
_MEMORY_TARGET = 1.15
_MOST_MB = 150
_COMPARED = 100_000

# Everyone is a person at Customer.io by now, so what changes makes them due.
_MIRRORED = sa.insert(schema.mirror).from_select(
    [column.name for column in schema.mirror.columns if not column.nullable and column.server_default is None],
    sa.select(
        schema.users.c.id,
        schema.users.c.id,
        sa.literal("id"),
        schema.users.c.attributes,
        sa.literal(""),
        sa.literal(""),
        schema.users.c.version,
        sa.literal(0),
        schema.users.c.first_seen_at,
        schema.users.c.first_seen_at,
    ),
)


class Ran(NamedTuple):
    """An import: rows a second, in all and while new rows were written, and the most memory its process had."""

    rate: float
    written: float
    peak_mb: float


def measure(stores: Mapping[str, Store], rounds: int, _requests: int) -> None:
    """Prints a line for each ratio."""
    users = int(os.environ.get("BENCH_USERS", "1000000"))
    part = max(users // 10, 1)
    print(f"imports: {users:,} users with 20 attributes each, and {part:,} of them")
    print()
    with tempfile.TemporaryDirectory(prefix="bench-import-", dir="/tmp") as folder:
        whole, some, changed = (Path(folder) / f"{name}.jsonl" for name in ("whole", "part", "changed"))
        _write(whole, users)
        _write(some, part)
        _write(changed, part, changed="yes")
        for name, store in stores.items():
            _measure(name, store, rounds, users, whole, some, changed)


def _measure(name: str, store: Store, rounds: int, users: int, whole: Path, some: Path, changed: Path) -> None:
    with store.fresh() as url:
        fresh = _run(url, some)
        _mirror(url)
        changes = _run(url, changed)
    with store.fresh() as url:
        many = _run(url, whole)
    target = _SQLITE_TARGET if name == "sqlite" else None
    _say(f"rows a second, {store.title}", many.rate, target, many.rate >= (target or 0), f"a tenth: {fresh.rate:,.0f}")
    _say(f"rows a second, changes of people, {store.title}", changes.rate, None, True, "")
    ratio = many.peak_mb / fresh.peak_mb
    met = ratio <= _MEMORY_TARGET and many.peak_mb < _MOST_MB
    peaks = f"{fresh.peak_mb:.0f} → {many.peak_mb:.0f} MB (< {_MOST_MB})"
    _say(f"peak memory with ten times as many, {store.title}", ratio, _MEMORY_TARGET, met, peaks)
    if name == "postgresql":
        # A small file is done before the two differ.
        _compare(store, rounds, some if users >= _COMPARED * 10 else whole)


def _compare(store: Store, rounds: int, file: Path) -> None:
    found: dict[str, list[Ran]] = {"copy": [], "insert": []}
    for _ in range(rounds):
        for transport, runs in found.items():
            with store.fresh() as url:
                runs.append(_run(url, file, transport))
    copy, insert = (statistics.median(run.written for run in runs) for runs in found.values())
    more = f"{insert:,.0f} → {copy:,.0f} users/s"
    _say("COPY / multi-row insert, of the same rows", copy / insert, _COPY_TARGET, copy / insert >= _COPY_TARGET, more)
    copy, insert = (statistics.median(run.rate for run in runs) for runs in found.values())
    _say("COPY / multi-row insert, the whole import", copy / insert, None, True, f"{insert:,.0f} → {copy:,.0f} users/s")


def _say(what: str, figure: float, target: float | None, met: bool, more: str) -> None:
    shown = f"{figure:,.0f}" if figure >= 100 else f"{figure:.2f}"
    judged = "" if target is None else f"   {target:,}   {'met' if met else 'NOT MET'}"
    print(f"{what:<52}{shown:>7}   {more}{judged}", flush=True)


def _write(path: Path, users: int, **more: Any) -> None:
    drawn = random.Random(7)
    with path.open("w", encoding="utf-8") as file:
        for number in range(users):
            attributes = {
                f"attribute_{n}": (number % 97, drawn.random(), f"value {drawn.randrange(10**6)}", n % 2 == 0)[n % 4]
                for n in range(20)
            }
            row = {"external_id": f"user-{number}", "email": f"user-{number}@example.com", **attributes, **more}
            file.write(json.dumps(row) + "\n")


def _mirror(url: str) -> None:
    db = Database(url)
    db.write(lambda connection: connection.execute(_MIRRORED))
    db.close()


def _run(url: str, file: Path, transport: str = "copy") -> Ran:
    command = [sys.executable, "-m", "tests.benchmarks.imports", url, str(file), transport]
    ran = subprocess.run(command, cwd=_ROOT, stdout=subprocess.PIPE, check=True)
    return Ran(**json.loads(ran.stdout))


def _import(url: str, file: Path, transport: str) -> None:
    """As the command does it, whose modules are loaded too: they are a part of its memory."""
    writing = _Writing(_insert if transport == "insert" else documents.insert)
    documents.insert = writing
    import_files.collect_less()
    db = Database(url)
    began = time.perf_counter()
    summary = import_files.users(db, Settings(), file, app.now)
    seconds = time.perf_counter() - began
    db.close()
    if summary.rejected or not summary.stored:
        raise RuntimeError(f"{cli.cli.info.name} did not import {file}: {summary}")
    peak_mb = memory.peak_mb(os.getpid())
    print(json.dumps(Ran(summary.stored / seconds, summary.stored / (writing.seconds or 1), peak_mb)._asdict()))


class _Writing:
    """Watches how long the writing of rows takes; on PostgreSQL they are on the server when it returns."""

    def __init__(self, insert: Callable[..., None]) -> None:
        self._insert = insert
        self.seconds = 0.0

    def __call__(self, *arguments: Any, **options: Any) -> None:
        began = time.perf_counter()
        self._insert(*arguments, **options)
        self.seconds += time.perf_counter() - began


def _insert(connection: sa.Connection, table: sa.Table, rows: Any, *, keep_old: bool = False) -> None:
    """What COPY is compared with."""
    if keep_old:
        raise NotImplementedError
    if rows:
        connection.execute(sa.insert(table), rows)


if __name__ == "__main__":
    _import(sys.argv[1], Path(sys.argv[2]), sys.argv[3])
