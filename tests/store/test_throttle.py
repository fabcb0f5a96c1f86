"""The bucket that all workers of a store call Customer.io from."""

from __future__ import annotations

import math
import random
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connector import app
from connector.outbound.throttle import Held
from connector.store import throttle
from connector.store.database import Database
from connector.store.throttle import LATE, Bucket, Run, Slots, Wish
from tests.store.given import put_back

NOW = datetime(2025, 1, 2, 3, 4, 5, tzinfo=UTC)
RATE = 100.0
SPACING = 1.01 / RATE


def after(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def rate_at(bucket: Bucket, seconds: float, rate: float = RATE) -> float:
    """The calls a second that are given out then."""
    _, slots = throttle.take(bucket, rate, Wish(1), after(seconds))
    return 1.01 / slots.spacing


# What a bucket gives


def test_slots_are_evenly_spaced_over_all_that_reserve() -> None:
    bucket, first = throttle.take(Bucket(), RATE, Wish(4), NOW)
    bucket, second = throttle.take(bucket, RATE, Wish(2), after(0.01))
    assert (first.count, first.first_in, first.spacing) == (4, 0, pytest.approx(SPACING))
    assert (second.count, second.first_in) == (2, pytest.approx(4 * SPACING - 0.01, abs=1e-5))


def test_what_nobody_reserved_is_gone() -> None:
    bucket, _ = throttle.take(Bucket(), RATE, Wish(4), NOW)
    _, slots = throttle.take(bucket, RATE, Wish(1000), after(3600))
    assert (slots.count, slots.first_in) == (10, 0)


@pytest.mark.parametrize(("rate", "most"), [(1e-300, 1), (0.5, 1), (5, 1), (10, 1), (100, 10), (1e300, 1000)])
def test_a_run_is_a_tenth_of_a_second_at_most_and_one_slot_at_least(rate: float, most: int) -> None:
    bucket, slots = throttle.take(Bucket(), rate, Wish(1000), NOW)
    assert slots.count == most
    throttle.limit(bucket, rate, None, NOW)


def test_a_429_halves_the_rate_and_nobody_calls_until_it_is_over() -> None:
    bucket, is_news = throttle.limit(Bucket(), RATE, 40, NOW)
    assert is_news
    assert throttle.take(bucket, RATE, Wish(5), after(30))[1] == Slots(0, 0.0, 0.0, 10.0)
    assert rate_at(bucket, 40) == pytest.approx(50)


def test_calls_that_were_under_way_when_a_rest_began_can_prolong_it_but_halve_nothing() -> None:
    bucket, _ = throttle.limit(Bucket(), RATE, 10, NOW)
    for said, until in ((None, 10), (3, 10), (20, 20.5), (None, 20.5)):
        bucket, is_news = throttle.limit(bucket, RATE, said, after(0.5))
        assert (is_news, bucket.paused_until) == (False, after(until))
    assert rate_at(bucket, 20.5) == pytest.approx(50)


@pytest.mark.parametrize(("said", "seconds"), [(40, 40), (4000, 300), (0, 1), (None, 1)])
def test_a_rest_that_a_failing_server_asks_for_lowers_no_rate(said: float | None, seconds: float) -> None:
    bucket, is_news = throttle.limit(Bucket(), RATE, said, NOW, is_limited=False)
    assert (is_news, bucket.paused_until, bucket.limited) == (True, after(seconds), 0)
    assert rate_at(bucket, seconds) == pytest.approx(100)


def test_the_rate_rises_by_a_twentieth_each_second_after_a_rest() -> None:
    bucket, _ = throttle.limit(Bucket(), RATE, 10, NOW)
    assert [rate_at(bucket, seconds) for seconds in (10, 11, 15, 20, 3600)] == pytest.approx([50, 55, 75, 100, 100])


def test_it_rises_alike_however_often_somebody_reserves() -> None:
    bucket, _ = throttle.limit(Bucket(), RATE, 1, NOW)
    for tenth in range(10, 61):
        bucket, slots = throttle.take(bucket, RATE, Wish(1), after(tenth / 10))
    assert 1.01 / slots.spacing == pytest.approx(75)


@pytest.mark.parametrize(("rate", "least"), [(1000, 10), (100, 1), (20, 1), (1, 1), (0.5, 0.5)])
def test_it_never_falls_under_one_a_second_nor_under_a_hundredth(rate: float, least: float) -> None:
    bucket, seconds = Bucket(), 0.0
    for _ in range(20):
        bucket, _ = throttle.limit(bucket, rate, 1, after(seconds))
        seconds += 1
    assert rate_at(bucket, seconds, rate) == pytest.approx(least)


def test_a_rest_that_does_not_say_how_long_grows_until_it_is_quiet_again() -> None:
    bucket, seconds, rests = Bucket(), 0.0, []
    for _ in range(12):
        bucket, _ = throttle.limit(bucket, RATE, None, after(seconds))
        rests.append((bucket.paused_until - after(seconds)).total_seconds())
        seconds += rests[-1] + 0.1
    assert rests == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]
    bucket, _ = throttle.limit(bucket, RATE, None, after(seconds + 10))
    assert bucket.paused_until == after(seconds + 11)


@pytest.mark.parametrize(("said", "rest"), [(0, 1), (0.2, 1), (5, 5), (301, 300), (999_999_999, 300)])
def test_a_rest_is_a_second_at_least_and_five_minutes_at_most(said: float, rest: float) -> None:
    assert throttle.limit(Bucket(), RATE, said, NOW)[0].paused_until == after(rest)


@pytest.mark.parametrize("seconds", [0.5, 5, 59, 61, 3600])
def test_a_clock_that_is_put_back_stops_nobody_and_gives_no_slot_out_twice(seconds: float) -> None:
    bucket, _ = throttle.take(Bucket(), RATE, Wish(10), after(seconds))
    bucket, slots = throttle.take(bucket, RATE, Wish(1), NOW)
    assert slots.first_in == pytest.approx(10 * SPACING, abs=1e-5)
    _, slots = throttle.take(bucket, RATE, Wish(1), after(0.05))
    assert slots.first_in == pytest.approx(11 * SPACING - 0.05, abs=1e-5)


def test_a_rest_amid_which_the_clock_is_put_back_is_kept_but_no_longer_than_it_was_asked_for() -> None:
    bucket, _ = throttle.limit(Bucket(), RATE, 60, after(3600))
    bucket, slots = throttle.take(bucket, RATE, Wish(1), NOW)
    assert slots.paused == 60
    bucket, slots = throttle.take(bucket, RATE, Wish(1), after(45))
    assert slots.paused == 15
    assert rate_at(bucket, 62) == pytest.approx(60)


def test_a_rate_that_was_far_slower_is_not_waited_for() -> None:
    bucket, _ = throttle.take(Bucket(), 0.001, Wish(1), NOW)
    assert throttle.take(bucket, RATE, Wish(1), after(1))[1].first_in == 0


def test_a_run_lasts_longer_where_that_is_wished_for() -> None:
    assert throttle.take(Bucket(), RATE, Wish(1000, seconds=0.7), NOW)[1].count == 70
    assert throttle.take(Bucket(), RATE, Wish(20, seconds=0.7), NOW)[1].count == 20


@pytest.mark.parametrize(("unsure", "room"), [(0.0, 0.03), (0.005, 0.03), (0.02, 0.06), (0.5, 1.02)])
def test_who_reads_the_time_less_exactly_spaces_its_slots_wider(unsure: float, room: float) -> None:
    """From the first slot of three seconds to the first beyond them there is room for all that can be off."""
    spacing = throttle.take(Bucket(), RATE, Wish(1), NOW, unsure)[1].spacing
    assert 3 * RATE * spacing == pytest.approx(3 + room)


def test_a_slow_rate_is_not_taken_for_a_clock_that_was_put_back() -> None:
    bucket = Bucket()
    for number in range(20):
        bucket, slots = throttle.take(bucket, 0.01, Wish(1), NOW)
        assert slots.first_in == pytest.approx(number * 101, abs=1e-3)


# What a process makes of it


@dataclass
class Process:
    """A process that calls whenever it may; `late` is how late it wakes at most, `delay` how long the store takes, and
    `unsure` how far its time may be off."""

    random: random.Random
    late: float
    delay: float
    unsure: float
    held: Held = field(default_factory=Held)
    wakes: float = 0.0
    coming: list[tuple[float, float, Run]] = field(default_factory=list)
    sent: list[float] = field(default_factory=list)

    def wake(self, bucket: Bucket, rate: float, waiting: int) -> Bucket:
        now = self.wakes
        for arrives, asked_at, run in self.coming:
            if arrives <= now:
                self.held.add(run, asked_at, now)
        self.coming = [each for each in self.coming if each[0] > now]
        for _ in range(waiting):
            if self.held.take(now) is None:
                break
            self.sent.append(now)
        if self.held.is_short(waiting, now) and not self.coming:
            bucket, slots = throttle.take(bucket, rate, self.held.wish(waiting, now), after(now), self.unsure)
            wrong = self.random.choice([-1, 1]) * self.random.uniform(self.unsure / 2, self.unsure)
            self.coming.append((now + self.random.uniform(0, self.delay), now, Run(now + wrong, slots)))
        due = [each for each in (self.held.next, *(arrives for arrives, *_ in self.coming)) if each is not None]
        self.wakes = max(now, min(due, default=now)) + self.random.uniform(0.0001, self.late)
        return bucket


@settings(derandomize=True, database=None, max_examples=60, deadline=None)
@given(
    rate=st.sampled_from([1, 2, 3, 7, 30, 100, 500]),
    processes=st.integers(1, 4),
    waiting=st.sampled_from([1, 3, 16]),
    late=st.sampled_from([0.001, 0.015, 0.05, 0.3]),
    delay=st.sampled_from([0.001, 0.02, 0.2]),
    unsure=st.sampled_from([0.002, 0.02, 0.1]),
    seed=st.integers(0, 2**32),
)
def test_no_three_seconds_hold_more_calls_than_three_times_the_rate(
    rate: int, processes: int, waiting: int, late: float, delay: float, unsure: float, seed: int
) -> None:
    chance = random.Random(seed)
    everybody = [Process(chance, late, delay, unsure, wakes=chance.uniform(0, 1)) for _ in range(processes)]
    bucket = Bucket()
    while (process := min(everybody, key=lambda each: each.wakes)).wakes < 8:
        bucket = process.wake(bucket, float(rate), waiting)
    sent = sorted(moment for each in everybody for moment in each.sent)
    if late < 0.1:  # else it may never wake in time
        assert sent
    for first, beyond in zip(sent, sent[3 * rate :], strict=False):
        assert beyond - first >= 3
    if late == 0.001 and delay == 0.001 and unsure == 0.002 and waiting == 16:
        assert len(sent) >= 0.9 * rate * 6.9


def test_a_slot_whose_moment_is_over_is_not_used_late() -> None:
    held = Held()
    held.add(Run(10.0, Slots(3, 0.0, 0.1)), 10.0, 10.0)
    assert held.take(9.99) is None
    assert held.take(10.03) is None
    assert held.take(10.11) == pytest.approx(10.1)
    assert held.next == pytest.approx(10.2)
    held.throw_away()
    assert (held.take(10.2), held.next) == (None, None)


def test_a_process_that_hears_of_its_slots_late_reserves_them_further_ahead() -> None:
    held = Held()
    held.add(Run(1.0, Slots(1, 0.0, 0.01)), 1.0, 1.005)
    assert held.wish(1, 1.0).ahead == 0
    held.add(Run(2.0, Slots(1, 0.0, 0.01)), 2.0, 2.2)
    assert held.wish(1, 2.2).ahead == pytest.approx(0.4)
    held.add(Run(3.0, Slots(1, 0.0, 0.01)), 3.0, 9.0)
    assert held.wish(1, 9.0).ahead == 1
    _, slots = throttle.take(Bucket(), RATE, held.wish(1, 9.0), NOW)
    assert slots.first_in == 1


def test_runs_last_longer_the_longer_it_takes_to_reserve_one_up_to_a_second() -> None:
    held = Held()
    assert held.wish(1, 0.0).seconds == pytest.approx(0.1)
    for asked_at, heard_at, lasts in ((1.0, 1.03, 0.1), (2.0, 2.2, 0.6), (3.0, 3.9, 1.0)):
        held.add(Run(heard_at, Slots(1, 0.0, 0.01)), asked_at, heard_at)
        assert held.wish(1, heard_at).seconds == pytest.approx(lasts)


def test_a_store_that_is_slow_now_and_then_has_long_runs_in_between_and_short_ones_when_it_is_quick_again() -> None:
    held, lasts = Held(), []
    held.add(Run(0.2, Slots(1, 0.0, 0.01)), 0.0, 0.2)
    for number in range(1, 10):
        held.add(Run(float(number), Slots(1, 0.0, 0.01)), float(number), float(number))
        lasts.append(held.wish(1, float(number)).seconds)
    assert lasts[0] == pytest.approx(0.48)
    assert lasts == sorted(lasts, reverse=True)
    assert lasts[-1] == pytest.approx(0.1)


def test_where_others_reserve_in_between_runs_are_short_however_slow_the_store_is() -> None:
    """What waits behind a run of another one waits as long as that lasts."""
    held = Held()
    held.add(Run(0.0, Slots(8, 0.0, 0.01)), 0.0, 0.0)
    held.add(Run(0.5, Slots(8, 0.5, 0.01)), 0.0, 0.5)
    assert held.wish(1, 0.5).seconds == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("before", "behind"), [(0.002, 0.002), (0.05, 0.05), (0.1, 0.1), (0.2, 0.01), (0.01, 0.2), (0.3, 0.02)]
)
def test_a_slow_store_lets_through_as_many_as_a_quick_one(before: float, behind: float) -> None:
    """For so many seconds before the row is locked, and until it is heard of; one reservation at a time."""
    held, bucket, now, sent, hears_at = Held(), Bucket(), 0.0, 0, 0.0
    run: Run | None = None
    while now < 6:
        if run is not None and now >= hears_at:
            held.add(run, hears_at - before - behind, now)
            run = None
        while held.take(now) is not None:
            sent += now >= 2
        if run is None and held.is_short(11, now):
            bucket, slots = throttle.take(bucket, RATE, held.wish(11, now), after(now + before))
            run, hears_at = Run(now + before, slots), now + before + behind
        now += 0.001
    assert sent >= 0.95 * RATE * 4


def test_who_uses_all_that_is_reserved_reserves_more_and_who_does_not_less() -> None:
    held = Held()
    assert held.wish(0, 0.0).most == 1
    held.add(Run(0.0, Slots(4, 0.0, 0.01)), 0.0, 0.0)
    for number in range(4):
        assert held.take(number / 100) is not None
    assert held.wish(0, 0.5).most == 8
    held.add(Run(1.0, Slots(8, 0.0, 0.01)), 1.0, 1.0)
    held.take(1.0)
    held.take(5.0)
    assert held.wish(0, 5.0).most == 1


def test_who_calls_all_the_time_but_less_than_it_may_has_the_next_slots_before_the_last_are_over() -> None:
    held = Held()
    held.add(Run(0.0, Slots(8, 0.0, 0.01)), 0.0, 0.0)
    assert held.take(0.0) is not None
    assert not held.is_short(0, 0.0)
    assert held.take(0.041) is not None
    assert (held.is_short(0, 0.041), held.wish(0, 0.041).most) == (True, 16)
    held.add(Run(0.041, Slots(10, 0.039, 0.01)), 0.042, 0.042)
    assert not held.is_short(0, 0.07)


def test_who_holds_none_and_waits_reserves_one_however_slow_the_rate_is() -> None:
    held = Held()
    held.add(Run(0.0, Slots(1, 0.0, 10.0)), 0.0, 0.0)
    assert held.is_short(2, 0.0)
    assert held.take(0.5) is None
    assert held.is_short(1, 0.5)


def test_where_others_reserve_slots_too_nobody_takes_more_than_were_used() -> None:
    held = Held()
    held.add(Run(0.0, Slots(8, 0.0, 0.01)), 0.0, 0.0)
    held.add(Run(0.041, Slots(8, 0.139, 0.01)), 0.042, 0.042)
    assert held.take(0.181) is not None
    assert held.take(0.221) is not None
    assert (held.is_short(0, 0.23), held.wish(0, 0.23).most) == (False, 2)


def test_who_calls_now_and_then_holds_no_slots_in_vain() -> None:
    held = Held()
    for second in range(0, 10, 2):
        assert held.take(float(second)) is None
        wanted = held.wish(0, float(second)).most
        assert wanted <= 2
        held.add(Run(float(second), Slots(wanted, 0.0, 0.01)), float(second), float(second))
        assert held.take(float(second)) is not None
        assert not held.is_short(0, float(second))


def test_a_rate_that_nobody_reaches_costs_no_more_than_another() -> None:
    held = Held()
    held.add(Run(0.0, Slots(10**9, 0.0, 1e-9)), 0.0, 0.0)
    assert held.take(0.5) == pytest.approx(0.5 - LATE / 2)
    assert held.take(1.03) is None


# In the store


@dataclass
class Clock:
    """This host's, for SQLite; PostgreSQL has its own."""

    now: datetime = NOW

    def __call__(self) -> datetime:
        return self.now


def test_a_process_gets_its_slots_as_moments_of_its_own_clock(db: Database) -> None:
    before = time.monotonic()
    run = db.write(throttle.reserve, 1.0, Wish(3, seconds=3), app.now)
    assert before <= run.reserved_at <= time.monotonic()
    assert run.first == pytest.approx(run.reserved_at)
    assert (run.slots.count, run.slots.spacing) == (3, pytest.approx(1.01, rel=0.2))
    again = db.write(throttle.reserve, 1.0, Wish(3, seconds=3), app.now)
    assert again.first >= run.reserved_at + 3 * 1.01 - 0.5, "each is read with an error of the moment that it took"


@pytest.mark.parametrize("store_kind", ["sqlite"], indirect=True)
def test_slots_follow_each_other_on_the_clock_of_the_host_on_sqlite(db: Database) -> None:
    clock = Clock()
    first = db.write(throttle.reserve, RATE, Wish(10), clock).slots
    assert (first.first_in, first.spacing) == (0, pytest.approx(SPACING, rel=0.2))
    second = db.write(throttle.reserve, RATE, Wish(10), clock).slots
    assert second.first_in == pytest.approx(10 * first.spacing, abs=1e-5)
    clock.now += timedelta(seconds=1)
    assert db.write(throttle.reserve, RATE, Wish(10), clock).slots.first_in == 0
    assert db.write(throttle.rest, RATE, 30, clock, is_limited=True) == (30, 50, True, 0)
    assert db.write(throttle.rest, RATE, None, clock, is_limited=True) == (30, 50, False, 0)
    clock.now += timedelta(seconds=20)
    assert db.write(throttle.reserve, RATE, Wish(10), clock).slots.paused == 10
    clock.now += timedelta(seconds=12)
    assert db.write(throttle.reserve, RATE, Wish(10), clock).slots.spacing == pytest.approx(1.01 / 60, rel=0.2)


def test_a_rest_is_everybodys(db: Database) -> None:
    said = db.write(throttle.rest, RATE, 30, app.now, is_limited=True)
    assert said == (30, 50, True, 0)
    run = db.write(throttle.reserve, RATE, Wish(10), app.now)
    assert (run.slots.count, run.slots.paused) == (0, pytest.approx(30, abs=2))
    assert db.write(throttle.rest, RATE, None, app.now, is_limited=True).is_news is False


def test_a_clock_that_was_put_back_is_told_once(db: Database) -> None:
    db.write(throttle.reserve, RATE, Wish(10), app.now)
    put_back(db, 30)
    first, second = (db.write(throttle.reserve, RATE, Wish(1), app.now) for _ in range(2))
    assert first.set_back == pytest.approx(30, abs=5)
    assert second.set_back == 0
    assert second.slots.first_in < 1
    put_back(db, 3600)
    assert db.write(throttle.rest, RATE, 5, app.now, is_limited=True).set_back == pytest.approx(3600, abs=5)


def test_a_rest_does_not_begin_anew_with_each_look_after_the_clock_was_put_back(db: Database) -> None:
    db.write(throttle.rest, RATE, 30, app.now, is_limited=True)
    put_back(db, 3600)
    first, second = (db.write(throttle.reserve, RATE, Wish(1), app.now) for _ in range(2))
    assert first.slots.paused == pytest.approx(30, abs=0.001)
    assert second.slots.paused < first.slots.paused


@pytest.mark.parametrize("store_kind", ["postgresql"], indirect=True)
def test_hosts_whose_clocks_differ_share_one_on_postgresql(db: Database) -> None:
    fast, slow = Clock(app.now() + timedelta(hours=3)), Clock(app.now() - timedelta(hours=3))
    first, second = (db.write(throttle.reserve, RATE, Wish(10), clock) for clock in (fast, slow))
    assert math.isclose(second.first - first.first, 10 * SPACING, abs_tol=1), "six hours lie between them"


def test_no_slot_is_given_out_twice(db: Database) -> None:
    """On a store from which nothing was sent, by many at once: the row is made once, too."""
    rate, runs, together = 1000.0, [], threading.Barrier(8)

    def reserve() -> None:
        together.wait()
        runs.extend(db.write(throttle.reserve, rate, Wish(10), app.now) for _ in range(10))

    threads = [threading.Thread(target=reserve) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    firsts = sorted(run.first for run in runs)
    assert len(firsts) == 80
    # Reading two clocks takes a moment in which a thread may be put aside; so in all, and not one by one.
    assert firsts[-1] - firsts[0] >= 79 * 10 * 1.01 / rate - 0.2
