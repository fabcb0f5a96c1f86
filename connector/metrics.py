"""What the connector counts, for Prometheus. One object for each running connector; `/metrics` prints it.

No label carries an id, an address or a path: kinds, reasons and states only.
"""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 4)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 500)
_AGES = (1, 5, 15, 60, 300, 900, 3600, 7200, 21_600, 86_400, 259_200, 604_800)


class Metrics:
    """The metrics of one process, and the registry that holds them."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        self.received = Counter("connector_webhooks_received", "Authentic webhooks that arrived.", registry=registry)
        self.stored = Counter("connector_webhooks_stored", "Webhooks stored for the first time.", registry=registry)
        self.duplicate = Counter(
            "connector_webhooks_duplicate", "Webhooks that were stored already.", registry=registry
        )
        self.ignored = Counter(
            "connector_webhooks_ignored", "Webhooks of kinds that the settings ignore.", registry=registry
        )
        self.refused = Counter(
            "connector_webhooks_refused", "Requests that were not answered 200.", ["reason"], registry=registry
        )
        self.read = Counter("connector_webhooks_read", "Stored webhooks that became events.", registry=registry)
        self.unread = Counter(
            "connector_webhooks_unread", "Stored webhooks that can't be read.", ["reason"], registry=registry
        )
        self.age = Histogram(
            "connector_webhook_age_seconds",
            "From what a webhook reports to its arrival.",
            buckets=_AGES,
            registry=registry,
        )
        self.commit_seconds = Histogram(
            "connector_webhook_commit_seconds", "Storing one group of webhooks.", buckets=_SECONDS, registry=registry
        )
        self.commit_rows = Histogram(
            "connector_webhook_commit_rows", "Webhooks that shared a commit.", buckets=_ROWS, registry=registry
        )
        self.inbox = Gauge("connector_inbox", "Messages in the inbox.", ["state"], registry=registry)
        self.reader_lag = Gauge(
            "connector_reader_lag_seconds", "Age of the oldest message that is not read yet.", registry=registry
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

    def read_batch(self, outcome: Mapping[tuple[str, str | None], int]) -> None:
        """What became of a batch: how many by state and reason."""
        for (state, reason), number in outcome.items():
            if state == "unread":
                self.unread.labels(reason).inc(number)
            elif state == "ignored":
                self.ignored.inc(number)
            else:
                self.read.inc(number)
