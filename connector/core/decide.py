"""What is due for one user: create, update, delete, postpone or skip, with one reason word.

The first row that matches wins. "Mirror" means a live one: who was deleted has none.

    merged into another user                                    skip      merged
    suppressed at Customer.io                                   skip      suppressed
    named by what was an erased person's                        skip      erased
    in one, no mirror, known only from Customer.io's webhooks   skip      only_from_customerio
    in one, no mirror, no value for the customer id             skip      no_customer_id
    in one, no mirror, a value that can't be an id              skip      bad_customer_id
    in one, no mirror, another user's mirror has that id        skip      customer_id_taken
    in one, no mirror, no email, and `require_email`            skip      no_email
    in one, no mirror, that id was deleted a minute ago         postpone  just_deleted
    in one, no mirror                                           create    entered
    in one, mirror, the customer id now has another value       update    customer_id_changed  (else skip)
    in one, mirror, opted out before its create, not carried    update    opted_out
    in one, mirror, nothing differs                             skip      unchanged
    in one, mirror                                              update    changed
    in none, no mirror                                          skip      not_in_segment
    in none, mirror, deletion off                               skip      left_kept
    in none, mirror, within grace                               postpone  leaving
    in none, mirror                                             delete    left

"In one" and "in none" are about the whitelisted segments. A create carries what we know of opt-out and preferences,
because a person who is made anew at Customer.io is subscribed to everything.

A person whose id changed is addressed by their `cio_id`, which webhooks tell; without it nothing is sent under either
id: the new one would make a second person. So is one whose email changed, where it is known.

`unsubscribed` is sent as true for an opt-out that Customer.io can't know of, and as false only when our own data take
back an opt-out, later than it was said.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from connector.core import diff, mapping
from connector.records import CustomerId, Decision, Mirror, Subject
from connector.settings import Settings

AFTER_DELETE = timedelta(seconds=60)


def decide(subject: Subject, settings: Settings, now: datetime) -> Decision:
    """The decision for this user at this moment; `now` becomes the identify's timestamp in whole seconds."""
    mirror = subject.mirror
    if subject.user.merged_into is not None:
        return Decision("skip", "merged")
    if mirror is not None and mirror.suppressed_at is not None:
        return Decision("skip", "suppressed")
    if subject.erased:
        return Decision("skip", "erased")
    live = mirror if mirror is not None and mirror.deleted_at is None else None
    if not mapping.whitelisted(subject.segment_bits, settings):
        return Decision("skip", "not_in_segment") if live is None else _leave(live, settings, now)
    return _enter(subject, settings, now) if live is None else _stay(subject, live, settings, now)


def _leave(mirror: Mirror, settings: Settings, now: datetime) -> Decision:
    sent_as = CustomerId(mirror.id_kind, mirror.customer_id)
    if not settings.people.delete.enabled:
        return Decision("skip", "left_kept", sent_as)
    until = (now if mirror.left_at is None else mirror.left_at) + settings.people.delete.grace
    if mirror.left_at is None or now < until:
        return Decision("postpone", "leaving", sent_as, until=until)
    return Decision("delete", "left", sent_as, timestamp=_timestamp(mirror, now))


def _enter(subject: Subject, settings: Settings, now: datetime) -> Decision:
    user, dead = subject.user, subject.mirror
    if user.known_by == "customerio":
        return Decision("skip", "only_from_customerio")
    customer_id = mapping.customer_id(user, settings)
    if not isinstance(customer_id, CustomerId):
        return Decision("skip", customer_id)
    if subject.taken:
        return Decision("skip", "customer_id_taken")
    if settings.people.require_email and not user.email:
        return Decision("skip", "no_email")
    deletes = (None if dead is None else dead.deleted_at, subject.id_deleted_at)
    until = max((at + AFTER_DELETE for at in deletes if at is not None), default=now)
    if now < until:
        return Decision("postpone", "just_deleted", customer_id, until=until)
    opted_out = user.opted_out or mapping.says_opt_out(user, settings)
    wanted, left_out = mapping.attributes(user, subject.segment_bits, settings, opted_out=opted_out or None)
    carried = {**wanted, **mapping.preferences(subject.preferences)}
    timestamp = int(now.timestamp()) if dead is None else _timestamp(dead, now)
    return Decision("create", "entered", customer_id, None, carried, wanted, left_out, timestamp)


def _stay(subject: Subject, mirror: Mirror, settings: Settings, now: datetime) -> Decision:
    user = subject.user
    sent_as = CustomerId(mirror.id_kind, mirror.customer_id)
    today = mapping.customer_id(user, settings)
    renamed = today if isinstance(today, CustomerId) and today != sent_as else None
    if today not in (sent_as, "no_customer_id") and (renamed is None or subject.taken or subject.cio_id is None):
        return Decision("skip", "customer_id_changed", sent_as)
    opt_out, reason = _opt_out(subject, mirror, settings)
    wanted, left_out = mapping.attributes(user, subject.segment_bits, settings, opted_out=opt_out)
    for each in left_out:
        if each.reason != "too_many" and each.name in mirror.attributes:
            wanted[each.name] = mirror.attributes[each.name]  # left out, not emptied: they still have a value
    changes = diff.changes(mirror.attributes, wanted, settings.people.segments_attribute, mapping.MAX_ATTRIBUTES)
    if reason == "opt_said":
        changes[mapping.OPT_OUT] = opt_out  # they may have been told the same before, and something else since
    if renamed is not None:
        changes = {renamed.kind: renamed.value, **changes}
    if not changes:
        return Decision("skip", "unchanged", sent_as, attributes=wanted, left_out=left_out)
    addressed = sent_as
    if subject.cio_id is not None and (renamed is not None or "email" in changes):
        addressed = CustomerId("cio_id", subject.cio_id)
    word = "customer_id_changed" if renamed else "opted_out" if reason == "opted_out" else "changed"
    return Decision("update", word, addressed, renamed, changes, wanted, left_out, _timestamp(mirror, now))


def _opt_out(subject: Subject, mirror: Mirror, settings: Settings) -> tuple[bool | None, str | None]:
    """What to send as `unsubscribed` (None: nothing), and why it has to go even if it was sent before."""
    user = subject.user
    carried: bool | None = mirror.attributes.get(mapping.OPT_OUT)
    said_at = user.opt_changed_at
    if said_at is not None and user.opted_by == "own" and (mirror.opt_sent_at is None or said_at > mirror.opt_sent_at):
        return user.opted_out, "opt_said"
    if user.opted_out and carried is None and said_at is not None and said_at < mirror.created_at:
        return True, "opted_out"
    if mapping.says_opt_out(user, settings):
        return True, None
    return carried, None


def _timestamp(mirror: Mirror, now: datetime) -> int:
    return max(int(now.timestamp()), mirror.sent_ts + 1)
