"""What a worker has in hand: claims, calls under way, and the last call, which isn't full yet.

    claim -> preparation -> packing -> delivery -> recording

Claims follow each other while calls are under way; a call is recorded when it is answered, whatever claims its users
came by. A call that isn't full waits for the next claim as long as more users are due, so that all of them take no
more calls than the vendor's limit asks for; but not for one that may be a long time in coming, where events were due.
"""

from __future__ import annotations

import asyncio
import math
import secrets
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Iterable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, cast

import sqlalchemy as sa

from connector import log
from connector.core import encode, outage
from connector.core.outage import Outage
from connector.core.outcome import Answer, Stopped
from connector.outbound import delivery, recording, results
from connector.outbound.claims import LEASE, Claims
from connector.outbound.client import TrackClient
from connector.outbound.delivery import ALL_REFUSED, SERVER_ERRORS, Cargo
from connector.outbound.gate import Gate
from connector.outbound.notes import Terms
from connector.outbound.preparation import Prepared, prepare
from connector.outbound.results import Result
from connector.outbound.tally import Tally
from connector.outbound.waves import Waves, in_parts, parts_of
from connector.records import Mirror
from connector.settings import Settings
from connector.store import driver_errors, leases
from connector.store.database import Database

MOST_USERS = 2000

_MOST_CALLS = 4  # under way at once; in a batch, each has up to two thousand users in memory
_SINGLE_USERS = 500  # whose calls are recorded together
_FIRST_USERS = 100  # of single mode, while there is no call under way: a whole claim takes a while to be made ready
_SINGLE_SECONDS = 2  # in single mode a claim is what can be sent in this time, at up to twenty calls a second at once
_SINGLE_A_SECOND = 20

_log = log.get("worker")


class Flights:
    """All that is in hand under one revision of the settings. `heard` is told what each call and each claim came to;
    once `going` says no, no wave of events begins. With `only`, nobody but these users is claimed."""

    def __init__(
        self,
        db: Database,
        clock: Callable[[], datetime],
        settings: Settings,
        client: TrackClient,
        gate: Gate,
        heard: Callable[[Tally], None],
        going: Callable[[], bool] = lambda: True,
        only: Collection[str] | None = None,
    ) -> None:
        self._db = db
        self._clock = clock
        self._settings = settings
        self._client = client
        self._gate = gate
        self._heard = heard
        self._going = going
        self._only = only
        self._is_batch = settings.customerio.api == "batch"
        self._packer = encode.Packer()
        self._cargo: dict[str, Cargo] = {}  # packed, and not sent yet; by user
        self._claims = Claims(db, clock)
        self._calls: dict[asyncio.Task[None], int] = {}  # and how many users are in each
        self._is_flooded = False  # by events that are calls of their own: there were too many in the last claim
        self._in_calls: set[str] = set()
        self._begun: dict[str, Mirror | None] = {}  # creates, and what was known of them before
        self._outage: Outage | None = None
        self.claimed = 0

    @asynccontextmanager
    async def in_hand(self) -> AsyncIterator[None]:
        """Leases are renewed meanwhile. At the end all calls are awaited, or ended when this is cancelled, and what was
        not sent is given back."""
        renewing = asyncio.create_task(self._claims.keep())
        try:
            yield
            await self.land_all()
        except asyncio.CancelledError:
            for call in self._calls:
                call.cancel()
            raise
        finally:
            # Where one went wrong, the others are worth their record all the same.
            ended = await asyncio.gather(*self._calls, return_exceptions=True)
            for error, users in zip(ended, self._calls.values(), strict=True):
                if isinstance(error, Exception):  # the first has gone to the caller; of these nobody would hear
                    _log.error("call_not_recorded", error=type(error).__name__, users=users)
            renewing.cancel()
            await asyncio.gather(renewing, return_exceptions=True)
            await asyncio.shield(self._give_back_what_was_not_sent())

    async def _give_back_what_was_not_sent(self) -> None:
        """Of whoever was in a call of which nobody will hear, the lease runs out: that says so to the next claim."""
        for token, user_ids in self._claims.left():
            await self._give_back(token, user_ids - self._in_calls)

    async def _give_back(self, token: str, user_ids: Iterable[str]) -> None:
        unsent = sorted(user_ids)
        begun = {user_id: self._begun[user_id] for user_id in unsent if user_id in self._begun}
        await self._db.run(recording.give_back, token, unsent, begun, self._clock())
        self._landed(token, unsent)

    @property
    def claim_size(self) -> int:
        """How many users to claim at once. While more visitors, or users with a large event, are due than can be sent,
        of whom each is a call, as few as in single mode: the rest of a larger claim would be made ready, given back,
        and made ready again."""
        if self._is_batch and not self._is_flooded:
            return MOST_USERS
        return self._sent_singly

    @property
    def _sent_singly(self) -> int:
        """How many users can be sent in two seconds when each is a call."""
        workspace = self._settings.customerio
        a_second = min(workspace.rate_per_second, workspace.in_flight * _SINGLE_A_SECOND)
        most = MOST_USERS if self._calls else _FIRST_USERS
        return max(1, min(most, int(a_second * _SINGLE_SECONDS)))

    @property
    def knows_of_an_outage(self) -> bool:
        """Whether an answer has shown that nobody's calls are taken; the gate closes when the call is recorded."""
        return self._outage is not None

    @property
    def calls(self) -> int:
        """How many are under way."""
        return len(self._calls)

    async def take(self, limit: int, *, untried_first: bool = False) -> list[Prepared]:
        """Claims so many, records whom there is nothing to send for, and returns the others. Nobody when nobody is
        due; `claimed` says how many were."""
        token = secrets.token_hex(8)
        renewed, now = time.monotonic(), self._clock()
        claims = await self._db.run(
            leases.claim, token, now, now + LEASE, limit, untried_first=untried_first, only=self._only
        )
        self.claimed = len(claims)
        if not claims:
            return []
        self._claims.add(token, renewed, [claim.user_id for claim in claims])
        prepared = await self._db.on_thread(lambda: prepare(self._db, self._settings, claims, now))
        if not self._going():
            await self._give_back(token, [claim.user_id for claim in claims])
            return []
        gone = {claim.user_id for claim in claims} - {each.user_id for each in prepared}
        if gone:
            # Whom SQL has deleted there is nothing to do for; left in the claim, they would come due for ever.
            await self._db.run(leases.finish, token, sorted(gone), now)
            self._landed(token, gone)
        if skipped := [each for each in prepared if not each.is_worth_a_call]:
            await self._record(skipped, [])
        return [each for each in prepared if each.is_worth_a_call]

    async def begin(self, prepared: list[Prepared]) -> list[Prepared]:
        """Before they are sent: whoever is created is noted as a person of whom nothing is sure yet. Returns who goes
        out. Who is another by now, and all who would be created where another worker was faster with a customer id, are
        left to the next claim."""
        creates = [each for each in prepared if each.decision.verb == "create"]
        if not creates:
            return prepared
        try:
            begun = await self._db.run(recording.begin, creates, self._terms())
        except sa.exc.DBAPIError as error:
            if not driver_errors.lost_to_another(error):
                raise
            begun = set()
        self._begun |= {each.user_id: each.subject.mirror for each in creates if each.user_id in begun}
        if left := [each for each in creates if each.user_id not in begun]:
            await self.give_back(left)
            prepared = [each for each in prepared if each.decision.verb != "create" or each.user_id in begun]
        return prepared

    def send(self, prepared: Sequence[Prepared]) -> None:
        """Begins all calls that are full with these users."""
        if not self._is_batch:
            for start in range(0, len(prepared), _SINGLE_USERS):
                self._begin_waves(prepared[start : start + _SINGLE_USERS])
            return
        with_events: list[Prepared] = []
        singles: list[Prepared] = []  # a visitor's event, or a large one, is a call of its own
        for each in prepared:
            if each.claim.alone:
                self._begin_waves([each])
            elif each.agenda.outgoing:
                (with_events if each.agenda.outgoing[0].is_operation else singles).append(each)
            else:
                cargo = parts_of(each)
                self._send_packed(self._packer.add(cargo.work))
                self._cargo[each.user_id] = cargo
        self._is_flooded = len(singles) >= min(self._sent_singly, max(len(prepared) // 2, 1))
        for group in filter(None, (with_events, singles)):
            self._begin_waves(group)
        if with_events or singles:
            # They may come again and again, and every claim be full of them; the others are not to wait for that.
            self.send_rest()

    def send_rest(self) -> None:
        """Begins the last call, full or not."""
        self._send_packed(self._packer.rest())

    async def room(self) -> None:
        """Until another claim may be made ready."""
        while len(self._calls) >= _MOST_CALLS:
            await self._land(None)

    async def land_some(self, seconds: float) -> None:
        """Until a call is recorded, but no longer than that."""
        await self._land(seconds)

    async def land_all(self) -> None:
        """Until all calls are recorded."""
        while self._calls:
            await self._land(None)

    async def probe(self, prepared: Prepared) -> Answer:
        """The answer to real calls for one user, which are to show whether calls are taken; what came of them is
        recorded, but for a failure: it is nobody's attempt."""
        answers: list[Answer] = []

        def saw(answer: Answer, _about: str) -> None:
            answers.append(answer)

        self._in_calls.add(prepared.user_id)
        waves = Waves(self._client, self._claims.not_after([prepared]), saw, is_batch=self._is_batch, tries=1)
        await self._record([], [results.excused(each) for each in await waves.send([prepared])])
        return answers[-1]

    async def give_back(self, prepared: Sequence[Prepared]) -> None:
        """Not sent after all: they are due."""
        for token in {each.claim.lease for each in prepared}:
            user_ids = [each.user_id for each in prepared if each.claim.lease == token]
            await self._give_back(token, user_ids)

    def _send_packed(self, works: Sequence[encode.Work]) -> None:
        if works:
            self._begin(self._send_batch([self._cargo.pop(work.user_id) for work in works]), len(works))

    def _begin_waves(self, group: Sequence[Prepared]) -> None:
        self._begin(self._send_waves(group), len(group))

    def _begin(self, call: Coroutine[Any, Any, None], users: int) -> None:
        self._calls[asyncio.create_task(call)] = users

    async def _land(self, seconds: float | None) -> None:
        if not self._calls:
            return
        done, _ = await asyncio.wait(self._calls, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        for call in done:
            del self._calls[call]
            call.result()  # what went wrong in it goes wrong here

    async def _send_batch(self, cargo: Sequence[Cargo]) -> None:
        self._in_calls.update(each.prepared.user_id for each in cargo)
        not_after = self._while_open(self._claims.not_after([each.prepared for each in cargo]))
        landed = await delivery.send_batch(self._client, cargo, not_after, self._saw)
        await self._came_to(list(map(in_parts, landed)))

    async def _send_waves(self, group: Sequence[Prepared]) -> None:
        self._in_calls.update(each.user_id for each in group)
        not_after = self._while_going(self._while_open(self._claims.not_after(group)))
        await self._came_to(await Waves(self._client, not_after, self._saw, is_batch=self._is_batch).send(group))

    async def _came_to(self, found: Sequence[Result]) -> None:
        """Closes the gate where answers say so; who failed while it closed didn't fail by themselves."""
        for each in found:
            for outcome in (each.outcome, each.events.outcome):
                if isinstance(outcome, Stopped) and outcome.reason in {SERVER_ERRORS, ALL_REFUSED}:
                    self._outage = Outage(cast("outage.Reason", outcome.reason), outcome.message)
        if self._outage is not None:
            found_out = self._outage
            await self._gate.close(*found_out)
            if self._outage is found_out:  # until the gate says so, nobody else does
                self._outage = None
        if self._gate.closed is not None:
            found = list(map(results.excused, found))
        await self._record([], found)

    def _saw(self, answer: Answer, about: str) -> None:
        self._outage = self._gate.saw(answer, about) or self._outage

    async def _record(self, skipped: Sequence[Prepared], found: Sequence[Result]) -> None:
        terms = self._terms()
        try:
            tally = await self._db.on_thread(lambda: recording.record(self._db, skipped, found, terms))
        except sa.exc.DBAPIError:
            # Another worker recorded the same customer id for another user meanwhile, which can be seen now; or
            # somebody who asked for these users' events again waited for us, and we for them.
            tally = await self._db.on_thread(lambda: recording.record(self._db, skipped, found, terms))
        landed: defaultdict[str, list[str]] = defaultdict(list)
        for claim in [*(each.claim for each in skipped), *(result.prepared.claim for result in found)]:
            landed[claim.lease].append(claim.user_id)
        for token, user_ids in landed.items():
            self._landed(token, user_ids)
        self._heard(tally)

    def _terms(self) -> Terms:
        settings = self._settings
        return Terms(settings.mapping_hash(), settings.retry.give_up_after, settings.events.wait, self._clock())

    def _landed(self, token: str, user_ids: Collection[str]) -> None:
        self._claims.landed(token, user_ids)
        self._in_calls.difference_update(user_ids)
        for user_id in user_ids:
            self._begun.pop(user_id, None)

    def _while_open(self, not_after: Callable[[], float]) -> Callable[[], float]:
        """No try begins once it is known that nobody's calls are taken."""
        return lambda: -math.inf if self._outage is not None or self._gate.closed is not None else not_after()

    def _while_going(self, not_after: Callable[[], float]) -> Callable[[], float]:
        """No try begins once nothing is to be sent any more, or not under these settings."""
        return lambda: not_after() if self._going() else -math.inf
