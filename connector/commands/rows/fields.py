"""Fields that rows of users and rows of events have alike: whose they are, and times."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from connector.commands.rows import Bad
from connector.core import text, times

IDENTIFIERS = ("external_id", "email", "anonymous_id")
MAX_ID = 1000

_DAY = re.compile(r"(19|20)\d\d(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])")
_NUMBER = re.compile(r"-?\d{1,15}(\.\d{1,15})?")


class Named(NamedTuple):
    """The identifiers of a row, at least one of them."""

    external_id: str | None
    email: str | None
    anonymous_id: str | None


def named(values: Mapping[str, Any]) -> Named | Bad:
    """Whose row it is. Ids may be whole numbers; blanks around them don't count."""
    found: list[str | None] = []
    for name in IDENTIFIERS:
        value = values.get(name)
        if type(value) is int and name != "email":
            value = str(value)
        if value is not None and not isinstance(value, str):
            return Bad("bad_identifier", f"{name} must be text")
        value = (value or "").strip() or None
        if value is not None and len(value) > MAX_ID / 4 and len(value.encode()) > MAX_ID:
            return Bad("bad_identifier", f"{name} is longer than {MAX_ID} bytes")
        found.append(value)
    if not any(found):
        return Bad("no_identifier", "the row needs an external_id, an email or an anonymous_id")
    identifiers = Named(*found)
    if identifiers.email is not None and text.email_address(identifiers.email) != identifiers.email.lower():
        return Bad("bad_email", "the email is no address")
    return identifiers


def time(name: str, value: Any, zone: ZoneInfo) -> datetime | Bad | None:
    """ISO 8601, unix seconds or milliseconds; None when there is nothing."""
    at = None
    if isinstance(value, str):
        value = value.strip()
        if not value:
            return None
    if _DAY.fullmatch(str(value)):
        # As seconds it would be in 1970.
        return Bad("bad_time", f"{name} looks like a day; write it as 2024-05-17")
    if isinstance(value, str):
        at = times.from_number(float(value)) if _NUMBER.fullmatch(value) else times.parse(value, zone)
    elif value is None:
        return None
    elif isinstance(value, int | float) and not isinstance(value, bool):
        at = times.from_number(value)
    return at if at is not None else Bad("bad_time", f"{name} is no ISO 8601 time and no unix time")
