"""What a pass would do now, and the worker after it, under any settings: decided as they decide, and nothing written.

    store/planned (a stretch of users) -> preparation.judge, as after the pass -> core/plan -> the guard's word (limits)

It looks at everybody who is in a whitelisted segment or was sent before, and tells who would really be looked at: whom
the pass finds, and who is due. Users come in stretches of their ids, so memory stays flat. Only where two of them could
get the same customer id, because it is an attribute, are the ids of those who would be created kept (108 MB a million).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from msgspec.structs import replace

from connector.core import encode, mapping, plan
from connector.outbound import limits, preparation
from connector.records import CustomerId, Decision, Mirror, Subject
from connector.settings import Settings
from connector.store import held, mirror, planned, users
from connector.store.database import Database
from connector.store.planned import Someone

FIRST = 20
WAITING = "waiting"

_SENT = ("create", "update", "delete")

# Sources of customer ids that no two users share.
_UNIQUE = (("external_id",), ("id",))


@dataclass(frozen=True, slots=True)
class Hold:
    """What the guard would hold: so many users, of whom it would have let some go."""

    what: str
    reason: str
    count: int
    allowed: int


@dataclass(frozen=True, slots=True)
class Outlook:
    """A plan, and what the guard says to it. `outside` people are in no whitelisted segment, and would be deleted now
    or after the grace."""

    plan: plan.Plan
    holds: tuple[Hold, ...]
    outside: int


class CutShort(Exception):
    """`going` said no: there is no plan."""


def outlook(
    db: Database,
    settings: Settings,
    now: datetime,
    only: str | None = None,
    going: Callable[[], bool] = lambda: True,
) -> Outlook:
    """The plan with its first people, or with `only` this user. Raises CutShort soon after `going` says no."""
    walk = _Walk(db, settings, now)
    draft = plan.Draft(api=settings.customerio.api, most=FIRST, only=only)
    outside = 0
    for stretch in planned.stretches(db, settings, now):
        if not going():
            raise CutShort
        draft.skip("not_in_segment", stretch.users - len(stretch.some))
        draft.add(walk.looks(stretch.some))
        outside += sum(each.outside and not each.let_go for each in stretch.some)
    held_back = tuple(holds(db, settings, draft.waiting("create"), outside, walk.suspicion, now))
    return Outlook(draft.finish(kinds_held(held_back)), held_back, outside)


def kinds_held(found: Sequence[Hold]) -> frozenset[plan.Guarded]:
    """The kinds of which nothing would go."""
    return frozenset(kind for kind in plan.REASONS if any(hold.what == kind for hold in found))


def everyone(db: Database, settings: Settings, now: datetime, found: Sequence[Hold]) -> Iterator[plan.Person]:
    """All people who would be sent, by name, where the guard holds these."""
    walk = _Walk(db, settings, now)
    kinds = kinds_held(found)
    for stretch in planned.stretches(db, settings, now):
        yield from (plan.person(look, kinds) for look in walk.looks(stretch.some) if look.work.parts)


def holds(
    db: Database, settings: Settings, creates: int, outside: int, suspicion: str | None, now: datetime
) -> Iterator[Hold]:
    """What the guard says to so many creates, so many people outside, and what is odd (`limits.look`)."""
    verdict = limits.creates(db, settings, creates, suspicion, now)
    if verdict.held:
        yield Hold(held.CREATE, str(verdict.reason), creates, verdict.allowed or 0)
    verdict = limits.deletes(db, settings, outside, suspicion, now)
    if verdict.held:
        yield Hold(held.DELETE, str(verdict.reason), outside, verdict.allowed or 0)
    if suspicion == limits.OTHER_ID and (people := db.read(mirror.count)):
        yield Hold(held.RENAME, suspicion, people, 0)


class _Walk:
    """One walk over the store, as the next pass will find it."""

    def __init__(self, db: Database, settings: Settings, now: datetime) -> None:
        self._db, self._settings, self._now = db, settings, now
        _, self.suspicion = limits.look(db, settings)
        self.renames = self.suspicion != limits.OTHER_ID
        self._taken: set[str] | None = None if settings.people.customer_id in _UNIQUE else set()

    def looks(self, some: Sequence[Someone]) -> list[plan.Look]:
        """What comes of a look at each of them."""
        by_id = {each.user_id: each for each in some}
        subjects = self._db.read(users.subjects, list(by_id), self._settings, self._now)
        # Only those who are judged together can be in each other's way: by the pass, or in a claim of the worker's.
        groups: tuple[list[Subject], ...] = ([], [], [])
        for subject in sorted(subjects, key=lambda subject: subject.user.id):
            someone = by_id[subject.user.id]
            groups[0 if someone.missing else 1 if someone.is_due else 2].append(subject)
        return [
            self._look(subject, by_id[subject.user.id])
            for together in groups
            for subject in preparation.with_rivals(self._db, together, self._settings, self._now)
        ]

    def _look(self, subject: Subject, someone: Someone) -> plan.Look:
        mirrored = subject.mirror
        live = mirrored if mirrored is not None and mirrored.deleted_at is None else None
        if live is not None and someone.outside and live.left_at is None:
            subject = replace(subject, mirror=replace(live, left_at=self._now))  # the pass notes it
        if live is None and self._taken is not None:
            customer_id = mapping.customer_id(subject.user, self._settings)
            if isinstance(customer_id, CustomerId) and customer_id.value in self._taken:
                subject = replace(subject, taken=True)
        guarded, release = self._released(subject, someone)
        decision = preparation.judge(subject, self._settings, self._now, release, may_rename=self.renames)
        if decision.verb != guarded:
            guarded = None
            if decision.verb in _SENT and not someone.is_due:
                decision = self._not_now(decision, someone)
        if decision.verb == "create" and decision.customer_id is not None and self._taken is not None:
            self._taken.add(decision.customer_id.value)
        return _found(subject.user.id, live, decision, guarded, self._settings)

    def _not_now(self, decision: Decision, someone: Someone) -> Decision:
        """They wait for another try; or nobody will look at them, because nothing says that they changed."""
        if someone.waits:
            return Decision("postpone", WAITING)
        return Decision("skip", "unchanged" if decision.renamed is None else decision.reason)

    def _released(self, subject: Subject, someone: Someone) -> tuple[plan.Guarded | None, str | None]:
        """What the pass lets go if the guard agrees, and who has let the user go then."""
        if someone.missing:
            return "create", "guard"
        sent = subject.mirror
        if someone.outside and not someone.let_go and sent is not None:
            since = sent.left_at or self._now
            if since + self._settings.people.delete.grace <= self._now:
                return "delete", "delete"
        return None, someone.release


def _found(
    user_id: str, live: Mirror | None, decision: Decision, guarded: plan.Guarded | None, settings: Settings
) -> plan.Look:
    parts = encode.parts(decision, settings.people.max_attributes_per_call)
    encoded = encode.operation if settings.customerio.api == "batch" else _body
    addressed = decision.customer_id
    known_by = live.customer_id if live is not None else addressed.value if addressed is not None else None
    before = dict(live.attributes) if live is not None else {}
    if live is not None and decision.renamed is not None:
        before[live.id_kind] = live.customer_id
    return plan.Look(user_id, known_by, decision, before, encode.Work(user_id, tuple(map(encoded, parts))), guarded)


def _body(part: encode.Part) -> bytes:
    return b"" if isinstance(part, encode.Delete) else encode.body(part)
