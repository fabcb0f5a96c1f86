"""Memory: the most that the connector ever needed, after many webhooks and after ten times as many.

The requests of one round are a tenth of what `memory` sends, times 40: 500,000 with the default of 12,000.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from tests.benchmarks import bursts, load
from tests.benchmarks.stores import Store

_PARTS = 10
_OF_A_ROUND = 50_000 / 12_000
_TARGET = 1.15


def measure(stores: Mapping[str, Store], _rounds: int, requests: int) -> None:
    """Prints a line for each store."""
    part = round(requests * _OF_A_ROUND)
    print(f"memory: the connector's peak, after {part:,} webhooks and after {part * _PARTS:,}, all of them read")
    print()
    for store in stores.values():
        peaks = _peaks(store, part)
        ratio = peaks[-1] / peaks[0]
        met = "met" if ratio <= _TARGET else "NOT MET"
        shown = f"peak after ten times as many / before, {store.title}"
        print(f"{shown:<52}{ratio:>7.2f}   {peaks[0]:.0f} → {peaks[-1]:.0f} MB   ≤ {_TARGET}   {met}", flush=True)


def _peaks(store: Store, requests: int) -> list[float]:
    """In megabytes, after each part."""
    peaks = []
    with store.fresh() as url, bursts.opened(url) as db, bursts.server("connector", url) as process:
        for part in range(_PARTS):
            with bursts.warm(process.port, requests, part) as load_process:
                bursts.burst(load_process, requests)
            bursts.wait_until_read(db)
            peaks.append(peak_mb(process.pid))
        bursts.expect(db.read(bursts.count_inbox), _PARTS * (load.WARM_UP + requests), "messages in the inbox")
    return peaks


def peak_mb(pid: int) -> float:
    """The most memory a process has had since it began; `getrusage` of a child also knows its parent's."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(encoding="utf-8"))
    if found is None:
        raise RuntimeError("this system does not tell how much memory a process needed")
    return int(found[1]) / 1024
