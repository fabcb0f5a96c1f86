"""Which events go out with a claimed user, under which id, and what becomes of those that don't.

store/due_events -> core/activity -> in the order in which they happened, after the user's own parts

A person who is created, updated or unchanged is sent their events. Everybody else's wait `events.wait` for that to
change, then they are skipped with the user's reason. Who has no customer id is sent as an anonymous visitor, where the
settings say so: under the first of their anonymous ids, whichever an event came with. What is more than
`guard.max_events_per_user` in any 24 hours waits until it isn't.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from connector.core import activity, encode, mapping
from connector.core.activity import Activity, Unsendable
from connector.records import CustomerId, Decision, DueEvent, LeftOut, Subject
from connector.settings import Settings
from connector.store import due_events
from connector.store.database import Database

_DAY = timedelta(hours=24)
_IN_MEMORY = 10_000  # events of one claim; each may be 100 KB
_FEWEST = 5  # of one user at a time


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
    most = max(_FEWEST, min(due_events.MOST, _IN_MEMORY // max(len(decided), 1)))
    due = db.read(due_events.of_users, [subject.user.id for subject, _ in decided], most)
    if not due.events:
        return {}
    lately: dict[str, due_events.Lately] = {}
    if settings.guard.max_events_per_user is not None:
        lately = db.read(due_events.sent_lately, list(due.events), now - _DAY)
    found = {}
    for subject, decision in decided:
        user_id = subject.user.id
        if events := due.events.get(user_id):
            agenda = _agenda(subject, decision, settings, events, lately.get(user_id), now)
            if agenda.again_at is None and user_id in due.more and agenda.waits_for is None:
                agenda = replace(agenda, again_at=now)
            found[user_id] = agenda
    return found


def _agenda(
    subject: Subject,
    decision: Decision,
    settings: Settings,
    events: Sequence[DueEvent],
    lately: due_events.Lately | None,
    now: datetime,
) -> Agenda:
    to, anonymous_id = known_by(subject, decision, settings), _anonymous_id(subject, decision, settings)
    if to is None and anonymous_id is None:
        return Agenda(waits_for=_why_not(decision))
    limit = settings.guard.max_events_per_user
    room = None if limit is None else limit - (0 if lately is None else lately.sent)
    again_at = None
    outgoing: list[Outgoing] = []
    parked: dict[int, Unsendable] = {}
    left_out: list[LeftOut] = []
    for event in events:
        if room is not None and len(outgoing) >= room:
            again_at = (now if lately is None else lately.first_at) + _DAY
            break
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


def _why_not(decision: Decision) -> str:
    """Why none of somebody's events are sent now. All that goes to a person who has left may be their opt-out."""
    if decision.verb != "update":
        return decision.reason
    return "left_kept" if decision.until is None else "leaving"


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
