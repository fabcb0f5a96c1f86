"""The ids under which Customer.io deduplicates events."""

from __future__ import annotations

import hashlib
import re
from datetime import UTC, datetime, timedelta, timezone

from hypothesis import example, given
from hypothesis import strategies as st
from ulid import ULID

from connector.core import ulid
from tests.benchmarks import ids
from tests.core.given import NOW, text

CROCKFORD = re.compile("[0-7][0-9A-HJKMNP-TV-Z]{25}")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

times = st.datetimes(timezones=st.just(UTC))


def test_an_id_is_the_same_on_every_installation_and_in_every_release() -> None:
    # Changing this sends every event that is retried across the upgrade a second time.
    at = datetime(2021, 2, 11, 17, 4, 49, tzinfo=UTC)

    assert ulid.activity_id("customerio", "01E4C4CT6YDC7Y5M7FE1GWWPQJ", at) == "01EY90TTV89AZ1X7MP9E62SZRZ"


@given(text, text, times)
def test_an_id_is_26_characters_of_crockford_base32(source: str, source_id: str, at: datetime) -> None:
    assert CROCKFORD.fullmatch(ulid.activity_id(source, source_id, at))


@given(text, times)
def test_the_same_event_has_the_same_id_in_any_time_zone(source_id: str, at: datetime) -> None:
    if at.year in {1, 9999}:
        return
    elsewhere = at.astimezone(timezone(timedelta(hours=5, minutes=45)))

    assert ulid.activity_id("a", source_id, at) == ulid.activity_id("a", source_id, elsewhere)


@given(times, times)
def test_ids_sort_as_their_events_happened(one: datetime, other: datetime) -> None:
    earlier, later = sorted([one, other])

    assert ulid.activity_id("a", "1", earlier)[:10] <= ulid.activity_id("a", "2", later)[:10]


@given(times)
@example(datetime(2026, 1, 1, 0, 0, 0, 999_000, UTC))
@example(datetime(2026, 1, 1, 0, 0, 0, 999_999, UTC))
def test_the_time_is_in_the_id_to_the_millisecond(at: datetime) -> None:
    expected = max((at - EPOCH) // timedelta(milliseconds=1), 0)

    assert ULID.from_str(ulid.activity_id("a", "1", at)).milliseconds == expected


@given(text, text)
def test_two_events_of_one_moment_have_different_ids(one: str, other: str) -> None:
    same = ulid.activity_id("a", one, NOW) == ulid.activity_id("a", other, NOW)

    assert same == (one == other)


def test_no_two_of_many_events_of_one_moment_have_the_same_id() -> None:
    assert ids.collisions(100_000) == 0


def test_an_id_is_what_the_readme_says() -> None:
    at = datetime(2026, 3, 1, 10, 0, 0, 123_999, UTC)
    letters = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
    number = 1772359200123 << 80 | int.from_bytes(hashlib.blake2b(b"import\x00order 7", digest_size=10).digest(), "big")
    expected = "".join(letters[number >> shift & 31] for shift in range(125, -1, -5))

    assert ulid.activity_id("import", "order 7", at) == expected


def test_source_and_id_are_not_run_together() -> None:
    assert ulid.activity_id("ab", "c", NOW) != ulid.activity_id("a", "bc", NOW)


def test_a_time_before_1970_counts_as_1970() -> None:
    for at in (datetime.min.replace(tzinfo=UTC), EPOCH - timedelta(microseconds=1), EPOCH):
        assert ulid.activity_id("a", "1", at).startswith("0000000000")


def test_the_last_moment_that_a_datetime_can_hold_still_fits() -> None:
    last = ulid.activity_id("a", "1", datetime.max.replace(tzinfo=UTC))

    assert CROCKFORD.fullmatch(last)
    assert last > ulid.activity_id("a", "1", NOW)
