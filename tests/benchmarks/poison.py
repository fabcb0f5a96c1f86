"""One person who makes every call fail that they are in, among many: what the others lose by it.

`connector sync` in batches, once without them and once with them, in turn; the Track API notes when it took how many.
The figure is how many of the others had been delivered when all would have been without that person. A call that hangs
holds its batch for as long as the connector waits for an answer, so those in it come later than anybody else.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import urllib.request
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.benchmarks import sandbox
from tests.benchmarks.stores import Store

_WAYS = ("400", "500", "hang")
_TARGET = 0.99


def measure(stores: Mapping[str, Store], rounds: int, requests: int) -> None:
    """Prints a line for each way of failing and each store; `requests` is the number of users."""
    print(f"poison: one of {requests:,} users makes every call fail, {rounds} rounds; medians")
    print()
    print(f"{'share of the others in the time':<34}{'share':>8}   rounds          target   seconds without, and with")
    for store in stores.values():
        shares: defaultdict[str, list[float]] = defaultdict(list)
        seconds: defaultdict[str, list[tuple[float, float]]] = defaultdict(list)
        for _ in range(rounds):
            without = _run(store, requests, "200", "")
            for way in _WAYS:
                among = _run(store, requests, way, f"customer-{requests // 2}")
                others = sum(count for _, count in among)
                if others != requests - 1:
                    raise RuntimeError(f"{others} were delivered where {requests - 1} should be")
                shares[way].append(sum(count for at, count in among if at <= without[-1][0]) / others)
                seconds[way].append((without[-1][0], among[-1][0]))
        for way, found in shares.items():
            share, of_rounds = statistics.median(found), f"{min(found):.2%}–{max(found):.2%}"
            before, after = (statistics.median(each) for each in zip(*seconds[way], strict=True))
            print(
                f"{way + ', ' + store.title:<34}{share:>8.2%}   {of_rounds:<16}≥ {_TARGET:.0%}"
                f"  {'met' if share >= _TARGET else 'NOT MET':<8}{before:.1f}, {after:.1f}",
                flush=True,
            )


def _run(store: Store, users: int, way: str, person: str) -> list[tuple[float, int]]:
    """When so many were taken, in seconds from the first call on."""
    with store.fresh() as store_url, TemporaryDirectory(prefix="bench-poison-") as name, _served(way, person) as url:
        settings = sandbox.settings(Path(name), store_url, url, "batch")
        sandbox.import_users(Path(name), settings, users)
        command = [sys.executable, "-m", "connector", "--settings", str(settings), "sync"]
        subprocess.run(command, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        with urllib.request.urlopen(f"{url}/taken", timeout=60) as response:
            taken = json.loads(response.read())
    if not taken:
        raise RuntimeError("nobody was delivered")
    return [(at - taken[0][0], count) for at, count in taken]


@contextmanager
def _served(way: str, person: str) -> Iterator[str]:
    command = [sys.executable, "-m", "tests.benchmarks.poison_api", way, person]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.terminate()
