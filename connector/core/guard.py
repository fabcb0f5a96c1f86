"""The limits that keep a mistake from becoming a mass mailing, or an empty workspace: what exceeds them is held, all of
it, until someone approves it.

Numbers are those of any 24 hours, so that a slow bleed counts too. Held whatever the limits say, with their reason:

    no_whitelist            people.segments is empty: everybody has left
    other_customer_id       people.customer_id is another one than at the last pass
    store_shrank            far fewer users than at an earlier pass: many were deleted in place, or are lost

What the store looked like is kept in the store, so one that is exchanged as a whole looks as it always did.
"""

from __future__ import annotations

from dataclasses import dataclass

from connector.records import Seen

SUSPICIONS = frozenset({"other_customer_id", "store_shrank"})
FROM_HERE_ON_A_SHARE = 10  # deletes: of a few people, one is a large share
SHRUNK = 0.8
KNOWN_OTHERWISE = 0.05  # of the people: so many may have another id by now for reasons of their own


@dataclass(frozen=True, slots=True)
class Verdict:
    """`held` with one reason word, or not held at all; never a part of it. `allowed` is how many would have gone."""

    held: bool
    reason: str | None = None
    allowed: int | None = None


def suspicion(before: Seen | None, now: Seen) -> str | None:
    """Why nothing that can't be undone may happen by itself; None when nothing is odd."""
    if before is None:
        return None
    if list(before.customer_id) != list(now.customer_id):
        return "other_customer_id"
    return "store_shrank" if now.users < before.users * SHRUNK else None


def known_otherwise(*, other: int, people: int) -> bool:
    """Whether so many of some people were sent under another id than they would get now that it is no matter of single
    people: `people.customer_id` is another one. Asked where no pass has noted it yet."""
    return other > people * KNOWN_OTHERWISE


def noted(before: Seen | None, now: Seen) -> Seen:
    """What the next pass compares with, unless somebody approves less: the number of users grows by itself, or it would
    shrink step by step and nothing were odd."""
    return now if before is None else Seen(max(before.users, now.users), now.customer_id)


def creates(*, waiting: int, released: int, limit: int | None, suspicion: str | None = None) -> Verdict:
    """Judges the creates that a pass found.

    `waiting` users who were in the store before would be created now, `released` ones were let through in the
    last 24 hours; together they may not be more than `limit` (None: no limit, 0: none at all).
    """
    if waiting == 0:
        return Verdict(held=False)
    if suspicion is not None:
        return Verdict(held=True, reason=suspicion, allowed=0)
    if limit is None or waiting + released <= limit:
        return Verdict(held=False)
    return Verdict(held=True, reason="max_creates", allowed=max(limit - released, 0))


def deletes(
    *,
    outside: int,
    released: int,
    people: int,
    share: float,
    limit: int | None,
    whitelisted: int,
    suspicion: str | None = None,
) -> Verdict:
    """Judges the deletes that a pass found.

    `outside` people are in no whitelisted segment now, also those within their grace; `released` ones were deleted in
    the last 24 hours, or are on their way. Together they may be at most `limit` (None: no limit), and, from ten on, at
    most the `share` of `people`, who are those in the mirror and the deleted. `whitelisted` is how many segments are.
    """
    if outside == 0:
        return Verdict(held=False)
    if whitelisted == 0:
        return Verdict(held=True, reason="no_whitelist", allowed=0)
    if suspicion is not None:
        return Verdict(held=True, reason=suspicion, allowed=0)
    together = outside + released
    if limit is not None and together > limit:
        return Verdict(held=True, reason="max_deletes", allowed=max(limit - released, 0))
    if together >= FROM_HERE_ON_A_SHARE and together > people * share:
        return Verdict(held=True, reason="max_delete_share", allowed=max(int(people * share) - released, 0))
    return Verdict(held=False)
