"""Recording what came of a claim: mirror, attempts and pending in one transaction, where the lease is still ours."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence, Set
from datetime import datetime

from msgspec.structs import replace
from sqlalchemy.engine import Connection

from connector import log
from connector.core import learnt
from connector.core.outcome import Delivered
from connector.outbound import mirroring, noting
from connector.outbound.notes import Meanwhile, Notes, Terms
from connector.outbound.preparation import Prepared
from connector.outbound.results import Result
from connector.outbound.tally import Tally
from connector.records import EVERYTHING, Identifier, Mirror, Word
from connector.store import attempts, database, decided, due_events, leases, mirror, pending, users
from connector.store.database import Database

_log = log.get("worker")


class _Unlocked(Exception):
    """These users have to be locked too, and in one order with the others: the transaction begins anew."""

    def __init__(self, user_ids: Set[str]) -> None:
        super().__init__()
        self.user_ids = user_ids


def record(db: Database, skipped: Sequence[Prepared], results: Sequence[Result], terms: Terms) -> Tally:
    """Writes what came of users, of whatever claims, where their lease is still ours. Who was never tried is given
    back, due now, with no attempt counted."""
    others: set[str] = set()
    while True:
        try:
            return db.write(_record, skipped, results, terms, others)
        except _Unlocked as error:
            others |= error.user_ids


def _record(
    connection: Connection, skipped: Sequence[Prepared], results: Sequence[Result], terms: Terms, others: Set[str]
) -> Tally:
    """Raises _Unlocked where somebody's person is by now another user's who is none of the `others`."""
    prepared = [*skipped, *(result.prepared for result in results)]
    if any(_changes_users(each) for each in prepared):
        # Before the rows below, or a reader and we wait for each other.
        database.lock_identities(connection)
        users.lock(connection, [each.user_id for each in prepared if mirroring.opts_out(each)])
    tokens = {each.user_id: each.claim.lease for each in prepared}
    if others:
        pending.lock(connection, [*tokens, *others])
    ours = leases.still_ours(connection, tokens)
    if len(ours) < len(prepared):
        _log.warning("lease_lost", users=len(prepared) - len(ours))
    meanwhile = _meanwhile(connection, results)
    if not meanwhile.others <= others:
        raise _Unlocked(meanwhile.others)
    tally = Tally()
    notes: defaultdict[str, Notes] = defaultdict(Notes)
    for result in results:
        if result.user_id in ours:
            noting.came_of(tally, notes[tokens[result.user_id]], result, meanwhile, terms)
    for each in skipped:
        if each.user_id in ours:
            noting.came_of(tally, notes[each.claim.lease], Result(each, Delivered(), 0), meanwhile, terms)
    for lease, of_claim in notes.items():
        _write(connection, lease, of_claim, terms)
    decided.count(connection, tally.decided, terms.now)
    return tally


def _meanwhile(connection: Connection, results: Sequence[Result]) -> Meanwhile:
    sent = [each.prepared for each in results if each.prepared.parts]
    names = [(each.user_id, mirroring.was_known_by(each).value) for each in sent]
    names += [(each.user_id, each.decision.renamed.value) for each in sent if each.decision.renamed is not None]
    there = mirror.there(connection, {name for _, name in names})
    owners = {customer_id: user_id for customer_id, user_id, _ in there}
    others = {user_id: owners[name] for user_id, name in names if owners.get(name, user_id) != user_id}
    merged = mirror.survivors(connection, list(others))
    heirs = {user_id: owner for user_id, owner in others.items() if merged.get(user_id) == owner}
    # The heirs too: they may have been in the same call.
    doubts = dict.fromkeys(heirs.values(), mirror.NO_VERSION - 1)
    doubts |= {user_id: version for _, user_id, version in there if mirror.is_doubted(version)}
    return Meanwhile(owners, frozenset(others.values()), heirs, doubts)


def begin(connection: Connection, prepared: Sequence[Prepared], terms: Terms) -> set[str]:
    """Before the calls that create these people, of one claim as a rule. Returns whom to create: who is still ours, and
    is nobody there still. Others may have become somebody by a merge, or with whoever took over their lease."""
    tokens = {each.user_id: each.claim.lease for each in prepared}
    ours = set(tokens)
    if not leases.all_ours(connection, prepared[0].claim.lease, list(tokens)):
        ours = leases.still_ours(connection, tokens)
    begun = ours - mirror.people(connection, ours) - mirror.survivors(connection, list(ours)).keys()
    mirror.begin(
        connection,
        [
            replace(mirroring.after(each, (), terms), version=mirror.NO_VERSION, unsure=EVERYTHING)
            for each in prepared
            if each.user_id in begun
        ],
    )
    return begun


def give_back(
    connection: Connection, lease: str, user_ids: Sequence[str], begun: Mapping[str, Mirror | None], now: datetime
) -> None:
    """Not sent after all: they are due, and who was begun is no person."""
    ours = leases.still_ours(connection, dict.fromkeys(user_ids, lease))
    leases.give_back(connection, lease, now, sorted(ours))
    mirror.withdraw(connection, {user_id: before for user_id, before in begun.items() if user_id in ours})


def _write(connection: Connection, lease: str, notes: Notes, terms: Terms) -> None:
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
    is_someone_else = decision.verb in {"create", "delete"} or mirroring.is_perhaps_new(each)
    return is_someone_else or decision.renamed is not None or mirroring.opts_out(each)


def _remember(connection: Connection, opted_out: Sequence[str], now: datetime) -> None:
    """What Customer.io was told of an opt-out is known from then on, whatever becomes of the attribute."""
    if opted_out:
        word = Word(now, opted_out=True, by="own")
        known = users.learnt(connection, opted_out)
        users.remember(connection, {each: learnt.learn(before, [word]) for each, before in known.items()}, now)


def _strangers(connection: Connection, notes: Notes, now: datetime) -> dict[str, str]:
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


def _skip_events(connection: Connection, notes: Notes, terms: Terms) -> None:
    """Events of who isn't sent: those that have waited long enough are skipped, the others looked at in their time."""
    if not notes.unsent:
        return
    # What came in flight may have brought what was missing, and events of somebody else's who waited longer.
    changed = leases.changed(connection, list(notes.unsent))
    reasons = {user_id: unsent.reason for user_id, unsent in notes.unsent.items() if user_id not in changed}
    due_events.skip_waited(connection, reasons, terms.now - terms.events_wait, terms.now)
    since = due_events.oldest(connection, list(notes.unsent))
    for user_id, unsent in notes.unsent.items():
        if user_id in since:
            notes.waiting.append(leases.Wait(user_id, since[user_id] + terms.events_wait, unsent.keeps_release))
        else:
            notes.done.append(user_id)
