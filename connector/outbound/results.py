"""What came of one claimed user: of their parts, and of their events."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
from msgspec.structs import replace

from connector.core import encode
from connector.core.outcome import Delivered, Later, Outcome, Refused, Stopped
from connector.outbound.preparation import Prepared


class OfEvents(msgspec.Struct, frozen=True):
    """`sent` were accepted, `refused` were not and won't be; `outcome` is that of the event `at` which it ended, in the
    order in which they happened, or Delivered."""

    sent: tuple[int, ...] = ()
    refused: Mapping[int, Refused] = msgspec.field(default_factory=dict)
    outcome: Outcome = Delivered()
    at: int | None = None


class Result(msgspec.Struct, frozen=True):
    """`outcome` is that of the parts, Delivered also where there are none; `accepted` are those that Customer.io took,
    also when the outcome of the whole is another one. `calls` is how many calls the last of all took, 0 when it never
    went out. `alone` is true when nobody else was in the call that failed, `unheard` when a part may have been applied
    by a call of which nobody heard, whatever the last one was answered."""

    prepared: Prepared
    outcome: Outcome
    calls: int
    accepted: tuple[encode.Part, ...] = ()
    alone: bool = False
    unheard: bool = False
    events: OfEvents = OfEvents()

    @property
    def user_id(self) -> str:
        return self.prepared.user_id

    @property
    def is_cut_short(self) -> bool:
        """Whether there are events left that nothing keeps waiting but us."""
        return len(self.events.sent) + len(self.events.refused) < len(self.prepared.agenda.outgoing)


def of_parts(
    prepared: Prepared, outcomes: Sequence[Outcome], calls: int, *, alone: bool = False, unheard: bool = False
) -> Result:
    """The outcomes of all parts together."""
    parts = zip(prepared.parts, outcomes, strict=True)
    accepted = tuple(part for part, outcome in parts if isinstance(outcome, Delivered))
    failed = next((each for each in outcomes if not isinstance(each, Delivered)), Delivered())
    return Result(prepared, failed, calls, accepted, alone, unheard)


def excused(result: Result) -> Result:
    """A failure as no attempt of the user's: everybody fails now."""
    events = result.events
    return replace(result, outcome=_stopped(result.outcome), events=replace(events, outcome=_stopped(events.outcome)))


def _stopped(found: Outcome) -> Outcome:
    return Stopped(found.reason, found.message, found.status) if isinstance(found, Later) else found
