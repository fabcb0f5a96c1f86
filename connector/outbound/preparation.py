"""From claimed users to encoded work: load, decide, diff and map, encode. Blocking, but without the network.

store/users.subjects -> core/decide -> core/encode -> what to send, and what to skip with its reason
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

import msgspec
from msgspec.structs import replace

from connector.core import decide, encode, erased, mapping
from connector.outbound import agenda, limits
from connector.outbound.agenda import Agenda
from connector.records import Claim, CustomerId, Decision, Subject
from connector.settings import Settings
from connector.store import erasure, facts, kept_out, mirror, pending, users
from connector.store.database import Database

AWAITS_PASS = "awaits_pass"  # noqa: S105 - a reason word

# Who may let what go; see `store/pending`.
LETS_GO = {"create": pending.CREATES, "delete": pending.DELETES}


class Prepared(msgspec.Struct, frozen=True):
    """One claimed user: the decision, the parts to send (none for a skip), and their events."""

    claim: Claim
    subject: Subject
    decision: Decision
    parts: tuple[encode.Part, ...] = ()
    agenda: Agenda = agenda.EMPTY

    @property
    def user_id(self) -> str:
        return self.claim.user_id

    @property
    def is_worth_a_call(self) -> bool:
        """Whether there is anything to send."""
        return bool(self.parts or self.agenda.outgoing)


def prepare(db: Database, settings: Settings, claims: Sequence[Claim], now: datetime) -> list[Prepared]:
    """Decides for every claimed user, by the store as it is now."""
    by_id = {claim.user_id: claim for claim in claims}
    may = may_rename(db, settings)
    subjects = with_rivals(db, db.read(users.subjects, list(by_id), settings, now), settings, now)
    releases = (by_id[subject.user.id].release for subject in subjects)
    decided = [
        (subject, judge(subject, settings, now, release, may_rename=may))
        for subject, release in zip(subjects, releases, strict=True)
    ]
    agendas = agenda.of_users(db, settings, decided, now)
    most = settings.people.max_attributes_per_call
    return [
        Prepared(
            by_id[subject.user.id],
            subject,
            decision,
            encode.parts(decision, most),
            agendas.get(subject.user.id, agenda.EMPTY),
        )
        for subject, decision in decided
    ]


def may_rename(db: Database, settings: Settings) -> bool:
    """Whether people may get another id: not while `people.customer_id` is one that no pass has seen, and nobody has
    approved."""
    seen = db.read(facts.seen)
    if seen is None:
        return not limits.known_otherwise(db, settings)
    return list(seen.customer_id) == list(settings.people.customer_id)


def judge(subject: Subject, settings: Settings, now: datetime, release: str | None, *, may_rename: bool) -> Decision:
    """The decision, where `release` says who has let a create or a delete go, and `may_rename` whether people may get
    another id."""
    # Another `people.customer_id` renames everybody; that waits until somebody has approved it.
    decision = decide.decide(subject, settings, now, may_rename=may_rename)
    if decision.verb in LETS_GO and release not in LETS_GO[decision.verb]:
        # Who was there before enters and leaves through the pass, where the guard counts them.
        return Decision("skip", AWAITS_PASS)
    return decision


def with_rivals(db: Database, subjects: Sequence[Subject], settings: Settings, now: datetime) -> list[Subject]:
    """The same subjects with their `customer_id`: with `taken` set where another user has it, in the mirror or earlier
    here, `id_deleted_at` where another user's person had it until a moment ago, and `erased` where somebody had a name
    of theirs who asked to be forgotten."""
    theirs = [mapping.customer_id(subject.user, settings) for subject in subjects]
    wanted = {
        subject.user.id: customer_id.value
        for subject, customer_id in zip(subjects, theirs, strict=True)
        if isinstance(customer_id, CustomerId)
    }
    owners = db.read(mirror.owners, set(wanted.values())) if wanted else {}
    deleted = db.read(mirror.deleted, _entering(subjects, wanted), now - decide.AFTER_DELETE)
    gone = _erased(db, subjects, wanted)
    judged = []
    for subject, customer_id in zip(subjects, theirs, strict=True):
        user_id = subject.user.id
        value = wanted.get(user_id)
        taken = value is not None and owners.setdefault(value, user_id) != user_id
        is_deleted = deleted.get(value) if value is not None else None
        judged.append(
            replace(subject, customer_id=customer_id, taken=taken, id_deleted_at=is_deleted, erased=user_id in gone)
        )
    return judged


def _entering(subjects: Sequence[Subject], wanted: Mapping[str, str]) -> set[str]:
    """The customer ids of those who are nobody at Customer.io."""
    new = [each for each in subjects if each.mirror is None or each.mirror.deleted_at is not None]
    return {wanted[each.user.id] for each in new if each.user.id in wanted}


def _erased(db: Database, subjects: Sequence[Subject], wanted: Mapping[str, str]) -> set[str]:
    """Users who are being erased, and those who are named by what was an erased person's: plain SQL can do that."""
    new = [each.user for each in subjects if _is_news(each)]
    # One by one: as long as nobody was ever erased, it isn't asked for any.
    gone = db.read(kept_out.among, (name for user in new for name in erased.names(user, wanted.get(user.id))))
    begun = db.read(erasure.begun)
    if not gone:
        return begun
    return begun | {user.id for user in new if not gone.isdisjoint(erased.names(user, wanted.get(user.id)))}


def _is_news(subject: Subject) -> bool:
    """Whether Customer.io has not been told of them under these names; for all others it would only cost time."""
    sent = subject.mirror
    return sent is None or sent.deleted_at is not None or sent.attributes.get("email") != subject.user.email
