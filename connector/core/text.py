"""Small readings of text that webhooks and imports share."""

from __future__ import annotations

from email.utils import parseaddr
from typing import Any


def email_address(given: Any) -> str | None:
    """The address in `a@b.co` or `Name <a@b.co>`, in lower case as it is compared; None when there is none."""
    if not isinstance(given, str) or "@" not in given:
        return None
    address = parseaddr(given)[1] or given
    address = address.strip().lower()
    return address if "@" in address and not any(c.isspace() for c in address) else None


def without_nul(value: Any) -> Any:
    """A copy in which U+FFFD stands for every NUL, which PostgreSQL can't store."""
    if isinstance(value, str):
        return value.replace("\0", "\ufffd")
    if isinstance(value, list):
        return [without_nul(item) for item in value]
    if isinstance(value, dict):
        return {without_nul(name): without_nul(item) for name, item in value.items()}
    return value
