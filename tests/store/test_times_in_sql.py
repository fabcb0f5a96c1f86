"""What is a time: SQL's reading, on either store, against the one that decides everywhere else."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import hypothesis
import pytest
import sqlalchemy as sa
from hypothesis import strategies as st
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.engine import Connection

from connector.core import times
from connector.store import times_in_sql
from connector.store.database import Database

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
ZONES = ("UTC", "Europe/Paris", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu")

# (JSON text, the moment in Paris as ISO 8601; None is no time)
VALUES = [
    ('"2021-02-11T17:04:49Z"', "2021-02-11T17:04:49+00:00"),
    ('"2021-02-11T17:04:49z"', "2021-02-11T17:04:49+00:00"),
    ('"2021-02-11 17:04:49 Z"', "2021-02-11T17:04:49+00:00"),
    ('"2021-02-11T17:04Z"', "2021-02-11T17:04:00+00:00"),
    ('"2021-02-11T17:04:49+01:00"', "2021-02-11T16:04:49+00:00"),
    ('"2021-02-11T17:04:49+0130"', "2021-02-11T15:34:49+00:00"),
    ('"2021-02-11T17:04:49-05"', "2021-02-11T22:04:49+00:00"),
    ('"2021-02-11T17:04:49-00:30"', "2021-02-11T17:34:49+00:00"),
    ('"2021-02-11T17:04:49+23:59"', "2021-02-10T17:05:49+00:00"),
    ('"2021-02-11T17:04:49+24:00"', None),
    ('"2021-02-11T17:04:49+99:99"', None),
    ('"2021-02-11T17:04:49.5Z"', "2021-02-11T17:04:49.500000+00:00"),
    ('"2021-02-11T17:04:49,25Z"', "2021-02-11T17:04:49.250000+00:00"),
    ('"2021-02-11T17:04:49.123456789Z"', "2021-02-11T17:04:49.123456+00:00"),
    ('"2021-02-11T17:04:49.1234567891Z"', None),
    ('"2021-02-11T17:04:49.Z"', None),
    ('"1969-12-31T23:59:59.9Z"', "1969-12-31T23:59:59.900000+00:00"),
    ('"2024-02-29"', "2024-02-28T23:00:00+00:00"),
    ('"2023-02-29"', None),
    ('"2000-02-29T00:00Z"', "2000-02-29T00:00:00+00:00"),
    ('"1900-02-29T00:00Z"', None),
    ('"2024-02-31"', None),
    ('"2024-04-31"', None),
    ('"2024-13-01"', None),
    ('"2024-00-01"', None),
    ('"2024-01-00"', None),
    ('"2021-07-01"', "2021-06-30T22:00:00+00:00"),
    ('"2021-02-11T17:04"', "2021-02-11T16:04:00+00:00"),
    ('"2021-03-28T02:30"', "2021-03-28T01:30:00+00:00"),  # an hour that Paris leaves out
    ('"2021-10-31T02:30"', "2021-10-31T00:30:00+00:00"),  # an hour that Paris has twice
    ('"2021-10-31T03:00"', "2021-10-31T02:00:00+00:00"),
    ('"2021-02-11T24:00Z"', None),
    ('"2021-02-11T17:60Z"', None),
    ('"2021-02-11T17:04:60Z"', None),
    ('"2021-02-11T17"', None),
    ('"2021-02-11T"', None),
    ('"2021-02-11Z"', None),
    ('"2021-02-11\\n"', None),
    ('" 2021-02-11"', None),
    ('"2021-02-11 BC"', None),
    ('"-2021-02-11"', None),
    ('"0000-01-01"', None),
    ('"0001-01-01T00:00Z"', "0001-01-01T00:00:00+00:00"),
    ('"0001-01-01T00:00+14:00"', None),
    ('"9999-12-31T23:59:59.999999Z"', "9999-12-31T23:59:59.999999+00:00"),
    ('"9999-12-31T23:59-14:00"', None),
    ('"99999-01-01"', None),
    ('"10000-01-01T00:00Z"', None),
    *(
        (text, None)
        for text in ('""', '"2"', '"12"', '"2021"', '"now"', '"today"', '"infinity"', '"epoch"', '"tomorrow"')
    ),
    *((text, None) for text in ('"1613063089"', '"20210211"', '"2021-W06"', '"2021-042"', '"17:04"', '"11.02.2021"')),
    ('"\u0662\u0660\u0662\u0661-\u0660\u0662-\u0661\u0661"', None),
    ('"2021-02-11\u00a017:04"', None),
    ("0", "1970-01-01T00:00:00+00:00"),
    ("12", "1970-01-01T00:00:12+00:00"),
    ("-0.5", "1969-12-31T23:59:59.500000+00:00"),
    ("1613063089", "2021-02-11T17:04:49+00:00"),
    ("1613063089.5", "2021-02-11T17:04:49.500000+00:00"),
    ("1613063089250", "2021-02-11T17:04:49.250000+00:00"),
    ("99999999999", "5138-11-16T09:46:39+00:00"),
    ("100000000000", "1973-03-03T09:46:40+00:00"),
    ("-1613063089000", "1918-11-20T06:55:11+00:00"),
    ("253402300799000", "9999-12-31T23:59:59+00:00"),
    ("253402300800000", None),
    ("-62135596800000", "0001-01-01T00:00:00+00:00"),
    ("-62135596800001", None),
    ("-99999999999", None),
    ("1e-400", "1970-01-01T00:00:00+00:00"),
    ("1e-300", "1970-01-01T00:00:00+00:00"),
    *((number, None) for number in ("1e15", "1e300", "1e400", "-1e400", "1" + "0" * 30, "9223372036854775808")),
    *((other, None) for other in ("true", "false", "null", "[]", "[1613063089]", "{}", '{"a": "2021-02-11"}')),
]


def moments(db: Database, documents: list[str], zone: str) -> list[int | None]:
    """What the store makes of each JSON value, in microseconds since 1970."""

    def look(connection: Connection) -> list[int | None]:
        found: list[int | None] = []
        for document in documents:
            if db.dialect == "postgresql":
                at = times_in_sql.of_json(sa.cast(sa.literal(document, sa.Text), JSONB), zone)
            else:
                kind, value = (fn(sa.literal(document), "$") for fn in (sa.func.json_type, sa.func.json_extract))
                told = sa.case((kind == "text", sa.cast(value, sa.LargeBinary)), (kind.in_(["integer", "real"]), value))
                at = times_in_sql.of_value(told, zone)
            found.append(connection.execute(sa.select(at)).scalar_one())
        return found

    return db.read(look)


def microseconds(at: datetime | None) -> int | None:
    return None if at is None else (at - EPOCH) // timedelta(microseconds=1)


def read(value: Any, zone: str) -> datetime | None:
    if isinstance(value, str):
        return times.parse(value, ZoneInfo(zone))
    if isinstance(value, int | float) and not isinstance(value, bool):
        return times.from_number(value)
    return None


def test_sql_reads_the_table_of_values_as_it_is_written(db: Database) -> None:
    found = moments(db, [document for document, _ in VALUES], "Europe/Paris")
    told = {
        document: None if at is None else (EPOCH + timedelta(microseconds=at)).isoformat()
        for (document, _), at in zip(VALUES, found, strict=True)
    }
    assert told == dict(VALUES)


def test_the_table_of_values_is_what_the_core_reads() -> None:
    for document, expected in VALUES:
        at = read(json.loads(document), "Europe/Paris")
        assert (at and at.isoformat()) == expected, document


local_times = st.datetimes(datetime(1970, 1, 1), datetime(2037, 12, 31))  # noqa: DTZ001 - in a zone that is drawn
near_a_change = st.builds(
    lambda day, minutes: datetime.fromisoformat(day) + timedelta(minutes=minutes),
    st.sampled_from(["2021-03-28", "2021-10-31", "2021-03-14", "2021-11-07", "2021-04-04", "2021-10-03"]),
    st.integers(0, 240),
)
written = st.builds(
    lambda at, form, offset: at.strftime(form) + offset,
    local_times | near_a_change,
    st.sampled_from(["%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S.%f"]),
    st.sampled_from(["", "", "", "Z", " +01:00", "-0930", "+14"]),
)
almost = st.from_regex(r"[0-9]{4}-[01][0-9]-[0-3][0-9]([T ][0-2][0-9]:[0-6][0-9]([:][0-6][0-9])?)?(Z|[+-][0-9]{2,4})?")
numbers = st.integers(-(10**16), 10**16) | st.floats(-1e16, 1e16) | st.floats(0, 2e9) | st.floats(1e11, 3e12)


@pytest.mark.parametrize("zone", ZONES)
@hypothesis.given(
    st.lists(written | almost | numbers | st.text(st.characters(exclude_characters="\0"), max_size=5), max_size=20)
)
@hypothesis.settings(
    max_examples=40, deadline=None, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture]
)
def test_sql_and_the_core_agree_on_what_is_a_time_and_which(db: Database, zone: str, values: list[Any]) -> None:
    values = [value for value in values if not (isinstance(value, str) and not value.isprintable())]
    expected = [microseconds(read(value, zone)) for value in values]
    assert moments(db, [json.dumps(value) for value in values], zone) == expected


def test_text_that_is_no_text_is_no_time(db: Database) -> None:
    documents = ['"2021-02-11\\ud800"', '"\\u0000"']
    if db.dialect == "sqlite":
        assert moments(db, documents, "UTC") == [None, None]
    else:
        for document in documents:
            with pytest.raises(sa.exc.DataError):  # it can't be stored there
                moments(db, [document], "UTC")
