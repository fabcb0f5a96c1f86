"""Activities of nobody that is known yet: those with an anonymous id, and invites, which have none.

Follows docs.customer.io/journeys/anonymous-events and the Track API reference: they are kept for 30 days;
an identify with the same anonymous id attaches them, and so it does those that arrive up to five minutes
after it; later ones stay anonymous until the next such identify.

Stricter reading of what is unverified: the 30 days count from the time of the activity where that is before its
receipt. One that is older when it arrives is not kept.
"""

from __future__ import annotations

from heapq import heappop, heappush

from connector.sandbox.rules.people import Activity, Person

KEPT_SECONDS = 30 * 24 * 3600
ATTACHED_AFTER_SECONDS = 5 * 60


class Anonymous:
    """By anonymous id, each in the order applied. What is over its time is let go, so that it doesn't pile up."""

    def __init__(self) -> None:
        self._by_anonymous_id: dict[str | None, dict[int, Activity]] = {}
        self._by_age: list[tuple[int, int, str | None]] = []  # a heap: since when, number, anonymous id

    def __len__(self) -> int:
        """How many are held, those that went over their time since the last change included."""
        return sum(map(len, self._by_anonymous_id.values()))

    def add(self, activity: Activity, now: int) -> None:
        self._let_go(now)
        since = min(activity.timestamp, activity.received)
        if now - since > KEPT_SECONDS:
            return
        self._by_anonymous_id.setdefault(activity.anonymous_id, {})[activity.number] = activity
        heappush(self._by_age, (since, activity.number, activity.anonymous_id))

    def take(self, anonymous_id: str, now: int) -> list[Activity]:
        """What this id did in the last 30 days; none of it is kept here any more."""
        self._let_go(now)
        return list(self._by_anonymous_id.pop(anonymous_id, {}).values())

    def kept(self, now: int) -> list[Activity]:
        self._let_go(now)
        return [activity for each in self._by_anonymous_id.values() for activity in each.values()]

    def _let_go(self, now: int) -> None:
        while self._by_age and now - self._by_age[0][0] > KEPT_SECONDS:
            _, number, anonymous_id = heappop(self._by_age)
            of_the_id = self._by_anonymous_id.get(anonymous_id)
            if of_the_id is None or of_the_id.pop(number, None) is None:
                continue  # it was taken meanwhile
            if not of_the_id:
                del self._by_anonymous_id[anonymous_id]


def still_attaches(owner: Person, anonymous_id: str, now: int) -> bool:
    """Whether an activity that arrives now still belongs to the last identify with its anonymous id."""
    return now - owner.anonymous_ids[anonymous_id] <= ATTACHED_AFTER_SECONDS
