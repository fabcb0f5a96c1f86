"""Rows of users: `external_id`, `email`, `anonymous_id` and `created_at`; every other key is an attribute.

An empty cell says nothing, a null in JSONL removes the attribute.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from connector.commands.rows import Bad, Shape, fields
from connector.records import UserRow

_PLAIN = (*fields.IDENTIFIERS, "created_at")


def read(values: dict[str, Any], _now: datetime, zone: ZoneInfo) -> UserRow | Bad:
    """The row as the store takes it, or why not."""
    named = fields.named(values)
    if isinstance(named, Bad):
        return named
    created_at = fields.time("created_at", values.get("created_at"), zone)
    if isinstance(created_at, Bad):
        return created_at
    attributes = {name: value for name, value in values.items() if name not in _PLAIN}
    return UserRow(*named, created_at, attributes)


SHAPE = Shape(what="users", plain=_PLAIN, groups=(), open=True, needed=(), read=read)
