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
from datetime import datetime
from typing import Any

from connector.core import erased, merge, same, text, ulid
from connector.inbound import due, identities
from connector.inbound.batch import Batch
from connector.inbound.identities import FRESH, Draft, Identities, Said
from connector.records import Event, Identifier, InboxRow, Message, Word
from connector.settings import Settings

_EVENTS = frozenset({"track", "page", "screen"})


def lookups(message: Message) -> list[Identifier]:
    """Everyone whom it names."""
    return [*_said(message).names, *_previous(message)]


def without(message: Message, kept_out: frozenset[Identifier]) -> Message:
    """The message without what named people who were erased."""
    if not kept_out.isdisjoint(_previous(message)):
        message = replace(message, previous_id=None)
    return erased.without(message, kept_out)


def place(batch: Batch, row: InboxRow, message: Message, settings: Settings, now: datetime) -> None:
    """Finds, makes or merges the user of one message, which is read `now`, and notes what follows from it."""
    opt_out = settings.people.opt_out
    said = _said(message)
    found = batch.identities.find(said)
    was_known = found.draft is not None and _is_known(found.draft)
    draft = batch.identities.settle(said, found, row.received_at)
    if message.type == "alias":
        _alias(batch.identities, draft, message, row)
    if opt_out and message.public:
        message = _without_opt_in(draft, message, opt_out)
    if opt_out and isinstance(says := merge.at(message.traits, opt_out), bool):
        at = min(message.occurred_at, row.received_at)
        batch.words[draft.id].append(Word(at, opted_out=says, by="own"))
    _describe(draft, message)
    if not message.imported and not was_known and (draft.is_new or _is_known(draft)):
        draft.fresh_until = row.received_at + FRESH
    if message.type in _EVENTS:
        context = message.context
        if found.taken:
            context = {**context, "flags": [*context.get("flags", []), "identity_conflict"]}
        event = _event(row, replace(message, context=context), draft.id)
        batch.events.append(event if message.imported else due.judged(event, settings.events, now))


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
            draft.changed = True
        return
    identifier, owner = owned[0]
    previous = known.draft(owner)
    if previous is None or previous is draft:
        return
    if message.public and _is_out_of_reach(previous, draft):
        known.conflict(draft, identifier, row.received_at)
        return
    known.merge(previous, draft)


def _without_opt_in(draft: Draft, message: Message, opt_out: str) -> Message:
    """Anybody can send what a web page sends: it takes no opt-out back, and says none of who has an external_id."""
    if merge.at(message.traits, opt_out) is True and draft.external_id is None:
        return message
    group = opt_out.partition(".")[0]
    if merge.at(draft.attributes, opt_out) is None:
        return replace(message, traits=merge.without(message.traits, opt_out))
    # The group that it stands in would come whole, and without it.
    return replace(message, traits={name: value for name, value in message.traits.items() if name != group})


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
