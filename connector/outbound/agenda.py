"""Which events go out with a claimed user, under which id, and what becomes of those that don't.

store/due_events -> core/activity -> in the order in which they happened, after the user's own parts

A person who is created, updated or unchanged is sent their events. Everybody else's wait `events.wait` for that to
change, then they are skipped with the user's reason. Who has no customer id is sent as an anonymous visitor, where the
settings say so. What is more than `guard.max_events_per_user` in any 24 hours waits until it isn't.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from connector.core import activity, encode, mapping
from connector.core.activity import Activity, Unsendable
from connector.records import CustomerId, Decision, DueEvent, LeftOut, Subject
from connector.settings import Settings
from connector.store import due_events
from connector.store.database import Database

_DAY = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One event on its way: as an operation of a batch, or, where `operation` is None, as a v1 call of its own."""

    event_id: int
    activity: Activity
    to: CustomerId | None  # None: the anonymous id
    anonymous_id: str = ""
    operation: bytes | None = None


@dataclass(frozen=True, slots=True)
class Agenda:
    """What is due of one user. `parked` can't be sent, by event; `waits_for` is the user's reason why none is sent now;
    `again_at` is when there may be more to do, which nobody but us would notice."""

    outgoing: tuple[Outgoing, ...] = ()
    parked: Mapping[int, Unsendable] = field(default_factory=dict)
    left_out: tuple[LeftOut, ...] = ()
    waits_for: str | None = None
    again_at: datetime | None = None


EMPTY = Agenda()


def of_users(
    db: Database, settings: Settings, decided: Sequence[tuple[Subject, Decision]], now: datetime
) -> dict[str, Agenda]:
    """By user, for those of whom an event is due."""
    due = db.read(due_events.of_users, [subject.user.id for subject, _ in decided])
    if not due.events:
        return {}
    lately: dict[str, due_events.Lately] = {}
    if settings.guard.max_events_per_user is not None:
        lately = db.read(due_events.sent_lately, list(due.events), now - _DAY)
    found = {}
    for subject, decision in decided:
        user_id = subject.user.id
        if events := due.events.get(user_id):
            again_at = now if user_id in due.more else None
            found[user_id] = _agenda(subject, decision, settings, events, lately.get(user_id), again_at)
    return found


def _agenda(
    subject: Subject,
    decision: Decision,
    settings: Settings,
    events: Sequence[DueEvent],
    lately: due_events.Lately | None,
    again_at: datetime | None,
) -> Agenda:
    to, anonymous_id = known_by(subject, decision, settings), _anonymous_id(subject, decision, settings)
    if to is None and anonymous_id is None:
        return Agenda(waits_for=decision.reason)
    limit = settings.guard.max_events_per_user
    if limit is not None:
        room = limit - (0 if lately is None else lately.sent)
        if room < len(events):
            again_at = events[0].due_at if lately is None else lately.first_at + _DAY
            events = events[: max(room, 0)]
    outgoing: list[Outgoing] = []
    parked: dict[int, Unsendable] = {}
    left_out: list[LeftOut] = []
    for event in events:
        made = activity.of(event, settings)
        one = made if isinstance(made, Unsendable) else _outgoing(event.id, made, settings, to, anonymous_id)
        if isinstance(one, Unsendable):
            parked[event.id] = one
        else:
            outgoing.append(one)
            left_out += [each for each in one.activity.left_out if each.reason == "unreadable"]
    return Agenda(tuple(outgoing), parked, tuple(left_out), None, again_at)


def _outgoing(
    event_id: int, made: Activity, settings: Settings, to: CustomerId | None, anonymous_id: str | None
) -> Outgoing | Unsendable:
    if to is None:
        return Outgoing(event_id, made, None, anonymous_id or "")
    if settings.customerio.api == "batch" and not made.needs_v1:
        return Outgoing(event_id, made, to, operation=activity.v2_operation(made, to))
    return activity.v1_fault(made, to) or Outgoing(event_id, made, to)


def known_by(subject: Subject, decision: Decision, settings: Settings) -> CustomerId | None:
    """What the person will be known by, if they are sent: whoever is created, updated or unchanged."""
    sends = decision.verb in {"create", "update"} or decision.reason == "unchanged"
    if not sends or not mapping.whitelisted(subject.segment_bits, settings):
        return None
    sent = subject.mirror
    if decision.renamed is not None:
        return decision.renamed
    if sent is not None and sent.deleted_at is None:
        return CustomerId(sent.id_kind, sent.customer_id)
    return decision.customer_id


def _anonymous_id(subject: Subject, decision: Decision, settings: Settings) -> str | None:
    if settings.events.anonymous and decision.reason == "no_customer_id" and subject.anonymous_ids:
        return subject.anonymous_ids[0]
    return None


def body(outgoing: Outgoing) -> bytes:
    """Of the v1 call."""
    if outgoing.to is None:
        return activity.v1_anonymous_body(outgoing.activity, outgoing.anonymous_id)
    return activity.v1_body(outgoing.activity)


def path_id(outgoing: Outgoing) -> str | None:
    """The id in the path of the v1 call; None when there is none in it."""
    return None if outgoing.to is None else encode.path_of(outgoing.to)
