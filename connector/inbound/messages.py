"""Whose message of the intake it is, and what it makes of them: attributes, an account, an event, two users one.

A message means the user of its strongest identifier (`identities`). An anonymous visitor who says who they are has
arrived just then: until an hour later they may be created at once.

`alias` says outright that two ids are one user: the one who has `previous_id` is merged into the other, also when both
are known. With a key that stands in web pages it merges nobody who has an external_id, nor gives an address to
somebody who has one. An id that nobody has yet names the user from now on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from connector.core import merge, same, text, ulid
from connector.inbound import identities
from connector.inbound.batch import Batch
from connector.inbound.identities import FRESH, Draft, Identities, Said
from connector.records import Event, Identifier, InboxRow, Message

_EVENTS = frozenset({"track", "page", "screen"})


def lookups(message: Message) -> list[Identifier]:
    """Everyone whom it names."""
    return [*_said(message).names, *_previous(message)]


def place(batch: Batch, row: InboxRow, message: Message) -> None:
    """Finds, makes or merges the user of one message and notes what follows from it."""
    said = _said(message)
    found = batch.identities.find(said)
    was_known = found.draft is not None and _is_known(found.draft)
    draft = batch.identities.settle(said, found, row.received_at)
    if message.type == "alias":
        _alias(batch.identities, draft, message, row)
    _describe(draft, message)
    if not message.imported and not was_known and (draft.is_new or _is_known(draft)):
        draft.fresh_until = row.received_at + FRESH
    if message.type in _EVENTS:
        context = message.context
        if found.taken:
            context = {**context, "flags": [*context.get("flags", []), "identity_conflict"]}
        batch.events.append(_event(row, replace(message, context=context), draft.id))


def _said(message: Message) -> Said:
    return identities.said(message.external_id, message.email, message.anonymous_id, trusted=not message.public)


def _previous(message: Message) -> list[Identifier]:
    """What `previous_id` may be; the spec doesn't say which kind of id it is."""
    given = message.previous_id
    if given is None:
        return []
    found = [Identifier("external_id", given), Identifier("anonymous_id", given)]
    address = text.email_address(given)
    return found if address is None else [*found, Identifier("email", address)]


def _alias(known: Identities, draft: Draft, message: Message, row: InboxRow) -> None:
    owned = [(each, owner) for each in _previous(message) if (owner := known.owner(each)) is not None]
    if not owned:
        if message.previous_id is not None:
            known.name(Identifier("anonymous_id", message.previous_id), draft.id)
        return
    identifier, owner = owned[0]
    previous = known.draft(owner)
    if previous is None or previous is draft:
        return
    if message.public and _is_out_of_reach(previous, draft):
        known.conflict(draft, identifier, row.received_at)
        return
    known.merge(previous, draft)


def _is_out_of_reach(previous: Draft, draft: Draft) -> bool:
    """Whom a browser's key can't merge: a known user, or an address into one."""
    return previous.external_id is not None or (previous.email is not None and draft.external_id is not None)


def _is_known(draft: Draft) -> bool:
    return draft.external_id is not None or draft.email is not None


def _describe(draft: Draft, message: Message) -> None:
    """What the message says of them: traits, the account of a group, since when they are a user."""
    after: Mapping[str, Any] = draft.attributes
    if message.traits:
        after = merge.attributes(after, message.traits)
    if message.account is not None:
        after = merge.attributes(after, {"account": merge.account(after.get("account"), message.account)})
    created_at = message.created_at or draft.created_at
    if created_at != draft.created_at or not same.as_json(draft.attributes, after):
        draft.attributes, draft.created_at, draft.changed = dict(after), created_at, True


def _event(row: InboxRow, message: Message, user_id: str) -> Event:
    return Event(
        source=row.source,
        source_id=message.source_id,
        user_id=user_id,
        type=message.type,
        name=message.name,
        properties=message.properties,
        context=message.context,
        occurred_at=message.occurred_at,
        received_at=row.received_at,
        # By the time as it was given: a repeat is corrected by another clock reading, and must be the same event.
        activity_id=ulid.activity_id(row.source, message.source_id, message.said_at or row.received_at),
    )
