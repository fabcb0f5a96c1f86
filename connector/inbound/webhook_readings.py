"""Whose event a webhook of Customer.io is. It names a person by customer id, cio_id and email, the strongest first.

Whom nobody knows becomes a user whom only Customer.io has told us of. A webhook never makes one user of two.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from sqlalchemy.engine import Connection

from connector.core import learnt, naming, ulid
from connector.inbound.batch import Batch
from connector.inbound.identities import Identities
from connector.records import Event, Identifier, InboxRow, Reading
from connector.settings import Settings
from connector.store import mirror, users


def lookups(reading: Reading, settings: Settings) -> list[Identifier]:
    """Where to look for the user, strongest first: the customer id as it was sent, our own id, cio_id, email."""
    found: list[Identifier] = []
    for each in reading.identifiers:
        found.append(each)
        if each.kind == "customer_id" and "external_id" in settings.people.customer_id:
            found.append(Identifier("external_id", each.value))
    return found


def without(reading: Reading, kept_out: frozenset[Identifier]) -> Reading:
    """The reading without what named people who were erased."""
    if kept_out.isdisjoint(reading.identifiers):
        return reading
    return replace(reading, identifiers=tuple(each for each in reading.identifiers if each not in kept_out))


def with_ids(
    connection: Connection, identities: Identities, wanted: Sequence[Sequence[Identifier]], settings: Settings
) -> set[str]:
    """Of the users whom nothing but an email matches, those who have an id that Customer.io could know them by."""
    by_email = {identities.owner(of_one[-1]) or "" for of_one in wanted if _by_email_alone(of_one, identities)}
    return users.named_by(connection, by_email, _id_kinds(settings)) if by_email else set()


def lives(
    connection: Connection, identities: Identities, wanted: Sequence[Sequence[Identifier]]
) -> dict[str, datetime | None]:
    """Of the users to whom a webhook would give a cio_id: since when they are the person that they are there."""
    unknown = (names for names in wanted if any(_is_new_cio_id(each, identities) for each in names))
    owners = {owner for names in unknown for each in names if (owner := identities.owner(each)) is not None}
    return mirror.lives(connection, owners) if owners else {}


def place(batch: Batch, row: InboxRow, reading: Reading, wanted: Sequence[Identifier], settings: Settings) -> None:
    """Finds or makes the user of one reading and notes what follows from it; `wanted` are its lookups."""
    identities = batch.identities
    owners = [owner for each in wanted if (owner := identities.owner(each)) is not None]
    user_id = owners[0] if owners else None
    context = reading.context
    word = reading.word
    # It may be about somebody else, who only shares the email of a user whose own id is another one.
    is_doubtful = user_id is not None and _by_email_alone(wanted, identities) and _has_id(batch, user_id, settings)
    if word is not None and is_doubtful:
        word = learnt.without_consent(word)
    if user_id is None and wanted:
        user_id = _make_user(batch, reading.identifiers, settings, row.received_at)
    elif any(owner != user_id for owner in owners):
        # The strongest identifier wins, the other user keeps theirs.
        context = {**context, "flags": [*context.get("flags", []), "identity_conflict"]}
    if user_id is not None:
        for each in reading.identifiers:
            if _is_new_cio_id(each, identities) and not is_doubtful and _is_of_today(batch, user_id, reading):
                identities.name(each, user_id)
                batch.reachable.append(user_id)
        if word is not None:
            batch.words[user_id].append(word)
    if naming.ignored(reading.kind, settings.webhooks.ignore):
        return
    batch.events.append(
        Event(
            source=row.source,
            source_id=reading.source_id,
            user_id=user_id,
            type="track",
            name=reading.name,
            properties=reading.properties,
            context=context,
            occurred_at=reading.occurred_at,
            received_at=row.received_at,
            activity_id=ulid.activity_id(row.source, reading.source_id, reading.occurred_at),
        )
    )


def _is_new_cio_id(identifier: Identifier, identities: Identities) -> bool:
    return identifier.kind == "cio_id" and identities.owner(identifier) is None


def _is_of_today(batch: Batch, user_id: str, reading: Reading) -> bool:
    """Not of a person who was deleted: who comes back is another one there, and what is sent to the first is lost."""
    if user_id not in batch.lives:
        return True
    since = batch.lives[user_id]
    # What is reported has whole seconds.
    return since is not None and reading.occurred_at >= since.replace(microsecond=0)


def _by_email_alone(wanted: Sequence[Identifier], identities: Identities) -> bool:
    """The webhook names an id, and it is nobody's here; the email is somebody's."""
    if len(wanted) < 2 or wanted[0].kind != "customer_id" or wanted[-1].kind != "email":
        return False
    return identities.owner(wanted[-1]) is not None and all(identities.owner(each) is None for each in wanted[:-1])


def _has_id(batch: Batch, user_id: str, settings: Settings) -> bool:
    draft = batch.identities.draft(user_id)
    by_draft = draft is not None and draft.external_id is not None and "external_id" in settings.people.customer_id
    return by_draft or user_id in batch.with_ids


def _id_kinds(settings: Settings) -> set[str]:
    return {"customer_id", "external_id"} & {"customer_id", *settings.people.customer_id}


def _make_user(batch: Batch, named: Sequence[Identifier], settings: Settings, seen_at: datetime) -> str:
    """A user whom only Customer.io has told us of: never sent, until our own data knows them too."""
    ours = settings.people.customer_id[0] == "external_id"
    stored = [Identifier("external_id", each.value) if each.kind == "customer_id" and ours else each for each in named]
    values = {each.kind: each.value for each in stored}
    draft = batch.identities.make(seen_at, known_by="customerio")
    draft.external_id = values.get("external_id")
    draft.email = values.get("email")
    for each in stored:
        batch.identities.name(each, draft.id)
    if not {"customer_id", "external_id"}.isdisjoint(values):
        batch.with_ids.add(draft.id)
    return draft.id
