"""How long events are kept (`store.events`), against what looks back at them.

What is deleted is forgotten: an event that comes once more is a new one, and has to be too old to be sent; and no
segment may count what isn't there any more, or whoever is in it would leave it event by event, past the guard.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import timedelta

from connector.settings import conditions, values
from connector.settings.conditions import Condition, Event, Segment
from connector.settings.faults import Path, Problem

# Those who send us something try again for days.
LEAST = timedelta(days=30)


def problems(
    kept: timedelta, max_age: timedelta, webhook_bodies: timedelta, segments: Mapping[str, Segment]
) -> Iterator[Problem]:
    """What asks for events that are deleted by then, with places from the top of the settings."""
    yield from _too_short(kept, max_age, webhook_bodies)
    for name, segment in segments.items():
        for where, within in _counted(segment.condition, ("segments", name)):
            yield from _looks_back(where, within, kept)


def _too_short(kept: timedelta, max_age: timedelta, webhook_bodies: timedelta) -> Iterator[Problem]:
    """One sentence, about the longest of what it is shorter than."""
    least, why = max(
        (LEAST, "by an event that is stored its repeats are known"),
        (max_age, "as long as events.max_age, or one that comes once more would be sent again"),
        (webhook_bodies, "as long as store.webhook_bodies, or the raw webhook would outlive what was read from it"),
    )
    if kept < least:
        yield Problem(("store", "events"), f'must be "forever" or at least {values.duration_text(least)}: {why}')


def _looks_back(where: Path, within: timedelta | None, kept: timedelta) -> Iterator[Problem]:
    told = values.duration_text(kept)
    if within is None:
        message = f"counts all events ever, and store.events keeps them for {told}: give it a `within` of at most that"
        yield Problem(where, message)
    elif within > kept:
        yield Problem((*where, "within"), f"must be at most {told}: store.events keeps events no longer")


def _counted(condition: Condition, where: Path) -> Iterator[tuple[Path, timedelta | None]]:
    """The windows of all counts of events, each with the place of its condition."""
    if isinstance(condition, Event):
        yield where, condition.within
    for place, each in conditions.inner(condition):
        yield from _counted(each, (*where, *place))
