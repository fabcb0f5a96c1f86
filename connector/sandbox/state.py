"""The workspace: who is there, what they did, which calls came in, and what was refused without a word.

Plain Python, no I/O; the clock is an argument. `apply` takes one operation and never fails: Customer.io has
already answered 200 when it applies, so what it can't apply shows only in its activity log (`log` here),
under one of the words of `Refusal`.

Documented (docs.customer.io: Track API reference, identifying people, deleting users, importing old data):
create or update; a path that names nobody takes the person its body names; `_update` without a match does
nothing; an identifier that is set changes only through the cio_id; an unknown cio_id is dropped; a repeated
event ULID is ignored; delete forgets everything, also the opt-out.

Stricter readings of what is unverified:
- An identify that can't change an identifier (taken by another person, set already, not an email) changes
  nothing at all. Merging is off: two profiles that one identify names stay two.
- `null` clears an attribute of a person (recorded live traffic shows it for v1), and so does "", which is
  documented for objects only: it isn't kept as empty text.
- An identify older than the person's last change (reported by users, not in the documents) changes nothing.
  Whole seconds; equal ones apply. Identifies without a timestamp count with the time of receipt; a bare
  person, made by an event, has no change yet.
- An identify that would leave the person with more than 300 attributes, identifiers not counted, changes
  nothing.
- Repeated ULIDs are ignored for good, also another person's and a deleted person's, in any letter case. An
  id that isn't a ULID is kept and not compared.
- An event for an unknown id, email or phone creates a bare person. A deleted person's activities are gone.
"""

from __future__ import annotations

import re
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from connector.sandbox import limits
from connector.sandbox.operations import Delete, Identifier, Identify, Kind, Operation, Track
from connector.sandbox.people import Activity, People, Person

Refusal = Literal[
    "identity_conflict",  # the identifiers of one identify name two people
    "identifier_set",  # an identifier that is set changes only through the cio_id
    "invalid_email",
    "no_match",  # `_update`, and nobody there
    "unknown_cio_id",
    "unknown_person",  # a delete, and nobody there
    "older_timestamp",
    "too_many_attributes",
    "repeated_event",
]

_ULID = re.compile(r"[0-7][0-9a-hjkmnp-tv-z]{25}", re.IGNORECASE)
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+")
_PREFERENCES = "cio_subscription_preferences"
_CALL_BYTES_KEPT = 64 * 1024 * 1024
_CALL_OVERHEAD = 500
_LOG_KEPT = 10_000


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One thing that answered 200 and had no effect. `what` is identify, delete, event, page or screen."""

    at: float
    what: str
    reason: Refusal
    who: Identifier | None
    detail: str


@dataclass(frozen=True, slots=True)
class Call:
    """A request as received."""

    at: float
    method: str
    path: str
    status: int
    body: bytes


class State:
    """A workspace in memory. `email_updates_by_id` is Customer.io's "Allow updates to email using ID"."""

    def __init__(self, now: Callable[[], float], *, email_updates_by_id: bool = False) -> None:
        self.people = People()
        self.calls: deque[Call] = deque()  # the last ones, as many as 64 MiB hold; `calls_received` counts all
        self.calls_received = 0
        self.log: deque[LogEntry] = deque(maxlen=_LOG_KEPT)
        self.refused: Counter[Refusal] = Counter()
        self.applied: Counter[str] = Counter()  # created, updated, deleted, event, page, screen
        self._now = now
        self._email_updates_by_id = email_updates_by_id
        self._anonymous: list[Activity] = []
        self._seen_ulids: set[str] = set()
        self._activity_number = 0
        self._call_bytes = 0

    def apply(self, operation: Operation) -> None:
        match operation:
            case Identify():
                self._identify(operation)
            case Track():
                self._track(operation)
            case Delete():
                self._delete(operation)

    def find(self, kind: Kind, value: str) -> Person | None:
        return self.people.find(Identifier(kind, value))

    def activities(self) -> list[tuple[Person | None, Activity]]:
        """All that are kept, in the order applied; without a person when anonymous."""
        kept: list[tuple[Person | None, Activity]] = [(None, activity) for activity in self._anonymous]
        kept += [(person, activity) for person in self.people for activity in person.activities]
        return sorted(kept, key=lambda each: each[1].number)

    def activities_kept(self) -> int:
        return len(self._anonymous) + sum(len(person.activities) for person in self.people)

    def received(self, method: str, path: str, status: int, body: bytes) -> None:
        """Notes a call and its answer; the oldest are let go when the bodies take too much memory."""
        self.calls_received += 1
        self.calls.append(Call(self._now(), method, path, status, body))
        self._call_bytes += len(body) + _CALL_OVERHEAD
        while self._call_bytes > _CALL_BYTES_KEPT:
            self._call_bytes -= len(self.calls.popleft().body) + _CALL_OVERHEAD

    def _identify(self, operation: Identify) -> None:
        person, refusal = self._target(operation)
        if refusal is not None:
            self._refuse(refusal, "identify", operation.who)
            return
        stamp = int(self._now()) if operation.timestamp is None else operation.timestamp
        if person is not None and person.changed_at is not None and stamp < person.changed_at:
            detail = f"{stamp} is before {person.changed_at}"
            self._refuse("older_timestamp", "identify", operation.who, detail)
            return
        attributes = _merged(person.attributes if person else {}, operation.attributes)
        if len(attributes) > limits.ATTRIBUTES:
            self._refuse("too_many_attributes", "identify", operation.who)
            return
        identifiers = self._identifiers(person, operation)
        self.applied["updated" if person else "created"] += 1
        person = person or self.people.create(int(self._now()))
        for kind in person.identifiers.keys() | identifiers.keys():
            if person.identifiers.get(kind) != identifiers.get(kind):
                self.people.name(person, kind, identifiers.get(kind))
        person.attributes = attributes
        person.changed_at = stamp

    def _target(self, operation: Identify) -> tuple[Person | None, Refusal | None]:
        """Whom an identify is about (None: somebody new), or why it changes nothing."""
        who = operation.who
        named = [Identifier(kind, value) for kind, value in operation.sets.items() if value is not None]
        if any(each.kind == "email" and not _EMAIL.fullmatch(each.value) for each in (who, *named)):
            return None, "invalid_email"
        found = {person.cio_id: person for each in (who, *named) if (person := self.people.find(each))}
        if len(found) > 1:
            return None, "identity_conflict"
        person = next(iter(found.values()), None)
        if who.kind == "cio_id" and self.people.find(who) is None:
            return None, "unknown_cio_id"
        if person is None:
            if operation.update_only:
                return None, "no_match"
            same_kind = operation.sets.get(who.kind, who.value)
            disagrees = same_kind is None or Identifier(who.kind, same_kind).key != who.key
            return None, "identity_conflict" if disagrees else None
        return person, None if self._may_change(person, operation) else "identifier_set"

    def _may_change(self, person: Person, operation: Identify) -> bool:
        by = operation.who.kind
        if by == "cio_id":
            return True
        wanted: list[tuple[Kind, str | None]] = [(by, operation.who.value), *operation.sets.items()]
        for kind, value in wanted:
            current = person.identifiers.get(kind)
            if current is None:
                continue
            changes = value is None or Identifier(kind, value).key != Identifier(kind, current).key
            if changes and not (kind == "email" and by == "id" and self._email_updates_by_id):
                return False
        return True

    def _identifiers(self, person: Person | None, operation: Identify) -> dict[Kind, str]:
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

    def _track(self, operation: Track) -> None:
        ulid = operation.id.upper() if operation.id and _ULID.fullmatch(operation.id) else None
        if ulid in self._seen_ulids:
            self._refuse("repeated_event", operation.type, operation.who, operation.id or "")
            return
        now = int(self._now())
        who, kept = operation.who, self._anonymous
        if who is not None and who.kind == "email" and not _EMAIL.fullmatch(who.value):
            self._refuse("invalid_email", operation.type, who)
            return
        if who is not None and who.kind != "anonymous_id":
            person = self.people.find(who)
            if person is None and who.kind == "cio_id":
                self._refuse("unknown_cio_id", operation.type, who)
                return
            if person is None:
                person = self.people.create(now)
                self.people.name(person, who.kind, who.value)
                self.applied["created"] += 1
            kept = person.activities
        if ulid is not None:
            self._seen_ulids.add(ulid)
        self._activity_number += 1
        self.applied[operation.type] += 1
        kept.append(
            Activity(
                number=self._activity_number,
                type=operation.type,
                name=operation.name,
                id=operation.id,
                timestamp=now if operation.timestamp is None else operation.timestamp,
                received=now,
                data=operation.data,
                anonymous_id=operation.anonymous_id,
            )
        )

    def _delete(self, operation: Delete) -> None:
        person = self.people.find(operation.who)
        if person is None:
            self._refuse("unknown_person", "delete", operation.who)
            return
        self.people.remove(person)
        self.applied["deleted"] += 1

    def _refuse(self, reason: Refusal, what: str, who: Identifier | None, detail: str = "") -> None:
        self.refused[reason] += 1
        self.log.append(LogEntry(self._now(), what, reason, who, detail))


def _merged(current: dict[str, Any], sent: dict[str, Any]) -> dict[str, Any]:
    """Attributes after an identify: null and "" clear; a dotted preference changes that one entry only."""
    result = dict(current)
    for name, value in sent.items():
        if name.startswith(f"{_PREFERENCES}."):
            result[_PREFERENCES] = _with_entry(result.get(_PREFERENCES), name.split(".")[1:], value)
        elif value is None or value == "":
            result.pop(name, None)
        else:
            result[name] = value
    return result


def _with_entry(tree: object, path: list[str], value: object) -> dict[str, Any]:
    copy = dict(tree) if isinstance(tree, dict) else {}
    head, *rest = path
    copy[head] = _with_entry(copy.get(head), rest, value) if rest else value
    return copy
