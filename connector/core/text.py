"""Small readings of text that webhooks and imports share."""

from __future__ import annotations

import re
from typing import Any

_ADDRESS = re.compile(r"[^\s@,:;<>()]+@[^\s@,:;<>()]+")


def email_address(given: Any) -> str | None:
    """The address in `a@b.co` or `Name <a@b.co>`, in lower case as it is compared; None when there is not exactly one.

    `email.utils.parseaddr` is not used: it follows the text by recursion, and what it accepts differs between
    patch releases of Python.
    """
    address = address_as_given(given)
    return address.lower() if address is not None else None


def address_as_given(given: Any) -> str | None:
    """The same in the letters that were given."""
    if not isinstance(given, str):
        return None
    address = given.strip()
    if address.endswith(">"):
        address = address[:-1].rpartition("<")[2].strip()
    return address if _ADDRESS.fullmatch(address) else None


def identifier(given: Any) -> str | None:
    """An id as text, a whole number too; None when it is blank, or something else."""
    if isinstance(given, int) and not isinstance(given, bool):
        return str(given)
    return given.strip() or None if isinstance(given, str) else None


def deeper_than(levels: int, value: dict[str, Any]) -> bool:
    """True when dicts and lists stand inside each other in more than so many levels. Not by recursion."""
    level: list[Any] = [value]
    for _ in range(levels):
        inner = [each for one in level for each in (one.values() if isinstance(one, dict) else one)]
        level = [each for each in inner if isinstance(each, dict | list)]
        if not level:
            return False
    return True


def without_nul(value: Any) -> Any:
    """A copy in which U+FFFD stands for every NUL, which PostgreSQL can't store."""
    if isinstance(value, str):
        return value.replace("\0", "\ufffd")
    if isinstance(value, list):
        return [without_nul(item) for item in value]
    if isinstance(value, dict):
        return {without_nul(name): without_nul(item) for name, item in value.items()}
    return value
