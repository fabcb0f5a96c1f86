"""One burst of webhooks against one server, each a process of its own."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import msgspec
import sqlalchemy as sa

from connector.store import schema
from connector.store.database import Database
from tests.benchmarks import load

_START_SECONDS = 30
_READ_SECONDS = 120
_POLL_SECONDS = 0.005


@dataclass
class Round:
    """What one server did with one burst; `read` is the time until everything was read."""

    rate: float
    seconds: float
    p50: float
    p99: float
    load_busy: float
    read: float = 0.0


class Server(NamedTuple):
    """Where a server listens, and its process."""

    port: int
    pid: int


def burst(load_process: subprocess.Popen[str], requests: int) -> Round:
    output, _ = load_process.communicate("go\n")
    if load_process.returncode != 0:
        raise RuntimeError("the burst failed, see above; nothing of this run counts")
    burst = msgspec.json.decode(output, type=load.Burst)
    expect(len(burst.latencies), requests, "answers")
    seconds = burst.ended - burst.began
    cuts = statistics.quantiles(burst.latencies, n=100)
    return Round(requests / seconds, seconds, cuts[49], cuts[98], burst.busy / seconds)


@contextmanager
def opened(url: str) -> Iterator[Database]:
    db = Database(url)
    try:
        yield db
    finally:
        db.close()


@contextmanager
def server(which: str, url: str) -> Iterator[Server]:
    """A fresh process; it ends with the block."""
    with TemporaryDirectory(prefix="bench-settings-") as folder:
        settings = Path(folder) / "settings.toml"
        settings.write_text(
            'webhooks.signing_keys = ["file:key"]\nstore.url = "file:url"\nserver.port = 0\nadmin.port = 0\n',
            encoding="utf-8",
        )
        (Path(folder) / "key").write_text(load.KEY, encoding="utf-8")
        (Path(folder) / "url").write_text(url, encoding="utf-8")
        if which == "connector":
            command = [sys.executable, "-m", "connector", "--settings", str(settings), "run"]
        else:
            command = [sys.executable, "-m", "tests.benchmarks.servers", which, str(settings)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            try:
                yield Server(_port(process, which), process.pid)
            finally:
                process.terminate()
                process.communicate(timeout=_START_SECONDS)


def _port(process: subprocess.Popen[str], which: str) -> int:
    assert process.stdout is not None
    assert process.stderr is not None
    if which != "connector":
        return int(process.stdout.readline())
    said = []
    for line in process.stderr:
        said.append(line)
        if '"listening"' in line:
            return int(json.loads(line)["webhooks"].removesuffix("/").rpartition(":")[2].partition("/")[0])
    raise RuntimeError("the connector did not start:\n" + "".join(said))


@contextmanager
def warm(port: int, requests: int, part: int = 0) -> Iterator[subprocess.Popen[str]]:
    """The load's process, which has warmed the server up and waits for the word to go; each part has its own ids."""
    command = [sys.executable, "-m", "tests.benchmarks.load", str(port), str(requests), str(part)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        if process.stdout.readline() != "warm\n":
            raise RuntimeError("the load could not warm the server up, see above")
        yield process


def wait_until_read(db: Database) -> None:
    """Returns as soon as nothing is new."""
    latest = time.monotonic() + _READ_SECONDS
    while db.read(_anything_new):
        if time.monotonic() > latest:
            raise RuntimeError(f"not everything was read within {_READ_SECONDS} seconds")
        time.sleep(_POLL_SECONDS)


def _anything_new(connection: sa.Connection) -> bool:
    new = sa.select(schema.inbox.c.id).where(schema.inbox.c.state == sa.literal_column("'new'"))
    return connection.execute(new.limit(1)).first() is not None


def count_inbox(connection: sa.Connection) -> int:
    return connection.execute(sa.select(sa.func.count()).select_from(schema.inbox)).scalar_one()


def expect(found: int, wanted: int, what: str) -> None:
    if found != wanted:
        raise RuntimeError(f"{found} {what} where {wanted} should be; nothing of this run counts")
