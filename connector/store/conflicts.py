"""Identifiers that were given for one user and are another's: why two users were not made one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from connector.records import Identifier
from connector.store import database
from connector.store.schema import conflicts


@dataclass(frozen=True, slots=True)
class Conflict:
    """This identifier was given for this user, at that time, and did not become theirs."""

    user_id: str
    identifier: Identifier
    at: datetime

    def of(self, user_id: str) -> Conflict:
        """The same about who the user is by now."""
        return replace(self, user_id=user_id)


def note(connection: Connection, found: Sequence[Conflict]) -> None:
    """Keeps them; one that is known already is counted."""
    if not found:
        return
    statement = database.insert(connection, conflicts)
    latest = sa.case((conflicts.c.last_at < statement.excluded.last_at, statement.excluded.last_at))
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=list(conflicts.primary_key),
            set_={"last_at": sa.func.coalesce(latest, conflicts.c.last_at), "count": conflicts.c.count + 1},
        ),
        [
            {
                "user_id": each.user_id,
                "kind": each.identifier.kind,
                "value": each.identifier.value,
                "first_at": each.at,
                "last_at": each.at,
                "count": 1,
            }
            for each in found
        ],
    )
