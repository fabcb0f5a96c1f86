"""A group of users in waves: first everybody's parts, then the first event of each whose parts were accepted, then the
second, and so on.

Nothing is promised of the order inside a batch, nor between calls under way at once. So a wave is answered before the
next one goes out, and has one event of a user: an identify is accepted before the user's events, each event before the
next. An event that is refused for good doesn't keep those behind it waiting; one that fails does.

A group has its place among the calls under way as long as anybody in it goes on, what came of all is recorded at its
end, and everybody else's calls stand in line behind its own. So it has a second: then no wave begins any more, and of
those events of a wave that are calls of their own no more than a few are sent. The rest is left to the next claim.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

from msgspec.structs import replace

from connector.core import encode
from connector.core.outcome import Delivered, Outcome, Refused, of_call
from connector.outbound import delivery, results
from connector.outbound.client import TrackClient
from connector.outbound.delivery import TRIES, Cargo, Landed, Saw
from connector.outbound.preparation import Prepared
from connector.outbound.results import Result

_SECONDS = 1.0


class Waves:
    """One group's. `tries` are those of each call."""

    def __init__(
        self,
        client: TrackClient,
        not_after: Callable[[], float],
        saw: Saw,
        *,
        is_batch: bool,
        tries: int = TRIES,
    ) -> None:
        self._client = client
        self._not_after = not_after
        self._saw = saw
        self._is_batch = is_batch
        self._tries = tries
        self._last = 0.0  # moment, of the monotonic clock, at which a wave may begin

    async def send(self, group: Sequence[Prepared]) -> list[Result]:
        """What came of each."""
        self._last = time.monotonic() + _SECONDS
        if not self._is_batch:
            return list(await asyncio.gather(*map(self._send_one, group)))
        found = {each.user_id: Result(each, Delivered(), 0) for each in group}
        cargo = [parts_of(each) for each in group if each.parts]
        found |= {each.prepared.user_id: in_parts(each) for each in await self._send_packed(cargo)}
        number = 0
        while going := [each for each in found.values() if self._goes_on(each, number)]:
            for result in await self._send_wave(going, number):
                found[result.user_id] = result
            number += 1
        return list(found.values())

    async def _send_one(self, prepared: Prepared) -> Result:
        """In single mode: one call after the other."""
        result = await delivery.send_singly(self._client, prepared, self._not_after, self._saw, self._tries)
        number = 0
        while self._goes_on(result, number):
            result = await self._send_alone(result, number)
            number += 1
        return result

    async def _send_wave(self, going: Sequence[Result], number: int) -> list[Result]:
        """The event with that number of each."""
        batched: list[Result] = []
        alone: list[Result] = []
        for each in going:
            outgoing = each.prepared.agenda.outgoing[number]
            (batched if outgoing.is_operation else alone).append(each)
        by_user = {each.user_id: each for each in batched}
        cargo = [_event_of(each.prepared, number) for each in batched]
        landed, singles = await asyncio.gather(self._send_packed(cargo), self._send_each(alone, number))
        return [
            *(
                _with_event(by_user[one.prepared.user_id], number, one.outcomes[0], one.calls, alone=one.alone)
                for one in landed
            ),
            *singles,
        ]

    async def _send_packed(self, cargo: Sequence[Cargo]) -> list[Landed]:
        """In as few calls as hold them, at once: a wave has nobody twice."""
        by_user = {each.work.user_id: each for each in cargo}
        calls = (
            delivery.send_batch(
                self._client, [by_user[work.user_id] for work in batch], self._not_after, self._saw, self._tries
            )
            for batch in encode.batches(each.work for each in cargo)
        )
        return [landed for of_call in await asyncio.gather(*calls) for landed in of_call]

    async def _send_each(self, alone: Sequence[Result], number: int) -> list[Result]:
        """One call for each, as many at once as there may be under way; each that ends makes way for another, as long
        as the group's time isn't over."""
        found: list[Result] = []
        rest = iter(alone)

        async def some() -> None:
            for each in rest:
                found.append(await self._send_alone(each, number))
                if time.monotonic() > self._last:
                    break

        await asyncio.gather(*(some() for _ in range(min(self._client.worth_beginning, len(alone)))))
        return [*found, *rest]

    async def _send_alone(self, result: Result, number: int) -> Result:
        outgoing = result.prepared.agenda.outgoing[number]
        answer = await self._client.event(outgoing.path_id, outgoing.content, self._not_after, tries=self._tries)
        self._saw(answer, result.user_id)
        return _with_event(result, number, of_call(answer), answer.calls, alone=True)

    def _goes_on(self, result: Result, number: int) -> bool:
        """Whether the event with that number may be sent now."""
        is_open = isinstance(result.outcome, Delivered) and isinstance(result.events.outcome, Delivered)
        is_there = number < len(result.prepared.agenda.outgoing)
        return is_open and is_there and (number == 0 or time.monotonic() <= self._last)


def parts_of(prepared: Prepared) -> Cargo:
    """Of a user who has any."""
    return Cargo(prepared, encode.Work(prepared.user_id, tuple(map(encode.operation, prepared.parts))))


def in_parts(landed: Landed) -> Result:
    """What came of a user whose parts these were."""
    return results.of_parts(landed.prepared, landed.outcomes, landed.calls, alone=landed.alone, unheard=landed.unheard)


def _event_of(prepared: Prepared, number: int) -> Cargo:
    return Cargo(prepared, encode.Work(prepared.user_id, (prepared.agenda.outgoing[number].content,)))


def _with_event(result: Result, number: int, outcome: Outcome, calls: int, *, alone: bool) -> Result:
    event_id, events = result.prepared.agenda.outgoing[number].event_id, result.events
    match outcome:
        case Delivered():
            events = replace(events, sent=(*events.sent, event_id))
        case Refused():
            events = replace(events, refused={**events.refused, event_id: outcome})
        case _:
            return replace(result, calls=calls, alone=alone, events=replace(events, outcome=outcome, at=event_id))
    return replace(result, calls=calls, events=events)
