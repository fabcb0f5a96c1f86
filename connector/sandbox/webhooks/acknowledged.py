"""What the receiver has answered 2xx: a proof compares it with what the receiver then has.

In the order of the answers, whichever way it was sent, a repeat again. In memory, the last 1,000,000.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterator
from itertools import islice
from typing import Any, NamedTuple

from connector.sandbox.webhooks.webhook_sender import Report

_KEPT = 1_000_000


class Acknowledgement(NamedTuple):
    """`number` counts all; `timestamp` is the webhook's own and `at` that of the answer, both in unix seconds. An
    empty `customer_id`: it was about somebody who has none."""

    number: int
    event_id: str
    kind: str
    customer_id: str
    timestamp: int
    at: float

    def shown(self) -> dict[str, Any]:
        return self._asdict()


class Acknowledged:
    """`total` counts also those that are no longer kept."""

    def __init__(self, kept: int = _KEPT) -> None:
        self.total = 0
        self._kept: deque[Acknowledgement] = deque(maxlen=kept)

    def add(self, report: Report, at: float) -> None:
        self.total += 1
        customer_id = str(report.data.get("customer_id") or "")
        kind = sys.intern(report.kind)  # so that a million of them take little room
        self._kept.append(Acknowledgement(self.total, report.event_id, kind, customer_id, report.timestamp, at))

    def read(self, after: int | None = None) -> Iterator[Acknowledgement]:
        """The oldest first; `after`: only those with a higher number."""
        forgotten = self.total - len(self._kept)
        return islice(self._kept, max((after or 0) - forgotten, 0), None)
