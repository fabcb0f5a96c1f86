"""Activities of nobody that is known yet: those with an anonymous id, and invites, which have none.

Follows docs.customer.io/journeys/anonymous-events and the Track API reference: they are kept for 30 days;
an identify with the same anonymous id attaches them, and so it does those that arrive up to five minutes
after it; later ones stay anonymous until the next such identify.

Stricter reading of what is unverified: the 30 days count from the time of the activity, not of its receipt.
"""

from __future__ import annotations

from itertools import chain

from connector.sandbox.rules.people import Activity, Person

KEPT_SECONDS = 30 * 24 * 3600
ATTACHED_AFTER_SECONDS = 5 * 60


class Anonymous:
    """By anonymous id, each in the order applied."""

    def __init__(self) -> None:
        self._by_anonymous_id: dict[str | None, list[Activity]] = {}

    def add(self, activity: Activity) -> None:
        self._by_anonymous_id.setdefault(activity.anonymous_id, []).append(activity)

    def take(self, anonymous_id: str, now: int) -> list[Activity]:
        """What this id did in the last 30 days; none of it is kept here any more."""
        return _young(self._by_anonymous_id.pop(anonymous_id, []), now)

    def kept(self, now: int) -> list[Activity]:
        return _young(chain.from_iterable(self._by_anonymous_id.values()), now)


def still_attaches(owner: Person, anonymous_id: str, now: int) -> bool:
    """Whether an activity that arrives now still belongs to the last identify with its anonymous id."""
    return now - owner.anonymous_ids[anonymous_id] <= ATTACHED_AFTER_SECONDS


def _young(activities: chain[Activity] | list[Activity], now: int) -> list[Activity]:
    return [each for each in activities if now - each.timestamp <= KEPT_SECONDS]
