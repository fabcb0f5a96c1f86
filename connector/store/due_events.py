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
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.engine import Connection

from connector.records import DueEvent, Event
from connector.store import database, pending, schema
from connector.store.database import Database
from connector.store.schema import events, users

# Younger ones trigger campaigns: https://docs.customer.io/journeys/campaign-triggers/
TRIGGERS = timedelta(hours=72)
DAY = timedelta(hours=24)
VIEWS = frozenset({"page", "screen"})
MOST = 50

_CHUNK = 1000
_STRETCH = 20_000
_REPORTED = "customerio"
_FIELDS = tuple(field.name for field in fields(DueEvent))
_ASKED = ("id", *(field.name for field in fields(Event)))
_IN_ORDER = (events.c.occurred_at, events.c.id)


class Due(NamedTuple):
    """What is due by user, in the order in which it is sent; `more` are users who have more than that."""

    events: dict[str, list[DueEvent]]
    more: frozenset[str]


class Lately(NamedTuple):
    """How many events of a user were sent since some moment, and when the first of them was."""

    sent: int
    first_at: datetime


class Nameless(NamedTuple):
    """An event of which SQL has written no activity id, and what one is derived from."""

    id: int
    source: str
    source_id: str
    occurred_at: datetime


class Held(NamedTuple):
    """Users who were sent as many events as they may be, and how many of theirs are due nevertheless."""

    users: int
    events: int


class Outlook(NamedTuple):
    """How many events are due by name, the most first (of views, by type), and how many of all trigger campaigns."""

    by_name: dict[str, int]
    triggering: int


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


def oldest(connection: Connection, user_ids: Sequence[str]) -> dict[str, datetime]:
    """Since when the user's oldest event is due, as it was read."""
    found: dict[str, datetime] = {}
    first = sa.func.min(events.c.due_at, type_=events.c.due_at.type)
    for chunk in _chunks(user_ids):
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
    for chunk in _chunks(user_ids):
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
        for chunk in _chunks(user_ids):
            theirs = database.among(connection, events.c.user_id, chunk)
            waited = sa.update(events).where(theirs, schema.EVENT_IS_DUE, events.c.due_at <= by)
            count += connection.execute(waited.values(outbound="skipped", reason=reason, settled_at=at)).rowcount
    return count


# What makes events due


def asked_for(connection: Connection, limit: int) -> list[tuple[int, Event]]:
    """Events that SQL asks to have sent, and that nobody has read, with their numbers. An activity id that nobody has
    written is empty."""
    query = sa.select(*(events.c[name] for name in _ASKED)).where(schema.EVENT_IS_ASKED_FOR)
    rows = connection.execute(query.order_by(events.c.id).limit(limit)).mappings()
    return [
        (row["id"], Event(**{name: row[name] for name in _ASKED[1:]} | {"activity_id": row["activity_id"] or ""}))
        for row in rows
    ]


def decided(connection: Connection, read: Sequence[tuple[int, Event]], now: datetime) -> None:
    """What was asked for is read: due or not. Expects the identity lock to be held."""
    if not read:
        return
    changes = ("user_id", "activity_id", "outbound", "reason", "due_at", "settled_at")
    statement = sa.update(events).where(events.c.id == sa.bindparam("number"), schema.EVENT_IS_ASKED_FOR)
    statement = statement.values({name: sa.bindparam(f"new_{name}", type_=events.c[name].type) for name in changes})
    rows = [{f"new_{name}": getattr(event, name) for name in changes} | {"number": number} for number, event in read]
    connection.execute(statement, rows)
    pending.mark(connection, {str(event.user_id) for _, event in read if event.outbound == "due"}, now, pending.CHANGED)


def survivors(connection: Connection, user_ids: Iterable[str]) -> dict[str, str]:
    """Who the merged ones of these users are by now."""
    merged: dict[str, str] = {}
    left = set(user_ids)
    while left:
        query = sa.select(users.c.id, users.c.merged_into).where(
            users.c.id.in_(database.texts(connection)), users.c.merged_into.is_not(None)
        )
        found = {row.id: row.merged_into for row in connection.execute(query, {"texts": database.dumps(sorted(left))})}
        merged |= found
        left = set(found.values()) - merged.keys()
    ends = {}
    for user_id in merged:
        end = user_id
        while end in merged:
            end = merged[end]
        ends[user_id] = end
    return ends


def parked_ids(
    db: Database, *, reason: str | None, user_ids: Sequence[str] | None, since: datetime | None
) -> Iterator[list[int]]:
    """Parked events in chunks, as they came: all, or those with that reason, of these users, parked since then."""
    after = 0
    while found := db.read(_parked_ids, after, reason, user_ids, since):
        yield found
        after = found[-1]


def _parked_ids(
    connection: Connection, after: int, reason: str | None, user_ids: Sequence[str] | None, since: datetime | None
) -> list[int]:
    chosen = [schema.EVENT_IS_PARKED, events.c.id > after]
    if reason is not None:
        chosen.append(events.c.reason == reason)
    if user_ids is not None:
        chosen.append(events.c.user_id.in_(user_ids))
    if since is not None:
        chosen.append(events.c.settled_at >= since)
    return _numbers(connection, sa.select(events.c.id).where(*chosen).order_by(events.c.id).limit(_CHUNK))


def named_ids(
    db: Database, name: str, since: datetime, until: datetime | None, user_ids: Sequence[str] | None
) -> Iterator[list[int]]:
    """Events of our own with that name that happened since then and, if it is given, before `until`, in chunks; of
    these users, or of all. "page" and "screen" are all views of that type, under any name."""
    own: list[sa.ColumnElement[bool]] = [
        events.c.type == name if name in VIEWS else (events.c.name == name) & events.c.type.not_in(VIEWS),
        events.c.source != _REPORTED,
        events.c.user_id.is_not(None),
        events.c.occurred_at >= since,
    ]
    if until is not None:
        own.append(events.c.occurred_at < until)
    if user_ids is not None:
        if name not in VIEWS and len(name) <= schema.LONGEST_INDEXED_NAME:
            own.append(schema.EVENT_NAME_IS_INDEXED)
        for user_id in user_ids:
            yield from _chunks(db.read(_numbers, sa.select(events.c.id).where(events.c.user_id == user_id, *own)))
        return
    # By stretches of the key: no index has all names, and one read of a large table would go on for long.
    after, last = 0, db.read(_last)
    while after < last:
        stretch = events.c.id.between(after + 1, after + _STRETCH)
        found = db.read(_numbers, sa.select(events.c.id).where(stretch, *own).order_by(events.c.id))
        yield from _chunks(found)
        after += _STRETCH


def nameless(connection: Connection, ids: Sequence[int]) -> list[Nameless]:
    """Those of the events that have no activity id."""
    chosen = database.among(connection, events.c.id, ids), events.c.activity_id.is_(None)
    query = sa.select(*(events.c[name] for name in Nameless._fields)).where(*chosen)
    return [Nameless(*row) for row in connection.execute(query)]


def name(connection: Connection, activity_ids: Mapping[int, str]) -> None:
    """Gives events their activity ids."""
    if activity_ids:
        naming = sa.update(events).where(events.c.id == sa.bindparam("number"))
        rows = [{"number": number, "derived": derived} for number, derived in activity_ids.items()]
        connection.execute(naming.values(activity_id=sa.bindparam("derived")), rows)


def again(connection: Connection, ids: Sequence[int], now: datetime, *, only_parked: bool = False) -> int:
    """Makes those due that are not, under the ids that they have; returns how many they were. Expects the identity
    lock to be held."""
    is_wanted = schema.EVENT_IS_PARKED if only_parked else events.c.outbound != "due"
    due = sa.update(events).where(database.among(connection, events.c.id, ids), is_wanted)
    due = due.values(outbound="due", reason=None, due_at=now, settled_at=None).returning(events.c.user_id)
    user_ids = list(connection.execute(due).scalars())
    pending.mark(connection, {each for each in user_ids if each is not None}, now, pending.CHANGED)
    return len(user_ids)


def mark(connection: Connection, user_ids: Sequence[str], now: datetime) -> None:
    """Makes those of the users pending who have an event that is due."""
    pending.mark(connection, having(connection, user_ids), now, pending.CHANGED)


# What is told of them


def counts(connection: Connection) -> dict[str, Any]:
    """How many are due and how many were sent; how many were skipped and parked, by reason, the most first."""
    number = sa.func.count()
    due = sa.select(number).select_from(events).where(schema.EVENT_IS_DUE)
    asked = sa.select(number).select_from(events).where(schema.EVENT_IS_ASKED_FOR)
    was_sent = sa.select(number).select_from(events).where(schema.EVENT_IS_SENT)
    return {
        "due": connection.execute(due).scalar_one() + connection.execute(asked).scalar_one(),
        "sent": connection.execute(was_sent).scalar_one(),
        "skipped": _by(connection, events.c.reason, schema.EVENT_IS_SKIPPED),
        "parked": _by(connection, events.c.reason, schema.EVENT_IS_PARKED),
    }


def outlook(connection: Connection, now: datetime) -> Outlook:
    """What is due by now, to everybody."""
    named = sa.case((events.c.type.in_(VIEWS), events.c.type), else_=events.c.name)
    young = sa.select(sa.func.count()).select_from(events).where(schema.EVENT_IS_DUE)
    triggering = connection.execute(young.where(events.c.occurred_at > now - TRIGGERS)).scalar_one()
    return Outlook(_by(connection, named, schema.EVENT_IS_DUE), triggering)


def held(connection: Connection, limit: int, now: datetime) -> Held:
    """Who has events that wait because `limit` of theirs were sent in the last 24 hours."""
    theirs = sa.select(events.c.user_id, sa.func.count().label("number")).where(schema.EVENT_IS_DUE)
    waiting = theirs.group_by(events.c.user_id).subquery("waiting")
    lately = sa.select(sa.func.count()).where(
        events.c.user_id == waiting.c.user_id, schema.EVENT_IS_SENT, events.c.settled_at > now - DAY
    )
    query = sa.select(sa.func.count(), sa.func.coalesce(sa.func.sum(waiting.c.number), 0))
    found = connection.execute(query.select_from(waiting).where(lately.scalar_subquery() >= limit)).one()
    return Held(found[0], int(found[1]))


def _by(connection: Connection, what: sa.ColumnElement[Any], chosen: sa.ColumnElement[bool]) -> dict[str, int]:
    """How many there are of each, the most first."""
    each, number = what.label("each"), sa.func.count().label("number")
    rows = connection.execute(sa.select(each, number).where(chosen).group_by(each).order_by(number.desc(), each))
    return {row.each: row.number for row in rows}


def _numbers(connection: Connection, query: sa.Select[int]) -> list[int]:
    return list(connection.execute(query).scalars())


def _last(connection: Connection) -> int:
    return connection.execute(sa.select(sa.func.max(events.c.id))).scalar_one() or 0


def _chunks(values: Sequence[Any]) -> Iterator[Any]:
    for start in range(0, len(values), _CHUNK):
        yield values[start : start + _CHUNK]
