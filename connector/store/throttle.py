"""How fast all workers of a store call Customer.io together: one row, a bucket of slots.

A slot is a moment at which one call may go out. They are evenly spaced, a little slower than the settings' rate, and
each is given out once: a process reserves a run of the next free ones in one short transaction. The row holds the time
of the next free slot, until when nobody calls because Customer.io asked for it, and the share of the settings' rate
that is used at present: a 429 halves it, each second without one gives back a twentieth of the rate.

Time is the server's on PostgreSQL, so that the hosts' clocks don't matter, and this host's on SQLite.
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
LEAST_PAUSE = timedelta(seconds=1)
MOST_PAUSE = timedelta(minutes=5)

_PACE = 0.99  # what is used a moment late must not make a window of three seconds too full
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
    """The row. `share` is as of `grown_at`; `limited` is how many times in a row Customer.io asked for a rest."""

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


class Run(NamedTuple):
    """Slots as they were `reserved_at`, a moment of this process's monotonic clock."""

    reserved_at: float
    slots: Slots

    @property
    def first(self) -> float:
        """When the first of them is due."""
        return self.reserved_at + self.slots.first_in


class Limited(NamedTuple):
    """Seconds until the next call, the calls a second then, and whether that is news."""

    paused: float
    rate: float
    is_news: bool


def take(bucket: Bucket, rate: float, wanted: int, ahead: float, now: datetime) -> tuple[Bucket, Slots]:
    """The next slots, and the bucket without them. As many as wanted, but not for longer than a run, and one at
    least; none in less than `ahead` seconds."""
    bucket = _as_of(now, bucket, rate)
    if now < bucket.paused_until:
        return bucket, Slots(0, 0.0, 0.0, (bucket.paused_until - now).total_seconds())
    present = rate * bucket.share
    spacing = _spacing(present)
    count = int(min(wanted, max(1.0, present * RUN_SECONDS)))
    first = max(bucket.free_at, now + timedelta(seconds=ahead))
    taken = replace(bucket, free_at=first + timedelta(seconds=count * spacing))
    return taken, Slots(count, (first - now).total_seconds(), spacing)


def pause(retry_after: float) -> timedelta:
    """As long as Customer.io asks for, within reason."""
    return min(max(timedelta(seconds=retry_after), LEAST_PAUSE), MOST_PAUSE)


def limit(bucket: Bucket, rate: float, retry_after: float | None, now: datetime) -> tuple[Bucket, bool]:
    """The bucket after a 429, which asked for so many seconds or did not say; and whether that is news. Calls that were
    under way when the rest began are told the same: they can prolong it, but the rate is halved once."""
    bucket = _as_of(now, bucket, rate)
    told = None if retry_after is None else now + pause(retry_after)
    if now < bucket.paused_until:
        return replace(bucket, paused_until=max(bucket.paused_until, told or now)), False
    times = bucket.limited + 1 if now - bucket.paused_until < _CALM else 1
    guessed = now + min(LEAST_PAUSE * 2 ** min(times - 1, 16), MOST_PAUSE)
    share = max(bucket.share / 2, _least_share(rate))
    return replace(bucket, share=share, paused_until=told or guessed, limited=times), True


def reserve(connection: Connection, rate: float, wanted: int, ahead: float, clock: Callable[[], datetime]) -> Run:
    """The next slots, ours alone from now on: as `take` says."""
    bucket = _locked(connection)
    now, here = _now(connection, clock)
    left, slots = take(bucket, rate, wanted, ahead, now)
    if slots.count:
        connection.execute(sa.update(throttle).values(asdict(left)))
    return Run(here, slots)


def rate_limited(
    connection: Connection, rate: float, retry_after: float | None, clock: Callable[[], datetime]
) -> Limited:
    """Customer.io answered 429: a rest for everybody, then fewer calls."""
    bucket = _locked(connection)
    now, _ = _now(connection, clock)
    left, is_news = limit(bucket, rate, retry_after, now)
    connection.execute(sa.update(throttle).values(asdict(left)))
    return Limited((left.paused_until - now).total_seconds(), rate * left.share, is_news)


def _as_of(now: datetime, bucket: Bucket, rate: float) -> Bucket:
    """Its share as it has grown meanwhile; and without times so far ahead that nobody can have meant them: the clock
    was put back since they were written."""
    paused_until = now if bucket.paused_until - now > MOST_PAUSE else bucket.paused_until
    quiet = (now - max(bucket.grown_at, min(paused_until, now))).total_seconds()
    share = min(max(bucket.share + _RISE * max(quiet, 0.0), _least_share(rate)), 1.0)
    far = timedelta(seconds=_FAR * max(1.0, _spacing(rate * share)))
    free_at = now if bucket.free_at - now > far else bucket.free_at
    return replace(bucket, share=share, free_at=free_at, grown_at=now, paused_until=paused_until)


def _least_share(rate: float) -> float:
    return max(_LEAST_SHARE, min(_LEAST_RATE / rate, 1.0))


def _spacing(rate: float) -> float:
    return min(1 / (rate * _PACE), _LONGEST_SPACING)


_SELECT = sa.select(*(throttle.c[name] for name in Bucket.__dataclass_fields__)).with_for_update()


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


def _now(connection: Connection, clock: Callable[[], datetime]) -> tuple[datetime, float]:
    """The store's time, and the same moment of our monotonic clock: it may be off by half of the way to the server and
    back. After the row is locked, because that may take a while."""
    before = time.monotonic()
    if connection.dialect.name == "postgresql":
        now = connection.execute(sa.select(sa.func.clock_timestamp())).scalar_one().astimezone(UTC)
    else:
        now = clock()
    return now, (before + time.monotonic()) / 2
