"""Which events go out with a claimed user, under which id, and what becomes of those that don't.

store/due_events -> core/activity -> bytes, in the order in which they happened, after the user's own parts

A person who is created, updated or unchanged is sent their events. Everybody else's wait `events.wait` for that to
change, then they are skipped with the user's reason. Who has no customer id is sent as an anonymous visitor, where the
settings say so: under the first of their anonymous ids, whichever an event came with. What is more than
`guard.max_events_per_user` in any 24 hours waits until it isn't. Whoever was a visitor a moment ago, whose events are
under way in that name, waits for these.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from sqlalchemy.engine import Connection

from connector.core import activity, encode, mapping
from connector.core.activity import Activity, Unsendable
from connector.records import CustomerId, Decision, DueEvent, LeftOut, Subject
from connector.settings import Settings
from connector.store import database, due_events
from connector.store.database import Database

_DAY = timedelta(hours=24)
_MOMENT = timedelta(seconds=1)
_IN_BATCHES = 10_000  # events of one claim
_CALL_SECONDS = 2  # where each is a call, a claim has as many as may be made in this time
_FEWEST = 5  # of one user at a time, in batches
_MOST_BYTES = 20_000_000  # of one claim, and what is read at once comes on top
_AT_ONCE = 250  # events that are read at once; each may be 100 KB


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One event on its way, as bytes: an operation of a batch, or the body of a v1 call of its own. In the path of such
    a call is `path_id`, or nobody: then it is a visitor's."""

    event_id: int
    content: bytes
    is_operation: bool = False
    path_id: str | None = None
    left_out: tuple[LeftOut, ...] = ()


@dataclass(frozen=True, slots=True)
class Agenda:
    """What is due of one user. `parked` can't be sent, by event; `waits_for` is the user's reason why none is sent now;
    `again_at` is when there may be more to do, which nobody but us would notice. `is_put_off` is true where none was
    looked at until then, so that what is known of earlier failures still holds."""

    outgoing: tuple[Outgoing, ...] = ()
    parked: Mapping[int, Unsendable] = field(default_factory=dict)
    waits_for: str | None = None
    again_at: datetime | None = None
    is_put_off: bool = False


EMPTY = Agenda()


def of_users(
    db: Database, settings: Settings, decided: Sequence[tuple[Subject, Decision]], now: datetime
) -> dict[str, Agenda]:
    """By user, for those of whom an event is due."""
    having = db.read(due_events.having, [subject.user.id for subject, _ in decided])
    if not having:
        return {}
    by_user = {subject.user.id: (subject, decision) for subject, decision in decided}
    return db.read(_of_users, settings, {user_id: by_user[user_id] for user_id in having}, len(decided), now)


def _of_users(
    connection: Connection,
    settings: Settings,
    by_user: Mapping[str, tuple[Subject, Decision]],
    claimed: int,
    now: datetime,
) -> dict[str, Agenda]:
    """Of `claimed` users these have events. Once they are enough to keep in memory, the rest is left to the next
    claim."""
    database.as_of_now(connection)  # else what was under way by the first look could be due by the second
    having = list(by_user)
    under_way = due_events.under_way(connection, having)
    lately: dict[str, due_events.Lately] = {}
    if settings.guard.max_events_per_user is not None:
        lately = due_events.sent_lately(connection, having, now - _DAY)
    most = _most(settings, claimed)
    each_time = max(_AT_ONCE // most, 1)
    found: dict[str, Agenda] = {}
    size = 0
    for start in range(0, len(having), each_time):
        some = having[start : start + each_time]
        if size > _MOST_BYTES:
            found |= dict.fromkeys(some, Agenda(again_at=now, is_put_off=True))
            continue
        due = due_events.of_users(connection, some, most)
        for user_id, events in due.events.items():
            made = _agenda(*by_user[user_id], settings, events, lately.get(user_id), under_way, now)
            if user_id in due.more and made.again_at is None and made.waits_for is None:
                made = replace(made, again_at=now)
            found[user_id] = made
            size += sum(len(each.content) for each in made.outgoing)
    return found


def _most(settings: Settings, claimed: int) -> int:
    """How many events of each of so many users."""
    if settings.customerio.api == "batch":
        return max(_FEWEST, min(due_events.MOST, math.ceil(_IN_BATCHES / claimed)))
    calls = int(settings.customerio.rate_per_second * _CALL_SECONDS)
    return max(1, min(due_events.MOST, calls // claimed))


def _agenda(
    subject: Subject,
    decision: Decision,
    settings: Settings,
    events: Sequence[DueEvent],
    lately: due_events.Lately | None,
    under_way: Collection[str],
    now: datetime,
) -> Agenda:
    to, anonymous_id = known_by(subject, decision, settings), _anonymous_id(subject, decision, settings)
    if to is None and anonymous_id is None:
        return Agenda(waits_for=_why_not(subject, decision, settings))
    if subject.user.id in under_way:
        return Agenda(again_at=now + _MOMENT, is_put_off=True)
    limit = settings.guard.max_events_per_user
    room = None if limit is None else limit - (0 if lately is None else lately.sent)
    again_at = None
    outgoing: list[Outgoing] = []
    parked: dict[int, Unsendable] = {}
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
    return Agenda(tuple(outgoing), parked, None, again_at)


def _outgoing(
    event_id: int, made: Activity, settings: Settings, to: CustomerId | None, anonymous_id: str | None
) -> Outgoing | Unsendable:
    if to is None:
        return Outgoing(event_id, activity.v1_anonymous_body(made, anonymous_id or ""), left_out=made.left_out)
    if settings.customerio.api == "batch" and not made.needs_v1:
        return Outgoing(event_id, activity.v2_operation(made, to), is_operation=True, left_out=made.left_out)
    fault = activity.v1_fault(made, to)
    body = activity.v1_body(made)
    return fault or Outgoing(event_id, body, path_id=encode.path_of(to), left_out=made.left_out)


def known_by(subject: Subject, decision: Decision, settings: Settings) -> CustomerId | None:
    """What the person will be known by, if they are sent: whoever is created, updated or unchanged."""
    sends = decision.verb in {"create", "update"} or decision.reason == "unchanged"
    if not sends or not mapping.whitelisted(subject.segment_bits, settings):
        return None
    sent = subject.mirror
    if decision.renamed is not None:
        return decision.renamed
    if _has_another_id(subject, decision, settings):
        return None
    if sent is not None and sent.deleted_at is None:
        return CustomerId(sent.id_kind, sent.customer_id)
    return decision.customer_id


def _has_another_id(subject: Subject, decision: Decision, settings: Settings) -> bool:
    """Whether the person is known by an id that the user hasn't any more, and nothing but their opt-out is sent."""
    sent = subject.mirror
    if decision.reason != "opted_out" or sent is None:
        return False
    today = mapping.customer_id(subject.user, settings)
    return today not in (CustomerId(sent.id_kind, sent.customer_id), "no_customer_id")


def _why_not(subject: Subject, decision: Decision, settings: Settings) -> str:
    """Why none of somebody's events are sent now. All that goes to a person who has left, or is known by an id that
    isn't the user's, may be their opt-out."""
    if decision.verb != "update":
        return decision.reason
    if mapping.whitelisted(subject.segment_bits, settings):
        is_unreadable = mapping.customer_id(subject.user, settings) == "unreadable"
        return "unreadable" if is_unreadable else "customer_id_changed"
    return "left_kept" if decision.until is None else "leaving"


def _anonymous_id(subject: Subject, decision: Decision, settings: Settings) -> str | None:
    if settings.events.anonymous and decision.reason == "no_customer_id" and subject.anonymous_ids:
        return subject.anonymous_ids[0]
    return None
