"""One busy user beside many others: how fast the others' events go, against how fast they go without that user.

Every event of a user waits for the one before it, so the busy one takes a call for each. All are people already; time
runs from the first claim until the last event of the others is accepted. BENCH_BUSY, BENCH_OTHERS: how many events the
one has, and how many others there are, with ten each.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

from connector import app, settings_file
from connector.core.outcome import Answer
from connector.outbound import full_pass
from connector.outbound.client import TrackClient
from connector.outbound.tally import Tally
from connector.outbound.throttle import Throttle
from connector.outbound.worker import Worker
from connector.settings import Settings
from connector.store.database import Database
from tests.benchmarks import sandbox
from tests.benchmarks.stores import Store

BUSY = int(os.environ.get("BENCH_BUSY", "10000"))
OTHERS = int(os.environ.get("BENCH_OTHERS", "1000"))
EACH = 10
_TARGET = 0.9
_NAME_OF_BUSY = "busy-"


def measure(stores: Mapping[str, Store], rounds: int, _requests: int) -> None:
    """Prints a line for each way of sending and each store."""
    print(f"events: {OTHERS:,} users with {EACH} each, beside one with {BUSY:,}, in each of {rounds} rounds; medians")
    print()
    print(f"{'events of the others a second':<32}{'beside':>11}{'without':>11}{'ratio':>8}   rounds       target")
    done: defaultdict[tuple[str, str], list[tuple[float, float]]] = defaultdict(list)
    for number in range(rounds):
        for kind, store in stores.items():
            for api in ("batch", "single"):
                order = (BUSY, 0) if number % 2 else (0, BUSY)
                found = {busy: _rate(store, api, busy) for busy in order}
                done[api, kind].append((found[BUSY], found[0]))
    for (api, kind), of_rounds in done.items():
        ratios = [beside / without for beside, without in of_rounds]
        ratio = statistics.median(ratios)
        beside, without = (statistics.median(each) for each in zip(*of_rounds, strict=True))
        verdict = "met" if ratio >= _TARGET else "NOT MET"
        print(
            f"{api + ', ' + stores[kind].title:<32}{beside:>11,.0f}{without:>11,.0f}{ratio:>8.2f}"
            f"   {f'{min(ratios):.2f}–{max(ratios):.2f}':<13}≥ {_TARGET:.2f}  {verdict}",
            flush=True,
        )


def _rate(store: Store, api: str, busy: int) -> float:
    with store.fresh() as store_url, TemporaryDirectory(prefix="bench-events-") as name, sandbox.running() as url:
        path = sandbox.settings(Path(name), store_url, url, api)
        with path.open("a", encoding="utf-8") as file:
            file.write('[events]\nnames = ["*"]\n')
        sandbox.import_users(Path(name), path, OTHERS + 1)
        seconds = asyncio.run(_send(Path(name), path, busy))
    return OTHERS * EACH / seconds


async def _send(folder: Path, path: Path, busy: int) -> float:
    """How many seconds it takes until all events of the others are accepted."""
    settings = settings_file.load(path)
    db = Database(settings.store.url.get_secret_value())
    try:
        await _work(db, settings, _Watching(settings, db))  # they become people
        _import_events(folder, path, busy)
        client = _Watching(settings, db)
        began = time.perf_counter()
        tally = await _work(db, settings, client)
    finally:
        db.close()
    if client.of_busy != list(range(busy)) or client.of_others != OTHERS * EACH:
        raise RuntimeError(f"{client.of_others} and {len(client.of_busy)} events went out, or not in order: {tally}")
    return client.last_at - began


async def _work(db: Database, settings: Settings, client: TrackClient) -> Tally:
    await db.on_thread(lambda: full_pass.run(db, settings, app.now))
    async with client:
        return await Worker(db, app.now).work_off(settings, client)


def _import_events(folder: Path, path: Path, busy: int) -> None:
    """User 0 is the busy one."""
    start = app.now() - timedelta(days=1)
    counts = {0: busy, **dict.fromkeys(range(1, OTHERS + 1), EACH)}
    rows = (
        {
            "external_id": f"customer-{user}",
            "name": f"{_NAME_OF_BUSY if user == 0 else 'other-'}{number}",
            "occurred_at": (start + timedelta(seconds=number)).isoformat(),
            "id": f"{user}-{number}",
            "properties": {"total": 9.5, "currency": "EUR"},
        }
        for user, count in counts.items()
        for number in range(count)
    )
    (folder / "events.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    command = [sys.executable, "-m", "connector", "--settings", str(path), "import", "events", "--send"]
    subprocess.run([*command, str(folder / "events.jsonl")], check=True, capture_output=True)


class _Watching(TrackClient):
    """Notes whose events are accepted, and when the last of the others is."""

    def __init__(self, settings: Settings, db: Database) -> None:
        super().__init__(settings.customerio, Throttle(db, settings.customerio.rate_per_second))
        self.of_busy: list[int] = []
        self.of_others = 0
        self.last_at = 0.0

    async def batch(
        self, operations: Sequence[bytes], not_after: Callable[[], float], *, tries: int = 3, seconds: float = 8.0
    ) -> Answer:
        answer = await super().batch(operations, not_after, tries=tries, seconds=seconds)
        self._note([each for each in map(json.loads, operations) if each["action"] == "event"])
        return answer

    async def event(
        self,
        customer_id: str | None,
        body: bytes,
        not_after: Callable[[], float],
        *,
        tries: int = 3,
        seconds: float = 8.0,
    ) -> Answer:
        answer = await super().event(customer_id, body, not_after, tries=tries, seconds=seconds)
        self._note([json.loads(body)])
        return answer

    def _note(self, events: Sequence[dict[str, str]]) -> None:
        names = [each["name"] for each in events]
        busy = [name for name in names if name.startswith(_NAME_OF_BUSY)]
        self.of_busy += [int(name.removeprefix(_NAME_OF_BUSY)) for name in busy]
        self.of_others += len(names) - len(busy)
        if len(busy) < len(names):
            self.last_at = time.perf_counter()
