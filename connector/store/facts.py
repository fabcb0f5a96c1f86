"""What one process has to tell the next: what the last pass saw of store and settings."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from connector.records import Seen
from connector.store import database
from connector.store.schema import facts

_LAST_PASS = "last_pass"  # noqa: S105 - a name


def seen(connection: Connection) -> Seen | None:
    """What the last pass saw in which nothing was odd, or what has been approved since; None before the first."""
    value = connection.execute(sa.select(facts.c.value).where(facts.c.name == _LAST_PASS)).scalar_one_or_none()
    return None if value is None else Seen(value["users"], tuple(value["customer_id"]))


def see(connection: Connection, now: Seen) -> None:
    """The next pass compares with this."""
    statement = database.insert(connection, facts)
    connection.execute(
        statement.on_conflict_do_update(index_elements=[facts.c.name], set_={"value": statement.excluded.value}),
        {"name": _LAST_PASS, "value": {"users": now.users, "customer_id": list(now.customer_id)}},
    )
