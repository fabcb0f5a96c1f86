"""Which names the data know: attributes of users, events. Asked about a name that is used, the store stops at the first
user or event that has it; only one that was never seen costs a look at all of them.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from connector.settings import Attribute, Settings
from connector.store import segments
from connector.store.schema import events, users

_SAMPLE = 2000
_EVENTS = 1000


def has_attribute(connection: Connection, path: str, settings: Settings, now: datetime) -> bool:
    """Whether any user has a value there."""
    condition = segments.predicate(Attribute(path, "exists", True), settings, connection.dialect.name, now)
    return connection.execute(sa.select(sa.exists(sa.select(1).select_from(users).where(condition)))).scalar_one()


def has_event(connection: Connection, name: str) -> bool:
    """Whether any event is called so."""
    return connection.execute(sa.select(sa.exists().where(events.c.name == name))).scalar_one()


def attributes(connection: Connection) -> set[str]:
    """Dotted paths of the attributes of the newest users."""
    newest = sa.select(users.c.attributes).order_by(users.c.id.desc()).limit(_SAMPLE)
    found: set[str] = set()
    for document in connection.execute(newest).scalars():
        waiting: list[tuple[str, Any]] = list(document.items())
        while waiting:
            path, value = waiting.pop()
            if value is not None:
                found.add(path)
            if isinstance(value, dict):
                waiting += [(f"{path}.{name}", inner) for name, inner in value.items()]
    return found


def event_names(connection: Connection) -> dict[str, int]:
    """The names of events, the most frequent ones, and how often each was seen."""
    times = sa.func.count()
    query = sa.select(events.c.name, times).group_by(events.c.name).order_by(times.desc(), events.c.name).limit(_EVENTS)
    return {row.name: row[1] for row in connection.execute(query)}
