"""Events that SQL asks to have sent, by writing them as due: until they are read, nobody sends them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import fields
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from connector.records import Event
from connector.store import database, due_events, schema
from connector.store.schema import events, users

_FIELDS = tuple(field.name for field in fields(Event))


def ids(connection: Connection, after: int, limit: int) -> list[int]:
    """So many events that SQL asks to have sent, and that nobody has read."""
    query = sa.select(events.c.id).where(schema.EVENT_IS_ASKED_FOR, events.c.id > after)
    return list(connection.execute(query.order_by(events.c.id).limit(limit)).scalars())


def among(connection: Connection, ids: Sequence[int]) -> list[tuple[int, Event]]:
    """Those of the events that SQL asks to have sent, with their numbers. An activity id that nobody has written is
    empty."""
    query = sa.select(*(events.c[name] for name in ("id", *_FIELDS))).where(
        database.among(connection, events.c.id, ids), schema.EVENT_IS_ASKED_FOR
    )
    rows = connection.execute(query.order_by(events.c.id)).mappings()
    return [
        (row["id"], Event(**{name: row[name] for name in _FIELDS} | {"activity_id": row["activity_id"] or ""}))
        for row in rows
    ]


def settle(connection: Connection, read: Sequence[tuple[int, Event]], now: datetime) -> None:
    """What was asked for is read: due or not. Expects the identity lock to be held."""
    if not read:
        return
    changes = ("user_id", "activity_id", "outbound", "reason", "due_at", "settled_at")
    statement = sa.update(events).where(events.c.id == sa.bindparam("number"), schema.EVENT_IS_ASKED_FOR)
    statement = statement.values({name: sa.bindparam(f"new_{name}", type_=events.c[name].type) for name in changes})
    rows = [{f"new_{name}": getattr(event, name) for name in changes} | {"number": number} for number, event in read]
    connection.execute(statement, rows)
    due_events.mark(connection, {str(event.user_id) for _, event in read if event.outbound == "due"}, now)


def skip(connection: Connection, number: int, reason: str, at: datetime) -> None:
    """One that was asked for can't be read."""
    chosen = events.c.id == number, schema.EVENT_IS_ASKED_FOR
    connection.execute(sa.update(events).where(*chosen).values(outbound="skipped", reason=reason, settled_at=at))


def survivors(connection: Connection, user_ids: Iterable[str]) -> dict[str, str]:
    """Who the merged ones of these users are by now."""
    merged: dict[str, str] = {}
    left = set(user_ids)
    while left:
        query = sa.select(users.c.id, users.c.merged_into).where(
            users.c.id.in_(database.texts(connection)), users.c.merged_into.is_not(None)
        )
        found = {row.id: row.merged_into for row in connection.execute(query, {"texts": database.dumps(sorted(left))})}
        merged |= found
        left = set(found.values()) - merged.keys()
    ends = {}
    for user_id in merged:
        end = user_id
        while end in merged:
            end = merged[end]
        ends[user_id] = end
    return ends
