"""`python -m tests.proofs inbound`: proves a promise at full size on both stores; exits 1 when it doesn't hold."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from pathlib import Path

from tests.benchmarks import stores
from tests.places import Place
from tests.proofs import inbound


def main() -> None:
    """A line for each store."""
    parser = argparse.ArgumentParser(prog="python -m tests.proofs", description="Proves a promise at full size.")
    parser.add_argument("name", choices=["inbound"], help="inbound: nothing acknowledged is lost")
    parser.add_argument("--webhooks", type=int, default=100_000, help="how many, before repeats [100000]")
    parser.add_argument("--kills", type=int, default=20, help="how often the connector is killed [20]")
    parser.add_argument("--seed", type=int, default=1, help="draws the webhooks, their order and the moments [1]")
    parser.add_argument("--store", action="append", choices=stores.KINDS, help="only this store; may be repeated")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # as an exception, so that every process we started ends
    holds = True
    with (
        tempfile.TemporaryDirectory(prefix="proof-", dir="/tmp") as folder,  # short: a socket's path has 107 bytes
        stores.opened(given.store or stores.KINDS, Path(folder)) as opened,
    ):
        for kind, store in opened.items():
            place = Path(folder) / f"{kind}-settings"
            place.mkdir()
            with store.fresh() as url:
                outcome = inbound.prove(Place(place, url), given.webhooks, given.kills, given.seed)
            print(
                f"{store.title}, seed {given.seed}: {outcome}: {'holds' if outcome.holds else 'DOES NOT HOLD'}",
                flush=True,
            )
            holds &= outcome.holds
    sys.exit(0 if holds else 1)


main()
