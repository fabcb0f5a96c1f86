"""What is said of users, one edit after the other. Pure, but for the random numbers that are given.

Every edit has a number, `seq`, which is one of the attributes that are sent: so the order of what arrived can be
judged. Who is `inside` has to be a person at Customer.io.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

MEMBERS = "Members"
LARGE = "Large"
LARGE_SEATS = 50
PICKED = ("seq", "plan", "seats", "note")

_PLANS = ("free", "pro", "team")
_MOST_SEATS = 99
_WITH_A_NOTE = 0.5


@dataclass(frozen=True, slots=True)
class Edit:
    """The user's attributes from here on. `seq` counts from 1."""

    user: str
    seq: int
    traits: dict[str, Any]


@dataclass(slots=True)
class Story:
    """One user's. `inside` has for each edit whether it left them inside; `said` is the last acknowledged one."""

    user: str
    inside: list[bool] = field(default_factory=list)
    traits: dict[str, Any] = field(default_factory=dict)
    said: int = 0

    @property
    def is_inside(self) -> bool:
        return self.inside[-1]

    def edit(self, rng: random.Random, *, inside: bool) -> Edit:
        """The next edit."""
        self.inside.append(inside)
        self.traits = {
            "seq": len(self.inside),
            "plan": rng.choice(_PLANS),
            "seats": rng.randint(1, _MOST_SEATS),
            "note": f"note {rng.randrange(1000)}" if rng.random() < _WITH_A_NOTE else None,
            "stage": "member" if inside else "guest",
        }
        return Edit(self.user, len(self.inside), self.traits)

    def leaves_after(self, seq: int) -> bool:
        """Whether an edit after that one took them out."""
        return not all(self.inside[seq:])

    def person(self) -> dict[str, Any] | None:
        """What Customer.io must have of them: attributes, the email among them. None: nothing."""
        if not self.is_inside:
            return None
        picked = {name: self.traits[name] for name in PICKED if self.traits[name] is not None}
        segments = [MEMBERS, LARGE] if self.traits["seats"] >= LARGE_SEATS else [MEMBERS]
        return {"email": email(self.user), "hull_segments": segments, **picked}


def email(user: str) -> str:
    """An address that belongs to nobody."""
    return f"{user}@prove.example"
