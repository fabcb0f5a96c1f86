"""Waiting until nothing is left to do: all is read, no user and no event is due or in hand, who left is gone, who came
back is there.

Whom a killed worker had in hand waits for the lease to run out, and who came back right after a delete for the minute
that a create waits then; so this takes about a minute.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from connector.commands.prove import killing
from connector.commands.prove.cases import Case
from connector.commands.prove.options import Wanted
from connector.commands.prove.processes import Child
from connector.commands.prove.stories import Story
from connector.store import inbox
from connector.store.database import Database
from connector.store.schema import EVENT_IS_DUE, events, mirror, pending
from connector.store.schema import users as users_table

_LOOK_AGAIN = 0.5
_NAMED = 20


@dataclass(frozen=True, slots=True)
class Left:
    """What is left to do: messages to read, users who are pending, events that are due, people who left and are there
    still, and people who are not yet as they were said to be."""

    unread: int
    pending: int
    events: int
    leaving: int
    behind: int

    @property
    def is_nothing(self) -> bool:
        return not (self.unread or self.pending or self.events or self.leaving or self.behind)


async def settle(
    db: Database,
    stories: Mapping[str, Story],
    children: Sequence[Child],
    wanted: Wanted,
    told: Callable[[Left], None],
) -> list[Case]:
    """The processes that ended by themselves meanwhile; those who are left when patience is over show in `waiting`."""
    crashes: list[Case] = []
    until = time.monotonic() + wanted.patience_seconds
    people = {name: story.said for name, story in stories.items() if story.is_inside}
    while True:
        crashes += killing.start_again(children, wanted)
        left = await db.run_read(_left, people)
        told(left)
        if left.is_nothing or time.monotonic() > until:
            return crashes
        await asyncio.sleep(_LOOK_AGAIN)


def waiting(connection: Connection) -> list[str]:
    """Some of those who are pending, and of the events that are due, by name."""
    rows = connection.execute(
        sa.select(users_table.c.external_id, pending.c.reason, pending.c.due_at)
        .join(pending, pending.c.user_id == users_table.c.id)
        .where(pending.c.parked_at.is_(None))
        .order_by(users_table.c.external_id)
        .limit(_NAMED)
    )
    due = connection.execute(sa.select(events.c.source_id).where(EVENT_IS_DUE).order_by(events.c.id).limit(_NAMED))
    return [
        *(f"{name} ({reason or 'due'}, {due_at.isoformat()})" for name, reason, due_at in rows),
        *(f"{source_id} (due)" for source_id in due.scalars()),
    ]


def _left(connection: Connection, wanted: Mapping[str, int]) -> Left:
    number = sa.select(sa.func.count())
    # First: a message that is read meanwhile makes somebody pending.
    unread = inbox.counts(connection).get("new", 0)
    due = connection.execute(number.select_from(pending).where(pending.c.parked_at.is_(None))).scalar_one()
    happened = connection.execute(number.select_from(events).where(EVENT_IS_DUE)).scalar_one()
    live = mirror.c.deleted_at.is_(None)
    leaving = connection.execute(number.select_from(mirror).where(live, mirror.c.left_at.is_not(None))).scalar_one()
    behind = 0
    if not (due or happened or leaving or unread):
        rows = connection.execute(sa.select(mirror.c.customer_id, mirror.c.attributes).where(live))
        people = {customer_id: attributes.get("seq") for customer_id, attributes in rows}
        behind = sum(people.get(name) != wanted.get(name) for name in people.keys() | wanted.keys())
    return Left(unread, due, happened, leaving, behind)
