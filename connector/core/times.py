"""What is a time: ISO 8601 as text, and unix seconds or milliseconds where a time is expected."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, tzinfo

_OFFSET = r"(Z|z|[+-]\d{2}(:?\d{2})?)"
_ISO = re.compile(rf"\d{{4}}-\d{{2}}-\d{{2}}([T ]\d{{2}}:\d{{2}}(:\d{{2}}([.,]\d{{1,9}})?)?( ?{_OFFSET})?)?")
_WITH_OFFSET = re.compile(rf"\d{{4}}-\d{{2}}-\d{{2}}[T ]\d{{2}}:\d{{2}}.*{_OFFSET}")
_UNTIDY = re.compile(r"[.,]\d{7}| [Z+-]|z")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FROM_HERE_ON_MILLISECONDS = 100_000_000_000  # as seconds this is the year 5138


def parse(text: str, zone: tzinfo) -> datetime | None:
    """An ISO 8601 date or time, in UTC; read in `zone` when it carries no offset. None for any other text."""
    if not _ISO.fullmatch(text):
        return None
    try:
        at = datetime.fromisoformat(_tidy(text) if _UNTIDY.search(text) else text)
        return (at if at.tzinfo else at.replace(tzinfo=zone)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _tidy(text: str) -> str:
    """As Python reads it: with at most six digits of a fraction, and no blank before an offset."""
    return re.sub(r" (?=[Z+-])", "", re.sub(r"([.,]\d{6})\d*", r"\1", text).replace("z", "Z"))


def has_offset(text: str) -> bool:
    """True for text with a date, a time and an offset: nothing but a point in time looks like that."""
    return _WITH_OFFSET.fullmatch(text) is not None


def from_number(number: float) -> datetime | None:
    """Unix seconds, or milliseconds when that is the only sensible reading; None out of range."""
    try:
        seconds = number / 1000 if abs(number) >= _FROM_HERE_ON_MILLISECONDS else number
        return _EPOCH + timedelta(seconds=seconds)
    except (OverflowError, ValueError):
        return None


def in_seconds(text: str, zone: tzinfo, *, meant: bool) -> str | int:
    """As Customer.io should get it: its date conditions match unix seconds only, so an ISO 8601 time with an offset
    becomes that, any date or time where one is `meant`, and other text stays as it is."""
    if meant or has_offset(text):
        at = parse(text, zone)
        return text if at is None else int(at.timestamp())
    return text
