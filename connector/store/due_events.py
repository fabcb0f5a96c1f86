"""Events on their way out: which are due, in which order, and what became of those that aren't any more.

    none    nobody has asked for them, or the settings of the moment in which they were read did not want them
    due     to be sent; they become sent, skipped or parked (`settled_at`, and the reason), and may be made due again

An event is read when it comes in, and is due since then (`due_at`). SQL asks for one by writing it as due: as long as
nobody has read it, it has no `due_at`, and it is sent by nobody.

What ends a delivery applies only to events that are still due. Moving rows to `due` makes their users pending in the
same transaction, under the identity lock, so that no user of a due event is forgotten or merged away meanwhile.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.engine import Connection

from connector.records import DueEvent
from connector.store import database, pending, schema
from connector.store.schema import events, users
from connector.store.schema import pending as pending_rows

# Younger ones trigger campaigns: https://docs.customer.io/journeys/campaign-triggers/
TRIGGERS = timedelta(hours=72)
DAY = timedelta(hours=24)
VIEWS = frozenset({"page", "screen"})
MOST = 50

_CHUNK = 1000
_FIELDS = tuple(field.name for field in fields(DueEvent))
_IN_ORDER = (events.c.occurred_at, events.c.id)


class Due(NamedTuple):
    """What is due by user, in the order in which it is sent; `more` are users who have more than that."""

    events: dict[str, list[DueEvent]]
    more: frozenset[str]


class Lately(NamedTuple):
    """How many events of a user were sent since some moment, and when the first of them was."""

    sent: int
    first_at: datetime


# Reading what is due


def of_users(connection: Connection, user_ids: Sequence[str], limit: int = MOST) -> Due:
    """The first events of each user, by when they happened and then as they came; at most `limit` of a user."""
    found: dict[str, list[DueEvent]] = {}
    more = set()
    if user_ids:
        for row in connection.execute(_of_users(connection, user_ids, limit + 1)):
            theirs = found.setdefault(row.user_id, [])
            if len(theirs) < limit:
                theirs.append(DueEvent(*row))
            else:
                more.add(row.user_id)
    return Due(found, frozenset(more))


def _of_users(connection: Connection, user_ids: Sequence[str], limit: int) -> sa.Select[Any]:
    """However many are due of a user, no more are looked at."""
    chosen = _chosen(connection, user_ids)
    first = sa.select(events).where(events.c.user_id == chosen.c.value, schema.EVENT_IS_DUE)
    first = first.order_by(*_IN_ORDER).limit(limit)
    if connection.dialect.name == "postgresql":
        theirs: sa.FromClause = first.lateral("theirs")
        query = sa.select(*(theirs.c[name] for name in _FIELDS)).select_from(chosen.join(theirs, sa.true()))
    else:
        # SQLite has no LATERAL; to PostgreSQL this would be a look at every event.
        theirs = events.alias("theirs")
        numbers = first.with_only_columns(events.c.id).correlate(chosen).scalar_subquery()
        query = sa.select(*(theirs.c[name] for name in _FIELDS)).select_from(
            chosen.join(theirs, theirs.c.id.in_(numbers))
        )
    return query.order_by(theirs.c.user_id, theirs.c.occurred_at, theirs.c.id)


def having(connection: Connection, user_ids: Sequence[str]) -> list[str]:
    """Those of the users who have an event that is due."""
    if not user_ids:
        return []
    chosen = _chosen(connection, user_ids)
    theirs = sa.exists().where(events.c.user_id == chosen.c.value, schema.EVENT_IS_DUE)
    return list(connection.execute(sa.select(chosen.c.value).where(theirs)).scalars())


def _chosen(connection: Connection, user_ids: Sequence[str]) -> sa.TableValuedAlias:
    """The users as a table of one column, `value`."""
    if connection.dialect.name == "postgresql":
        values = sa.func.unnest(sa.literal(list(user_ids), postgresql.ARRAY(sa.Text)))
        return values.table_valued(sa.column("value", sa.Text)).render_derived(name="chosen")
    values = sa.func.json_each(database.dumps(list(user_ids)))
    return values.table_valued(sa.column("value", sa.Text), name="chosen")


def under_way(connection: Connection, user_ids: Sequence[str]) -> set[str]:
    """Those of the users into whom somebody was merged who is in flight: the events of the flight are theirs by now."""
    found: set[str] = set()
    for chunk in database.chunks(user_ids, _CHUNK):
        merged = sa.select(users.c.merged_into).join(pending_rows, pending_rows.c.user_id == users.c.id)
        chosen = database.among(connection, users.c.merged_into, chunk), pending_rows.c.lease.is_not(None)
        found.update(connection.execute(merged.where(*chosen)).scalars())
    return found


def oldest(connection: Connection, user_ids: Sequence[str]) -> dict[str, datetime]:
    """Since when the user's oldest event is due, as it was read."""
    found: dict[str, datetime] = {}
    first = sa.func.min(events.c.due_at, type_=events.c.due_at.type)
    for chunk in database.chunks(user_ids, _CHUNK):
        theirs = database.among(connection, events.c.user_id, chunk)
        rows = connection.execute(
            sa.select(events.c.user_id, first).where(theirs, schema.EVENT_IS_DUE).group_by(events.c.user_id)
        )
        found.update((user_id, at) for user_id, at in rows)
    return found


def sent_lately(connection: Connection, user_ids: Sequence[str], since: datetime) -> dict[str, Lately]:
    """What was sent of these users after `since`; who was sent nothing is left out."""
    found: dict[str, Lately] = {}
    first = sa.func.min(events.c.settled_at, type_=events.c.settled_at.type)
    for chunk in database.chunks(user_ids, _CHUNK):
        theirs = database.among(connection, events.c.user_id, chunk)
        rows = connection.execute(
            sa.select(events.c.user_id, sa.func.count(), first)
            .where(theirs, schema.EVENT_IS_SENT, events.c.settled_at > since)
            .group_by(events.c.user_id)
        )
        found.update((user_id, Lately(count, at)) for user_id, count, at in rows)
    return found


# What becomes of them


def sent(connection: Connection, ids: Sequence[int], at: datetime) -> None:
    """Customer.io has accepted them."""
    _settle(connection, ids, "sent", None, at)


def skipped(connection: Connection, ids: Sequence[int], reason: str, at: datetime) -> None:
    """They will not be sent."""
    _settle(connection, ids, "skipped", reason, at)


def parked(connection: Connection, reasons: Mapping[int, str], at: datetime) -> None:
    """These can't be sent, each for its reason; `again` tries them once more."""
    by_reason: defaultdict[str, list[int]] = defaultdict(list)
    for number, reason in reasons.items():
        by_reason[reason].append(number)
    for reason, ids in by_reason.items():
        _settle(connection, ids, "parked", reason, at)


def _settle(connection: Connection, ids: Sequence[int], outbound: str, reason: str | None, at: datetime) -> None:
    if ids:
        chosen = events.c.id.in_(database.ids(connection)), schema.EVENT_IS_DUE
        statement = sa.update(events).where(*chosen).values(outbound=outbound, reason=reason, settled_at=at)
        connection.execute(statement, {"ids": database.dumps(list(ids))})


def skip_waited(connection: Connection, reasons: Mapping[str, str], by: datetime, at: datetime) -> int:
    """Skips what was due by then of these users, each for their reason; returns how many events that was."""
    by_reason: defaultdict[str, list[str]] = defaultdict(list)
    for user_id, reason in sorted(reasons.items()):
        by_reason[reason].append(user_id)
    count = 0
    for reason, user_ids in by_reason.items():
        for chunk in database.chunks(user_ids, _CHUNK):
            theirs = database.among(connection, events.c.user_id, chunk)
            waited = sa.update(events).where(theirs, schema.EVENT_IS_DUE, events.c.due_at <= by)
            count += connection.execute(waited.values(outbound="skipped", reason=reason, settled_at=at)).rowcount
    return count


# What makes events due


def mark(connection: Connection, user_ids: Iterable[str], now: datetime) -> None:
    """Makes users pending of whom an event is due. Who is parked stays so: an event mends nothing of what was wrong
    with them."""
    marked = sorted(user_ids)
    visitors = _visitors(connection, marked)
    pending.mark(connection, marked, now, pending.CHANGED, visitors=visitors, is_new_try=False)


def _visitors(connection: Connection, user_ids: Sequence[str]) -> set[str]:
    """Those of the users who have neither an id of ours nor an email: they are hardly ever people, whatever
    `people.customer_id` is made of."""
    found: set[str] = set()
    for chunk in database.chunks(user_ids, _CHUNK):
        chosen = database.among(connection, users.c.id, chunk)
        nameless = sa.select(users.c.id).where(chosen, users.c.external_id.is_(None), users.c.email.is_(None))
        found.update(connection.execute(nameless).scalars())
    return found


def waiting(connection: Connection, after: str, limit: int) -> list[str]:
    """So many of the users of whom an event is due."""
    query = sa.select(events.c.user_id).where(schema.EVENT_IS_DUE, events.c.user_id > after).distinct()
    return list(connection.execute(query.order_by(events.c.user_id).limit(limit)).scalars())
