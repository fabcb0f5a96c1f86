"""What can be the name of an attribute or a property: a dotted path into a user's or an event's data."""

from __future__ import annotations

import unicodedata

_TIMES = ("_at", "_date")


def path_fault(name: str) -> str | None:
    """Why this can't be a dotted path; None when it can."""
    if not all(name.split(".")):
        return "must be the name of an attribute, with no empty part between its dots" if name else "is empty"
    if any(c in '"\\' or unicodedata.category(c) == "Cc" for c in name):
        return "must not contain a double quote, a backslash or a control character"
    return None


def says_time(name: str) -> bool:
    """Whether what stands under the name is meant as a time when it holds an ISO 8601 date."""
    return name.endswith(_TIMES)
