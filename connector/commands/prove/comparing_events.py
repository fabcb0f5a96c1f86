"""What users were told to have done, against what Customer.io has got of it. Pure: see `comparing`.

Everybody who does anything is inside in the end, or comes back before their events have waited too long: so all that
was acknowledged and is whitelisted has to arrive, whatever left, was deleted and returned in between. Customer.io
drops what it has already by its id; that has no effect and is no case.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from connector.commands.prove import happenings
from connector.commands.prove.cases import Case
from connector.commands.prove.happenings import Happened, History
from connector.commands.prove.stories import Story

REPEATED = "repeated_event"


class Arrived(NamedTuple):
    """An event in the order in which Customer.io applied it, and why it had no effect, else None. `at` is in seconds,
    `timestamp` in unix seconds; `was_there` is whether the person was, `seq` their newest edit that had come."""

    at: float
    customer_id: str
    type: str
    name: str
    id: str | None
    timestamp: int | None
    data: dict[str, Any]
    refused: str | None
    was_there: bool
    seq: int = 0

    @property
    def told_as(self) -> str:
        """The id of the message that told of it."""
        return happenings.named(self.data.get("user"), self.data.get("number"))


def compare(
    histories: Mapping[str, History],
    stories: Mapping[str, Story],
    stored: Mapping[str, str],
    arrived: Sequence[Arrived],
) -> Iterator[Case]:
    """`stored` is what the store says of each event, by the id of its message."""
    told = {each.id: each for history in histories.values() for each in history.happened}
    first: dict[str, Arrived] = {}
    newest: dict[str, int] = {}
    for each in arrived:
        event = told.get(each.told_as)
        if each.refused is not None:
            if each.refused != REPEATED:
                yield Case("wrong", "event_refused", each.told_as, each.refused)
        elif event is None:
            yield Case("wrong", "event_never_told", each.told_as, f"{each.name} of {each.customer_id}")
        elif event.id in first:
            yield Case("doubled", "event_twice", event.id, f"as {first[event.id].id} and as {each.id}")
        else:
            first[event.id] = each
            yield from _alone(event, each)
            if event.user in stories:
                yield from _early(event, stories[event.user], each)
            last = newest.get(event.user, 0)
            if event.number < last:
                detail = f"it came at {each.at:.3f}, after event {last}"
                yield Case("out_of_order", "event_out_of_order", event.id, detail)
            newest[event.user] = max(event.number, last)
    yield from _lost(histories, stored, first)


def _alone(event: Happened, arrived: Arrived) -> Iterator[Case]:
    """What is not as it has to be whatever else arrived."""
    if not event.is_wanted:
        yield Case("wrong", "event_not_wanted", event.id, event.kind)
    if not arrived.was_there:
        detail = f"it came at {arrived.at:.3f}, when {arrived.customer_id} was nobody there"
        yield Case("out_of_order", "event_without_person", event.id, detail)
    pairs = {
        "user": (arrived.customer_id, event.user),
        "type": (arrived.type, event.type),
        "name": (arrived.name, event.name),
        "time": (arrived.timestamp, int(event.at.timestamp())),
        "data": (arrived.data, event.properties),
    }
    differ = [f"{what}: has {has!r}, must have {must!r}" for what, (has, must) in pairs.items() if has != must]
    if differ:
        yield Case("wrong", "event_wrong", event.id, ", ".join(differ))


def _early(event: Happened, story: Story, arrived: Arrived) -> Iterator[Case]:
    """Who is outside after an edit is not sent it; so it is asked for only of who stays inside from then on."""
    if arrived.seq < event.after and not story.leaves_after(event.after - 1):
        detail = f"told after edit {event.after}, it came at {arrived.at:.3f} after edit {arrived.seq}"
        yield Case("out_of_order", "event_before_edit", event.id, detail)


def _lost(histories: Mapping[str, History], stored: Mapping[str, str], first: Mapping[str, Arrived]) -> Iterator[Case]:
    for history in histories.values():
        for event in history.happened[: history.said]:
            if event.id not in stored:
                yield Case("lost", "event_lost", event.id, "it was acknowledged and is not in the store")
            elif event.is_wanted and event.id not in first:
                yield Case("lost", "event_lost", event.id, f"it has not arrived, the store says {stored[event.id]}")
