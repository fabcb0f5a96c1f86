"""Our turn to call Customer.io: `rate_per_second` holds over all processes of a store.

    slot() -> a place in the queue -> a slot that this process holds, when its moment has come
                                      the next run of them is reserved in the store while the present one is used

A slot that isn't used within a moment is dropped, never used later: so no window of three seconds holds more than
three times the rate. How many are reserved follows what was used: who calls now and then takes one at a time, who calls
all the time as many as make a tenth of a second, and the next ones before these are over. Where the store is slow they
are as many as last until it has answered, up to a second. Without the store there is no slot, and nothing is sent.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import time
from bisect import insort
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import sqlalchemy as sa

from connector import log
from connector.store import throttle
from connector.store.database import Database
from connector.store.throttle import LATE, RUN_SECONDS, Run, Wish

_MOST_AHEAD = 1.0
_LASTING = 3  # times as long as it takes to reserve: once under way, once in hand, once for what varies
_REMEMBERED = 0.8  # of how long that took, each time: between slow ones some are quick
_LONGEST_RUN = 1.0
_LULL = 1.0  # seconds without a call; calls that are answered together begin together, and it is quiet in between
_TIMER = 0.001  # no loop wakes more exactly than that
_TRY_AGAIN = 0.5
_SET_BACK = 1.0  # seconds that a clock is put back by before it's told

_log = log.get("throttle")


def _host_time() -> datetime:
    return datetime.now(UTC)


@dataclass(slots=True)
class _Stretch:
    """Slots that follow each other: the next of those that are left, and how far it is to the one after it."""

    next: float
    spacing: float
    left: int

    def drop(self, count: int) -> None:
        self.next += count * self.spacing
        self.left -= count


class Held:
    """The slots that this process holds, by time; moments are of the monotonic clock."""

    def __init__(self) -> None:
        self._stretches: deque[_Stretch] = deque()
        self._reserved = 0
        self._used = 0
        self._dropped = 0
        self._middle = 0.0
        self._last = 0.0
        self._end = 0.0
        self._is_alone = True
        self._ahead = 0.0
        self._run_seconds = RUN_SECONDS
        self._slow = 0.0

    def add(self, run: Run, asked_at: float, now: float) -> None:
        """After those that it holds already. Took it long to hear of them, the next ones had better not begin at once:
        each would be over when it came. Took it long since they were asked for, the next ones have to last; unless
        others have slots in between, for then there's time."""
        slots = run.slots
        self._is_alone = run.first <= max(self._end, run.reserved_at + self._ahead) + LATE / 2
        took = now - run.reserved_at
        self._ahead = min(2 * took, _MOST_AHEAD) if took > LATE / 2 else 0.0
        self._slow = max(now - asked_at, _REMEMBERED * self._slow)
        lasting = min(_LASTING * self._slow, _LONGEST_RUN) if self._is_alone else 0.0
        self._run_seconds = max(lasting, RUN_SECONDS)
        self._reserved, self._used, self._dropped = slots.count, 0, 0
        self._middle = run.first + slots.count * slots.spacing / 2
        self._last = run.first + (slots.count - 1) * slots.spacing
        self._end = self._last + slots.spacing
        self._stretches.append(_Stretch(run.first, slots.spacing, slots.count))

    def take(self, now: float) -> float | None:
        """A slot whose moment has come and not gone by, nor nearly: whoever gets it has to wake up before."""
        while self._stretches:
            stretch = self._stretches[0]
            if stretch.next < now - LATE / 2:
                over = min(math.ceil((now - LATE / 2 - stretch.next) / stretch.spacing), stretch.left)
                stretch.drop(over)
                self._dropped += over
            if stretch.left > 0:
                return self._use(stretch) if stretch.next <= now else None
            self._stretches.popleft()
        return None

    def _use(self, stretch: _Stretch) -> float:
        moment = stretch.next
        stretch.drop(1)
        self._used += 1
        if stretch.left == 0:
            self._stretches.popleft()
        return moment

    def throw_away(self) -> None:
        self._stretches.clear()
        self._end = 0.0

    @property
    def next(self) -> float | None:
        """When the next is due."""
        return self._stretches[0].next if self._stretches else None

    def is_short(self, waiting: int, now: float) -> bool:
        """True when it's time to reserve more for so many who wait now, and those who come while these are used. As
        long as nobody else reserves any, there are always some: else whoever comes when the last is over would wait for
        the store."""
        if self._stretches and self._last >= now + self._run_seconds:
            return False
        if waiting and (2 * self._used >= self._reserved or sum(each.left for each in self._stretches) < waiting):
            return True
        return self._is_alone and self._reserved > 1 and now >= self._middle

    def wish(self, waiting: int, now: float) -> Wish:
        """How many more to reserve: as many as wait; and twice as many as last time when none was in vain, else as many
        as were used. In vain is none for who is alone and calls every moment."""
        is_calling = self._is_alone and now <= self._end + _LULL
        count = 2 * self._reserved if is_calling or not self._dropped else self._used
        return Wish(max(1, waiting, count), self._ahead, self._run_seconds)


class Throttle:
    """One process's part of the bucket. `rate` is what the settings allow, `clock` the time of this host."""

    def __init__(self, db: Database, rate: float, clock: Callable[[], datetime] = _host_time) -> None:
        self._db = db
        self._rate = rate
        self._clock = clock
        self._held = Held()
        self._places = itertools.count()
        self._queue: list[tuple[int, asyncio.Future[float | None]]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._reserving: asyncio.Task[None] | None = None
        self._pauses = 0
        self._paused_until = 0.0
        self._is_cut_off = False

    @property
    def paused_for(self) -> float:
        """Seconds until Customer.io wants to hear from us again; 0 when it does now."""
        return max(self._paused_until - time.monotonic(), 0.0)

    async def slot(self) -> bool:
        """Waits for our turn, first come, first served. False when Customer.io wants a rest: don't call, and don't
        wait here, it may take minutes."""
        place = next(self._places)
        while self.paused_for == 0:
            turn: asyncio.Future[float | None] = asyncio.get_running_loop().create_future()
            waiting = (place, turn)
            insort(self._queue, waiting)
            self._hand_out()
            try:
                slot = await turn
            finally:
                if waiting in self._queue:
                    self._queue.remove(waiting)
            # The loop may have been busy since it was handed out; then its moment is over, and the place is kept.
            if slot is not None and time.monotonic() <= slot + LATE:
                return True
        return False

    async def rest(self, retry_after: float | None, *, is_limited: bool) -> None:
        """Customer.io wants a rest of so many seconds, or did not say how many. Nobody of this store calls meanwhile;
        then, after a 429 (`is_limited`), at a lower rate."""
        self._pause(throttle.pause(retry_after or 0.0).total_seconds())  # at once: the store may take a while
        try:
            said = await self._db.run(throttle.rest, self._rate, retry_after, self._clock, is_limited=is_limited)
        except sa.exc.SQLAlchemyError as error:
            self._cut_off(error)
            return
        self._pause(said.paused)
        _tell_set_back(said.set_back)
        if said.is_news:
            event = "rate_limited" if is_limited else "asked_to_rest"
            _log.warning(event, seconds=round(said.paused, 1), rate_then=round(said.rate, 2))

    def _pause(self, seconds: float) -> None:
        """Throws away what is held or about to be reserved, and lets nobody wait."""
        self._pauses += 1
        self._paused_until = max(self._paused_until, time.monotonic() + seconds)
        self._held.throw_away()
        self._release(lambda turn: turn.set_result(None))

    def _release(self, settle: Callable[[asyncio.Future[float | None]], None]) -> None:
        for _, turn in self._queue:
            if not turn.done():
                settle(turn)
        self._queue.clear()

    def _hand_out(self) -> None:
        """Slots to those who wait, as far as it's time; then sees to it that there will be more."""
        now = time.monotonic()
        self._queue = [waiting for waiting in self._queue if not waiting[1].done()]
        is_calling = bool(self._queue)
        while self._queue and (slot := self._held.take(now)) is not None:
            self._queue.pop(0)[1].set_result(slot)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        loop = asyncio.get_running_loop()
        if is_calling and self._reserving is None and self._held.is_short(len(self._queue), now):
            self._reserving = loop.create_task(self._reserve())
        if not self._queue:
            return
        if (due := self._held.next) is not None:
            self._timer = loop.call_later(max(due - now, _TIMER), self._hand_out)

    async def _reserve(self) -> None:
        """Until there are enough for those who wait."""
        try:
            await self._reserve_once()
            self._hand_out()
            while self._queue and self._held.is_short(len(self._queue), time.monotonic()):
                await self._reserve_once()
                self._hand_out()
        except Exception as error:  # noqa: BLE001 - whoever waits must hear of it, whatever it is
            failed = error
            self._release(lambda turn: turn.set_exception(failed))
        finally:
            self._reserving = None

    async def _reserve_once(self) -> None:
        pauses, asked_at = self._pauses, time.monotonic()
        wish = self._held.wish(len(self._queue), asked_at)
        try:
            run = await self._db.run(throttle.reserve, self._rate, wish, self._clock)
        except sa.exc.SQLAlchemyError as error:
            self._cut_off(error)
            await asyncio.sleep(_TRY_AGAIN)
            return
        if self._is_cut_off:
            self._is_cut_off = False
            _log.info("throttle_goes_on")
        _tell_set_back(run.set_back)
        if run.slots.paused:
            self._pause(run.slots.paused)
        elif pauses == self._pauses:  # else they were reserved before a rest that has been asked for meanwhile
            self._held.add(run, asked_at, time.monotonic())

    def _cut_off(self, error: Exception) -> None:
        if not self._is_cut_off:
            self._is_cut_off = True
            _log.warning("throttle_waits", reason="store_unreachable", error=type(error).__name__)


def _tell_set_back(seconds: float) -> None:
    if seconds >= _SET_BACK:
        _log.warning("clock_set_back", seconds=round(seconds, 1))
