"""Rows of events: whose (`external_id`, `email`, `anonymous_id`), `name`, `type`, `occurred_at`, `id`, `properties`,
`context`, and nothing else: what isn't one of these would be lost.

A row without an `id` of its own gets one from all that it says, so that importing it again is no second event.
"""

from __future__ import annotations

import dataclasses
import hashlib
from datetime import datetime
from typing import Any, Literal, get_args
from zoneinfo import ZoneInfo

import msgspec

from connector.commands.rows import Bad, Shape, fields
from connector.core import text
from connector.records import EventRow

_Type = Literal["track", "page", "screen"]
_TYPES: tuple[_Type, ...] = get_args(_Type)
_PLAIN = ("id", *fields.IDENTIFIERS, "name", "type", "occurred_at")
_GROUPS = ("properties", "context")
_KNOWN = frozenset((*_PLAIN, *_GROUPS))
_MAX_ID = 200
_MAX_NAME = 1000  # bytes; an index has it
_in_order = msgspec.json.Encoder(order="deterministic")


def read(values: dict[str, Any], _now: datetime, zone: ZoneInfo) -> EventRow | Bad:
    """The row as the store takes it, or why not."""
    if bad := _shape(values):
        return bad
    named = fields.named(values)
    if isinstance(named, Bad):
        return named
    occurred_at = fields.time("occurred_at", values.get("occurred_at"), zone)
    if isinstance(occurred_at, Bad):
        return occurred_at
    if occurred_at is None:
        return Bad("no_time", "the row needs an occurred_at")
    given = (values.get("type") or "track").strip().lower()
    kind = next((each for each in _TYPES if each == given), None)
    if kind is None:
        return Bad("unknown_type", f"type must be one of {', '.join(_TYPES)}")
    properties = values.get("properties") or {}
    name = _name(values, properties, kind)
    if name is None:
        return Bad("no_event_name", "the row needs a name")
    if len(name.encode()) > _MAX_NAME:
        return Bad("long_name", f"name is longer than {_MAX_NAME} bytes")
    source_id = _own_id(values)
    if isinstance(source_id, Bad):
        return source_id
    context = values.get("context") or {}
    row = EventRow(source_id or "", *named, kind, name, occurred_at, properties, context)
    return row if source_id is not None else dataclasses.replace(row, source_id=_derived_id(row))


def _shape(values: dict[str, Any]) -> Bad | None:
    unknown = [name for name in values if name not in _KNOWN]
    if unknown:
        return Bad("unknown_column", f"{', '.join(unknown)}: no part of an event; properties belong under `properties`")
    for name in _GROUPS:
        if not isinstance(values.get(name), dict | None):
            return Bad("wrong_shape", f"{name} must be an object")
    for name in ("name", "type"):
        if not isinstance(values.get(name), str | None):
            return Bad("wrong_shape", f"{name} must be text")
    return None


def _name(values: dict[str, Any], properties: dict[str, Any], kind: str) -> str | None:
    """A page or screen may be named by its properties, or not at all; then it is called what it is."""
    name = (values.get("name") or "").strip()
    if name or kind == "track":
        return name or None
    return text.identifier(properties.get("name")) or kind


def _own_id(values: dict[str, Any]) -> str | Bad | None:
    given = values.get("id")
    if given is None or given == "":
        return None
    found = text.identifier(given)
    if found is None or len(found) > _MAX_ID:
        return Bad("bad_id", f"id must be text of 1 to {_MAX_ID} characters")
    return found


def _derived_id(row: EventRow) -> str:
    return "sha256:" + hashlib.sha256(_in_order.encode(row)).hexdigest()


SHAPE = Shape(what="events", plain=_PLAIN, groups=_GROUPS, open=False, needed=("name", "occurred_at"), read=read)
