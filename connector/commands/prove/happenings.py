"""What users did, one event after the other. Pure, but for the random numbers that are given.

Every event has a number, which is one of its properties, as the user is: so what arrived is known for what it is, and
the order is judged. They happened in that order, some at the same moment, about a day before they are told: who dates
them "now" is found out.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal

NAMES = ("Order *", "page")  # the whitelist
KINDS = ("Order Completed", "page", "Order Refunded", "Order Completed", "Button Clicked")

_UNWANTED = "Button Clicked"
_SECONDS_BETWEEN = (0.0, 0.4, 1.0, 30.0)
_HIGHEST_TOTAL = 1000


@dataclass(frozen=True, slots=True)
class Happened:
    """One event. `number` counts the user's from 1; `after` is their last edit that was acknowledged before it."""

    user: str
    number: int
    kind: str
    at: datetime
    properties: dict[str, Any]
    after: int = 0

    @property
    def id(self) -> str:
        """The message's."""
        return named(self.user, self.number)

    @property
    def is_wanted(self) -> bool:
        """Whether it is whitelisted."""
        return self.kind != _UNWANTED

    @property
    def type(self) -> Literal["event", "page"]:
        """At Customer.io."""
        return "page" if self.kind == "page" else "event"

    @property
    def name(self) -> str:
        """At Customer.io; a page is named by its URL."""
        return str(self.properties["url"]) if self.kind == "page" else self.kind

    def message(self) -> dict[str, object]:
        """As an SDK says it."""
        kind: dict[str, object] = {"type": "page"} if self.kind == "page" else {"type": "track", "event": self.kind}
        timestamp = self.at.isoformat()
        said = {"userId": self.user, "messageId": self.id, "timestamp": timestamp, "properties": self.properties}
        return {**kind, **said}


@dataclass(slots=True)
class History:
    """One user's events. `said` is the number of the last one that was acknowledged, and all before it were."""

    user: str
    since: datetime
    happened: list[Happened] = field(default_factory=list)
    said: int = 0

    def add(self, kind: str, rng: random.Random, after: int = 0) -> Happened:
        """The next event, one of KINDS, told after that edit."""
        number = len(self.happened) + 1
        properties: dict[str, Any] = {"user": self.user, "number": number}
        if kind == "page":
            properties["url"] = f"https://prove.example/{self.user}/{number}"
        else:
            properties["total"] = rng.randrange(_HIGHEST_TOTAL)
        before = self.happened[-1].at if self.happened else self.since
        at = before + timedelta(seconds=rng.choice(_SECONDS_BETWEEN))
        self.happened.append(Happened(self.user, number, kind, at, properties, after))
        return self.happened[-1]


def named(user: object, number: object) -> str:
    """The id of the message about a user's event with that number."""
    return f"{user} event {number}"
