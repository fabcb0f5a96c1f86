"""How far imports have come: rows of a file that are stored, noted in the transaction that stores them.

So an import that was interrupted goes on from there, and stores nothing twice. The note is gone when the file is done.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from connector.store import database
from connector.store.schema import imports

KEPT = timedelta(days=30)


def begin(connection: Connection, key: str, now: datetime, *, anew: bool) -> int:
    """How many rows of this file are stored by an import that didn't end; `anew` forgets them.

    What is older than KEPT is forgotten anyhow: the users may have changed since.
    """
    forgotten = imports.c.at < now - KEPT
    if anew:
        forgotten = sa.or_(forgotten, imports.c.key == key)
    connection.execute(sa.delete(imports).where(forgotten))
    return connection.execute(sa.select(imports.c.rows).where(imports.c.key == key)).scalar_one_or_none() or 0


def advance(connection: Connection, key: str, rows: int, now: datetime) -> None:
    """The first `rows` rows of the file are stored when this transaction is."""
    statement = database.insert(connection, imports).on_conflict_do_update(
        index_elements=[imports.c.key], set_={"rows": rows, "at": now}
    )
    connection.execute(statement, {"key": key, "rows": rows, "at": now})


def finish(connection: Connection, key: str) -> None:
    """All of the file is stored."""
    connection.execute(sa.delete(imports).where(imports.c.key == key))
