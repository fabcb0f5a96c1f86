"""Recording what came of a claim: mirror, attempts and pending in one transaction, where the lease is still ours."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from sqlalchemy.engine import Connection

from connector import log
from connector.core import encode, learnt, mapping, retry
from connector.core.activity import Unsendable
from connector.core.outcome import UNHEARD, Delivered, Later, Refused, Stopped
from connector.outbound.preparation import AWAITS_PASS, Prepared
from connector.outbound.results import Result
from connector.outbound.tally import Tally
from connector.records import EVERYTHING, Claim, CustomerId, Identifier, Mirror, Word
from connector.store import attempts, database, decided, due_events, leases, mirror, pending, users
from connector.store.attempts import Attempt

_NO_VERSION = -1  # that no user has: there is more to send
_WAITS_WITH = {"leaving": pending.DELETES, "just_deleted": pending.CREATES}
_log = log.get("worker")


@dataclass
class _Notes:
    """What the transaction will write of the users of one claim."""

    done: list[str] = field(default_factory=list)
    people: list[Mirror] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    touched: list[mirror.Looked] = field(default_factory=list)
    renamed: list[str] = field(default_factory=list)
    opted_out: list[str] = field(default_factory=list)
    doubted: list[str] = field(default_factory=list)  # nobody knows what these people have there
    withdrawn: dict[str, Mirror | None] = field(default_factory=dict)  # who was not created
    waiting: list[tuple[str, datetime]] = field(default_factory=list)
    log_rows: list[Attempt] = field(default_factory=list)
    failures: list[leases.Failure] = field(default_factory=list)
    parked: list[leases.Parked] = field(default_factory=list)
    untried: list[str] = field(default_factory=list)
    sent: list[int] = field(default_factory=list)
    events_parked: dict[int, str] = field(default_factory=dict)
    unsent: dict[str, str] = field(default_factory=dict)  # who has events that wait, and why


@dataclass(frozen=True, slots=True)
class Terms:
    """Under which this is recorded: what the settings made of users, for how long somebody may fail, and events wait
    for somebody who isn't sent, and when."""

    mapping_hash: str
    give_up_after: timedelta
    events_wait: timedelta
    now: datetime


def record(connection: Connection, skipped: Sequence[Prepared], results: Sequence[Result], terms: Terms) -> Tally:
    """Writes what came of users, of whatever claims, where their lease is still ours. Who was never tried is given
    back, due now, with no attempt counted."""
    prepared = [*skipped, *(result.prepared for result in results)]
    if any(_changes_users(each) for each in prepared):
        # Before the rows below, or a reader and we wait for each other.
        database.lock_identities(connection)
    tokens = {each.user_id: each.claim.lease for each in prepared}
    ours = leases.still_ours(connection, tokens)
    if len(ours) < len(prepared):
        _log.warning("lease_lost", users=len(prepared) - len(ours))
    owners = mirror.owners(connection, [_known_by(each.prepared).value for each in results if each.prepared.parts])
    tally = Tally()
    notes: defaultdict[str, _Notes] = defaultdict(_Notes)
    for result in results:
        if result.user_id in ours:
            _came_of(tally, notes[tokens[result.user_id]], result, owners, terms)
    for each in skipped:
        if each.user_id in ours:
            _came_of(tally, notes[each.claim.lease], Result(each, Delivered(), 0), owners, terms)
    for lease, of_claim in notes.items():
        _write(connection, lease, of_claim, terms)
    decided.count(connection, tally.decided, terms.now)
    return tally


def begin(connection: Connection, prepared: Sequence[Prepared], terms: Terms) -> None:
    """Before the calls that create these people."""
    mirror.begin(
        connection, [replace(_mirror(each, (), terms), version=_NO_VERSION, unsure=EVERYTHING) for each in prepared]
    )


def give_back(
    connection: Connection, lease: str, user_ids: Sequence[str], begun: Mapping[str, Mirror | None], now: datetime
) -> None:
    """Not sent after all: they are due, and who was begun is no person."""
    ours = leases.still_ours(connection, dict.fromkeys(user_ids, lease))
    leases.give_back(connection, lease, now, sorted(ours))
    mirror.withdraw(connection, {user_id: before for user_id, before in begun.items() if user_id in ours})


def _write(connection: Connection, lease: str, notes: _Notes, terms: Terms) -> None:
    now = terms.now
    strangers = _strangers(connection, notes, now)
    mirror.record(connection, notes.people, notes.renamed)
    mirror.touch(connection, notes.touched)
    mirror.doubt(connection, notes.doubted)
    mirror.withdraw(connection, notes.withdrawn)
    users.forget_cio_ids(connection, notes.deleted)
    attempts.add(connection, notes.log_rows, now)
    due_events.sent(connection, notes.sent, now)
    due_events.parked(connection, notes.events_parked, now)
    _skip_events(connection, notes, terms)
    leases.finish(connection, lease, notes.done, now)
    leases.wait(connection, lease, notes.waiting, now)
    leases.postpone(connection, lease, notes.failures, now)
    leases.park(connection, lease, notes.parked, terms.mapping_hash, now)
    leases.give_back(connection, lease, now, notes.untried)
    _inherit(connection, strangers, now)
    _remember(connection, notes.opted_out, now)


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


def _skip_events(connection: Connection, notes: _Notes, terms: Terms) -> None:
    """Events of who isn't sent: those that have waited long enough are skipped, the others looked at in their time."""
    if not notes.unsent:
        return
    due_events.skip_waited(connection, notes.unsent, terms.now - terms.events_wait, terms.now)
    since = due_events.oldest(connection, list(notes.unsent))
    for user_id in notes.unsent:
        if user_id in since:
            notes.waiting.append((user_id, since[user_id] + terms.events_wait))
        else:
            notes.done.append(user_id)


def _came_of(tally: Tally, notes: _Notes, result: Result, owners: dict[str, str], terms: Terms) -> None:
    match result.outcome:
        case Delivered():
            if result.prepared.parts:
                _delivered(tally, notes, result, owners, terms)
            else:
                _looked_at(tally, notes, result.prepared, terms)
            _events(tally, notes, result, terms)
        case Stopped():
            tally.untried += 1
            notes.untried.append(result.user_id)
            _part_of(notes, result, owners, terms)
        case Refused() | Later():
            _undelivered(tally, notes, result, result.outcome, owners, terms)


def _events(tally: Tally, notes: _Notes, result: Result, terms: Terms) -> None:
    """What came of a user's events, and with that of their pending row."""
    each, events = result.prepared, result.events
    user_id, agenda = each.user_id, each.agenda
    notes.sent += events.sent
    tally.events += len(events.sent)
    refused: dict[int, Unsendable | Refused] = {**agenda.parked, **events.refused}
    for event_id, why in refused.items():
        status = why.status if isinstance(why, Refused) else None
        notes.log_rows.append(Attempt(user_id, "event", int(status is not None), status, why.reason, why.message))
        notes.events_parked[event_id] = why.reason
        tally.events_parked[why.reason] += 1
    notes.log_rows += [
        Attempt(user_id, "event", 0, None, left.reason, f"{left.name}: {left.message}") for left in agenda.left_out
    ]
    match events.outcome:
        case Later() as failed if events.at is not None:
            _event_failed(tally, notes, result, failed, events.at, terms)
        case Stopped():
            notes.untried.append(user_id)
        case _:
            _settle(notes, each)


def _event_failed(tally: Tally, notes: _Notes, result: Result, failed: Later, event_id: int, terms: Terms) -> None:
    """Those behind it wait with it; one that fails for too long makes way for them."""
    claim, user_id = result.prepared.claim, result.user_id
    notes.log_rows.append(Attempt(user_id, "event", result.calls, failed.status, failed.reason, failed.message))
    if terms.now - (claim.failing_since or terms.now) >= terms.give_up_after:
        notes.events_parked[event_id] = failed.reason
        tally.events_parked[failed.reason] += 1
        notes.waiting.append((user_id, terms.now))
        return
    tally.failed[failed.reason] += 1
    notes.failures.append(leases.Failure(user_id, _due_again(claim, terms.now), failed.reason, result.alone))


def _due_again(claim: Claim, now: datetime) -> datetime:
    return now + timedelta(seconds=retry.seconds(claim.attempts, random.random()))  # noqa: S311 - spreads load


def _settle(notes: _Notes, each: Prepared) -> None:
    """What becomes of the pending row of who needs nothing more now."""
    until = each.decision.until
    waits_with = pending.DELETES if each.parts else _WAITS_WITH.get(each.decision.reason, frozenset())
    if until is not None and each.claim.release in waits_with:
        notes.waiting.append((each.user_id, until))  # what was let go stays so; the others come again with a pass
    elif each.agenda.waits_for is not None:
        notes.unsent[each.user_id] = each.agenda.waits_for
    elif each.agenda.again_at is not None:
        notes.waiting.append((each.user_id, each.agenda.again_at))
    else:
        notes.done.append(each.user_id)


def _delivered(tally: Tally, notes: _Notes, result: Result, owners: dict[str, str], terms: Terms) -> None:
    each = result.prepared
    if _is_taken(each, owners):
        notes.withdrawn[each.user_id] = each.subject.mirror
        tally.skipped["customer_id_taken"] += 1
        tally.decided["skip", "customer_id_taken"] += 1
        notes.log_rows.append(Attempt(each.user_id, each.decision.verb, result.calls, None, "customer_id_taken", ""))
        # The person has something of both now: the next pass sends all of the owner's anew.
        notes.doubted.append(owners[_known_by(each).value])
        return
    tally.decided[each.decision.verb, each.decision.reason] += 1
    match each.decision.verb:
        case "create":
            tally.created += 1
        case "delete":
            tally.deleted += 1
            notes.deleted.append(each.user_id)
        case _:
            tally.updated += 1
    _accepted(notes, result, _mirror(each, result.accepted, terms))
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
    tally: Tally, notes: _Notes, result: Result, outcome: Refused | Later, owners: dict[str, str], terms: Terms
) -> None:
    each, now = result.prepared, terms.now
    _part_of(notes, result, owners, terms)
    since = each.claim.failing_since or now
    if isinstance(outcome, Refused) or now - since >= terms.give_up_after:
        tally.parked[outcome.reason] += 1
        notes.parked.append(leases.Parked(each.user_id, outcome.reason, each.subject.user.version))
    else:
        tally.failed[outcome.reason] += 1
        due_at = _due_again(each.claim, now)
        notes.failures.append(leases.Failure(each.user_id, due_at, outcome.reason, result.alone))
    notes.log_rows.append(
        Attempt(each.user_id, each.decision.verb, result.calls, outcome.status, outcome.reason, outcome.message)
    )


def _part_of(notes: _Notes, result: Result, owners: dict[str, str], terms: Terms) -> None:
    """What was accepted of someone who was not delivered as a whole; they stay pending with the rest. Where nobody
    heard whether the rest was applied, they are people from now on, of whom nothing is sure."""
    each, outcome = result.prepared, result.outcome
    if _is_taken(each, owners):
        return
    is_last = result.calls > 0 and not isinstance(outcome, Delivered) and outcome.reason in UNHEARD
    unheard = result.unheard or is_last
    sent = each.subject.mirror
    before = sent if sent is not None and sent.deleted_at is None else None
    if not result.accepted and before is None and not unheard:
        notes.withdrawn[each.user_id] = sent
    elif result.accepted or unheard:
        unsure = _unsure(each, result.accepted, before) if unheard else "" if before is None else before.unsure
        person = replace(_mirror(each, result.accepted, terms), deleted_at=None, version=_NO_VERSION, unsure=unsure)
        _accepted(notes, result, person)


def _unsure(each: Prepared, accepted: Sequence[encode.Part], before: Mirror | None) -> str:
    """What may have come of the parts that weren't accepted."""
    rest = [part for part in each.parts if part not in accepted]
    is_there = bool(accepted) or (before is not None and before.unsure != EVERYTHING)
    if not is_there or any(isinstance(part, encode.Delete) for part in rest):
        return EVERYTHING
    names = [name for part in rest if isinstance(part, encode.Identify) for name in part.attributes]
    earlier = before.unsure.split("\n") if before is not None and before.unsure else []
    return "\n".join(dict.fromkeys([*earlier, *names]))


def _looked_at(tally: Tally, notes: _Notes, each: Prepared, terms: Terms) -> None:
    decision, sent = each.decision, each.subject.mirror
    tally.skipped[decision.reason] += 1
    tally.decided[decision.verb, decision.reason] += 1
    if sent is not None:
        left_at = {"leaving": sent.left_at or terms.now, AWAITS_PASS: sent.left_at}.get(decision.reason)
        subject = each.subject
        seen = mirror.Looked(each.user_id, subject.segment_bits, terms.mapping_hash, subject.user.version, left_at)
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


def _mirror(prepared: Prepared, accepted: Sequence[encode.Part], terms: Terms) -> Mirror:
    """What the person has of us after the accepted parts."""
    now = terms.now
    decision, user = prepared.decision, prepared.subject.user
    sent = prepared.subject.mirror
    before = sent if sent is not None and sent.deleted_at is None else None
    known_by = CustomerId(before.id_kind, before.customer_id) if before is not None else _known_by(prepared)
    attributes = dict(before.attributes) if before is not None else {}
    opt_sent_at = before.opt_sent_at if before is not None else user.opt_changed_at
    visitors = dict.fromkeys(before.anonymous_ids if before is not None else ())
    for part in accepted:
        if isinstance(part, encode.Delete):
            visitors.clear()
            continue
        known_by = part.renamed or known_by
        for name, value in part.attributes.items():
            if name in decision.attributes:
                attributes[name] = value
            elif value is None:
                attributes.pop(name, None)
        if mapping.ANONYMOUS_ID in part.attributes:
            visitors[part.attributes[mapping.ANONYMOUS_ID]] = None
        if mapping.OPT_OUT in part.attributes:
            opt_sent_at = now if _opts_out(prepared) else user.opt_changed_at
    return Mirror(
        user_id=prepared.user_id,
        customer_id=known_by.value,
        id_kind=known_by.kind,
        attributes={} if decision.verb == "delete" else attributes,
        segment_bits=prepared.subject.segment_bits,
        mapping_hash=terms.mapping_hash,
        version=user.version,
        sent_ts=decision.timestamp,
        created_at=before.created_at if before else now,
        synced_at=now,
        release=before.release if before else prepared.claim.release,
        left_at=(before.left_at or now) if before is not None and decision.until is not None else None,
        deleted_at=now if decision.verb == "delete" else None,
        opt_sent_at=opt_sent_at,
        anonymous_ids=list(visitors),
    )
