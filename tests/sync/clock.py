"""A clock that a test moves on; the sandbox's own stands in the present, so it starts there."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from connector import app


@dataclass
class Clock:
    now: datetime = field(default_factory=app.now)

    def __call__(self) -> datetime:
        return self.now

    def move(self, **by: float) -> None:
        """As `timedelta` takes it."""
        self.now += timedelta(**by)
