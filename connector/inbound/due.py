"""Which events will be sent: asked once, when one is read, of the settings that are in force then. Later edits act on
what comes after.

    read -> not wanted: none | older than events.max_age when it was stored: skipped, too_old | due, from now on

What was stored in time stays due however long it waits for us. Events that SQL asks for (`outbound = 'due'`) are read
before each pass. What Customer.io reported is never sent back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from sqlalchemy.engine import Connection

from connector.core import activity, selection, ulid
from connector.records import Event
from connector.settings import Events, Settings
from connector.store import database, due_events, inbox
from connector.store.database import Database

TOO_OLD = "too_old"
_CHUNK = 500


def judged(event: Event, wanted: Events, now: datetime) -> Event:
    """An event of our own as it is read now."""
    url = activity.page_url(event.properties, event.context) if event.type == "page" else None
    if not selection.wanted(event.type, event.name, url, wanted):
        return event
    if event.received_at - event.occurred_at > wanted.max_age:
        return replace(event, outbound="skipped", reason=TOO_OLD, settled_at=now)
    return replace(event, outbound="due", due_at=now)


def users(events: Sequence[Event]) -> set[str]:
    """Whose events are due."""
    return {event.user_id for event in events if event.outbound == "due" and event.user_id is not None}


def read_asked(db: Database, settings: Settings, clock: Callable[[], datetime]) -> int:
    """Reads what SQL asks to have sent, in small transactions; returns how many events that were."""
    count = 0
    while db.read(due_events.asked_for, 1):
        count += db.write(_read_asked, settings.events, clock())
    return count


def _read_asked(connection: Connection, wanted: Events, now: datetime) -> int:
    database.lock_identities(connection)
    asked = due_events.asked_for(connection, _CHUNK)
    merged = due_events.survivors(connection, {event.user_id for _, event in asked if event.user_id is not None})
    due_events.decided(connection, [(number, _asked(event, merged, wanted, now)) for number, event in asked], now)
    return len(asked)


def _asked(event: Event, merged: Mapping[str, str], wanted: Events, now: datetime) -> Event:
    history = replace(event, activity_id=event.activity_id or _derived(event), outbound="none", reason=None)
    if event.user_id is None or event.source == inbox.CUSTOMERIO:
        return history
    return judged(replace(history, user_id=merged.get(event.user_id, event.user_id)), wanted, now)


def again(connection: Connection, ids: Sequence[int], now: datetime, *, only_parked: bool = False) -> int:
    """Makes events due that are not, in the caller's transaction, whatever the settings want; returns how many they
    were. Customer.io ignores those that it has, by their ids."""
    database.lock_identities(connection)
    due_events.name(connection, {each.id: _derived(each) for each in due_events.nameless(connection, ids)})
    return due_events.again(connection, ids, now, only_parked=only_parked)


def _derived(event: Event | due_events.Nameless) -> str:
    return ulid.activity_id(event.source, event.source_id, event.occurred_at)
