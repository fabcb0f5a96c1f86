"""Recording what came of a claim: mirror, attempts and pending in one transaction, where the lease is still ours."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from sqlalchemy.engine import Connection

from connector import log
from connector.core import encode, learnt, mapping
from connector.core.outcome import Outcome, Undelivered
from connector.outbound.preparation import AWAITS_PASS, Prepared
from connector.records import CustomerId, Identifier, Mirror, Word
from connector.store import attempts, database, mirror, pending, users
from connector.store.attempts import Attempt

_NEVER = -1  # a version that no user has: there is more to send
_WAITS_WITH = {"leaving": pending.DELETES, "just_deleted": pending.CREATES}
_log = log.get("worker")


@dataclass
class Tally:
    """What was done: users by verb and reason, and calls. `untried` ones met a pause or ran out of time; due again."""

    created: int = 0
    updated: int = 0
    deleted: int = 0
    calls: int = 0
    untried: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)

    @property
    def users(self) -> int:
        """Everyone who was looked at."""
        sent = self.created + self.updated + self.deleted
        return sent + self.untried + self.skipped.total() + self.failed.total()

    def add(self, other: Tally) -> None:
        """Adds another claim's."""
        self.created += other.created
        self.updated += other.updated
        self.deleted += other.deleted
        self.calls += other.calls
        self.untried += other.untried
        self.skipped.update(other.skipped)
        self.failed.update(other.failed)


@dataclass(frozen=True, slots=True)
class Result:
    """What came of one user's parts; `calls` is how many calls the last of them took, 0 when it never went out.
    `accepted` are those that Customer.io took, also when the outcome of the whole is another one."""

    prepared: Prepared
    outcome: Outcome
    calls: int
    retry_in: float
    accepted: tuple[encode.Part, ...] = ()

    @property
    def user_id(self) -> str:
        return self.prepared.user_id


@dataclass
class _Notes:
    """What the transaction will write."""

    tally: Tally = field(default_factory=Tally)
    done: list[str] = field(default_factory=list)
    people: list[Mirror] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    touched: list[mirror.Looked] = field(default_factory=list)
    renamed: list[str] = field(default_factory=list)
    opted_out: list[str] = field(default_factory=list)
    waiting: list[tuple[str, datetime]] = field(default_factory=list)
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
    if any(_changes_users(each) for each in prepared):
        # Before the rows below, or a reader and we wait for each other.
        database.lock_identities(connection)
    ours = pending.still_ours(connection, lease)
    if len(ours) < len(prepared):
        _log.warning("lease_lost", users=len(prepared) - len(ours))
    # Whom SQL has deleted there is nothing to do for; left in the claim, they would come due for ever.
    pending.finish(connection, lease, sorted(ours - {each.user_id for each in prepared}), now)
    notes = _Notes()
    owners = mirror.owners(connection, [_known_by(each).value for each in prepared if each.parts])
    for result in results:
        if result.user_id not in ours:
            continue
        if isinstance(result.outcome, Undelivered):
            _undelivered(notes, result, result.outcome, owners, mapping_hash, now)
        else:
            _delivered(notes, result, owners, mapping_hash, now)
    for each in prepared:
        if each.user_id in ours and not each.parts:
            _skipped(notes, each, mapping_hash, now)
    strangers = _strangers(connection, notes, now)
    mirror.record(connection, notes.people, notes.renamed)
    mirror.touch(connection, notes.touched)
    users.forget_cio_ids(connection, notes.deleted)
    attempts.add(connection, notes.log_rows, now)
    pending.finish(connection, lease, notes.done, now)
    pending.wait(connection, lease, notes.waiting)
    pending.postpone(connection, lease, notes.failures, now)
    pending.give_back(connection, lease, paused_until)
    _inherit(connection, strangers, now)
    _remember(connection, notes.opted_out, now)
    return notes.tally


def _changes_users(each: Prepared) -> bool:
    """Whether its record says who names whom, or what is known of the user."""
    decision = each.decision
    return decision.verb in {"create", "delete"} or decision.renamed is not None or _opts_out(each)


def _opts_out(each: Prepared) -> bool:
    """An attribute of ours opts them out, and nothing was known of it: plain SQL wrote it."""
    return each.decision.changes.get(mapping.OPT_OUT) is True and not each.subject.user.opted_out


def _remember(connection: Connection, opted_out: Sequence[str], now: datetime) -> None:
    """What Customer.io was told of an opt-out is known from then on, whatever becomes of the attribute."""
    if opted_out:
        word = Word(now, opted_out=True, by="own")
        known = users.learnt(connection, opted_out)
        users.remember(connection, {each: learnt.learn(before, [word]) for each, before in known.items()}, now)


def _strangers(connection: Connection, notes: _Notes, now: datetime) -> dict[str, str]:
    """By user who was just created or renamed: whom webhooks have known under that customer id until now."""
    created = {
        Identifier("customer_id", each.customer_id): each.user_id
        for each in notes.people
        if each.id_kind == "id"
        and each.deleted_at is None
        and (each.created_at == now or each.user_id in notes.renamed)
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
    pending.mark_mirrored(connection, list(heirs), now, pending.AT_ONCE)


def _delivered(notes: _Notes, result: Result, owners: dict[str, str], mapping_hash: str, now: datetime) -> None:
    each = result.prepared
    notes.done.append(each.user_id)
    if _is_taken(each, owners):
        notes.tally.skipped["customer_id_taken"] += 1
        notes.log_rows.append(Attempt(each.user_id, each.decision.verb, result.calls, None, "customer_id_taken", ""))
        return
    match each.decision.verb:
        case "create":
            notes.tally.created += 1
        case "delete":
            notes.tally.deleted += 1
            notes.deleted.append(each.user_id)
        case _:
            notes.tally.updated += 1
    _accepted(notes, result, _mirror(each, result.accepted, mapping_hash, now))
    notes.log_rows += [
        Attempt(each.user_id, each.decision.verb, 0, None, left.reason, f"{left.name}: {left.message}")
        for left in each.decision.left_out
    ]


def _is_taken(each: Prepared, owners: dict[str, str]) -> bool:
    """Another worker was faster with the same customer id for another user."""
    return owners.get(_known_by(each).value, each.user_id) != each.user_id


def _accepted(notes: _Notes, result: Result, person: Mirror) -> None:
    """What Customer.io has taken of a person's parts, and what is known with it."""
    notes.people.append(person)
    parts = [part for part in result.accepted if isinstance(part, encode.Identify)]
    if any(part.renamed is not None for part in parts):
        notes.renamed.append(person.user_id)
    if _opts_out(result.prepared) and any(mapping.OPT_OUT in part.attributes for part in parts):
        notes.opted_out.append(person.user_id)


def _undelivered(
    notes: _Notes, result: Result, outcome: Undelivered, owners: dict[str, str], mapping_hash: str, now: datetime
) -> None:
    if result.calls == 0:
        notes.tally.untried += 1
        return
    each = result.prepared
    if result.accepted and not _is_taken(each, owners):
        _accepted(notes, result, replace(_mirror(each, result.accepted, mapping_hash, now), version=_NEVER))
    notes.tally.failed[outcome.reason] += 1
    due_at = now + timedelta(seconds=result.retry_in)
    notes.failures.append(pending.Failure(each.user_id, due_at, outcome.reason))
    notes.log_rows.append(
        Attempt(each.user_id, each.decision.verb, result.calls, outcome.status, outcome.reason, outcome.message)
    )


def _skipped(notes: _Notes, each: Prepared, mapping_hash: str, now: datetime) -> None:
    decision, sent = each.decision, each.subject.mirror
    notes.tally.skipped[decision.reason] += 1
    if decision.until is not None and each.claim.release in _WAITS_WITH[decision.reason]:
        # What was let go stays so; the others come again with a pass.
        notes.waiting.append((each.user_id, decision.until))
    else:
        notes.done.append(each.user_id)
    if sent is not None:
        left_at = {"leaving": sent.left_at or now, AWAITS_PASS: sent.left_at}.get(decision.reason)
        subject = each.subject
        seen = mirror.Looked(each.user_id, subject.segment_bits, mapping_hash, subject.user.version, left_at)
        notes.touched.append(seen)


def _known_by(prepared: Prepared) -> CustomerId:
    """What the person is known by after all parts."""
    decision = prepared.decision
    if decision.renamed is not None:
        return decision.renamed
    sent = prepared.subject.mirror
    if sent is not None and sent.deleted_at is None:
        return CustomerId(sent.id_kind, sent.customer_id)
    return prepared.parts[0].customer_id


def _mirror(prepared: Prepared, accepted: Sequence[encode.Part], mapping_hash: str, now: datetime) -> Mirror:
    """What the person has of us after the accepted parts."""
    decision, user = prepared.decision, prepared.subject.user
    sent = prepared.subject.mirror
    before = sent if sent is not None and sent.deleted_at is None else None
    known_by = CustomerId(before.id_kind, before.customer_id) if before is not None else _known_by(prepared)
    attributes = dict(before.attributes) if before is not None else {}
    opt_sent_at = before.opt_sent_at if before is not None else user.opt_changed_at
    for part in accepted:
        if isinstance(part, encode.Delete):
            continue
        known_by = part.renamed or known_by
        for name, value in part.attributes.items():
            if name in decision.attributes:
                attributes[name] = value
            elif value is None:
                attributes.pop(name, None)
        if mapping.OPT_OUT in part.attributes:
            opt_sent_at = now if _opts_out(prepared) else user.opt_changed_at
    return Mirror(
        user_id=prepared.user_id,
        customer_id=known_by.value,
        id_kind=known_by.kind,
        attributes={} if decision.verb == "delete" else attributes,
        segment_bits=prepared.subject.segment_bits,
        mapping_hash=mapping_hash,
        version=user.version,
        sent_ts=decision.timestamp,
        created_at=before.created_at if before else now,
        synced_at=now,
        release=before.release if before else prepared.claim.release,
        left_at=None,
        deleted_at=now if decision.verb == "delete" else None,
        opt_sent_at=opt_sent_at,
    )
