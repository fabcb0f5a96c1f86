"""The sandbox's own speed: what a raw client gets out of it, against what the connector reaches against it.

The connector's worker sends users to a fresh sandbox, once in batches and once one call a user. The very calls that
the sandbox received are then sent again to another fresh one, by a client that has nothing else to do. If that is not
clearly faster, the sandbox limits what is measured against it.
"""

from __future__ import annotations

import json
import re
import statistics
import subprocess
import sys
import urllib.request
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec

from tests.benchmarks.stores import Store
from tests.benchmarks.track_load import API_KEY, IN_FLIGHT, SITE_ID, Burst, Call

_TITLES = {"single": "single calls", "batch": "batches"}
_TARGETS = {"single": 1.2, "batch": 2.0}
_CONNECTIONS = {"single": 32, "batch": 4}
_START_SECONDS = 30


def measure(stores: Mapping[str, Store], rounds: int, requests: int) -> None:
    """Prints a line for each way of sending and each store; `requests` is the number of users."""
    done: defaultdict[tuple[str, str], list[tuple[Burst, Burst]]] = defaultdict(list)
    for _ in range(rounds):
        for kind, store in stores.items():
            for api in _TITLES:
                done[api, kind].append(_round(store, api, requests))
    print(f"sandbox: {requests} users in each of {rounds} rounds; medians")
    print()
    print(
        f"{'calls a second':<30}{'connector':>11}{'raw client':>12}{'its load':>11}{'ratio':>8}   rounds       target"
    )
    for (api, kind), of_rounds in done.items():
        ratios = [_rate(raw) / _rate(connector) for connector, raw in of_rounds]
        ratio, target = statistics.median(ratios), _TARGETS[api]
        connector, raw = (statistics.median(map(_rate, bursts)) for bursts in zip(*of_rounds, strict=True))
        busy = statistics.median(raw.busy / raw.seconds for _, raw in of_rounds)
        print(
            f"{_TITLES[api] + ', ' + stores[kind].title:<30}{connector:>11,.1f}{raw:>12,.1f}{busy:>11.0%}{ratio:>8.2f}"
            f"   {f'{min(ratios):.2f}–{max(ratios):.2f}':<13}≥ {target:.2f}  {'met' if ratio >= target else 'NOT MET'}"
        )


def _rate(burst: Burst) -> float:
    return burst.calls / burst.seconds


def _round(store: Store, api: str, users: int) -> tuple[Burst, Burst]:
    """What the connector did, and what a raw client did with the same calls."""
    with store.fresh() as store_url, TemporaryDirectory(prefix="bench-sandbox-") as name:
        folder = Path(name)
        with running() as url:
            path = settings(folder, store_url, url, api)
            import_users(folder, path, users)
            connector = burst("connector", str(path))
            sent = calls(url, connector.calls)
            found = _get(f"{url}/sandbox")[0]["people"]
            if found != users:
                raise RuntimeError(f"{found} people where {users} should be; nothing of this run counts")
        recorded = folder / "calls.json"
        recorded.write_bytes(msgspec.json.encode(sent))
        with running() as url:
            raw = burst("raw", url, str(recorded), str(_CONNECTIONS[api]))
    return connector, raw


@contextmanager
def running(latency: str = "") -> Iterator[str]:
    """The URL of a fresh process; it ends with the block."""
    command = [sys.executable, "-m", "connector", "sandbox", "--port", "0", "--site-id", SITE_ID, "--api-key", API_KEY]
    command += ["--latency", latency] if latency else []
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            said = iter(process.stderr.readline, "")
            found = next((match for line in said if (match := re.search(r'track_url = "(.+)"', line))), None)
            if found is None:
                raise RuntimeError("the sandbox did not start")
            yield found[1]
        finally:
            process.terminate()
            process.wait(_START_SECONDS)


def settings(folder: Path, store_url: str, sandbox_url: str, api: str, in_flight: int = IN_FLIGHT) -> Path:
    """The file's path."""
    (folder / "key").write_text(API_KEY, encoding="utf-8")
    (folder / "url").write_text(store_url, encoding="utf-8")
    path = folder / "settings.toml"
    path.write_text(
        f'store.url = "file:url"\nserver.port = 0\nadmin.port = 0\n'
        f'[people]\nsegments = ["All"]\nattributes = ["plan", "first_name", "last_name", "seats", "city"]\n'
        f'[segments]\n"All" = {{ everyone = true }}\n'
        f'[customerio]\nsite_id = "{SITE_ID}"\napi_key = "file:key"\nregion = "us"\ntrack_url = "{sandbox_url}"\n'
        f'api = "{api}"\nrate_per_second = 1000000\nin_flight = {in_flight}\n[guard]\nmax_creates = "unlimited"\n',
        encoding="utf-8",
    )
    return path


def import_users(folder: Path, settings: Path, users: int) -> None:
    """Each of them has five attributes."""
    rows = (
        json.dumps(
            {
                "external_id": f"customer-{number}",
                "email": f"person.{number}@example.com",
                "plan": ("free", "pro", "team")[number % 3],
                "first_name": f"First {number}",
                "last_name": f"Last {number}",
                "seats": number % 50,
                "city": "Springfield",
            }
        )
        for number in range(users)
    )
    (folder / "users.jsonl").write_text("\n".join(rows), encoding="utf-8")
    command = [sys.executable, "-m", "connector", "--settings", str(settings)]
    subprocess.run([*command, "import", "users", str(folder / "users.jsonl")], check=True, capture_output=True)


def burst(*arguments: str) -> Burst:
    """What `track_load` does with these arguments, in a process of its own."""
    command = [sys.executable, "-m", "tests.benchmarks.track_load", *arguments]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return msgspec.json.decode(done.stdout, type=Burst)


def calls(url: str, wanted: int) -> list[Call]:
    """The calls that the sandbox received, in that order, without the question for the region."""
    found: list[Call] = []
    following: str | None = f"{url}/sandbox/calls?limit=10000"
    while following:
        page, link = _get(following)
        found += [Call(each["method"], each["path"], each["body"]) for each in page if each["method"] != "GET"]
        match = re.search(r"<(.+)>", link)
        following = url + match[1] if match else None
    if len(found) != wanted:
        raise RuntimeError(f"{len(found)} calls where {wanted} should be; nothing of this run counts")
    return found[::-1]


def _get(url: str) -> tuple[Any, str]:
    """The JSON, and the header `Link`."""
    with urllib.request.urlopen(url, timeout=60) as response:
        return json.loads(response.read()), response.headers.get("Link", "")
