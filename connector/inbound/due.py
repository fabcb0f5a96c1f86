"""Which events will be sent: asked once, when one is read, of the settings that are in force then. Later edits act on
what comes after.

    read -> not wanted: none | older than events.max_age when it was stored: skipped, too_old | due, from now on

What SQL wrote can also be skipped as `no_user` (SQL has deleted them) or `unreadable`.

What was stored in time stays due however long it waits for us. Events that SQL asks for (`outbound = 'due'`) are read
before each pass. What Customer.io reported is never sent back.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from connector import log
from connector.core import activity, selection, ulid
from connector.records import Event
from connector.settings import Events, Settings
from connector.store import (
    asked_events,
    database,
    driver_errors,
    due_events,
    event_counts,
    events_again,
    facts,
    inbox,
    users,
)
from connector.store.database import Database

TOO_OLD = "too_old"
NO_USER = "no_user"
UNREADABLE = "unreadable"
_CHUNK = 500
# After an edit: by then nobody sends by the settings before it.
_NOTICED = timedelta(minutes=2)

_log = log.get("events")


def judged(event: Event, wanted: Events, now: datetime) -> Event:
    """An event of our own as it is read now."""
    url = activity.page_url(event.properties, event.context) if event.type == "page" else None
    if not selection.wanted(event.type, event.name, url, wanted):
        return event
    if event.received_at - event.occurred_at > wanted.max_age:
        return replace(event, outbound="skipped", reason=TOO_OLD, settled_at=now)
    return replace(event, outbound="due", due_at=now)


def users_of(events: Sequence[Event]) -> set[str]:
    """Whose events are due."""
    return {event.user_id for event in events if event.outbound == "due" and event.user_id is not None}


def read_asked(db: Database, settings: Settings, clock: Callable[[], datetime]) -> int:
    """Reads what SQL asks to have sent, in small transactions; returns how many events that were."""
    count = 0
    while ids := db.read(asked_events.ids, 0, _CHUNK):
        try:
            db.write(_read_asked, ids, settings.events, clock())
        except sa.exc.StatementError as error:
            if not _is_about_a_value(error):
                raise
            db.write(_read_singly, ids, settings.events, clock())
        count += len(ids)
    return count


def _read_asked(connection: Connection, ids: Sequence[int], wanted: Events, now: datetime) -> None:
    database.lock_identities(connection)
    asked = asked_events.among(connection, ids)
    named = {event.user_id for _, event in asked if event.user_id is not None}
    merged = asked_events.survivors(connection, named)
    there = set(users.present(connection, sorted(named)))
    read = [(number, _asked(event, merged, there, wanted, now)) for number, event in asked]
    asked_events.settle(connection, [(number, event) for number, event in read if event.reason != NO_USER], now)
    for number, event in read:
        if event.reason == NO_USER:
            # To write the name of nobody anew, SQLite would ask who that is.
            asked_events.skip(connection, number, NO_USER, now)


def _read_singly(connection: Connection, ids: Sequence[int], wanted: Events, now: datetime) -> None:
    """One that can't be read keeps nobody else waiting."""
    for number in ids:
        try:
            with connection.begin_nested():
                _read_asked(connection, [number], wanted, now)
        except sa.exc.StatementError as error:
            if not _is_about_a_value(error):
                raise
            _log.error("event_unread", number=number, reason=UNREADABLE, error=type(error).__name__)
            asked_events.skip(connection, number, UNREADABLE, now)


def _is_about_a_value(error: sa.exc.StatementError) -> bool:
    """False where it is about us, the session or the database: then no event is to blame."""
    if isinstance(error, sa.exc.ProgrammingError | sa.exc.InternalError | sa.exc.InterfaceError):
        return False
    # The driver of SQLite has no code for text that is none.
    return driver_errors.refused_a_value(error) or "Could not decode to UTF-8" in str(error.orig)


def _asked(event: Event, merged: Mapping[str, str], there: Container[str], wanted: Events, now: datetime) -> Event:
    history = replace(event, activity_id=event.activity_id or _derived(event), outbound="none", reason=None)
    if event.user_id is None or event.source == inbox.CUSTOMERIO:
        return history
    if event.user_id not in there:
        return replace(history, outbound="skipped", reason=NO_USER, settled_at=now)
    return judged(replace(history, user_id=merged.get(event.user_id, event.user_id)), wanted, now)


def outlook(db: Database, wanted: Events, now: datetime) -> event_counts.Outlook:
    """What is due by now, and what would be of all that SQL asks for."""
    found = db.read(event_counts.outlook, now)
    by_name, triggering, after = Counter(found.by_name), found.triggering, 0
    while ids := db.read(asked_events.ids, after, _CHUNK):
        asked = _readable(db, ids)
        there = set(db.read(users.present, [event.user_id for event in asked if event.user_id is not None]))
        for event in asked:
            if _asked(event, {}, there, wanted, now).outbound == "due":
                by_name[event.type if event.type in due_events.VIEWS else event.name] += 1
                triggering += event.occurred_at > now - due_events.TRIGGERS
        after = ids[-1]
    return event_counts.Outlook(dict(by_name.most_common()), triggering)


def _readable(db: Database, ids: Sequence[int]) -> list[Event]:
    """Those of the events that can be read."""
    try:
        return [event for _, event in db.read(asked_events.among, ids)]
    except sa.exc.StatementError as error:
        if not _is_about_a_value(error):
            raise
        return [] if len(ids) == 1 else [event for number in ids for event in _readable(db, [number])]


def look_again(db: Database, settings: Settings, clock: Callable[[], datetime]) -> None:
    """Whoever's events wait for what the settings have said until now is due, once they say something else. And again
    when every process has noticed: one that hasn't yet may have put somebody off in between."""
    terms = facts.Waiting(
        settings.guard.max_events_per_user, settings.events.wait.total_seconds(), settings.events.anonymous
    )
    before, again_at = db.read(facts.waited_for)
    if before == terms and again_at is None:
        return
    now = clock()
    if before != terms:
        again_at = now + _NOTICED
    elif again_at is not None and now >= again_at:
        again_at = None
    after = ""
    while user_ids := db.read(due_events.waiting, after, _CHUNK):
        db.write(_mark, user_ids, clock())
        after = user_ids[-1]
    db.write(facts.wait_for, terms, again_at)


def _mark(connection: Connection, user_ids: Sequence[str], now: datetime) -> None:
    database.lock_identities(connection)
    due_events.mark(connection, users.present(connection, user_ids), now)


def again(
    connection: Connection, ids: Sequence[int], now: datetime, *, only_parked: bool = False
) -> events_again.Again:
    """Makes events due that are not, in the caller's transaction, whatever the settings want. Customer.io ignores those
    that it has, by their ids."""
    database.lock_identities(connection)
    events_again.name(connection, {each.id: _derived(each) for each in events_again.nameless(connection, ids)})
    return events_again.make_due(connection, ids, now, only_parked=only_parked)


def _derived(event: Event | events_again.Nameless) -> str:
    return ulid.activity_id(event.source, event.source_id, event.occurred_at)
