"""What the connector counts, for Prometheus. One object for each running connector; `/metrics` prints it.

No label carries an id, an address or a path: kinds, reasons and states only.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 4)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 500)
_LATELY = 60  # seconds
_AGES = (1, 5, 15, 60, 300, 900, 3600, 7200, 21_600, 86_400, 259_200, 604_800)


class Arrivals:
    """What came in by one door: webhooks, or messages of the tracking API."""

    def __init__(self, registry: CollectorRegistry, one: str, all_of_them: str, things: str) -> None:
        many = f"connector_{all_of_them}"
        self.received = Counter(f"{many}_received", f"Authentic {things} that arrived.", registry=registry)
        self.stored = Counter(f"{many}_stored", f"{things.capitalize()} stored for the first time.", registry=registry)
        self.duplicate = Counter(
            f"{many}_duplicate", f"{things.capitalize()} that were stored already.", registry=registry
        )
        self.refused = Counter(f"{many}_refused", "Requests that were not answered 200.", ["reason"], registry=registry)
        self.unread = Counter(f"{many}_unread", f"Stored {things} that can't be read.", ["reason"], registry=registry)
        self.read = Counter(f"{many}_read", f"Stored {things} that were made users and events of.", registry=registry)
        self.commit_seconds = Histogram(
            f"connector_{one}_commit_seconds", f"Storing one group of {things}.", buckets=_SECONDS, registry=registry
        )
        self.commit_rows = Histogram(
            f"connector_{one}_commit_rows",
            f"{things.capitalize()} that shared a commit.",
            buckets=_ROWS,
            registry=registry,
        )


class Lately:
    """How often something happened in the last minute. `clock` is monotonic, in seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began = clock()
        self._seconds: deque[tuple[int, int]] = deque(maxlen=_LATELY + 1)

    def add(self, number: int) -> None:
        second = int(self._clock())
        if self._seconds and self._seconds[-1][0] == second:
            number += self._seconds.pop()[1]
        self._seconds.append((second, number))

    def per_second(self) -> float:
        """Over a minute, or what has gone by of the first one."""
        now = self._clock()
        happened = sum(number for second, number in self._seconds if second >= now - _LATELY)
        return happened / min(max(now - self._began, 1), _LATELY)


class Metrics:
    """The metrics of one process, and the registry that holds them."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        self.webhooks = Arrivals(registry, "webhook", "webhooks", "webhooks")
        self.intake = Arrivals(registry, "intake", "intake", "messages")
        self.ignored = Counter(
            "connector_webhooks_ignored", "Webhooks of kinds that the settings ignore.", registry=registry
        )
        self.erased = Counter(
            "connector_erased_ignored", "Messages about people who were erased; not taken.", registry=registry
        )
        self.age = Histogram(
            "connector_webhook_age_seconds",
            "From what a webhook reports to its arrival.",
            buckets=_AGES,
            registry=registry,
        )
        self.inbox = Gauge("connector_inbox", "Messages in the inbox.", ["state"], registry=registry)
        self.reader_lag = Gauge(
            "connector_reader_lag_seconds", "Age of the oldest message that is not read yet.", registry=registry
        )
        self.decisions = Counter(
            "connector_decisions",
            "Users whom the worker was done with, or failed with, by what was decided.",
            ["verb", "reason"],
            registry=registry,
        )
        self.calls = Counter("connector_calls", "Calls of Customer.io's API by the worker.", registry=registry)
        self.calls_lately = Lately()
        self.people = Gauge("connector_people", "People that we keep at Customer.io.", registry=registry)
        self.backlog = Gauge("connector_backlog", "Users in the backlog.", ["state"], registry=registry)
        self.held = Gauge("connector_held", "Users whom the guard holds.", ["what"], registry=registry)
        self.gate_closed = Gauge(
            "connector_gate_closed", "1 while Customer.io as a whole takes no calls of ours.", registry=registry
        )
        self.gate_seconds = Gauge(
            "connector_gate_closed_seconds", "For how long it has been closed; 0 while it is open.", registry=registry
        )
        self.gate_reason = Gauge(
            "connector_gate_closed_reason", "1 for what it is closed for.", ["reason"], registry=registry
        )
        self.settings_refused = Gauge(
            "connector_settings_refused", "1 while the settings file can't be used.", registry=registry
        )
        self.settings_held = Gauge(
            "connector_settings_held", "1 while an edit of the settings waits for an approval.", registry=registry
        )
        self.settings_superseded = Gauge(
            "connector_settings_superseded",
            "1 while another process has newer settings, and this one sends nothing.",
            registry=registry,
        )
        self.settings_revision = Gauge(
            "connector_settings_revision",
            "Numbers of revisions of the settings: the one in force here, and the one that this process waits for.",
            ["which"],
            registry=registry,
        )
        self.paused = Gauge("connector_paused", "1 while sync.paused is true, and nothing is sent.", registry=registry)
        self.oldest_due = Gauge(
            "connector_oldest_due_seconds", "Since when the first of the backlog has been due.", registry=registry
        )
        self.connections = Gauge("connector_connections", "Open connections of the public listener.", registry=registry)
        self.cut_short = Counter(
            "connector_connections_cut_short",
            "What clients of the public listener were refused, or closed for.",
            ["reason"],
            registry=registry,
        )

    def cut(self, reason: str) -> None:
        """A client of the public listener was refused, or closed, for this."""
        self.cut_short.labels(reason).inc()

    def called(self, number: int) -> None:
        """So many calls were made."""
        self.calls.inc(number)
        self.calls_lately.add(number)

    def decided(self, users: Mapping[tuple[str, str], int]) -> None:
        """What became of users whom the worker looked at: how many by verb and reason."""
        for (verb, reason), number in users.items():
            self.decisions.labels(verb, reason).inc(number)

    def read_batch(self, outcome: Mapping[tuple[str, str, str | None], int]) -> None:
        """What became of a batch: how many by source, state and reason."""
        for (source, state, reason), number in outcome.items():
            door = self.intake if source == "intake" else self.webhooks
            if state == "unread":
                door.unread.labels(reason).inc(number)
            elif reason == "erased":
                self.erased.inc(number)
            elif state == "ignored":
                self.ignored.inc(number)
            else:
                door.read.inc(number)
