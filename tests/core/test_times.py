"""What is a time, and which."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector.core import times

PARIS = ZoneInfo("Europe/Paris")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2021-02-11T17:04:49Z", "2021-02-11T17:04:49+00:00"),
        ("2021-02-11T17:04:49z", "2021-02-11T17:04:49+00:00"),
        ("2021-02-11 17:04:49Z", "2021-02-11T17:04:49+00:00"),
        ("2021-02-11T17:04Z", "2021-02-11T17:04:00+00:00"),
        ("2021-02-11T17:04:49+01:00", "2021-02-11T16:04:49+00:00"),
        ("2021-02-11T17:04:49+0130", "2021-02-11T15:34:49+00:00"),
        ("2021-02-11T17:04:49-05", "2021-02-11T22:04:49+00:00"),
        ("2021-02-11 17:04:49 +0100", "2021-02-11T16:04:49+00:00"),
        ("2021-02-11T17:04:49.5Z", "2021-02-11T17:04:49.500000+00:00"),
        ("2021-02-11T17:04:49,25Z", "2021-02-11T17:04:49.250000+00:00"),
        ("2021-02-11T17:04:49.123456789Z", "2021-02-11T17:04:49.123456+00:00"),
        ("1969-12-31T23:59:59Z", "1969-12-31T23:59:59+00:00"),
        ("2024-02-29", "2024-02-28T23:00:00+00:00"),
        ("2021-07-01", "2021-06-30T22:00:00+00:00"),
        ("2021-02-11T17:04", "2021-02-11T16:04:00+00:00"),
        ("2021-07-11 17:04:49", "2021-07-11T15:04:49+00:00"),
    ],
)
def test_a_date_or_time_of_iso_8601_is_read_in_the_zone_unless_it_names_an_offset(text: str, expected: str) -> None:
    at = times.parse(text, PARIS)

    assert at is not None
    assert at.isoformat() == expected


@pytest.mark.parametrize(
    "text",
    [
        *("", "2", "12", "2021", "202102", "20210211", "1613063089", "1613063089000", "2021.02"),
        *("2021-02", "2021-W06", "2021-042", "11.02.2021", "02/11/2021", "17:04", "tomorrow"),
        *("2021-02-30", "2021-13-01", "2021-02-11T25:00Z", "2021-02-11T17:04:60Z", "2021-02-11T17:04:49+99:99"),
        *("2021-02-11T17", "2021-02-11T", "2021-02-11Z", "2021-02-11T17:04:49 UTC", "2021-02-11T17:04:49+1"),
        *(" 2021-02-11", "2021-02-11 ", "2021-02-11\n", "on 2021-02-11", "2021-02-11 and later"),
        *("٢٠٢١-٠٢-١١", "0000-01-01", "0001-01-01T00:00+14:00", "9999-12-31T23:59-14:00"),
    ],
)
def test_other_text_is_no_time(text: str) -> None:
    assert times.parse(text, UTC) is None


@given(st.integers() | st.floats())
def test_a_number_written_as_text_is_never_a_date(number: float) -> None:
    assert times.parse(str(number), PARIS) is None
    assert not times.has_offset(str(number))


@given(st.text())
def test_no_text_makes_reading_a_time_fail(text: str) -> None:
    at = times.parse(text, PARIS)

    assert at is None or at.tzinfo is UTC


# Whole minutes, as ISO 8601 writes them.
offsets = st.integers(-23 * 60, 23 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))


@given(st.datetimes(datetime(2, 1, 1), datetime(9998, 1, 1), timezones=offsets), st.sampled_from("T "))  # noqa: DTZ001
def test_a_time_with_an_offset_is_that_moment_whatever_the_zone(at: datetime, between: str) -> None:
    written = at.isoformat(between)

    assert times.has_offset(written)
    assert times.parse(written, PARIS) == times.parse(written, UTC) == at


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2021-02-11T17:04:49Z", True),
        ("2021-02-11 17:04+01", True),
        ("2021-02-11T17:04:49.123+0100", True),
        ("2021-02-11T17:04:49", False),
        ("2021-02-11", False),
        ("2021-02-11Z", False),
        ("17:04:49Z", False),
        ("see 2021-02-11T17:04:49Z", False),
    ],
)
def test_an_offset_counts_only_behind_a_date_and_a_time(text: str, expected: bool) -> None:
    assert times.has_offset(text) is expected


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (0, "1970-01-01T00:00:00+00:00"),
        (1613063089, "2021-02-11T17:04:49+00:00"),
        (1613063089.5, "2021-02-11T17:04:49.500000+00:00"),
        (1613063089000, "2021-02-11T17:04:49+00:00"),
        (1613063089250, "2021-02-11T17:04:49.250000+00:00"),
        (-86400, "1969-12-31T00:00:00+00:00"),
        (-1613063089000, "1918-11-20T06:55:11+00:00"),
        (99_999_999_999, "5138-11-16T09:46:39+00:00"),
        (100_000_000_000, "1973-03-03T09:46:40+00:00"),
    ],
)
def test_a_number_is_seconds_until_only_milliseconds_make_sense(number: float, expected: str) -> None:
    at = times.from_number(number)

    assert at is not None
    assert at.isoformat() == expected


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(
    "number",
    [
        pytest.param(10**18, id="nanoseconds"),
        pytest.param(10**400, id="more than a float holds"),
        *(1e300, float("inf"), float("nan")),
    ],
)
def test_a_number_beyond_every_calendar_is_no_time(number: float, sign: int) -> None:
    assert times.from_number(sign * number) is None


@given(st.integers() | st.floats())
def test_no_number_makes_reading_a_time_fail(number: float) -> None:
    at = times.from_number(number)

    assert at is None or at.tzinfo is UTC


@pytest.mark.parametrize(
    ("text", "meant", "expected"),
    [
        ("2021-02-11T17:04:49.9Z", False, 1613063089),
        ("2021-02-11T17:04:49Z", True, 1613063089),
        ("2021-02-11T17:04:49", False, "2021-02-11T17:04:49"),
        ("2021-02-11T17:04:49", True, 1613059489),
        ("2021-02-11", True, 1612998000),
        ("2021-02-31T17:04:49Z", True, "2021-02-31T17:04:49Z"),
        ("tomorrow", True, "tomorrow"),
    ],
)
def test_text_is_seconds_where_it_is_a_time_or_is_meant_as_one(text: str, meant: bool, expected: str | int) -> None:
    assert times.in_seconds(text, PARIS, meant=meant) == expected
