"""The worker: as long as users are due, claims them and sends what is due for them.

    gate, throttle -> flights: claim -> preparation -> delivery -> recording

A user whose delivery failed stays pending, due again later; who isn't worth a call leaves the backlog with a reason.
Before its first call a client is asked where it leads: a store belongs to one workspace, because what we sent there
says nothing about another.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection
from datetime import datetime

from connector.core import outage
from connector.outbound import belonging
from connector.outbound.client import TrackClient
from connector.outbound.flights import Flights
from connector.outbound.gate import Gate
from connector.outbound.tally import Tally
from connector.settings import Settings
from connector.store.database import Database

_PROBED = 20  # users who are looked at to find one for whom there is a call to make


class Worker:
    """Any number of them may work on one store; a user is in flight with one at a time. With `only`, it works for
    nobody but these users."""

    def __init__(
        self,
        db: Database,
        clock: Callable[[], datetime],
        gate: Gate | None = None,
        only: Collection[str] | None = None,
    ) -> None:
        self._db = db
        self._clock = clock
        self._only = only
        self.gate = gate or Gate(db, clock)

    async def work_off(
        self,
        settings: Settings,
        client: TrackClient,
        going: Callable[[], bool] = lambda: True,
        heard: Callable[[Tally], None] = lambda _tally: None,
    ) -> Tally:
        """Works until nobody is due, or no calls are taken, or `going` says no; `heard` is told what each call and each
        claim came to. Raises Misconfigured when the credentials lead to another workspace; the gate is closed then."""
        total, calls = Tally(), client.calls

        def hear(tally: Tally) -> None:
            total.add(tally)
            heard(tally)

        flights = Flights(self._db, self._clock, settings, client, self.gate, hear, going, self._only)
        async with flights.in_hand():
            while going() and client.paused_for == 0:
                passage = await self.gate.passage()
                if passage == "probe":
                    passage = "open" if await self._probe(settings, client, flights) else "closed"
                if passage == "closed" or not await self._claim(settings, client, flights):
                    break
                if flights.knows_of_an_outage:
                    break
        total.calls = client.calls - calls
        return total

    async def _claim(self, settings: Settings, client: TrackClient, flights: Flights) -> bool:
        """One claim, on its way as far as its calls are full. False when nobody is due, and no call is under way."""
        size = flights.claim_size
        prepared = await flights.take(size)
        if prepared:
            if not await self._is_ours(settings, client):
                return False
            flights.send(await flights.begin(prepared))
        if flights.claimed < size:
            flights.send_rest()
        if flights.claimed == 0:
            if flights.calls == 0:
                return False
            await flights.land_some(settings.sync.latency.total_seconds())
        await flights.room()
        return True

    async def _probe(self, settings: Settings, client: TrackClient, flights: Flights) -> bool:
        """One real call, for somebody who never failed if there is one. True when it was taken."""
        client.forget_workspace()
        try:
            await belonging.require(self._db, settings, client)
        except belonging.Elsewhere as elsewhere:
            await self.gate.failed(elsewhere.reason, str(elsewhere))
            raise
        prepared = await flights.take(_PROBED, untried_first=True)
        # By chance: one who makes calls fail, and is the first to be looked at each time, would keep it closed.
        telling = [each for each in prepared if not each.claim.alone]
        chosen = random.choice(telling) if telling else None  # noqa: S311 - anybody will do
        await flights.give_back([each for each in prepared if each is not chosen])
        begun = await flights.begin([chosen]) if chosen is not None else []
        answer = await flights.probe(begun[0]) if begun else await client.region()
        return await self.gate.probed(answer)

    async def _is_ours(self, settings: Settings, client: TrackClient) -> bool:
        """Whether the credentials lead to the store's own workspace, as far as anybody says. Whoever can't be asked
        takes no calls either."""
        try:
            if await belonging.require(self._db, settings, client):
                return True
        except belonging.Elsewhere as elsewhere:
            await self.gate.close(elsewhere.reason, str(elsewhere))
            raise
        found = outage.of_answer(await client.region())
        if found is not None and found.reason != "wrong_address":
            await self.gate.close(*found)
            return False
        return True  # what answers there doesn't know the question, such as a proxy; the calls themselves will tell
