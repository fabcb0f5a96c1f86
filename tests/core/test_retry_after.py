"""`Retry-After` in each of its forms, and in none."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector.core import retry_after

NOW = datetime(2025, 1, 2, 3, 4, 5, tzinfo=UTC)
DATE = "Wed, 01 Jan 2025 00:00:00 GMT"


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        (None, None),
        ("0", 0),
        ("40", 40),
        (" 40 ", 40),
        ("9" * 5000, 999_999_999),
        ("Wed, 01 Jan 2025 00:00:30 GMT", 30),
        ("Wednesday, 01-Jan-25 00:01:00 GMT", 60),
        ("Wed Jan  1 00:02:00 2025", 120),
        ("Wed, 01 Jan 2025 01:00:30 +0100", 30),
        ("Tue, 31 Dec 2024 23:59:59 GMT", 0),
        *((garbled, None) for garbled in ("", "soon", "-1", "1.5", "٣", "1e3", "Wed, 99 Jan 2025 00:00:30 GMT")),
        ("Wed, 01 Jan 99999999999999999999 00:00:30 GMT", None),
    ],
)
def test_seconds_and_dates_are_read_and_nothing_else_is(said: str | None, seconds: float | None) -> None:
    assert retry_after.seconds(said, DATE, NOW) == seconds


@pytest.mark.parametrize("date", [None, "", "yesterday"])
def test_a_date_is_compared_with_our_clock_where_the_answer_has_none(date: str | None) -> None:
    assert retry_after.seconds("Thu, 02 Jan 2025 03:04:35 GMT", date, NOW) == 30


@given(st.text() | st.none(), st.text() | st.none())
def test_no_header_makes_reading_fail(said: str | None, date: str | None) -> None:
    seconds = retry_after.seconds(said, date, NOW)
    assert seconds is None or seconds >= 0
