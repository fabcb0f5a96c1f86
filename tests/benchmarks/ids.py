"""Whether two of BENCH_IDS events (10,000,000 unless told) get the same id, where all are of one millisecond."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime

from connector.core import ulid

_IDS = int(os.environ.get("BENCH_IDS", "10_000_000"))
_AT = datetime(2026, 3, 1, tzinfo=UTC)
_LETTERS = 16  # behind the ten of the time


def measure(_stores: object, _rounds: int, _requests: int) -> None:
    """Prints how many are not the only one."""
    print(f"ids: {_IDS:,} events of one millisecond")
    print()
    began = time.perf_counter()
    print(f"  collisions {collisions(_IDS):>12,}   (0 expected; {time.perf_counter() - began:,.0f} s)")


def collisions(number: int) -> int:
    """How many of so many ids there are already."""
    kept: dict[str, bytearray] = {}  # by their last letters, so that a set of all never is in memory
    for each in range(number):
        found = ulid.activity_id("intake", str(each), _AT)
        kept.setdefault(found[-2:], bytearray()).extend(found[-_LETTERS:].encode())
    return sum(len(ids) // _LETTERS - _different(ids) for ids in kept.values())


def _different(ids: bytearray) -> int:
    return len({bytes(ids[start : start + _LETTERS]) for start in range(0, len(ids), _LETTERS)})
