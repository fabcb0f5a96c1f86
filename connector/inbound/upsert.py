"""Rows of an import become users and events; whom a row means is decided as for every message (`identities`).

A row of users can't be taken when an identifier in it is another known user's. Such a row changes nothing and its
reason is `email_taken` or `anonymous_id_taken`. A row of events is taken all the same: the event is that of the
strongest identifier, and the conflict is noted. Neither is taken when it is about somebody who was erased.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Literal

from sqlalchemy.engine import Connection

from connector.core import erased, merge, same, ulid
from connector.inbound import batch, due, identities
from connector.inbound.identities import Draft, Identities, Said
from connector.records import Event, EventRow, Identifier, UserRow, Word
from connector.settings import Events
from connector.store import database, due_events, kept_out, pending
from connector.store import events as event_store

Result = Literal["created", "updated", "unchanged", "email_taken", "anonymous_id_taken", "erased"]
EventResult = Literal["triggering", "due", "too_old", "not_whitelisted", "stored", "duplicate", "erased"]

IMPORT = "import"
_BEFORE = timedelta(microseconds=1)
TAKEN = {
    "email_taken": "another user has this email already",
    "anonymous_id_taken": "another user has this anonymous_id already",
}


def upsert(connection: Connection, rows: Sequence[UserRow], now: datetime, opt_out: str = "") -> list[Result]:
    """Takes the rows in order, in the caller's transaction; one result for each. `opt_out` is the path of the attribute
    that says whether they have unsubscribed."""
    database.lock_identities(connection)
    who, known, gone = _load(connection, rows)
    words: defaultdict[str, list[Word]] = defaultdict(list)
    results: list[Result] = []
    for said, row in zip(who, rows, strict=True):
        if gone and _is_about(said, gone, known):
            results.append("erased")
            continue
        theirs = erased.without(row, gone)
        results.append(_take(known, said if theirs is row else _said(theirs), theirs, now, words, opt_out))
    pending.lock(connection, known.users)
    known.write(connection, None, now)
    batch.learn(connection, known, words, now)
    return results


def events(
    connection: Connection, rows: Sequence[EventRow], now: datetime, send: Events | None = None
) -> list[EventResult]:
    """Stores the events in order, in the caller's transaction, making users of whom nobody knows; one result for each.

    Without `send` they are history; with it, it says which of them are due (`triggering`: so young that they trigger
    campaigns). Two rows with one id are one event; one that is there already stays as it is.
    """
    database.lock_identities(connection)
    who, known, gone = _load(connection, rows)
    there = event_store.present(connection, IMPORT, [row.source_id for row in rows])
    results: list[EventResult] = []
    placed: list[Event] = []
    for said, row in zip(who, rows, strict=True):
        if row.source_id in there:
            results.append("duplicate")
            continue
        if gone and _is_about(said, gone, known):
            results.append("erased")
            continue
        there.add(row.source_id)
        theirs = said if not gone else _said(erased.without(row, gone))
        draft = known.settle(theirs, known.find(theirs), now)
        event = _event(row, draft.id, now)
        if send is not None:
            event = due.judged(event, send, now)
        placed.append(event)
        results.append("stored" if send is None else _fate(event, now))
    placed = [replace(event, user_id=known.survivor(str(event.user_id))) for event in placed]
    due_of = due.users_of(placed)
    pending.lock(connection, due_of | known.users)
    known.write(connection, None, now)
    event_store.add(connection, placed)
    due_events.mark(connection, due_of, now)
    return results


def _fate(event: Event, now: datetime) -> EventResult:
    if event.outbound == "none":
        return "not_whitelisted"
    if event.outbound == "skipped":
        return "too_old"
    return "triggering" if event.occurred_at > now - due_events.TRIGGERS else "due"


def _load(
    connection: Connection, rows: Sequence[UserRow] | Sequence[EventRow]
) -> tuple[list[Said], Identities, frozenset[Identifier]]:
    """Who is said, who is known, and which of the identifiers were an erased person's."""
    who = [_said(row) for row in rows]
    names = [name for said in who for name in said.names]
    return who, Identities.load(connection, names), kept_out.among(connection, names)


def _said(row: UserRow | EventRow) -> Said:
    return identities.said(row.external_id, row.email, row.anonymous_id)


def _is_about(said: Said, gone: frozenset[Identifier], known: Identities) -> bool:
    return erased.is_about(said.names, gone, lambda each: known.owner(each) is not None)


def _take(
    known: Identities, said: Said, row: UserRow, now: datetime, words: defaultdict[str, list[Word]], opt_out: str
) -> Result:
    found = known.find(said)
    if found.taken:
        return "anonymous_id_taken" if found.taken[0].kind == "anonymous_id" else "email_taken"
    draft = found.draft
    if draft is None or found.same or not _says_nothing_new(known, said, row, draft):
        result: Result = "created" if draft is None else "updated"
        draft = known.settle(said, found, now)
        before, draft.attributes = draft.attributes, merge.attributes(draft.attributes, row.attributes)
        if opt_out:
            words[draft.id] += _words(merge.at(before, opt_out), merge.at(draft.attributes, opt_out), now)
        draft.created_at = row.created_at or draft.created_at
        draft.changed = True
        return result
    return "unchanged"


def _words(before: Any, after: Any, now: datetime) -> list[Word]:
    """What a row says of an opt-out. Only one that stands here can be taken back by it: a file that says `false` of
    everybody takes back nothing that Customer.io has told."""
    if after is True and before is not True:
        return [Word(now, opted_out=True, by="own")]
    if before is True and after is False:
        # It may stand here by plain SQL, and be news.
        return [Word(now - _BEFORE, opted_out=True, by="own"), Word(now, opted_out=False, by="own")]
    return []


def _says_nothing_new(known: Identities, said: Said, row: UserRow, draft: Draft) -> bool:
    before = (draft.email, draft.attributes, draft.created_at, draft.known_by)
    after = (
        row.email or draft.email,
        merge.attributes(draft.attributes, row.attributes),
        row.created_at or draft.created_at,
        "own",
    )
    return all(known.owner(each) == draft.id for each in said.names) and same.as_json(before, after)


def _event(row: EventRow, user_id: str, now: datetime) -> Event:
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
    )
