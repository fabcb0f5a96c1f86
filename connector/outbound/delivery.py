"""Sending what is prepared: one batch, or the parts of one user after the other.

A batch that Customer.io refuses as a whole (400, 413), or that fails while other calls succeed, holds somebody who
makes it fail. It is sent again in halves, and the half that fails in halves, until they are alone: of n users, that is
at most ⌈log2 n⌉ + 1 calls that fail (the quick tries of one call are one), and everybody else is delivered. When both
halves fail, no call has succeeded lately, and one for a single user fails too, it isn't anybody's fault: then nobody's
attempt is counted.

Where a server that fails asks for a rest, nobody is looked for: no call may go out meanwhile. It was a try of all
who were in it, and they are tried again at different times, so that fewer of them meet.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Literal, TypeAlias

import msgspec
from msgspec.structs import replace

from connector.core import encode
from connector.core.outcome import Answer, Delivered, Later, Outcome, Refused, Stopped, is_failing, of_call, of_items
from connector.outbound.client import TrackClient, asks_for_a_rest
from connector.outbound.preparation import Prepared
from connector.outbound.results import Result

SERVER_ERRORS: Literal["server_errors"] = "server_errors"
ALL_REFUSED: Literal["all_refused"] = "all_refused"

TRIES = 3  # one call's, within seconds

_WHOLE_SECONDS = 8.0
_HALF_SECONDS = 4.0
_LEAST_SECONDS = 2.0  # for anything less than a half
_RECENT_SECONDS = 30.0
_AT_FAULT = 4


# Is told each answer, and one of the users whom it is about: the same for a call and what is made of it.
Saw: TypeAlias = Callable[[Answer, str], None]


class Cargo(msgspec.Struct, frozen=True):
    """A user's parts, encoded for a batch."""

    prepared: Prepared
    work: encode.Work


class Landed(msgspec.Struct, frozen=True):
    """What came of a cargo: an outcome for each part, and how many calls the last one took, 0 when it never went out.
    `alone` is true when nobody else was in the call that failed, `unheard` when they were in one of which nobody heard.
    """

    prepared: Prepared
    outcomes: tuple[Outcome, ...]
    calls: int
    alone: bool = False
    unheard: bool = False


async def send_batch(
    client: TrackClient, cargo: Sequence[Cargo], not_after: Callable[[], float], saw: Saw, tries: int = TRIES
) -> list[Landed]:
    """One call; more when it fails as a whole."""
    began = time.monotonic()
    answer = await client.batch(_operations(cargo), not_after, tries=tries, seconds=_WHOLE_SECONDS)
    saw(answer, cargo[0].prepared.user_id)
    if not _is_in_doubt(answer, cargo):
        return _results(cargo, answer)
    if len(cargo) == 1:
        return _by_themselves(cargo, answer)
    if asks_for_a_rest(answer):
        return _results(cargo, answer)
    return _after(answer, await _Search(client, not_after, saw, cargo, began).split(cargo, _HALF_SECONDS))


async def send_singly(
    client: TrackClient, prepared: Prepared, not_after: Callable[[], float], saw: Saw, tries: int = TRIES
) -> Result:
    """The parts of one user go one after the other; the first that isn't accepted ends it."""
    accepted: list[encode.Part] = []
    calls = 0
    for part in prepared.parts:
        answer = await _send_part(client, part, not_after, tries)
        saw(answer, prepared.user_id)
        calls, outcome = answer.calls, of_call(answer)
        if not isinstance(outcome, Delivered):
            return Result(prepared, outcome, calls, tuple(accepted), unheard=answer.unheard)
        accepted.append(part)
    return Result(prepared, Delivered(), calls, tuple(accepted))


async def _send_part(client: TrackClient, part: encode.Part, not_after: Callable[[], float], tries: int) -> Answer:
    if isinstance(part, encode.Delete):
        return await client.delete(encode.path_of(part.customer_id), not_after, tries=tries)
    return await client.identify(encode.path_of(part.customer_id), encode.body(part), not_after, tries=tries)


class _Search:
    """For who makes a call fail."""

    def __init__(
        self, client: TrackClient, not_after: Callable[[], float], saw: Saw, cargo: Sequence[Cargo], began: float
    ) -> None:
        self._client = client
        self._not_after = not_after
        self._saw = saw
        self._about = cargo[0].prepared.user_id
        self._worked_since = began - _RECENT_SECONDS
        # Several may be at fault. When it takes more than this, rather the API fails now and then.
        self._failures_left = _AT_FAULT * (len(cargo).bit_length() + 1)

    async def split(self, cargo: Sequence[Cargo], seconds: float = _LEAST_SECONDS) -> list[Landed]:
        """The results of a call that failed as a whole; `seconds` is the time for each of its halves."""
        middle = (len(cargo) + 1) // 2
        halves = cargo[:middle], cargo[middle:]
        # One try each: the whole had the quick ones.
        calls = (self._client.batch(_operations(half), self._not_after, tries=1, seconds=seconds) for half in halves)
        answers = await asyncio.gather(*calls)
        for answer in answers:
            self._saw(answer, self._about)
        witnesses: set[str] = set()
        if all(map(_is_in_doubt, answers, halves)) and not self._works():
            one = random.choice(cargo)  # noqa: S311 - anybody will do
            witness = await self._witness(one)
            if _is_in_doubt(witness, [one]):
                reason = SERVER_ERRORS if is_failing(witness) else ALL_REFUSED
                stopped = Stopped(reason, "both halves of a call failed too, and no other call succeeded")
                unheard = any(answer.unheard for answer in (*answers, witness))
                return [Landed(each.prepared, (stopped,) * len(each.work.parts), 1, unheard=unheard) for each in cargo]
            # What is sent once more has been applied, whatever is answered then.
            witnesses = {one.prepared.user_id}
        found = await asyncio.gather(*map(self._narrow, halves, answers))
        return [
            replace(result, unheard=True) if result.prepared.user_id in witnesses else result
            for results in found
            for result in results
        ]

    async def _witness(self, one: Cargo) -> Answer:
        """Whether a call for one of them succeeds: then there is somebody at fault in each half."""
        answer = await self._client.batch(_operations([one]), self._not_after, tries=1, seconds=_LEAST_SECONDS)
        self._saw(answer, self._about)
        return answer

    async def _narrow(self, cargo: Sequence[Cargo], answer: Answer) -> list[Landed]:
        if not _is_in_doubt(answer, cargo):
            return _results(cargo, answer)
        self._failures_left -= 1
        if len(cargo) == 1:
            return _by_themselves(cargo, answer)
        if asks_for_a_rest(answer) or (self._failures_left < 0 and is_failing(answer)):
            return _results(cargo, answer)
        return _after(answer, await self.split(cargo))

    def _works(self) -> bool:
        return self._client.last_success is not None and self._client.last_success > self._worked_since


def _is_in_doubt(answer: Answer, cargo: Sequence[Cargo]) -> bool:
    """Whether somebody in the call may have made it fail as a whole, be it that nobody can tell who was meant."""
    if answer.status is None or not 200 <= answer.status < 300:
        return isinstance(of_call(answer), Refused | Later)
    return any(isinstance(each, Later) for each in of_items(answer, len(_operations(cargo))))


def _after(answer: Answer, found: list[Landed]) -> list[Landed]:
    """What came of those who were in a call that was answered so before."""
    return [replace(each, unheard=True) for each in found] if answer.unheard else found


def _by_themselves(cargo: Sequence[Cargo], answer: Answer) -> list[Landed]:
    return [replace(each, alone=True) for each in _results(cargo, answer)]


def _operations(cargo: Sequence[Cargo]) -> list[bytes]:
    return [part for each in cargo for part in each.work.parts]


def _results(cargo: Sequence[Cargo], answer: Answer) -> list[Landed]:
    outcomes = iter(of_items(answer, sum(len(each.work.parts) for each in cargo)))
    return [
        Landed(each.prepared, tuple(islice(outcomes, len(each.work.parts))), answer.calls, unheard=answer.unheard)
        for each in cargo
    ]
