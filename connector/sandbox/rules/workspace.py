"""What a workspace holds, and what all the modules that apply operations need of it.

    state -> identifying | tracking | removing | relating -> workspace (people, objects, activity log)

Plain data, no I/O; the clock is an argument. Customer.io has already answered 200 when it applies an
operation, so what can't be applied shows only in its activity log: `refuse` writes it, under one of the
words of `Refusal`.

Stricter readings of what is unverified:
- What names a suppressed identifier anywhere, as one of several, is ignored as a whole.
- A phone number that isn't E.164 is treated like an email that is none: 200, and no effect.
- Events, devices and relationships for an unknown id, email or phone create a bare person; the reference
  says only that calls addressing a customer by id can.
"""

from __future__ import annotations

import re
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from connector.sandbox.operations import Identifier, ReportDelivery
from connector.sandbox.rules.anonymous import Anonymous
from connector.sandbox.rules.objects import Objects
from connector.sandbox.rules.people import People, Person
from connector.sandbox.rules.suppression import Suppressed

Refusal = Literal[
    "identity_conflict",  # the identifiers of one identify name two people
    "identifier_set",  # an identifier that is set changes only through the cio_id
    "invalid_email",
    "invalid_phone",
    "no_match",  # `_update`, and nobody there
    "unknown_cio_id",
    "unknown_person",  # a delete, an edit, a merge and such, and nobody there
    "unknown_device",
    "unknown_object",
    "unknown_relationship",
    "same_person",  # a merge of somebody with themselves
    "suppressed",
    "not_suppressed",
    "older_timestamp",
    "too_many_attributes",
    "too_large",  # an object or a relationship over 100 KB, preferences over 1000 bytes
    "repeated_event",
]

_EMAIL = re.compile(r"[^@\s]+@[^@\s]+")
_PHONE = re.compile(r"\+[1-9][0-9]{1,14}")
_LOG_KEPT = 10_000
_REPORTS_KEPT = 10_000


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One thing that answered 200 and had no effect. `what` is the action, in the words of v2."""

    at: float
    what: str
    reason: Refusal
    who: Identifier | None
    detail: str


class Workspace:
    """Everything there is. `email_updates_by_id` is Customer.io's "Allow updates to email using ID"."""

    def __init__(self, now: Callable[[], float], *, email_updates_by_id: bool = False) -> None:
        self.people = People()
        self.objects = Objects()
        self.anonymous = Anonymous()
        self.suppressed = Suppressed()
        self.seen_ulids: set[str] = set()
        self.activity_number = 0
        self.delivery_reports: deque[ReportDelivery] = deque(maxlen=_REPORTS_KEPT)
        self.log: deque[LogEntry] = deque(maxlen=_LOG_KEPT)
        self.refused: Counter[Refusal] = Counter()
        self.applied: Counter[str] = Counter()  # created, updated, deleted, event, page, screen, merged, …
        self.email_updates_by_id = email_updates_by_id
        self.clock = now

    def seconds(self) -> int:
        return int(self.clock())

    def refuse(self, reason: Refusal, what: str, who: Identifier | None, detail: str = "") -> None:
        self.refused[reason] += 1
        self.log.append(LogEntry(self.clock(), what, reason, who, detail))

    def unusable(self, who: Identifier) -> Refusal | None:
        """Why this identifier names nobody and can't be given to anybody."""
        if who.kind == "email" and not _EMAIL.fullmatch(who.value):
            return "invalid_email"
        if who.kind == "phone" and not _PHONE.fullmatch(who.value):
            return "invalid_phone"
        return "suppressed" if who in self.suppressed else None

    def reach(self, who: Identifier, what: str, *, create: bool = False) -> Person | None:
        """The person of this name, a bare one if need be and `create`; None when that was refused."""
        refusal = self.unusable(who)
        person = None if refusal else self.people.find(who)
        if person is not None:
            return person
        if refusal is None and create and who.kind != "cio_id":
            person = self.people.create(self.seconds())
            self.people.name(person, who.kind, who.value)
            self.applied["created"] += 1
            return person
        unknown: Refusal = "unknown_cio_id" if who.kind == "cio_id" else "unknown_person"
        self.refuse(refusal or unknown, what, who)
        return None
