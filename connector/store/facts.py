"""What one process has to tell the next: what the last pass saw of store and settings, and what events wait for."""

from __future__ import annotations

from datetime import datetime
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from connector.records import Seen
from connector.store import database
from connector.store.schema import facts

_LAST_PASS = "last_pass"  # noqa: S105 - a name
_WAITING = "events_wait"
_WAITING_AGAIN = "events_wait_again"


class Waiting(NamedTuple):
    """What the settings say of events that wait: `guard.max_events_per_user`, `events.wait` in seconds, and whether
    visitors' are sent."""

    most: int | None
    seconds: float
    anonymous: bool


def seen(connection: Connection) -> Seen | None:
    """What the last pass saw in which nothing was odd, or what has been approved since; None before the first."""
    value = _value(connection, _LAST_PASS)
    return None if value is None else Seen(value["users"], tuple(value["customer_id"]))


def see(connection: Connection, now: Seen) -> None:
    """The next pass compares with this."""
    _keep(connection, _LAST_PASS, {"users": now.users, "customer_id": list(now.customer_id)})


def waited_for(connection: Connection) -> tuple[Waiting | None, datetime | None]:
    """What the settings said when somebody last looked for whom it keeps waiting (None before), and from when on one
    more look is due (None: it was made)."""
    value, again = _value(connection, _WAITING), _value(connection, _WAITING_AGAIN)
    at = again["at"] if again is not None else None
    return None if value is None else Waiting(**value), None if at is None else datetime.fromisoformat(at)


def wait_for(connection: Connection, now: Waiting, again_at: datetime | None) -> None:
    """The next look compares with this."""
    _keep(connection, _WAITING, now._asdict())
    _keep(connection, _WAITING_AGAIN, {"at": None if again_at is None else again_at.isoformat()})


def _value(connection: Connection, name: str) -> Any:
    return connection.execute(sa.select(facts.c.value).where(facts.c.name == name)).scalar_one_or_none()


def _keep(connection: Connection, name: str, value: dict[str, Any]) -> None:
    statement = database.insert(connection, facts)
    connection.execute(
        statement.on_conflict_do_update(index_elements=[facts.c.name], set_={"value": statement.excluded.value}),
        {"name": name, "value": value},
    )
