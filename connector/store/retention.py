"""Deleting what has served its time, a page a call: raw messages that were read, the log of attempts, and events.

A walk goes up by id, and ids ascend with time, so it ends at the first page in which nothing is old: when there is
nothing to delete it has looked at one page, whatever the table holds. (At a page, not at a row: the clocks of two
servers differ a little.) Messages that are new or unread stay, whatever their age; but one that was refused goes,
because its sender knows. What was answered of somebody who is parked stays until they aren't any more. An event stays
as long as it may still be sent (asked for, due, also where it waits or is held, or parked), and is as young as the
newest of when it happened, was received, and was sent or skipped.
"""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from connector.store import database
from connector.store.inbox import was_refused
from connector.store.schema import attempts, events, inbox, pending

PAGE = 500

_SAYS_WHY_PARKED = (
    sa.exists().where(pending.c.user_id == attempts.c.user_id, pending.c.parked_at <= attempts.c.at).correlate(attempts)
)
_DONE_WITH = inbox.c.state.in_(("read", "ignored")) | ((inbox.c.state == sa.literal_column("'unread'")) & was_refused)

_NOT_ON_THE_WAY = events.c.outbound.in_(("none", "sent", "skipped"))


class Page(NamedTuple):
    """A stretch of ids, `after` not in it and `last` in it, and how many of its rows may go."""

    after: int
    last: int
    old: int


def old_webhooks(connection: Connection, before: datetime, after: int) -> Page | None:
    """The next PAGE of inbox rows behind `after`; None when none of them was received before."""
    columns = (inbox.c.id, inbox.c.received_at, _DONE_WITH.label("done_with"))
    found = connection.execute(sa.select(*columns).where(inbox.c.id > after).order_by(inbox.c.id).limit(PAGE)).all()
    old = [row for row in found if row.received_at < before]
    return Page(after, found[-1].id, sum(row.done_with for row in old)) if old else None


def old_attempts(connection: Connection, before: datetime, after: int) -> Page | None:
    """The next PAGE of the log behind `after`; None when nothing in it is from before."""
    columns = (attempts.c.id, attempts.c.at, sa.not_(_SAYS_WHY_PARKED).label("done_with"))
    found = connection.execute(
        sa.select(*columns).where(attempts.c.id > after).order_by(attempts.c.id).limit(PAGE)
    ).all()
    old = [row for row in found if row.at < before]
    return Page(after, found[-1].id, sum(row.done_with for row in old)) if old else None


def old_events(connection: Connection, before: datetime, after: int) -> Page | None:
    """The next PAGE of events behind `after`; None when none of them was received before."""
    columns = (events.c.id, (events.c.received_at < before).label("old"), _is_over(before).label("done_with"))
    found = connection.execute(sa.select(*columns).where(events.c.id > after).order_by(events.c.id).limit(PAGE)).all()
    if not any(row.old for row in found):
        return None
    return Page(after, found[-1].id, sum(row.done_with for row in found))


def _is_over(before: datetime) -> sa.ColumnElement[bool]:
    settled_before = events.c.settled_at.is_(None) | (events.c.settled_at < before)
    return sa.and_(_NOT_ON_THE_WAY, events.c.received_at < before, events.c.occurred_at < before, settled_before)


def delete_webhooks(connection: Connection, before: datetime, page: Page) -> int:
    """Deletes what is old in the page and, still now, done with; returns how many messages that was."""
    chosen = inbox.c.id.between(page.after + 1, page.last)
    statement = sa.delete(inbox).where(chosen, inbox.c.received_at < before, _DONE_WITH)
    return connection.execute(statement).rowcount


def delete_attempts(connection: Connection, before: datetime, page: Page) -> int:
    """Deletes what is old in the page of the log and, still now, done with; returns how many rows that was."""
    database.lock_identities(connection)  # or this and a merge, which moves them, wait for each other
    chosen = attempts.c.id.between(page.after + 1, page.last)
    statement = sa.delete(attempts).where(chosen, attempts.c.at < before, sa.not_(_SAYS_WHY_PARKED))
    return connection.execute(statement).rowcount


def delete_events(connection: Connection, before: datetime, page: Page) -> int:
    """Deletes what is old in the page and, still now, on no way out; returns how many events that was."""
    database.lock_identities(connection)  # or this and a merge, which moves events, wait for each other
    chosen = events.c.id.between(page.after + 1, page.last)
    return connection.execute(sa.delete(events).where(chosen, _is_over(before))).rowcount
