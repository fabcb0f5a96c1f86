"""What is due for one user: create, update or skip, with one reason word.

The first row that matches wins:

    merged into another user                                    skip    merged
    in no whitelisted segment, no mirror                        skip    not_in_segment
    in none, mirror                                             skip    left_kept
    in one, no mirror, known only from Customer.io's webhooks   skip    only_from_customerio
    in one, no mirror, no value for the customer id             skip    no_customer_id
    in one, no mirror, a value that can't be an id              skip    bad_customer_id
    in one, no mirror, another user's mirror has that id        skip    customer_id_taken
    in one, no mirror, no email, and `require_email`            skip    no_email
    in one, no mirror                                           create  entered
    in one, mirror, the customer id now has another value       skip    customer_id_changed
    in one, mirror, opted out before its create, not carried    update  opted_out
    in one, mirror, nothing differs                             skip    unchanged
    in one, mirror                                              update  changed

A create carries the opt-out that we know of, because a person who is made anew at Customer.io is subscribed.
`unsubscribed` is never taken back by us: it is neither sent as false nor emptied.
"""

from __future__ import annotations

from datetime import datetime

from connector.core import diff, mapping
from connector.records import CustomerId, Decision, Mirror, Subject
from connector.settings import Settings


def decide(subject: Subject, settings: Settings, now: datetime) -> Decision:
    """The decision for this user at this moment; `now` becomes the identify's timestamp in whole seconds."""
    if subject.user.merged_into is not None:
        return Decision("skip", "merged")
    if not mapping.whitelisted(subject.segment_bits, settings):
        return Decision("skip", "left_kept" if subject.mirror else "not_in_segment")
    if subject.mirror is None:
        return _enter(subject, settings, now)
    return _stay(subject, subject.mirror, settings, now)


def _enter(subject: Subject, settings: Settings, now: datetime) -> Decision:
    user = subject.user
    if user.known_by == "customerio":
        return Decision("skip", "only_from_customerio")
    customer_id = mapping.customer_id(user, settings)
    if not isinstance(customer_id, CustomerId):
        return Decision("skip", customer_id)
    if subject.taken:
        return Decision("skip", "customer_id_taken")
    if settings.people.require_email and not user.email:
        return Decision("skip", "no_email")
    wanted, left_out = mapping.attributes(user, subject.segment_bits, settings, opted_out=user.opted_out)
    return Decision("create", "entered", customer_id, wanted, wanted, left_out, int(now.timestamp()))


def _stay(subject: Subject, mirror: Mirror, settings: Settings, now: datetime) -> Decision:
    user = subject.user
    sent_as = CustomerId(mirror.id_kind, mirror.customer_id)
    today = mapping.customer_id(user, settings)
    if today not in (sent_as, "no_customer_id"):
        return Decision("skip", "customer_id_changed", sent_as)
    carried = mapping.OPT_OUT in mirror.attributes
    missed = (
        user.opted_out and not carried and user.opt_changed_at is not None and user.opt_changed_at < mirror.created_at
    )
    wanted, left_out = mapping.attributes(user, subject.segment_bits, settings, opted_out=carried or missed)
    for each in left_out:
        if each.reason != "too_many" and each.name in mirror.attributes:
            wanted[each.name] = mirror.attributes[each.name]  # left out, not emptied: they still have a value
    changes = diff.changes(mirror.attributes, wanted, settings.people.segments_attribute)
    if not changes:
        return Decision("skip", "unchanged", sent_as, attributes=wanted, left_out=left_out)
    timestamp = max(int(now.timestamp()), mirror.sent_ts + 1)
    return Decision("update", "opted_out" if missed else "changed", sent_as, changes, wanted, left_out, timestamp)
