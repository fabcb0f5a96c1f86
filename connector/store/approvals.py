"""Approvals of settings that were held. What the plan of such an edit said would be held is approved with it: the pass
that finds it, within a day, lets it go."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from connector.store import held, revisions
from connector.store.revisions import Revision
from connector.store.schema import settings_revisions

APPROVED = "approved"
SETTINGS = "settings"  # what is held, where it is an edit and not what the guard holds
_AT = "approved_at"
_HOLDS = "holds"


def waiting(connection: Connection) -> Revision | None:
    """The edit that is held, as long as nothing newer was applied."""
    newest = connection.execute(
        sa.select(sa.func.max(settings_revisions.c.number)).where(settings_revisions.c.state != "refused")
    ).scalar_one()
    found = None if newest is None else revisions.of(connection, newest)
    return found if found is not None and found.state == "held" else None


def held_edit(connection: Connection) -> held.Hold | None:
    """The edit that is held, beside what the guard holds: all that its plan said would be too much."""
    edit = waiting(connection)
    if edit is None or edit.hash is None or edit.reason is None:
        return None
    count = sum(each["count"] for each in edit.counts.get(_HOLDS, ()))
    return held.Hold(edit.number, edit.hash, SETTINGS, edit.reason, count, 0, edit.hash, edit.at)


def approve(connection: Connection, number: int, now: datetime) -> bool:
    """Whoever runs with older settings takes these up. False when they are not held any more, or others came since."""
    revisions.lock(connection)  # or a newer one is applied between the next two statements
    revision = waiting(connection)
    if revision is None or revision.number != number:
        return False
    revisions.settle(connection, number, "applied", APPROVED)
    _keep(connection, revision, {_AT: now.isoformat()})
    return True


def counted(connection: Connection, hash_: str, what: str, now: datetime) -> int:
    """How many of a kind were approved with the settings of this hash, and have not been let go."""
    revision = _approved(connection, hash_)
    if revision is None or datetime.fromisoformat(revision.counts[_AT]) + held.VALID <= now:
        return 0
    return sum(each["count"] for each in revision.counts.get(_HOLDS, ()) if each["what"] == what)


def used(connection: Connection, hash_: str, what: str, users: int | None = None) -> None:
    """So many were let go, or all of the kind: each is approved once."""
    revision = _approved(connection, hash_, to_change=True)
    if revision is None:
        return
    others = [each for each in revision.counts.get(_HOLDS, ()) if each["what"] != what]
    theirs = [each for each in revision.counts.get(_HOLDS, ()) if each["what"] == what]
    left = [] if users is None else [{**each, "count": each["count"] - users} for each in theirs]
    _keep(connection, revision, {_HOLDS: [*others, *(each for each in left if each["count"] > 0)]})


def _approved(connection: Connection, hash_: str, *, to_change: bool = False) -> Revision | None:
    rows = settings_revisions
    number = connection.execute(
        sa.select(sa.func.max(rows.c.number)).where(
            rows.c.hash == hash_, rows.c.state == "applied", rows.c.reason == APPROVED
        )
    ).scalar_one()
    if number is not None and to_change:
        # Another kind's part of the same counts may be used at the same time.
        connection.execute(sa.select(rows.c.number).where(rows.c.number == number).with_for_update())
    return None if number is None else revisions.of(connection, number)


def _keep(connection: Connection, revision: Revision, more: dict[str, object]) -> None:
    ours = sa.update(settings_revisions).where(settings_revisions.c.number == revision.number)
    connection.execute(ours.values(counts={**revision.counts, **more}))
