"""Webhooks: durable ingest against a bare handler, reading against the burst, grouped commits against single ones.

In every round each server is started afresh on an empty store and gets the same burst. The connector is the real
process, with its reader running all along: it ingests and reads at the same time. Its `read` time is from the burst's
first request until nothing in the inbox is new; it is compared with its own burst, and with that of a server that
only appends, which is shorter.
"""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from connector.store import events, inbox
from tests.benchmarks import bursts, load
from tests.benchmarks.stores import Store

_TITLES = {
    "bare": "bare aiohttp handler",
    "connector": "connector",
    "grouped": "append only, grouped",
    "single": "append only, one a commit",
}
_SINGLE_SHARE = 10  # one transaction a request is slow: it gets a tenth of the requests, and is compared by its rate


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


_Rounds = Mapping[tuple[str, str], list[bursts.Round]]


def measure(stores: Mapping[str, Store], rounds: int, requests: int) -> None:
    """Prints a line for each server and each ratio."""
    done: defaultdict[tuple[str, str], list[bursts.Round]] = defaultdict(list)
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
        f"p99: connector / bare, {title}",
        [ours.p99 / bare.p99 for ours, bare in zip(connector, done["bare", ""], strict=True)],
        8,
        at_most=True,
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


def _bare(requests: int) -> bursts.Round:
    with bursts.server("bare", "") as process, bursts.warm(process.port, requests) as load_process:
        return bursts.burst(load_process, requests)


def _appending(which: str, store: Store, requests: int) -> bursts.Round:
    with store.fresh() as url, bursts.opened(url) as db:
        with bursts.server(which, url) as process, bursts.warm(process.port, requests) as load_process:
            found = bursts.burst(load_process, requests)
        bursts.expect(db.read(inbox.counts)["new"], load.WARM_UP + requests, "messages in the inbox")
    return found


def _connector(store: Store, requests: int) -> bursts.Round:
    sent = load.WARM_UP + requests
    with store.fresh() as url, bursts.opened(url) as db:
        with bursts.server("connector", url) as process, bursts.warm(process.port, requests) as load_process:
            bursts.wait_until_read(db)
            began = time.monotonic()
            found = bursts.burst(load_process, requests)
            bursts.expect(db.read(bursts.count_inbox), sent, "messages in the inbox")
            bursts.wait_until_read(db)
            found.read = time.monotonic() - began
        bursts.expect(db.read(events.count), sent, "events")
    return found
