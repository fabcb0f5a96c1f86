"""Identify: creates a person or updates one, or changes nothing and says so only in the activity log.

Follows the Track API reference (PUT customers; identify), docs.customer.io/journeys/identifying-people and
importing-old-data: a path that names nobody takes the person its body names; `_update` without a match does
nothing; an identifier that is set changes only through the cio_id; an unknown cio_id is dropped; an
anonymous_id belongs to one person, and attaches what it did before.

Stricter readings of what is unverified:
- An identify that can't change an identifier (taken by another person, set already, not an email) changes
  nothing at all; nor does one with somebody else's anonymous_id. Merging is off: two profiles that one
  identify names stay two.
- An identify older than the person's last change, ours or another writer's (reported by users, not in the
  documents) changes nothing. Whole seconds; equal ones apply. Without a timestamp the time of receipt
  counts; a bare person, made by an event, has no change yet.
- An identify that would leave the person with more than 300 attributes, identifiers not counted, or with
  preferences that dotted names make larger than one value can be, changes nothing.
- Phones are turned on as identifiers, since v2 takes one in `identifiers`. So a `phone` among the attributes of
  v2 (or of another writer's edit) is one too: nobody else's, E.164, set once. v1 has no phones: there it is an
  attribute like any other, and goes when v2 makes it an identifier.
- A deleted person's anonymous_id is free again: the reference lets anybody be re-created.
"""

from __future__ import annotations

from typing import Any

from connector.sandbox import operations
from connector.sandbox.operations import Edit, Identifier, Identify, Kind
from connector.sandbox.rules import attributes, capacity, relating
from connector.sandbox.rules.people import Person
from connector.sandbox.rules.workspace import Refusal, Workspace


def identify(workspace: Workspace, operation: Identify) -> None:
    person, refusal = _target(workspace, operation)
    if refusal is not None:
        workspace.refuse(refusal, "identify", operation.who)
        return
    stamp = workspace.seconds() if operation.timestamp is None else operation.timestamp
    if person is not None and person.changed_at is not None and stamp < person.changed_at:
        detail = f"{stamp} is before {person.changed_at}"
        workspace.refuse("older_timestamp", "identify", operation.who, detail)
        return
    after = attributes.merged_of_person(person.attributes if person else {}, operation.attributes)
    if operation.sets.get("phone"):
        after.pop("phone", None)
    if too_much := _too_much(after):
        workspace.refuse(too_much, "identify", operation.who)
        return
    identifiers = _identifiers(person, operation)
    what = "updated" if person else "created"
    person = person or workspace.people.create(workspace.seconds())
    for kind in person.identifiers.keys() | identifiers.keys():
        if person.identifiers.get(kind) != identifiers.get(kind):
            workspace.people.name(person, kind, identifiers.get(kind))
    person.attributes = after
    person.changed_at = stamp
    workspace.applied[what] += 1
    if operation.anonymous_id is not None:
        _adopt(workspace, person, operation.anonymous_id)
    if operation.relate is not None:
        relating.relate(workspace, operation.relate)


def edit(workspace: Workspace, operation: Edit) -> None:
    """Another writer's change; it may also change identifiers, as on the website."""
    person = workspace.reach(operation.who, "edit")
    if person is None:
        return
    after_last = 0 if person.changed_at is None else person.changed_at + 1
    stamp = max(workspace.seconds(), after_last) if operation.timestamp is None else operation.timestamp
    who = Identifier("cio_id", person.cio_id)
    changed = operations.identify(who, operation.attributes, update_only=True, timestamp=stamp, phone_identifies=True)
    identify(workspace, changed)


def _too_much(after: dict[str, Any]) -> Refusal | None:
    """What a person's attributes would be too much of, all in all."""
    if len(after) > capacity.ATTRIBUTES:
        return "too_many_attributes"
    # All other values replace what was there, so their request has been measured; this one grows entry by entry.
    if capacity.size(after.get(attributes.PREFERENCES)) > capacity.ATTRIBUTE_VALUE_BYTES:
        return "too_large"
    return None


def _adopt(workspace: Workspace, person: Person, anonymous_id: str) -> None:
    """What the anonymous id did becomes the person's, and what it will do in the next five minutes."""
    now = workspace.seconds()
    workspace.people.bind(person, anonymous_id, now)
    attached = workspace.anonymous.take(anonymous_id, now)
    person.activities += attached
    if attached:
        workspace.applied["attached"] += len(attached)
    workspace.objects.adopt(anonymous_id, person)


def _target(workspace: Workspace, operation: Identify) -> tuple[Person | None, Refusal | None]:
    """Whom an identify is about (None: somebody new), or why it changes nothing."""
    who, people = operation.who, workspace.people
    named = [who, *(Identifier(kind, value) for kind, value in operation.sets.items() if value is not None)]
    anonymous_name = Identifier("anonymous_id", operation.anonymous_id) if operation.anonymous_id else None
    for each in (*named, anonymous_name) if anonymous_name else named:
        if unusable := workspace.unusable(each):
            return None, unusable
    found = {person.cio_id: person for each in named if (person := people.find(each))}
    if len(found) > 1:
        return None, "identity_conflict"
    person = next(iter(found.values()), None)
    if who.kind == "cio_id" and people.find(who) is None:
        return None, "unknown_cio_id"
    owner = people.find(anonymous_name) if anonymous_name else None
    if person is None and operation.update_only:
        return None, "no_match"
    if owner is not None and owner is not person:
        return None, "identity_conflict"
    if person is None:
        return None, "identity_conflict" if _contradicts_itself(operation) else None
    return person, None if _may_change(workspace, person, operation) else "identifier_set"


def _contradicts_itself(operation: Identify) -> bool:
    """Whether the body of a new person gives another value for what the path names."""
    who = operation.who
    same_kind = operation.sets.get(who.kind, who.value)
    return same_kind is None or Identifier(who.kind, same_kind).key != who.key


def _may_change(workspace: Workspace, person: Person, operation: Identify) -> bool:
    by = operation.who.kind
    if by == "cio_id":
        return True
    wanted: list[tuple[Kind, str | None]] = [(by, operation.who.value), *operation.sets.items()]
    for kind, value in wanted:
        current = person.identifiers.get(kind)
        if current is None:
            continue
        changes = value is None or Identifier(kind, value).key != Identifier(kind, current).key
        if changes and not (kind == "email" and by == "id" and workspace.email_updates_by_id):
            return False
    return True


def _identifiers(person: Person | None, operation: Identify) -> dict[Kind, str]:
    """The person's identifiers after this identify, which has been found to be allowed."""
    result = dict(person.identifiers) if person else {}
    if operation.who.kind != "cio_id":
        result.setdefault(operation.who.kind, operation.who.value)
    for kind, value in operation.sets.items():
        if value is None:
            result.pop(kind, None)
        else:
            result[kind] = value
    return result
