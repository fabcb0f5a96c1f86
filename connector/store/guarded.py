"""Creates that the guard let go, and deletes, by the moment in which they happened.

They are kept apart from the people, so that what becomes of those (created anew, merged, erased) takes nothing back.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Literal, TypeAlias

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from connector.store import database
from connector.store.schema import guarded

What: TypeAlias = Literal["create", "delete"]


def count(connection: Connection, happened: Mapping[tuple[What, datetime], int]) -> None:
    """So many more of a kind happened at a moment."""
    # In one order, or two workers wait for each other.
    rows = [{"what": what, "at": at, "count": number} for (what, at), number in sorted(happened.items())]
    if rows:
        statement = database.insert(connection, guarded)
        together = guarded.c.count + statement.excluded.count
        key = [guarded.c.what, guarded.c.at]
        connection.execute(statement.on_conflict_do_update(index_elements=key, set_={"count": together}), rows)


def since(connection: Connection, what: What, at: datetime) -> int:
    """How many of a kind happened after that moment."""
    total = sa.func.coalesce(sa.func.sum(guarded.c.count), 0)
    return int(connection.execute(sa.select(total).where(guarded.c.what == what, guarded.c.at > at)).scalar_one())


def forget(connection: Connection, before: datetime) -> None:
    """What happened until that moment counts no more."""
    connection.execute(sa.delete(guarded).where(guarded.c.at <= before))
