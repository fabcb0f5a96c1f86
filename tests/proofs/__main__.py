"""`python -m tests.proofs NAME`: proves a promise at full size on both stores; exits 1 when it doesn't hold."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
import tempfile
from contextlib import closing
from pathlib import Path

from connector.store import migrate
from connector.store.database import Database
from tests import places
from tests.benchmarks import stores
from tests.places import Place
from tests.proofs import events, inbound
from tests.sync.events_out import Way


def main() -> None:
    """A line for each store."""
    parser = argparse.ArgumentParser(prog="python -m tests.proofs", description="Proves a promise at full size.")
    parser.add_argument(
        "name",
        choices=["inbound", "events"],
        help="inbound: nothing acknowledged is lost; events: every event that is due arrives once and in order",
    )
    parser.add_argument("--webhooks", type=int, default=100_000, help="how many, before repeats [100000]")
    parser.add_argument("--kills", type=int, default=20, help="how often the connector is killed [20]")
    parser.add_argument("--users", type=int, default=200, help="of events: how many [200]")
    parser.add_argument("--each", type=int, default=100, help="of events: how many each user has [100]")
    parser.add_argument("--seed", type=int, default=1, help="draws what happens, its order and the moments [1]")
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
            for api in ("batch", "single") if given.name == "events" else ("",):
                with store.fresh() as url:
                    outcome = _prove(given, Place(place, url), api)
                print(
                    f"{store.title}, {f'{api}, ' if api else ''}seed {given.seed}: {outcome}: "
                    f"{'holds' if outcome.holds else 'DOES NOT HOLD'}",
                    flush=True,
                )
                holds &= outcome.holds
    sys.exit(0 if holds else 1)


def _prove(given: argparse.Namespace, place: Place, api: str) -> inbound.Outcome | events.Outcome:
    if given.name == "inbound":
        return inbound.prove(place, given.webhooks, given.kills, given.seed)
    return asyncio.run(_prove_events(given, place, api))


async def _prove_events(given: argparse.Namespace, place: Place, api: str) -> events.Outcome:
    with closing(Database(place.store_url)) as db:
        migrate.upgrade(db)
        async with places.sandbox() as sandbox:
            return await events.prove(Way(db, place, sandbox, api), given.users, given.each, given.seed)


main()
