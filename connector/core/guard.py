"""The limits that keep a mistake from becoming a mass mailing: what exceeds them is held until someone approves it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Verdict:
    """`held` with one reason word, or not held at all; never a part of it."""

    held: bool
    reason: str | None = None


def creates(*, waiting: int, released: int, limit: int | None) -> Verdict:
    """Judges the creates that a pass found.

    `waiting` users who were in the store before would be created now, `released` ones were let through in the
    last 24 hours; together they may not be more than `limit` (None: no limit, 0: none at all).
    """
    if waiting == 0 or limit is None or waiting + released <= limit:
        return Verdict(held=False)
    return Verdict(held=True, reason="max_creates")
