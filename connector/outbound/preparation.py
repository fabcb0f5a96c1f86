"""From claimed users to encoded work: load, decide, diff and map, encode. Blocking, but without the network.

store/users.subjects -> core/decide -> core/encode -> what to send, and what to skip with its reason
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from connector.core import decide, encode, mapping
from connector.records import Claim, CustomerId, Decision, Subject
from connector.settings import Settings
from connector.store import facts, mirror, pending, users
from connector.store.database import Database

AWAITS_PASS = "awaits_pass"  # noqa: S105 - a reason word

# Who may let what go; see `store/pending`.
_LETS_GO = {"create": pending.CREATES, "delete": pending.DELETES}


@dataclass(frozen=True, slots=True)
class Prepared:
    """One claimed user: the decision, and the parts to send (none for a skip)."""

    claim: Claim
    subject: Subject
    decision: Decision
    parts: tuple[encode.Part, ...] = ()

    @property
    def user_id(self) -> str:
        return self.claim.user_id


def prepare(db: Database, settings: Settings, claims: Sequence[Claim], now: datetime) -> list[Prepared]:
    """Decides for every claimed user, by the store as it is now."""
    by_id = {claim.user_id: claim for claim in claims}
    seen = db.read(facts.seen)
    renames = seen is None or list(seen.customer_id) == list(settings.people.customer_id)
    prepared = []
    for subject in with_rivals(db, db.read(users.subjects, list(by_id), settings, now), settings):
        claim = by_id[subject.user.id]
        decision = decide.decide(subject, settings, now)
        if decision.verb in _LETS_GO and claim.release not in _LETS_GO[decision.verb]:
            # Who was there before enters and leaves through the pass, where the guard counts them.
            decision = Decision("skip", AWAITS_PASS)
        if decision.renamed is not None and not renames:
            # Another `people.customer_id` renames everybody; that waits until somebody has approved it.
            decision = Decision("skip", "customer_id_changed", decision.customer_id)
        parts = encode.parts(decision, settings.people.max_attributes_per_call)
        prepared.append(Prepared(claim, subject, decision, parts))
    return prepared


def with_rivals(db: Database, subjects: Sequence[Subject], settings: Settings) -> list[Subject]:
    """The same subjects, with `taken` set where another user has the customer id, in the mirror or earlier here."""
    wanted: dict[str, str] = {}
    for subject in subjects:
        customer_id = mapping.customer_id(subject.user, settings)
        if isinstance(customer_id, CustomerId):
            wanted[subject.user.id] = customer_id.value
    owners = db.read(mirror.owners, set(wanted.values())) if wanted else {}
    judged = []
    for subject in subjects:
        value = wanted.get(subject.user.id)
        if value is not None:
            taken = owners.setdefault(value, subject.user.id) != subject.user.id
            judged.append(replace(subject, taken=taken))
        else:
            judged.append(subject)
    return judged
