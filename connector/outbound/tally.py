"""What a worker has done."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass
class Tally:
    """Users by verb and reason, and calls. `failed` are tried again later, `parked` given up for now, both by reason.
    `untried` ones met a pause, a closed gate or the end of their lease; they are due again.
    `events` were sent, `events_parked` can't be, by reason.
    """

    created: int = 0
    updated: int = 0
    deleted: int = 0
    calls: int = 0
    untried: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    parked: Counter[str] = field(default_factory=Counter)
    decided: Counter[tuple[str, str]] = field(default_factory=Counter)
    events: int = 0
    events_parked: Counter[str] = field(default_factory=Counter)

    @property
    def users(self) -> int:
        """Everyone who was looked at."""
        sent = self.created + self.updated + self.deleted
        return sent + self.untried + self.skipped.total() + self.failed.total() + self.parked.total()

    def add(self, other: Tally) -> None:
        """Adds another one's."""
        self.created += other.created
        self.updated += other.updated
        self.deleted += other.deleted
        self.calls += other.calls
        self.untried += other.untried
        self.skipped.update(other.skipped)
        self.failed.update(other.failed)
        self.parked.update(other.parked)
        self.decided.update(other.decided)
        self.events += other.events
        self.events_parked.update(other.events_parked)
