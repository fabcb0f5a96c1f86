"""Recording what came of a claim: mirror, attempts and pending in one transaction, where the lease is still ours."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy.engine import Connection

from connector import log
from connector.core import learnt
from connector.core.outcome import Outcome, Undelivered
from connector.outbound.preparation import Prepared
from connector.records import Identifier, Mirror
from connector.store import attempts, database, mirror, pending, users
from connector.store.attempts import Attempt

_log = log.get("worker")


@dataclass
class Tally:
    """What was done: users by verb and reason, and calls. `untried` ones met a pause or ran out of time; due again."""

    created: int = 0
    updated: int = 0
    calls: int = 0
    untried: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)

    @property
    def users(self) -> int:
        """Everyone who was looked at."""
        return self.created + self.updated + self.untried + self.skipped.total() + self.failed.total()

    def add(self, other: Tally) -> None:
        """Adds another claim's."""
        self.created += other.created
        self.updated += other.updated
        self.calls += other.calls
        self.untried += other.untried
        self.skipped.update(other.skipped)
        self.failed.update(other.failed)


@dataclass(frozen=True, slots=True)
class Result:
    """What came of one user's parts; `calls` is how many calls the last of them took, 0 when it never went out."""

    prepared: Prepared
    outcome: Outcome
    calls: int
    retry_in: float

    @property
    def user_id(self) -> str:
        return self.prepared.user_id


@dataclass
class _Notes:
    """What the transaction will write."""

    tally: Tally = field(default_factory=Tally)
    done: list[str] = field(default_factory=list)
    people: list[Mirror] = field(default_factory=list)
    touched: list[tuple[str, str, str, int]] = field(default_factory=list)
    log_rows: list[Attempt] = field(default_factory=list)
    failures: list[pending.Failure] = field(default_factory=list)


def record(
    connection: Connection,
    lease: str,
    mapping_hash: str,
    prepared: Sequence[Prepared],
    results: Sequence[Result],
    now: datetime,
    paused_until: datetime,
) -> Tally:
    """Writes it all. Who was never tried is given back, due at `paused_until`, with no attempt counted."""
    if any(each.decision.verb == "create" for each in prepared):
        # A create names a user by the customer id; before the rows below, or a reader and we wait for each other.
        database.lock_identities(connection)
    ours = pending.still_ours(connection, lease)
    if len(ours) < len(prepared):
        _log.warning("lease_lost", users=len(prepared) - len(ours))
    # Whom SQL has deleted there is nothing to do for; left in the claim, they would come due for ever.
    pending.finish(connection, lease, sorted(ours - {each.user_id for each in prepared}), now)
    notes = _Notes()
    owners = mirror.owners(connection, [each.parts[0].customer_id.value for each in prepared if each.parts])
    for result in results:
        if result.user_id not in ours:
            continue
        if isinstance(result.outcome, Undelivered):
            _undelivered(notes, result, result.outcome, now)
        else:
            _delivered(notes, result, owners, mapping_hash, now)
    for each in prepared:
        if each.user_id in ours and not each.parts:
            _skipped(notes, each, mapping_hash)
    strangers = _strangers(connection, notes.people, now)
    mirror.record(connection, notes.people)
    mirror.touch(connection, notes.touched)
    attempts.add(connection, notes.log_rows, now)
    pending.finish(connection, lease, notes.done, now)
    pending.postpone(connection, lease, notes.failures, now)
    pending.give_back(connection, lease, paused_until)
    _inherit(connection, strangers, now)
    return notes.tally


def _strangers(connection: Connection, people: Sequence[Mirror], now: datetime) -> dict[str, str]:
    """By user who was just created: whom webhooks have known under that customer id until now."""
    created = {
        Identifier("customer_id", each.customer_id): each.user_id
        for each in people
        if each.id_kind == "id" and each.created_at == now
    }
    owners = users.find(connection, created)
    return {created[each]: owner for each, owner in owners.items() if owner != created[each]}


def _inherit(connection: Connection, strangers: dict[str, str], now: datetime) -> None:
    """What webhooks have taught about a customer id before we sent it is about the user who has it now. Who opted
    out is due once more: the create could not know."""
    if not strangers:
        return
    known = users.learnt(connection, [*strangers, *strangers.values()])
    heirs = {user_id: learnt.merged(known[user_id], known[stranger]) for user_id, stranger in strangers.items()}
    users.remember(connection, heirs, now)
    users.touch(connection, list(heirs))
    pending.mark_mirrored(connection, list(heirs), now)


def _delivered(notes: _Notes, result: Result, owners: dict[str, str], mapping_hash: str, now: datetime) -> None:
    each = result.prepared
    notes.done.append(each.user_id)
    if owners.get(each.parts[0].customer_id.value, each.user_id) != each.user_id:
        # Another worker was faster with the same id for another user.
        notes.tally.skipped["customer_id_taken"] += 1
        notes.log_rows.append(Attempt(each.user_id, "create", result.calls, None, "customer_id_taken", ""))
        return
    notes.people.append(_mirror(each, mapping_hash, now))
    if each.decision.verb == "create":
        notes.tally.created += 1
    else:
        notes.tally.updated += 1
    notes.log_rows += [
        Attempt(each.user_id, each.decision.verb, 0, None, left.reason, f"{left.name}: {left.message}")
        for left in each.decision.left_out
    ]


def _undelivered(notes: _Notes, result: Result, outcome: Undelivered, now: datetime) -> None:
    if result.calls == 0:
        notes.tally.untried += 1
        return
    each = result.prepared
    notes.tally.failed[outcome.reason] += 1
    due_at = now + timedelta(seconds=result.retry_in)
    notes.failures.append(pending.Failure(each.user_id, due_at, outcome.reason))
    notes.log_rows.append(
        Attempt(each.user_id, each.decision.verb, result.calls, outcome.status, outcome.reason, outcome.message)
    )


def _skipped(notes: _Notes, each: Prepared, mapping_hash: str) -> None:
    notes.tally.skipped[each.decision.reason] += 1
    notes.done.append(each.user_id)
    if each.subject.mirror is not None:
        seen = (each.user_id, each.subject.segment_bits, mapping_hash, each.subject.user.version)
        notes.touched.append(seen)


def _mirror(prepared: Prepared, mapping_hash: str, now: datetime) -> Mirror:
    sent_as = prepared.parts[0].customer_id
    before = prepared.subject.mirror
    return Mirror(
        user_id=prepared.user_id,
        customer_id=sent_as.value,
        id_kind=sent_as.kind,
        attributes=prepared.decision.attributes,
        segment_bits=prepared.subject.segment_bits,
        mapping_hash=mapping_hash,
        version=prepared.subject.user.version,
        sent_ts=prepared.decision.timestamp,
        created_at=before.created_at if before else now,
        synced_at=now,
        release=before.release if before else prepared.claim.release,
    )
