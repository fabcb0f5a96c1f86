"""Rows of an import become users: found by external_id, else by email, a row that has neither by its anonymous_id;
made when nobody is found.

A row can't be taken when an identifier in it is another user's: two known users are never merged by an email that
they share. Such a row changes nothing and its reason is `email_taken` or `anonymous_id_taken`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from sqlalchemy.engine import Connection
from ulid import ULID

from connector.core import merge, same
from connector.records import Identifier, User, UserRow
from connector.store import database, pending, users

Result = Literal["created", "updated", "unchanged", "email_taken", "anonymous_id_taken"]

TAKEN = {
    "email_taken": "another user has this email already",
    "anonymous_id_taken": "another user has this anonymous_id already",
}


@dataclass
class _Draft:
    """A user as the chunk leaves them; several rows of one user change one draft."""

    id: str
    external_id: str | None
    email: str | None
    attributes: dict[str, Any]
    created_at: datetime | None
    is_new: bool
    known_by: str = "own"
    changed: bool = False


@dataclass
class _Chunk:
    known: dict[Identifier, str]
    drafts: dict[str, _Draft]
    named: dict[Identifier, str] = field(default_factory=dict)
    freed: set[Identifier] = field(default_factory=set)


def upsert(connection: Connection, rows: Sequence[UserRow], now: datetime) -> list[Result]:
    """Takes the rows in order, in the caller's transaction; one result for each."""
    database.lock_identities(connection)
    known = users.find(connection, [each for row in rows for each in _identifiers(row)])
    loaded = users.load(connection, sorted(set(known.values())))
    chunk = _Chunk(known, {user_id: _draft(user) for user_id, user in loaded.items()})
    results = [_take(chunk, row) for row in rows]
    _write(connection, chunk, now)
    return results


def _identifiers(row: UserRow) -> list[Identifier]:
    """Strongest first."""
    found = []
    if row.external_id:
        found.append(Identifier("external_id", row.external_id))
    if row.email:
        found.append(Identifier("email", row.email.lower()))
    if row.anonymous_id:
        found.append(Identifier("anonymous_id", row.anonymous_id))
    return found


def _take(chunk: _Chunk, row: UserRow) -> Result:
    draft = _find(chunk, row)
    for each in _identifiers(row):
        owner = chunk.known.get(each)
        if owner is not None and (draft is None or owner != draft.id):
            return "anonymous_id_taken" if each.kind == "anonymous_id" else "email_taken"
    if draft is None:
        draft = _Draft(str(ULID()), None, None, {}, None, is_new=True)
        chunk.drafts[draft.id] = draft
    return _change(chunk, draft, row)


def _find(chunk: _Chunk, row: UserRow) -> _Draft | None:
    """By external_id; else by email, unless that user has an external_id of their own and the row names another.

    By anonymous_id only when the row has nothing else.
    """
    by_id = chunk.known.get(Identifier("external_id", row.external_id)) if row.external_id else None
    if by_id is not None:
        return chunk.drafts[by_id]
    if not row.external_id and not row.email:
        by_anonymous_id = chunk.known.get(Identifier("anonymous_id", row.anonymous_id or ""))
        return chunk.drafts[by_anonymous_id] if by_anonymous_id is not None else None
    by_email = chunk.known.get(Identifier("email", row.email.lower())) if row.email else None
    if by_email is None:
        return None
    draft = chunk.drafts[by_email]
    return None if row.external_id and draft.external_id else draft


def _change(chunk: _Chunk, draft: _Draft, row: UserRow) -> Result:
    after = (
        draft.external_id or row.external_id,
        row.email or draft.email,
        merge.attributes(draft.attributes, row.attributes),
        row.created_at or draft.created_at,
        "own",
    )
    before = (draft.external_id, draft.email, draft.attributes, draft.created_at, draft.known_by)
    new_names = [each for each in _identifiers(row) if each not in chunk.known]
    if same.as_json(before, after) and not new_names and not (draft.is_new and not draft.changed):
        return "unchanged"
    result: Result = "updated" if not draft.is_new or draft.changed else "created"
    if draft.email and row.email and row.email.lower() != draft.email.lower():
        _free(chunk, Identifier("email", draft.email.lower()))
    draft.external_id, draft.email, draft.attributes, draft.created_at, draft.known_by = after
    draft.changed = True
    for each in new_names:
        chunk.known[each] = draft.id
        chunk.named[each] = draft.id
    return result


def _free(chunk: _Chunk, email: Identifier) -> None:
    """The old address names nobody now, so that someone else can come with it."""
    chunk.known.pop(email, None)
    if chunk.named.pop(email, None) is None:
        chunk.freed.add(email)


def _write(connection: Connection, chunk: _Chunk, now: datetime) -> None:
    changed = [draft for draft in chunk.drafts.values() if draft.changed]
    new = [_new_row(draft, now) for draft in changed if draft.is_new]
    old = [_values(draft) for draft in changed if not draft.is_new]
    users.forget(connection, sorted(chunk.freed, key=lambda each: each.value))
    users.add(connection, new, list(chunk.named.items()))
    users.change(connection, old, now)
    pending.mark_mirrored(connection, [each["id"] for each in old], now)


def _draft(user: User) -> _Draft:
    return _Draft(
        user.id,
        user.external_id,
        user.email,
        dict(user.attributes),
        user.created_at,
        is_new=False,
        known_by=user.known_by,
    )


def _values(draft: _Draft) -> dict[str, Any]:
    return {
        "id": draft.id,
        "external_id": draft.external_id,
        "email": draft.email,
        "attributes": draft.attributes,
        "created_at": draft.created_at,
    }


def _new_row(draft: _Draft, now: datetime) -> dict[str, Any]:
    return _values(draft) | {
        "known_by": "own",
        "first_seen_at": now,
        "updated_at": now,
        "opted_out": False,
        "opt_changed_at": None,
        "version": 1,
    }
