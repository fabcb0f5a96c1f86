"""Messages of the intake as tests tell them, and what the store holds afterwards in terms of our own ids."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from connector.records import Received
from connector.settings import Settings
from connector.store import inbox
from connector.store.database import Database
from connector.store.schema import events, identifiers, users
from tests.store import given
from tests.store.given import NOW, SETTINGS


def message(kind: str, message_id: str, **said: Any) -> dict[str, Any]:
    """As an SDK sends it; `user`, `anonymous` and `previous` are its ids, `page` and `track` get a name."""
    ids = {"user": "userId", "anonymous": "anonymousId", "previous": "previousId"}
    named = {"event": "Clicked"} if kind == "track" else {"name": "Home"} if kind == "page" else {}
    return named | {"type": kind, "messageId": message_id} | {ids.get(name, name): each for name, each in said.items()}


def received(*messages: dict[str, Any], at: datetime = NOW, **kept: Any) -> list[Received]:
    """As the server hands them to the inbox; `kept` is what it notes beside each, such as `public`."""
    return [Received(each["messageId"], at, json.dumps({"message": each, **kept}).encode()) for each in messages]


def tell(
    db: Database, *messages: dict[str, Any], settings: Settings = SETTINGS, now: datetime = NOW, **kept: Any
) -> int:
    """Appends the messages and reads everything that is new; how many that were."""
    db.write(inbox.append, inbox.INTAKE, received(*messages, at=now, **kept))
    return given.read(db, settings=settings, now=now)


def tell_singly(db: Database, *messages: dict[str, Any], **kept: Any) -> None:
    """One after the other, each read before the next comes."""
    for each in messages:
        tell(db, each, **kept)


def everybody(connection: Connection) -> list[tuple[Any, ...]]:
    """Every user with all that names them and all they did, without our own random ids; in an order of its own."""
    named = _by_user(connection, sa.select(identifiers.c.user_id, identifiers.c.kind, identifiers.c.value))
    did = _by_user(connection, sa.select(events.c.user_id, events.c.source, events.c.source_id))
    rows = connection.execute(
        sa.select(users.c.id, users.c.external_id, users.c.email, users.c.attributes, users.c.known_by).where(
            users.c.merged_into.is_(None)
        )
    )
    return sorted(
        (
            (named.get(row.id, []), row.external_id, row.email, json.dumps(row.attributes, sort_keys=True),
             row.known_by, did.get(row.id, []))
            for row in rows
        ),
        key=repr,
    )  # fmt: skip


def _by_user(connection: Connection, query: sa.Select[Any]) -> dict[str, list[Sequence[Any]]]:
    found: dict[str, list[Sequence[Any]]] = {}
    for user_id, *rest in connection.execute(query):
        found.setdefault(user_id, []).append(tuple(rest))
    return {user_id: sorted(rest) for user_id, rest in found.items()}
