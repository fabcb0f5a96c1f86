"""`python -m tests.benchmarks [NAME…]`: prints the machine, then each measurement with its targets."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from pathlib import Path

from tests.benchmarks import (
    edits,
    events,
    ids,
    imports,
    machine,
    memory,
    people,
    plans,
    poison,
    sandbox,
    segments,
    stores,
    webhooks,
    worker,
)

MEASUREMENTS = {
    "webhooks": webhooks.measure,
    "sandbox": sandbox.measure,
    "memory": memory.measure,
    "imports": imports.measure,
    "ids": ids.measure,
    "segments": segments.measure,
    "people": people.measure,
    "plans": plans.measure,
    "edits": edits.measure,
    "worker": worker.measure,
    "poison": poison.measure,
    "events": events.measure,
}


def main() -> None:
    """Exits 0 whatever was measured: a ratio is for a person to judge."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description="Measures; prints ratios.")
    parser.add_argument("names", metavar="NAME", nargs="*", help=f"what to measure: {', '.join(MEASUREMENTS)} [all]")
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds; medians are shown [5]")
    parser.add_argument("--requests", type=int, default=12_000, help="requests in a round [12000]")
    parser.add_argument("--store", action="append", choices=stores.KINDS, help="only this store; may be repeated")
    given = parser.parse_args()
    if unknown := set(given.names) - MEASUREMENTS.keys():
        parser.error(f"no measurement is called {', '.join(sorted(unknown))}; there are: {', '.join(MEASUREMENTS)}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # as an exception, so that every server we started ends
    with (
        tempfile.TemporaryDirectory(prefix="bench-", dir="/tmp") as folder,  # short: a socket's path has 107 bytes
        stores.opened(given.store or stores.KINDS, Path(folder)) as opened,
    ):
        for line in machine.lines(Path(folder), opened):
            print(line, flush=True)
        for name in given.names or MEASUREMENTS:
            print()
            MEASUREMENTS[name](opened, given.rounds, given.requests)


main()
