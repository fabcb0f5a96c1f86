"""Reading the store out, in keyset pages: an export of any size delays nobody and holds no long transaction.

The shapes are a contract: one object a line, every key always there, absent values null.
"""

from __future__ import annotations

import base64
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from connector.settings import Settings
from connector.store import segments
from connector.store.database import Database
from connector.store.schema import attempts, events, identifiers, inbox, mirror, users

PAGE = 500

Page = Callable[[Connection, Any, Settings, datetime], tuple[list[dict[str, Any]], Any]]


def everything(db: Database, what: str, settings: Settings, now: datetime) -> Iterator[dict[str, Any]]:
    """All `users` (their segments as of `now`), `events`, `people`, `webhooks` or `attempts`, in the order in which
    they came."""
    after: Any = None
    while True:
        page, after = db.read(_PAGES[what], after, settings, now)
        yield from page
        if not page:
            return


def _users(
    connection: Connection, after: str | None, settings: Settings, now: datetime
) -> tuple[list[dict[str, Any]], Any]:
    bits = segments.bits(settings, connection.dialect.name, now).label("segment_bits")
    query = sa.select(users, bits).where(users.c.merged_into.is_(None)).order_by(users.c.id).limit(PAGE)
    found = connection.execute(query if after is None else query.where(users.c.id > after)).all()
    named = _identifiers(connection, [row.id for row in found])
    page = [
        {
            "id": row.id,
            "external_id": row.external_id,
            "email": row.email,
            "cio_id": next(iter(named[row.id]["cio_id"]), None),
            "anonymous_ids": named[row.id]["anonymous_id"],
            "attributes": row.attributes,
            "customerio": {name: _time(second) for name, second in row.customerio.items()} or None,
            "segments": [name for name, bit in zip(settings.segments, row.segment_bits, strict=True) if bit == "1"],
            "opted_out": row.opted_out,
            "preferences": {
                group: {name: wanted for name, (wanted, _) in entries.items()}
                for group, entries in row.preferences.items()
            }
            or None,
            "created_at": row.created_at,
            "first_seen_at": row.first_seen_at,
            "updated_at": row.updated_at,
        }
        for row in found
    ]
    return page, found[-1].id if found else after


def _time(second: int) -> datetime:
    return datetime.fromtimestamp(second, UTC)


def _identifiers(connection: Connection, user_ids: Sequence[str]) -> dict[str, dict[str, list[str]]]:
    named: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    rows = connection.execute(
        sa.select(identifiers).where(identifiers.c.user_id.in_(user_ids)).order_by(identifiers.c.value)
    )
    for row in rows:
        named[row.user_id][row.kind].append(row.value)
    return named


def _events(
    connection: Connection, after: int | None, _settings: Settings, _now: datetime
) -> tuple[list[dict[str, Any]], Any]:
    query = (
        sa.select(events, users.c.external_id, users.c.email)
        .select_from(events.outerjoin(users, users.c.id == events.c.user_id))
        .order_by(events.c.id)
        .limit(PAGE)
    )
    found = connection.execute(query if after is None else query.where(events.c.id > after)).all()
    names = (
        *("id", "user_id", "external_id", "email", "source", "source_id", "type", "name", "properties", "context"),
        *("occurred_at", "received_at", "activity_id", "outbound", "reason"),
    )
    page = [{name: getattr(row, name) for name in names} for row in found]
    return page, found[-1].id if found else after


def customerio_events(db: Database) -> Iterator[tuple[dict[str, Any], bytes | None]]:
    """Customer.io's events in the order in which they came, and the raw webhook of each while that is kept."""
    after = 0
    while found := db.read(_customerio_events, after):
        for row in found:
            yield {name: getattr(row, name) for name in _MESSAGE}, row.body
        after = found[-1].id


_MESSAGE = ("source_id", "name", "properties", "context", "occurred_at")


def _customerio_events(connection: Connection, after: int) -> Sequence[Any]:
    same = (inbox.c.source == events.c.source) & (inbox.c.source_id == events.c.source_id)
    query = (
        sa.select(events.c.id, *(events.c[name] for name in _MESSAGE), inbox.c.body)
        .select_from(events.outerjoin(inbox, same))
        .where(events.c.source == "customerio", events.c.id > after)
        .order_by(events.c.id)
        .limit(PAGE // 10)
    )
    return connection.execute(query).all()


def _people(
    connection: Connection, after: str | None, _settings: Settings, _now: datetime
) -> tuple[list[dict[str, Any]], Any]:
    query = sa.select(mirror).order_by(mirror.c.user_id).limit(PAGE)
    found = connection.execute(query if after is None else query.where(mirror.c.user_id > after)).all()
    page = [
        {
            "user_id": row.user_id,
            "customer_id": row.customer_id,
            "attributes": row.attributes,
            "created_at": row.created_at,
            "synced_at": row.synced_at,
            "deleted_at": row.deleted_at,
            "suppressed_at": row.suppressed_at,
        }
        for row in found
    ]
    return page, found[-1].user_id if found else after


def _webhooks(
    connection: Connection, after: int | None, _settings: Settings, _now: datetime
) -> tuple[list[dict[str, Any]], Any]:
    query = sa.select(inbox).where(inbox.c.source == "customerio").order_by(inbox.c.id).limit(PAGE // 10)
    found = connection.execute(query if after is None else query.where(inbox.c.id > after)).all()
    page = []
    for row in found:
        object_type, _, metric = (row.kind or "").partition(".")
        page.append(
            {
                "event_id": None if row.source_id.startswith("sha256:") else row.source_id,
                "object_type": object_type or None,
                "metric": metric or None,
                "state": row.state,
                "reason": row.reason,
                "received_at": row.received_at,
                **_body(row.body),
            }
        )
    return page, found[-1].id if found else after


def _attempts(
    connection: Connection, after: int | None, _settings: Settings, _now: datetime
) -> tuple[list[dict[str, Any]], Any]:
    query = sa.select(attempts).order_by(attempts.c.id).limit(PAGE)
    found = connection.execute(query if after is None else query.where(attempts.c.id > after)).all()
    names = ("user_id", "what", "calls", "status", "reason", "message", "at")
    return [{name: getattr(row, name) for name in names} for row in found], found[-1].id if found else after


def _body(body: bytes) -> dict[str, Any]:
    """The body as the JSON that it is, `body_base64` when it is none."""
    try:
        return {"body": msgspec.json.decode(body)}
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {"body_base64": base64.b64encode(body).decode()}


_PAGES: dict[str, Page] = {
    "users": _users,
    "events": _events,
    "people": _people,
    "webhooks": _webhooks,
    "attempts": _attempts,
}
