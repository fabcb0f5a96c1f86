"""Which workspace of Customer.io a store belongs to.

The mirror says what one workspace has of us. With another one's credentials it would be wrong about everybody: those
who are there already would seem to be in the mirror, and nobody would be sent.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from connector.store import database
from connector.store.schema import mirror, workspace

_ONLY = 1


def claim(connection: Connection, environment_id: str) -> str:
    """The workspace that the store belongs to: this one, when nobody was sent to another yet."""
    whose = sa.select(workspace.c.environment_id).where(workspace.c.id == _ONLY)
    if connection.execute(whose).scalar() == environment_id:
        return environment_id
    first = database.insert(connection, workspace).values(id=_ONLY, environment_id=environment_id)
    # Several workers of a new store come here at once; whoever is later sees whose it is by then.
    connection.execute(first.on_conflict_do_nothing())
    owner: str = connection.execute(whose.with_for_update()).scalar_one()
    if owner == environment_id:
        return environment_id
    if connection.execute(sa.select(sa.exists(sa.select(1).select_from(mirror)))).scalar_one():
        return owner
    connection.execute(sa.update(workspace).values(environment_id=environment_id))
    return environment_id
