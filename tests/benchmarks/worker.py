"""The worker's speed, from the claim to the record, against clients that have nothing to load and nothing to record.

In batch mode: users a second, against a loop of the plain SDK's `batch()` with the very operations that the connector
sent, and against its single calls. In single mode: against a bare aiohttp client with as many calls under way, without
latency and with 50 ms of it. All of one round against fresh sandboxes, one after the other.

And one person among them who makes every call fail that they are in: how many of the others are delivered in the time
that all take without them.
"""

from __future__ import annotations

import json
import statistics
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec

from tests.benchmarks import sandbox
from tests.benchmarks.stores import Store
from tests.benchmarks.track_load import IN_FLIGHT, Burst, Call

_LATENCY = "50ms"
_SINGLE_CALLS = 3_000  # of the SDK's, and with latency
_TARGETS = {
    ("batch", "sdk"): {"sqlite": 0.5, "postgresql": 0.25},
    ("batch", "sdk-single"): {"sqlite": 5.0, "postgresql": 5.0},
    ("single", "bare"): {"sqlite": 0.3, "postgresql": 0.3},
    ("latency", "bare"): {"sqlite": 0.85, "postgresql": 0.85},
}
_TITLES = {
    ("batch", "sdk"): "batches / SDK's batch()",
    ("batch", "sdk-single"): "batches / SDK's single calls",
    ("single", "bare"): "single / bare aiohttp",
    ("latency", "bare"): f"single / bare aiohttp, {_LATENCY}",
}


def measure(stores: Mapping[str, Store], rounds: int, requests: int) -> None:
    """Prints a line for each comparison and store; `requests` is the number of users."""
    print(f"worker: {requests:,} users in each of {rounds} rounds, from the claim to the record; medians")
    print()
    print(f"{'users a second':<42}{'connector':>11}{'other':>11}{'ratio':>8}   rounds       target")
    done: defaultdict[tuple[tuple[str, str], str], list[tuple[float, float]]] = defaultdict(list)
    for _ in range(rounds):
        for kind, store in stores.items():
            for way, ours, other in _round(store, requests):
                done[way, kind].append((ours, other))
    for (way, kind), found in done.items():
        ratios = [ours / other for ours, other in found]
        ratio, target = statistics.median(ratios), _TARGETS[way][kind]
        ours, other = (statistics.median(each) for each in zip(*found, strict=True))
        print(
            f"{_TITLES[way] + ', ' + stores[kind].title:<42}{ours:>11,.0f}{other:>11,.0f}{ratio:>8.2f}"
            f"   {f'{min(ratios):.2f}–{max(ratios):.2f}':<13}≥ {target:.2f}  {'met' if ratio >= target else 'NOT MET'}",
            flush=True,
        )


def _round(store: Store, users: int) -> list[tuple[tuple[str, str], float, float]]:
    """What was compared, users a second of the connector, and of the other."""
    batches, calls = _connector(store, users, "batch")
    found = [
        (("batch", "sdk"), _users(batches, users), _users(_other("sdk", calls), users)),
        (("batch", "sdk-single"), _users(batches, users), _calls(_other("sdk-single", calls[:1]))),
    ]
    single, calls = _connector(store, users, "single")
    found.append((("single", "bare"), _calls(single), _calls(_other("bare", calls))))
    fewer = min(users, _SINGLE_CALLS)
    late, calls = _connector(store, fewer, "single", latency=_LATENCY)
    found.append((("latency", "bare"), _calls(late), _calls(_other("bare", calls, latency=_LATENCY))))
    return found


def _users(burst: Burst, users: int) -> float:
    return users / burst.seconds


def _calls(burst: Burst) -> float:
    return burst.calls / burst.seconds


def _connector(store: Store, users: int, api: str, latency: str = "") -> tuple[Burst, list[Call]]:
    """What the connector did, and its calls."""
    folder = TemporaryDirectory(prefix="bench-worker-")
    with store.fresh() as store_url, folder as name, sandbox.running(latency) as url:
        settings = sandbox.settings(Path(name), store_url, url, api, in_flight=IN_FLIGHT)
        sandbox.import_users(Path(name), settings, users)
        burst = sandbox.burst("connector", str(settings))
        return burst, sandbox.calls(url, burst.calls)


def _other(how: str, calls: list[Call], latency: str = "") -> Burst:
    """What another client did with the same calls; of `sdk-single`, with so many of their operations."""
    with TemporaryDirectory(prefix="bench-worker-") as name, sandbox.running(latency) as url:
        recorded = Path(name) / "calls.json"
        recorded.write_bytes(msgspec.json.encode(calls))
        if how == "sdk-single":
            operations = json.loads(calls[0].body)["batch"][:_SINGLE_CALLS]
            recorded.write_bytes(msgspec.json.encode(operations))
        return sandbox.burst(how, url, str(recorded))
