"""Webhooks: durable ingest against a bare handler, reading against the burst, grouped commits against single ones.

In every round each server is started afresh on an empty store and gets the same burst. The connector is the real
process, with its reader running all along: it ingests and reads at the same time. Its `read` time is from the burst's
first request until nothing in the inbox is new; it is compared with its own burst, and with that of a server that
only appends, which is shorter.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import sqlalchemy as sa

from connector.store import events, inbox, schema
from connector.store.database import Database
from tests.benchmarks import load
from tests.benchmarks.stores import Store

_TITLES = {
    "bare": "bare aiohttp handler",
    "connector": "connector",
    "grouped": "append only, grouped",
    "single": "append only, one a commit",
}
_SINGLE_SHARE = 10  # one transaction a request is slow: it gets a tenth of the requests, and is compared by its rate
_START_SECONDS = 30
_READ_SECONDS = 120
_POLL_SECONDS = 0.005


@dataclass
class _Round:
    """What one server did with one burst; `read` is the time until everything was read."""

    rate: float
    seconds: float
    p50: float
    p99: float
    load_busy: float
    read: float = 0.0


@dataclass
class _Ratio:
    what: str
    of_rounds: list[float]
    target: float
    at_most: bool = False
    goal: str = ""

    def line(self) -> str:
        ratio = statistics.median(self.of_rounds)
        met = ratio <= self.target if self.at_most else ratio >= self.target
        spread = f"{min(self.of_rounds):.2f}–{max(self.of_rounds):.2f}"
        target = f"{'≤' if self.at_most else '≥'} {self.target:.2f}{self.goal}"
        return f"{self.what:<52}{ratio:>7.2f}   {spread:<14}{target:<22}{'met' if met else 'NOT MET'}"


_Rounds = Mapping[tuple[str, str], list[_Round]]


def measure(stores: Mapping[str, Store], rounds: int, requests: int) -> None:
    """Prints a line for each server and each ratio."""
    done: defaultdict[tuple[str, str], list[_Round]] = defaultdict(list)
    for _ in range(rounds):
        done["bare", ""].append(_bare(requests))
        for kind, store in stores.items():
            done["connector", kind].append(_connector(store, requests))
            done["grouped", kind].append(_appending("grouped", store, requests))
            done["single", kind].append(_appending("single", store, max(requests // _SINGLE_SHARE, 1)))
    print(f"webhooks: {load.CONNECTIONS} connections, {requests} requests in each of {rounds} rounds; medians")
    print()
    _print_servers(done, stores)
    print()
    print(f"{'ratio':<52}{'median':>7}   {'rounds':<14}target")
    for kind, store in stores.items():
        for ratio in _ratios(done, kind, store.title):
            print(ratio.line())


def _ratios(done: _Rounds, kind: str, title: str) -> Iterator[_Ratio]:
    """Within each round, so that what disturbs the machine for longer than that cancels out."""
    connector, grouped = done["connector", kind], done["grouped", kind]
    yield _Ratio(
        f"ingest: connector / bare, {title}",
        [ours.rate / bare.rate for ours, bare in zip(connector, done["bare", ""], strict=True)],
        0.25,
        goal=" (goal 0.40)",
    )
    yield _Ratio(
        f"all read / its own burst, {title}",
        [ours.read / ours.seconds for ours in connector],
        3,
        at_most=True,
    )
    yield _Ratio(
        f"all read / burst when nothing reads, {title}",
        [ours.read / alone.seconds for ours, alone in zip(connector, grouped, strict=True)],
        3,
        at_most=True,
    )
    yield _Ratio(
        f"grouped commits / one a request, {title}",
        [many.rate / one.rate for many, one in zip(grouped, done["single", kind], strict=True)],
        3,
    )


def _print_servers(done: _Rounds, stores: Mapping[str, Store]) -> None:
    print(f"{'server':<42}{'requests/s':>10}{'p50 ms':>9}{'p99 ms':>9}{'all read s':>12}{'load busy':>11}")
    for (name, kind), of_rounds in done.items():
        title = _TITLES[name] + (f", {stores[kind].title}" if kind else "")
        rate, p50, p99, read, busy = (
            statistics.median(getattr(each, field) for each in of_rounds)
            for field in ("rate", "p50", "p99", "read", "load_busy")
        )
        shown = f"{read:.2f}" if read else ""
        print(f"{title:<42}{rate:>10,.0f}{p50 * 1000:>9.1f}{p99 * 1000:>9.1f}{shown:>12}{busy:>11.0%}")


def _bare(requests: int) -> _Round:
    with _server("bare", "") as port, _warm(port, requests) as load_process:
        return _burst(load_process, requests)


def _appending(which: str, store: Store, requests: int) -> _Round:
    with store.fresh() as url, _opened(url) as db:
        with _server(which, url) as port, _warm(port, requests) as load_process:
            found = _burst(load_process, requests)
        _expect(db.read(inbox.counts)["new"], load.WARM_UP + requests, "messages in the inbox")
    return found


def _connector(store: Store, requests: int) -> _Round:
    sent = load.WARM_UP + requests
    with store.fresh() as url, _opened(url) as db:
        with _server("connector", url) as port, _warm(port, requests) as load_process:
            _wait_until_read(db)
            began = time.monotonic()
            found = _burst(load_process, requests)
            _expect(db.read(_count_inbox), sent, "messages in the inbox")
            _wait_until_read(db)
            found.read = time.monotonic() - began
        _expect(db.read(events.count), sent, "events")
    return found


def _burst(load_process: subprocess.Popen[str], requests: int) -> _Round:
    output, _ = load_process.communicate("go\n")
    if load_process.returncode != 0:
        raise RuntimeError("the burst failed, see above; nothing of this run counts")
    burst = msgspec.json.decode(output, type=load.Burst)
    _expect(len(burst.latencies), requests, "answers")
    seconds = burst.ended - burst.began
    cuts = statistics.quantiles(burst.latencies, n=100)
    return _Round(requests / seconds, seconds, cuts[49], cuts[98], burst.busy / seconds)


@contextmanager
def _opened(url: str) -> Iterator[Database]:
    db = Database(url)
    try:
        yield db
    finally:
        db.close()


@contextmanager
def _server(which: str, url: str) -> Iterator[int]:
    """The port of a fresh process; it ends with the block."""
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
                yield _port(process, which)
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
def _warm(port: int, requests: int) -> Iterator[subprocess.Popen[str]]:
    """The load's process, which has warmed the server up and waits for the word to go."""
    command = [sys.executable, "-m", "tests.benchmarks.load", str(port), str(requests)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        if process.stdout.readline() != "warm\n":
            raise RuntimeError("the load could not warm the server up, see above")
        yield process


def _wait_until_read(db: Database) -> None:
    """Returns as soon as nothing is new."""
    latest = time.monotonic() + _READ_SECONDS
    while db.read(_anything_new):
        if time.monotonic() > latest:
            raise RuntimeError(f"not everything was read within {_READ_SECONDS} seconds")
        time.sleep(_POLL_SECONDS)


def _anything_new(connection: sa.Connection) -> bool:
    new = sa.select(schema.inbox.c.id).where(schema.inbox.c.state == sa.literal_column("'new'"))
    return connection.execute(new.limit(1)).first() is not None


def _count_inbox(connection: sa.Connection) -> int:
    return connection.execute(sa.select(sa.func.count()).select_from(schema.inbox)).scalar_one()


def _expect(found: int, wanted: int, what: str) -> None:
    if found != wanted:
        raise RuntimeError(f"{found} {what} where {wanted} should be; nothing of this run counts")
