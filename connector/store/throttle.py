"""How fast all workers of a store call Customer.io together: one row, a bucket of slots.

A slot is a moment at which one call may go out. They are evenly spaced, a little slower than the settings' rate, and
each is given out once: a process reserves a run of the next free ones in one short transaction. The row holds the time
of the next free slot, until when nobody calls because Customer.io asked for it, and the share of the settings' rate
that is used at present: a 429 halves it, each second without one gives back a twentieth of the rate.

Time is the server's on PostgreSQL, so that the hosts' clocks don't matter, and this host's on SQLite. It is read with
an error of half the way to the server and back at most: whoever is far away spaces its slots wider, so that no window
of three seconds is too full all the same. When the clock was put back since the row was written, its times go back with
it: nobody waits for the old time to come again, and no slot is given out twice.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from connector.store import database
from connector.store.schema import throttle

RUN_SECONDS = 0.1
LATE = 0.02  # seconds after its moment that a slot may still be used
LEAST_PAUSE = timedelta(seconds=1)
MOST_PAUSE = timedelta(minutes=5)

_WINDOW = 3.0
_UNSURE = 0.005  # how exactly anybody reads the time who isn't far away
_LEAST_SHARE = 0.01
_LEAST_RATE = 1.0
_RISE = 0.05  # a second
_CALM = timedelta(seconds=10)
_LONGEST_SPACING = 86_400.0
_FAR = 60.0

_EVER = datetime(1970, 1, 1, tzinfo=UTC)
_ID = 1


@dataclass(frozen=True, slots=True)
class Bucket:
    """The row. `share` is as of `grown_at`; `limited` is how many 429s came in a row."""

    share: float = 1.0
    free_at: datetime = _EVER
    grown_at: datetime = _EVER
    paused_until: datetime = _EVER
    limited: int = 0


@dataclass(frozen=True, slots=True)
class Slots:
    """`count` of them, the first in so many seconds from now, `spacing` seconds apart. None while Customer.io has
    `paused` us for so many seconds more."""

    count: int
    first_in: float
    spacing: float
    paused: float = 0.0


class Wish(NamedTuple):
    """That many slots at most, none in less than `ahead` seconds, and no more than make so many seconds; but one."""

    most: int
    ahead: float = 0.0
    seconds: float = RUN_SECONDS


class Reading(NamedTuple):
    """The store's time, the same moment of this process's monotonic clock, and how many seconds that may be off."""

    now: datetime
    here: float
    unsure: float


class Run(NamedTuple):
    """Slots as they were `reserved_at`, a moment of this process's monotonic clock. `set_back`: by how many seconds
    the store's clock was put back since the row was written."""

    reserved_at: float
    slots: Slots
    set_back: float = 0.0

    @property
    def first(self) -> float:
        """When the first of them is due."""
        return self.reserved_at + self.slots.first_in


class Pace(NamedTuple):
    """The calls a second that are given out at present, and until when none is."""

    rate: float
    paused_until: datetime | None


class Limited(NamedTuple):
    """Seconds until the next call, the calls a second then, whether that is news, and `set_back` as in a run."""

    paused: float
    rate: float
    is_news: bool
    set_back: float = 0.0


def take(bucket: Bucket, rate: float, wish: Wish, now: datetime, unsure: float = 0.0) -> tuple[Bucket, Slots]:
    """The next slots, and the bucket without them. The time may be off by `unsure` seconds."""
    bucket = _as_of(now, bucket, rate)
    if now < bucket.paused_until:
        return bucket, Slots(0, 0.0, 0.0, (bucket.paused_until - now).total_seconds())
    present = rate * bucket.share
    spacing = _spacing(present, unsure)
    count = int(min(wish.most, max(1.0, present * wish.seconds)))
    first = max(bucket.free_at, now + timedelta(seconds=wish.ahead))
    taken = replace(bucket, free_at=first + timedelta(seconds=count * spacing))
    return taken, Slots(count, (first - now).total_seconds(), spacing)


def pause(retry_after: float) -> timedelta:
    """As long as Customer.io asks for, within reason."""
    return min(max(timedelta(seconds=retry_after), LEAST_PAUSE), MOST_PAUSE)


def limit(
    bucket: Bucket, rate: float, retry_after: float | None, now: datetime, *, is_limited: bool = True
) -> tuple[Bucket, bool]:
    """The bucket after Customer.io asked for a rest of so many seconds, or did not say how many; and whether that is
    news. Calls that were under way when the rest began are told the same: they can prolong it, but the rate is halved
    once. It is not where no 429 said so (`is_limited`) but a server that fails: then it wasn't the rate."""
    bucket = _as_of(now, bucket, rate)
    told = None if retry_after is None else now + pause(retry_after)
    if now < bucket.paused_until:
        return replace(bucket, paused_until=max(bucket.paused_until, told or now)), False
    if not is_limited:
        return replace(bucket, paused_until=told or now + LEAST_PAUSE), True
    times = bucket.limited + 1 if now - bucket.paused_until < _CALM else 1
    guessed = now + min(LEAST_PAUSE * 2 ** min(times - 1, 16), MOST_PAUSE)
    share = max(bucket.share / 2, _least_share(rate))
    return replace(bucket, share=share, paused_until=told or guessed, limited=times), True


def reserve(connection: Connection, rate: float, wish: Wish, clock: Callable[[], datetime]) -> Run:
    """The next slots, ours alone from now on: as `take` says."""
    bucket = _locked(connection)
    now, here, unsure = _read(connection, clock)
    set_back = _set_back(bucket, now)
    left, slots = take(bucket, rate, wish, now, unsure)
    if slots.count or set_back:  # written even amid a rest, which would begin anew with each look
        connection.execute(sa.update(throttle).values(asdict(left)))
    return Run(here, slots, set_back)


def rest(
    connection: Connection, rate: float, retry_after: float | None, clock: Callable[[], datetime], *, is_limited: bool
) -> Limited:
    """Customer.io asked for it: a rest for everybody; then, after a 429 (`is_limited`), fewer calls."""
    bucket = _locked(connection)
    now = _read(connection, clock).now
    left, is_news = limit(bucket, rate, retry_after, now, is_limited=is_limited)
    connection.execute(sa.update(throttle).values(asdict(left)))
    paused = (left.paused_until - now).total_seconds()
    return Limited(paused, rate * left.share, is_news, _set_back(bucket, now))


def look(connection: Connection, rate: float, clock: Callable[[], datetime]) -> Pace:
    """As it is; nothing changes by it."""
    found = connection.execute(_LOOK).one_or_none()
    now = _read(connection, clock).now
    bucket = _as_of(now, Bucket() if found is None else Bucket(*found), rate)
    return Pace(rate * bucket.share, bucket.paused_until if now < bucket.paused_until else None)


def _set_back(bucket: Bucket, now: datetime) -> float:
    """Seconds by which the clock was put back since the row was written, at least; 0 when it wasn't."""
    return max((bucket.grown_at - now).total_seconds(), 0.0)


def _as_of(now: datetime, bucket: Bucket, rate: float) -> Bucket:
    """Its share as it has grown meanwhile. Its times are those of the clock as it is now; and one so far ahead that
    nobody can have meant it is none: the rate was another when it was written."""
    back = timedelta(seconds=_set_back(bucket, now))
    paused_until = bucket.paused_until - back
    quiet = (now - max(bucket.grown_at - back, min(paused_until, now))).total_seconds()
    share = min(max(bucket.share + _RISE * max(quiet, 0.0), _least_share(rate)), 1.0)
    far = timedelta(seconds=_FAR * max(1.0, _spacing(rate * share)))
    free_at = bucket.free_at - back
    free_at = now if free_at - now > far else free_at
    return replace(bucket, share=share, free_at=free_at, grown_at=now, paused_until=paused_until)


def _least_share(rate: float) -> float:
    return max(_LEAST_SHARE, min(_LEAST_RATE / rate, 1.0))


def _spacing(rate: float, unsure: float = 0.0) -> float:
    """A little wider than the rate says: a window's first slot may be used late, and it and the last are read with an
    error."""
    room = LATE + 2 * max(unsure, _UNSURE)
    return min((1 + room / _WINDOW) / rate, _LONGEST_SPACING)


_LOOK = sa.select(*(throttle.c[name] for name in Bucket.__dataclass_fields__))
_SELECT = _LOOK.with_for_update()


def _locked(connection: Connection) -> Bucket:
    """The row, ours to the end of the transaction."""
    if connection.dialect.name == "postgresql":
        # A crash may lose what was reserved last, and who had it; waiting for the disk would keep the row from others.
        connection.execute(sa.text("SET LOCAL synchronous_commit = off"))
    found = connection.execute(_SELECT).one_or_none()
    if found is None:
        row = {"id": _ID, **asdict(Bucket())}
        connection.execute(database.insert(connection, throttle).on_conflict_do_nothing(), row)
        found = connection.execute(_SELECT).one()
    return Bucket(*found)


def _read(connection: Connection, clock: Callable[[], datetime]) -> Reading:
    """The time, and when it was here: between asking and hearing. After the row is locked, because that may take a
    while."""
    before = time.monotonic()
    if connection.dialect.name == "postgresql":
        now = connection.execute(sa.select(sa.func.clock_timestamp())).scalar_one().astimezone(UTC)
    else:
        now = clock()
    after = time.monotonic()
    return Reading(now, (before + after) / 2, (after - before) / 2)
