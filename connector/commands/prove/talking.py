"""What users do meanwhile: events, whitelisted or not, told to /v1/batch beside the edits.

A part of the users tells of events, in turns that follow the kills; inside or away, whoever is away first. A user's
events are told one after the other, so that the order is known, in several requests at a time for different users.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Coroutine, Mapping, Sequence
from datetime import datetime, timedelta

from connector.commands.prove import happenings
from connector.commands.prove.happenings import Happened, History
from connector.commands.prove.intake import Intake
from connector.commands.prove.options import Wanted
from connector.commands.prove.stories import Story

_EVERY = 8  # users, one; so each of them has many events, and most who leave are deleted
_MOST_AT_ONCE = 12  # in a request, of what is whitelisted
_MOST_IN_A_ROW = 4  # of one user
_PAUSE_SECONDS = (0.1, 0.5)
_AGO = timedelta(days=1)


class Talking:
    """All events. `progress` is how much of all is due by now; `away` counts those that were told of users who were
    outside meanwhile. What is left once `stopping` is set is told at once."""

    def __init__(
        self,
        wanted: Wanted,
        parts: Sequence[Sequence[str]],
        stories: Mapping[str, Story],
        stopping: asyncio.Event,
        now: datetime,
    ) -> None:
        self._seed = wanted.seed
        self._parts = [part[::_EVERY] for part in parts]
        self._each = -(-wanted.events_out // len(parts))
        self._stories = stories
        self._stopping = stopping
        self.histories = {name: History(name, now - _AGO) for part in self._parts for name in part}
        self.progress = 1 / wanted.kills
        self.away = 0

    @property
    def told(self) -> int:
        """How many were acknowledged."""
        return sum(history.said for history in self.histories.values())

    def jobs(self, intake: Intake) -> list[Coroutine[None, None, None]]:
        """One for each part; they end by themselves once it is stopping."""
        return [self._tell_all(names, number, intake) for number, names in enumerate(self._parts)]

    async def _tell_all(self, names: Sequence[str], number: int, intake: Intake) -> None:
        rng = random.Random(f"{self._seed} events {number}")  # noqa: S311 - a plan that can be repeated, no secret
        kinds = itertools.cycle(happenings.KINDS)
        told = 0  # of what is whitelisted
        while not self._stopping.is_set() or told < self._each:
            due = self._each if self._stopping.is_set() else int(self._each * self.progress)
            happened: list[Happened] = []
            while told < due and sum(each.is_wanted for each in happened) < _MOST_AT_ONCE:
                history = self.histories[self._speaker(names, rng, is_first=not happened)]
                said = self._stories[history.user].said
                row = [history.add(next(kinds), rng, said) for _ in range(rng.randint(1, _MOST_IN_A_ROW))]
                told += sum(each.is_wanted for each in row)
                happened += row
            if happened:
                await self._tell(happened, intake)
            if not self._stopping.is_set():
                await asyncio.sleep(rng.uniform(*_PAUSE_SECONDS))

    def _speaker(self, names: Sequence[str], rng: random.Random, *, is_first: bool) -> str:
        away = [name for name in names if not self._stories[name].is_inside] if is_first else []
        return rng.choice(away or names)

    async def _tell(self, happened: Sequence[Happened], intake: Intake) -> None:
        away = [each.user for each in happened if not self._stories[each.user].is_inside]
        await intake.say([each.message() for each in happened])
        for each in happened:
            self.histories[each.user].said = each.number
        self.away += sum(not self._stories[name].is_inside for name in away)
