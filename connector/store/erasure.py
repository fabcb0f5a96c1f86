"""Removing all that is stored of one person.

    begin (hashes, and a note that it has begun) -> ... -> events, in pages -> finish (all the rest, and the note)

Whoever was merged into them is the same person and goes too. An identifier that names somebody else by now is never
taken for theirs, whatever stands in their row.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from connector.records import CustomerId, Identifier
from connector.store import database, kept_out, mirror, users
from connector.store.schema import attempts, conflicts, events, facts, held, identifiers, inbox, pending
from connector.store.schema import mirror as people
from connector.store.schema import users as user_rows

PAGE = 2000
_BYTES = 4 * 1024 * 1024
_BEGUN = "erasing "


@dataclass(frozen=True, slots=True)
class Erasure:
    """One person's, as it was begun at `at`: their own ids, then of those who were merged into them; all that
    names them; and what Customer.io may know them by, the id that was sent first."""

    user_ids: tuple[str, ...]
    names: frozenset[Identifier]
    known_as: tuple[CustomerId, ...]
    at: datetime


class Body(NamedTuple):
    """A raw message that is kept."""

    id: int
    source: str
    source_id: str
    state: str
    received_at: datetime
    body: bytes


def with_merged(connection: Connection, user_ids: Sequence[str]) -> list[str]:
    """These users, and after them those who were merged into one of them. Reads the table."""
    found = newest = list(user_ids)
    while newest:
        merged = sa.select(user_rows.c.id).where(user_rows.c.merged_into.in_(newest)).order_by(user_rows.c.id)
        newest = list(connection.execute(merged).scalars())
        found = found + newest
    return found


def begin(connection: Connection, user_ids: Sequence[str], today: Iterable[CustomerId], now: datetime) -> Erasure:
    """From now on nothing new is taken about the person whose users these are; `today` are the ids under which they
    would be sent. The same again when that was begun before. The identity lock is held."""
    names, known_as = _names(connection, user_ids, today)
    kept = [(each.kind, each.value) for each in sorted(names)] + [("user_id", each) for each in user_ids]
    at = kept_out.add(connection, kept, now)
    notes = [{"name": _BEGUN + user_id, "value": {}} for user_id in user_ids]
    connection.execute(database.insert(connection, facts).on_conflict_do_nothing(), notes)
    return Erasure(tuple(user_ids), names, known_as, at)


def begun(connection: Connection) -> set[str]:
    """Users who are still here and whose erasure has begun."""
    notes = connection.execute(sa.select(facts.c.name).where(facts.c.name.startswith(_BEGUN))).scalars()
    return {each.removeprefix(_BEGUN) for each in notes}


def written_again(connection: Connection, given: str) -> list[str]:
    """Users whom plain SQL has written under an external_id or address by which nobody is found. Reads the table."""
    by_id, by_email = identifiers.alias(), identifiers.alias()
    query = (
        sa.select(user_rows.c.id)
        .outerjoin(by_id, sa.and_(by_id.c.kind == "external_id", by_id.c.value == user_rows.c.external_id))
        .outerjoin(by_email, sa.and_(by_email.c.kind == "email", by_email.c.value == sa.func.lower(user_rows.c.email)))
        .where(
            sa.or_(
                sa.and_(user_rows.c.external_id == given, by_id.c.user_id.is_(None)),
                sa.and_(sa.func.lower(user_rows.c.email) == given.lower(), by_email.c.user_id.is_(None)),
            )
        )
        .order_by(user_rows.c.id)
    )
    return list(connection.execute(query).scalars())


def remove_events(connection: Connection, user_ids: Sequence[str]) -> int:
    """The next PAGE of their events, and the raw messages that these were made of are empty; returns how many events
    that were."""
    found = connection.execute(
        sa.select(events.c.id, events.c.source, events.c.source_id).where(events.c.user_id.in_(user_ids)).limit(PAGE)
    ).all()
    for source in {row.source for row in found}:
        made_of = sa.and_(inbox.c.source == source, inbox.c.source_id.in_(database.texts(connection)))
        ids = database.dumps([row.source_id for row in found if row.source == source])
        connection.execute(_emptying().where(made_of), {"texts": ids})
    doomed = events.c.id.in_(database.ids(connection))
    connection.execute(sa.delete(events).where(doomed), {"ids": database.dumps([row.id for row in found])})
    return len(found)


def finish(connection: Connection, erasure: Erasure) -> dict[str, int]:
    """All the rest, in one transaction; returns how many rows of each table that were.

    Whoever works on them records that under a lock on their pending row, and finds it gone: nothing is written back.
    """
    database.lock_identities(connection)
    ids = erasure.user_ids
    users.lock(connection, ids)
    mirror.lock(connection, ids)
    counts = {
        table.name: connection.execute(sa.delete(table).where(table.c.user_id.in_(ids))).rowcount
        for table in (pending, held, attempts, conflicts, events, people, identifiers)
    }
    for each in erasure.names:
        # What was given for somebody else, and was theirs.
        refused = conflicts.c.kind == each.kind, conflicts.c.value == each.value
        counts["conflicts"] += connection.execute(sa.delete(conflicts).where(*refused)).rowcount
    counts["users"] = connection.execute(sa.delete(user_rows).where(user_rows.c.id.in_(ids))).rowcount
    connection.execute(sa.delete(facts).where(facts.c.name.in_([_BEGUN + each for each in ids])))
    return counts


def last_message(connection: Connection) -> int:
    """The id of the newest raw message."""
    return connection.execute(sa.select(sa.func.max(inbox.c.id))).scalar_one() or 0


def messages(connection: Connection, after: int, last: int) -> list[Body]:
    """Raw messages behind `after`, up to `last`, in arrival order, at most PAGE of them and about _BYTES; those that
    are new are left to the reader, and the empty ones are left out. The first statements of their transaction."""
    database.as_of_now(connection)  # or retention, in between, leaves a page empty that is not the last
    size = sa.func.length(inbox.c.body)
    sizes = connection.execute(
        sa.select(inbox.c.id, size)
        .where(inbox.c.id > after, inbox.c.id <= last, inbox.c.state != "new", size > 0)
        .order_by(inbox.c.id)
        .limit(PAGE)
    )
    chosen: list[int] = []
    total = 0
    for message_id, length in sizes:
        if chosen and total + length > _BYTES:
            break
        chosen.append(message_id)
        total += length
    columns = [inbox.c[name] for name in Body._fields]
    query = sa.select(*columns).where(inbox.c.id.in_(database.ids(connection))).order_by(inbox.c.id)
    return [Body(*row) for row in connection.execute(query, {"ids": database.dumps(chosen)})]


def empty(connection: Connection, message_ids: Sequence[int]) -> None:
    """Nothing is left of these messages but that they came."""
    if message_ids:
        chosen = inbox.c.id.in_(database.ids(connection))
        connection.execute(_emptying().where(chosen), {"ids": database.dumps(message_ids)})


def _emptying() -> sa.Update:
    return sa.update(inbox).values(body=b"", state="ignored", reason="erased")


def _names(
    connection: Connection, user_ids: Sequence[str], today: Iterable[CustomerId]
) -> tuple[frozenset[Identifier], tuple[CustomerId, ...]]:
    """All that is theirs, and what of it Customer.io may know."""
    sent = connection.execute(
        sa.select(people.c.id_kind, people.c.customer_id)
        .where(people.c.user_id.in_(user_ids))
        .order_by(people.c.deleted_at.is_not(None), people.c.user_id)
    )
    claimed = [_identifier(CustomerId(kind, value)) for kind, value in sent]
    stored = connection.execute(
        sa.select(identifiers.c.kind, identifiers.c.value)
        .where(identifiers.c.user_id.in_(user_ids))
        .order_by(identifiers.c.kind.desc(), identifiers.c.value)
    )
    claimed += [Identifier(*row) for row in stored]
    claimed += [_identifier(each) for each in today]
    for user in users.load(connection, user_ids).values():
        claimed += [Identifier("external_id", user.external_id)] if user.external_id else []
        claimed += [Identifier("email", user.email.lower())] if user.email else []
    theirs = _not_of_others(connection, claimed, user_ids)
    known_as = [found for each in theirs if (found := _customer_id(each)) is not None]
    return frozenset(theirs), tuple(dict.fromkeys(known_as))


def _identifier(customer_id: CustomerId) -> Identifier:
    return Identifier("customer_id" if customer_id.kind == "id" else customer_id.kind, customer_id.value)


def _customer_id(identifier: Identifier) -> CustomerId | None:
    match identifier.kind:
        case "customer_id":
            return CustomerId("id", identifier.value)
        case "email" | "cio_id" as kind:
            return CustomerId(kind, identifier.value)
        case _:
            return None


def _not_of_others(connection: Connection, claimed: Iterable[Identifier], user_ids: Sequence[str]) -> list[Identifier]:
    """Those that are no other user's, neither as identifier nor as the id of a living person at Customer.io."""
    claimed = list(dict.fromkeys(claimed))
    by_id = {each: Identifier("external_id", each.value) for each in claimed if each.kind == "customer_id"}
    owners = users.find(connection, [*claimed, *by_id.values()])
    sent = mirror.owners(connection, {each.value for each in claimed})
    return [
        each
        for each in claimed
        if {
            owners.get(each),
            # An id of Customer.io's may be the external_id of somebody whom it was not told of yet.
            owners.get(by_id.get(each, each)),
            sent.get(each.value) if _customer_id(each) is not None else None,
        }
        <= {None, *user_ids}
    ]
