"""What came of each claimed user, as notes of what is to be written: pure, but for the spread of the next try."""

from __future__ import annotations

import random
from collections.abc import Mapping
from datetime import datetime, timedelta

from msgspec.structs import replace

from connector.core import encode, mapping, retry
from connector.core.activity import Unsendable
from connector.core.outcome import UNHEARD, Delivered, Later, Refused, Stopped
from connector.outbound import agenda, mirroring
from connector.outbound.notes import Meanwhile, Notes, Terms, Unsent
from connector.outbound.preparation import AWAITS_PASS, Prepared
from connector.outbound.results import Result
from connector.outbound.tally import Tally
from connector.records import EVERYTHING, Mirror
from connector.store import leases, mirror, pending
from connector.store.attempts import Attempt

_LOOK_AGAIN = timedelta(minutes=1)
_WAITS_WITH = {"leaving": pending.DELETES, "just_deleted": pending.CREATES}


def came_of(tally: Tally, notes: Notes, result: Result, meanwhile: Meanwhile, terms: Terms) -> None:
    """Of one user. `meanwhile` is about all whom these results are about."""
    match result.outcome:
        case Delivered():
            if result.prepared.parts and _is_taken(result.prepared, meanwhile):
                result = _astray(tally, notes, result, meanwhile.owners)
            elif result.prepared.parts:
                _delivered(tally, notes, result, meanwhile, terms)
            elif not _is_untouched(result):
                _looked_at(tally, notes, result.prepared, terms)
            if result.prepared.agenda is agenda.EMPTY:
                _settle(notes, result, terms)
            else:
                _events(tally, notes, result, terms)
        case Stopped():
            tally.untried += 1
            notes.untried.append(result.user_id)
            _part_of(notes, result, meanwhile, terms)
        case Refused() | Later():
            _undelivered(tally, notes, result, result.outcome, meanwhile, terms)


def _is_untouched(result: Result) -> bool:
    """Whether they are left to another claim as they were, which then looks at them. Counted each time, a backlog that
    takes many claims would be told as many times what it is."""
    is_cut = isinstance(result.events.outcome, Stopped) or result.is_cut_short
    return (is_cut or result.prepared.agenda.is_put_off) and not _failures_are_over(result)


def _events(tally: Tally, notes: Notes, result: Result, terms: Terms) -> None:
    """What came of a user's events, and with that of their pending row."""
    each, events = result.prepared, result.events
    user_id, theirs = each.user_id, each.agenda
    notes.sent += events.sent
    tally.events += len(events.sent)
    accepted = set(events.sent)
    refused: dict[int, Unsendable | Refused] = {**theirs.parked, **events.refused}
    for event_id, why in refused.items():
        status = why.status if isinstance(why, Refused) else None
        notes.log_rows.append(Attempt(user_id, "event", int(status is not None), status, why.reason, why.message))
        notes.events_parked[event_id] = why.reason
        tally.events_parked[why.reason] += 1
    # Once for all events that have it: it may be each of them.
    left_out = dict.fromkeys(left for one in theirs.outgoing if one.event_id in accepted for left in one.left_out)
    notes.log_rows += [
        Attempt(user_id, "event", 0, None, left.reason, f"{left.name}: {left.message}") for left in left_out
    ]
    match events.outcome:
        case Later() as failed if events.at is not None:
            _event_failed(tally, notes, result, failed, events.at, terms)
        case outcome if isinstance(outcome, Stopped) or result.is_cut_short:
            _left_to_the_next_claim(notes, result, terms)
        case _:
            _settle(notes, result, terms)


def _event_failed(tally: Tally, notes: Notes, result: Result, failed: Later, event_id: int, terms: Terms) -> None:
    """Those behind it wait with it; one that fails for too long makes way for them, and what is known of its failures
    says nothing of theirs."""
    claim, user_id, is_first = result.prepared.claim, result.user_id, _failures_are_over(result)
    notes.log_rows.append(Attempt(user_id, "event", result.calls, failed.status, failed.reason, failed.message))
    since = None if is_first else claim.failing_since
    if terms.now - (since or terms.now) >= terms.give_up_after:
        notes.events_parked[event_id] = failed.reason
        tally.events_parked[failed.reason] += 1
        notes.waiting.append(leases.Wait(user_id, terms.now, keeps_release=False))
        return
    tally.failed[failed.reason] += 1
    due_at = _due_again(0 if is_first else claim.attempts, terms.now)
    notes.failures.append(leases.Failure(user_id, due_at, failed.reason, result.alone, is_first))


def _failures_are_over(result: Result) -> bool:
    """Whether what failed before is done now: events that were first, or the person. What was not heard of leaves them
    unsure, so where they weren't, the update that was accepted is another one than what failed."""
    sent, events = result.prepared.subject.mirror, result.events
    was_about_them = sent is None or sent.deleted_at is not None or sent.unsure != ""
    return bool(events.sent or events.refused or (result.accepted and was_about_them))


def _left_to_the_next_claim(notes: Notes, result: Result, terms: Terms) -> None:
    """The rest of a user's events. Who has come nowhere in this claim is given back as they were."""
    if _failures_are_over(result):
        notes.waiting.append(leases.Wait(result.user_id, terms.now, keeps_release=False))
    else:
        notes.untried.append(result.user_id)


def _due_again(attempts: int, now: datetime) -> datetime:
    return now + timedelta(seconds=retry.seconds(attempts, random.random()))  # noqa: S311 - spreads load


def _settle(notes: Notes, result: Result, terms: Terms) -> None:
    """What becomes of the pending row of who needs nothing more now."""
    each = result.prepared
    until, theirs = each.decision.until, each.agenda
    waits_with = pending.DELETES if each.parts else _WAITS_WITH.get(each.decision.reason, frozenset())
    if until is not None and each.claim.release in waits_with:
        # What was let go stays so; the others come again with a pass.
        notes.waiting.append(leases.Wait(each.user_id, until))
    elif theirs.waits_for is not None and _may_be_let_in(each):
        # However long it takes until a pass does that: no event is lost to our pace, or to the guard's.
        look_again = terms.now + max(terms.events_wait, _LOOK_AGAIN)
        notes.waiting.append(leases.Wait(each.user_id, look_again, keeps_release=False))
    elif theirs.waits_for is not None:
        may_enter = not each.parts and each.claim.release in pending.CREATES
        notes.unsent[each.user_id] = Unsent(theirs.waits_for, may_enter)
    elif theirs.again_at is not None:
        # What was refused has taken no room from what is behind it.
        again_at = terms.now if result.events.refused else theirs.again_at
        keeps_failures = theirs.is_put_off and not _failures_are_over(result)
        notes.waiting.append(leases.Wait(each.user_id, again_at, keeps_release=False, keeps_failures=keeps_failures))
    else:
        notes.done.append(each.user_id)


def _may_be_let_in(each: Prepared) -> bool:
    """Whether the next pass creates the person, if the guard agrees."""
    sent = each.subject.mirror
    return each.decision.reason == AWAITS_PASS and (sent is None or sent.deleted_at is not None)


def _delivered(tally: Tally, notes: Notes, result: Result, meanwhile: Meanwhile, terms: Terms) -> None:
    each = result.prepared
    tally.decided[each.decision.verb, each.decision.reason] += 1
    match each.decision.verb:
        case "create":
            tally.created += 1
        case "delete":
            tally.deleted += 1
            notes.deleted.append(meanwhile.heirs.get(each.user_id, each.user_id))
        case _:
            tally.updated += 1
            if mirroring.was_perhaps_deleted(each):
                notes.deleted.append(each.user_id)
    _accepted(notes, result, mirroring.after(each, result.accepted, terms), meanwhile)
    notes.log_rows += [
        Attempt(each.user_id, each.decision.verb, 0, None, left.reason, f"{left.name}: {left.message}")
        for left in each.decision.left_out
    ]


def _astray(tally: Tally, notes: Notes, result: Result, owners: Mapping[str, str]) -> Result:
    """Who turned out to be no person of their own: where parts and events have gone is another user's. Returns what
    that makes of the events."""
    each = result.prepared
    notes.withdrawn[each.user_id] = each.subject.mirror
    tally.skipped["customer_id_taken"] += 1
    tally.decided["skip", "customer_id_taken"] += 1
    notes.log_rows.append(Attempt(each.user_id, each.decision.verb, result.calls, None, "customer_id_taken", ""))
    # The person has something of both now: the next pass sends all of the owner's anew.
    notes.doubted.append(owners[mirroring.known_by(each).value])
    why = Refused("customer_id_taken", "the person that the event has gone to is another user's")
    events = result.events
    refused = {**events.refused, **dict.fromkeys(events.sent, why)}
    return replace(result, events=replace(events, sent=(), refused=refused))


def _is_taken(each: Prepared, meanwhile: Meanwhile) -> bool:
    """Another worker was faster with the same customer id for another user."""
    owner = meanwhile.owners.get(mirroring.known_by(each).value, each.user_id)
    return owner != each.user_id and owner != meanwhile.heirs.get(each.user_id)


def _accepted(notes: Notes, result: Result, person: Mirror, meanwhile: Meanwhile) -> None:
    """What Customer.io has taken of a person's parts, and what is known with it. Of whose person has come to another by
    a merge, and of who was doubted since they were looked at, nothing is sure."""
    user_id, sent = person.user_id, result.prepared.subject.mirror
    if (heir := meanwhile.heirs.get(user_id)) is not None:
        lower = meanwhile.doubts[heir] - 1  # or who has them in flight would not see it
        person = replace(person, user_id=heir, deleted_at=None, left_at=None, version=lower, unsure=EVERYTHING)
    elif user_id in meanwhile.doubts and (sent is None or sent.version != meanwhile.doubts[user_id]):
        person = replace(person, version=meanwhile.doubts[user_id], unsure=EVERYTHING)
    notes.people.append(person)
    renames, opts_out = result.prepared.decision.renamed is not None, mirroring.opts_out(result.prepared)
    if not renames and not opts_out:
        return
    parts = [part for part in result.accepted if isinstance(part, encode.Identify)]
    if renames and any(part.renamed is not None for part in parts):
        notes.renamed.append(person.user_id)
    if opts_out and any(mapping.OPT_OUT in part.attributes for part in parts):
        notes.opted_out.append(person.user_id)


def _undelivered(
    tally: Tally, notes: Notes, result: Result, outcome: Refused | Later, meanwhile: Meanwhile, terms: Terms
) -> None:
    each, now = result.prepared, terms.now
    _part_of(notes, result, meanwhile, terms)
    since = each.claim.failing_since or now
    if isinstance(outcome, Refused) or now - since >= terms.give_up_after:
        tally.parked[outcome.reason] += 1
        notes.parked.append(leases.Parked(each.user_id, outcome.reason, each.subject.user.version))
    else:
        tally.failed[outcome.reason] += 1
        due_at = _due_again(each.claim.attempts, now)
        notes.failures.append(leases.Failure(each.user_id, due_at, outcome.reason, result.alone))
    notes.log_rows.append(
        Attempt(each.user_id, each.decision.verb, result.calls, outcome.status, outcome.reason, outcome.message)
    )


def _part_of(notes: Notes, result: Result, meanwhile: Meanwhile, terms: Terms) -> None:
    """What was accepted of someone who was not delivered as a whole; they stay pending with the rest. Where nobody
    heard whether the rest was applied, they are people from now on, of whom nothing is sure."""
    each, outcome = result.prepared, result.outcome
    if _is_taken(each, meanwhile):
        return
    is_last = result.calls > 0 and not isinstance(outcome, Delivered) and outcome.reason in UNHEARD
    unheard = result.unheard or is_last
    sent = each.subject.mirror
    before = sent if sent is not None and sent.deleted_at is None else None
    if not result.accepted and before is None and not unheard:
        notes.withdrawn[each.user_id] = sent
    elif result.accepted or unheard:
        unsure = mirroring.unsure(each, result.accepted, before) if unheard else "" if before is None else before.unsure
        person = replace(
            mirroring.after(each, result.accepted, terms), deleted_at=None, version=mirror.NO_VERSION, unsure=unsure
        )
        _accepted(notes, result, person, meanwhile)


def _looked_at(tally: Tally, notes: Notes, each: Prepared, terms: Terms) -> None:
    decision, sent = each.decision, each.subject.mirror
    tally.skipped[decision.reason] += 1
    tally.decided[decision.verb, decision.reason] += 1
    if sent is not None:
        left_at = {"leaving": sent.left_at or terms.now, AWAITS_PASS: sent.left_at}.get(decision.reason)
        subject = each.subject
        seen = mirror.Looked(
            each.user_id, subject.segment_bits, terms.mapping_hash, subject.user.version, left_at, sent.version
        )
        notes.touched.append(seen)
