"""What the store tests start from: users, people, webhooks, and a plain look at any table."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from connector.core import normalize
from connector.inbound import reader
from connector.records import Identifier, Mirror, Received, UserRow
from connector.settings import Settings
from connector.store import inbox, mirror, schema, users
from connector.store.database import Database

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
SETTINGS = Settings()


def webhook(event_id: str, kind: str = "email.opened", at: int = 1613063089, **data: Any) -> bytes:
    """A webhook in the vendor's envelope; `data` is all that it says."""
    object_type, metric = kind.split(".")
    envelope = {"event_id": event_id, "object_type": object_type, "metric": metric, "timestamp": at, "data": data}
    return json.dumps(envelope).encode()


def received(*bodies: bytes, at: datetime = NOW) -> list[Received]:
    """As the server hands them to the inbox."""
    return [Received(normalize.glance(body).source_id, at, body) for body in bodies]


def read(db: Database, *bodies: bytes, settings: Settings = SETTINGS, now: datetime = NOW) -> int:
    """Appends webhooks and reads everything that is new; how many messages that was."""
    if bodies:
        db.write(inbox.append, inbox.CUSTOMERIO, received(*bodies, at=now))
    total = 0
    while outcome := reader.read_batch(db, settings, now):
        total += outcome.total()
    return total


def row(external_id: str | None = None, email: str | None = None, **more: Any) -> UserRow:
    """A row of an import; what isn't a field of it is an attribute."""
    return UserRow(external_id, email, more.pop("anonymous_id", None), more.pop("created_at", None), more)


def user(user_id: str, **more: Any) -> dict[str, Any]:
    """A row of the table, of a user who is our own."""
    return {
        "id": user_id,
        "external_id": None,
        "email": None,
        "attributes": {},
        "known_by": "own",
        "created_at": None,
        "first_seen_at": NOW,
        "updated_at": NOW,
        "opted_out": False,
        "opt_changed_at": None,
        "opted_by": "customerio",
        "customerio": {},
        "preferences": {},
        "version": 1,
        "fresh_until": None,
        "merged_into": None,
        **more,
    }


def add(connection: Connection, *wanted: dict[str, Any]) -> None:
    """Stores users with the identifiers that follow from their columns."""
    named = []
    for each in wanted:
        if each["external_id"]:
            named.append((Identifier("external_id", each["external_id"]), each["id"]))
        if each["email"]:
            named.append((Identifier("email", each["email"].lower()), each["id"]))
    users.add(connection, wanted, named)


def have(db: Database, *wanted: dict[str, Any]) -> None:
    """The store holds these users."""
    db.write(add, *wanted)


def person(user_id: str, **more: Any) -> Mirror:
    """What was sent of a user who is in no segment, under the default settings."""
    values: dict[str, Any] = {
        "customer_id": user_id,
        "id_kind": "id",
        "attributes": {},
        "segment_bits": "",
        "mapping_hash": SETTINGS.mapping_hash(),
        "version": 1,
        "sent_ts": 1772366400,
        "created_at": NOW,
        "synced_at": NOW,
        "release": None,
    }
    return Mirror(user_id=user_id, **(values | more))


def sent(db: Database, *people: Mirror) -> None:
    """Customer.io has these people of us."""
    db.write(mirror.record, people)


def put_back(db: Database, seconds: float) -> None:
    """The store's clock, as far as the throttle goes: all that it has written is later by as much."""

    def write(connection: Connection) -> None:
        row = connection.execute(sa.select(schema.throttle)).one()._asdict()
        later = {name: row[name] + timedelta(seconds=seconds) for name in ("free_at", "grown_at", "paused_until")}
        connection.execute(sa.update(schema.throttle).values(later))

    db.write(write)


def rows(db: Database, table: sa.Table, *names: str) -> list[Any]:
    """The table in the order of its key: dicts, or tuples of the named columns, or bare values of a single one."""

    def look(connection: Connection) -> list[Any]:
        columns = [table.c[name] for name in names] or list(table.columns)
        found = connection.execute(sa.select(*columns).order_by(*table.primary_key))
        if not names:
            return [dict(each._mapping) for each in found]
        return [each[0] if len(names) == 1 else tuple(each) for each in found]

    return db.read(look)


def at_once(jobs: Sequence[Callable[[], Any]]) -> list[Any]:
    """Runs the jobs in a thread each; their results in order. The first error is raised."""
    with ThreadPoolExecutor(len(jobs)) as threads:
        running = [threads.submit(job) for job in jobs]
        return [each.result(100) for each in running]


def until_it_waits(db: Database, running: Future[Any] | asyncio.Future[Any]) -> None:
    """Returns when what runs there waits for a lock that somebody has. PostgreSQL's only."""
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    while not db.read(lambda connection: connection.execute(sa.text(waiting)).scalar_one()):
        assert not running.done()
