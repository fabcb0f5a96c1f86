"""Rows of an import become users and events; whom a row means is decided as for every message (`identities`).

A row of users can't be taken when an identifier in it is another known user's. Such a row changes nothing and its
reason is `email_taken` or `anonymous_id_taken`. A row of events is taken all the same: the event is that of the
strongest identifier, and the conflict is noted.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Literal

from sqlalchemy.engine import Connection

from connector.core import merge, same, ulid
from connector.inbound import identities
from connector.inbound.identities import Draft, Identities, Said
from connector.records import Event, EventRow, UserRow
from connector.store import database
from connector.store import events as event_store

Result = Literal["created", "updated", "unchanged", "email_taken", "anonymous_id_taken"]
EventResult = Literal["stored", "duplicate"]

IMPORT = "import"
TAKEN = {
    "email_taken": "another user has this email already",
    "anonymous_id_taken": "another user has this anonymous_id already",
}


def upsert(connection: Connection, rows: Sequence[UserRow], now: datetime) -> list[Result]:
    """Takes the rows in order, in the caller's transaction; one result for each."""
    database.lock_identities(connection)
    who, known = _load(connection, rows)
    results = [_take(known, said, row, now) for said, row in zip(who, rows, strict=True)]
    known.write(connection, None, now)
    return results


def events(connection: Connection, rows: Sequence[EventRow], now: datetime, *, send: bool = False) -> list[EventResult]:
    """Stores the events in order, in the caller's transaction, making users of whom nobody knows; one result for each.

    Without `send` they are history. Two rows with one id are one event; one that is there already stays as it is.
    """
    database.lock_identities(connection)
    who, known = _load(connection, rows)
    there = event_store.present(connection, IMPORT, [row.source_id for row in rows])
    results: list[EventResult] = []
    placed: list[tuple[EventRow, str]] = []
    for said, row in zip(who, rows, strict=True):
        if row.source_id in there:
            results.append("duplicate")
            continue
        there.add(row.source_id)
        draft = known.settle(said, known.find(said), now)
        placed.append((row, draft.id))
        results.append("stored")
    known.write(connection, None, now)
    event_store.add(connection, [_event(row, known.survivor(user_id), now, send=send) for row, user_id in placed])
    return results


def _load(connection: Connection, rows: Sequence[UserRow] | Sequence[EventRow]) -> tuple[list[Said], Identities]:
    who = [identities.said(row.external_id, row.email, row.anonymous_id) for row in rows]
    return who, Identities.load(connection, [name for said in who for name in said.names])


def _take(known: Identities, said: Said, row: UserRow, now: datetime) -> Result:
    found = known.find(said)
    if found.taken:
        return "anonymous_id_taken" if found.taken[0].kind == "anonymous_id" else "email_taken"
    draft = found.draft
    if draft is None or found.same or not _says_nothing_new(known, said, row, draft):
        result: Result = "created" if draft is None else "updated"
        draft = known.settle(said, found, now)
        draft.attributes = merge.attributes(draft.attributes, row.attributes)
        draft.created_at = row.created_at or draft.created_at
        draft.changed = True
        return result
    return "unchanged"


def _says_nothing_new(known: Identities, said: Said, row: UserRow, draft: Draft) -> bool:
    before = (draft.email, draft.attributes, draft.created_at, draft.known_by)
    after = (
        row.email or draft.email,
        merge.attributes(draft.attributes, row.attributes),
        row.created_at or draft.created_at,
        "own",
    )
    return all(known.owner(each) == draft.id for each in said.names) and same.as_json(before, after)


def _event(row: EventRow, user_id: str, now: datetime, *, send: bool) -> Event:
    return Event(
        source=IMPORT,
        source_id=row.source_id,
        user_id=user_id,
        type=row.type,
        name=row.name,
        properties=row.properties,
        context=row.context,
        occurred_at=row.occurred_at,
        received_at=now,
        activity_id=ulid.activity_id(IMPORT, row.source_id, row.occurred_at),
        outbound="due" if send else "none",
    )
