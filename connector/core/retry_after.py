"""Reading `Retry-After`: a number of seconds, or a date of HTTP (RFC 9110, section 10.2.3).

A date is compared with the `Date` of the same answer, so that our clock may be wrong.
"""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime


def seconds(retry_after: str | None, date: str | None, now: datetime) -> float | None:
    """Seconds from the answer on, 0 or more; None when it isn't said, or can't be read. `date` is the answer's own
    `Date`, `now` stands in for one that is missing."""
    if retry_after is None:
        return None
    text = retry_after.strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])  # more digits than that are no less for ever
    until = _moment(text)
    return None if until is None else max((until - (_moment(date or "") or now)).total_seconds(), 0.0)


def _moment(text: str) -> datetime | None:
    try:
        found = parsedate_to_datetime(text)
        return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except (ValueError, TypeError, LookupError, OverflowError):
        return None
