"""What is due for one user: create, update, delete, postpone or skip, with one reason word.

The first row that matches wins. "Mirror" means a live one: who was deleted has none.

    merged into another user                                    skip      merged
    suppressed at Customer.io                                   skip      suppressed
    named by what was an erased person's                        skip      erased
    in one, no mirror, known only from Customer.io's webhooks   skip      only_from_customerio
    in one, no mirror, no value for the customer id             skip      no_customer_id
    in one, no mirror, a value that can't be an id              skip      bad_customer_id
    in one, no mirror, a value that can't be read               skip      unreadable
    in one, no mirror, another user's mirror has that id        skip      customer_id_taken
    in one, no mirror, no email, and `require_email`            skip      no_email
    in one, no mirror, that id was deleted a minute ago         postpone  just_deleted
    in one, no mirror                                           create    entered
    in one, mirror, another customer id, which they can get     update    customer_id_changed
    in one, mirror, v1 would misread the id that was sent       skip      bad_customer_id
    in one, mirror, another customer id, a new opt-out          update    opted_out  (and nothing else)
    in one, mirror, a customer id that can't be read            skip      unreadable
    in one, mirror, another customer id, create never heard of  update    unsure  (under the id it went out with)
    in one, mirror, another customer id                         skip      customer_id_changed
    in one, mirror, a new opt-out                               update    opted_out
    in one, mirror, nobody heard whether a call was applied     update    unsure
    in one, mirror, nothing differs, no visitor's id is new     skip      unchanged
    in one, mirror                                              update    changed
    in none, no mirror                                          skip      not_in_segment
    in none, mirror, not due to go, a new opt-out               update    opted_out  (and nothing else)
    in none, mirror, deletion off                               skip      left_kept
    in none, mirror, within grace                               postpone  leaving
    in none, mirror                                             delete    left

Of those in none whose id v1 would misread, who had to be updated or deleted is skipped as `bad_customer_id` too.

"In one" and "in none" are about the whitelisted segments. A create carries what we know of opt-out and preferences,
because a person who is made anew at Customer.io is subscribed to everything. Where visitors are sent, it tells of those
whom this user was, and an update of those whom they turned out to be since; of each once.

A person whose id changed is addressed by their `cio_id`, which webhooks tell; without it nothing is sent under either
id: the new one would make a second person. So is one whose email changed, where it is known.

`unsubscribed` is sent as true for a new opt-out: one that Customer.io can't know of, because our own data said it, or
because it is older than their create, which missed it; or one that Customer.io told us of after we had sent false,
which may have come there after it. It goes even where nothing else is sent, since campaigns go on there. False is sent
only when our own data take back an opt-out, later than it was said.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from msgspec.structs import replace

from connector.core import diff, mapping
from connector.records import EVERYTHING, CustomerId, Decision, Mirror, Subject, User
from connector.settings import Settings

_NO_ATTRIBUTES = frozenset({mapping.PREFERENCES, mapping.ANONYMOUS_ID, "id", "cio_id"})
AFTER_DELETE = timedelta(seconds=60)


def decide(subject: Subject, settings: Settings, now: datetime, *, may_rename: bool = True) -> Decision:
    """The decision for this user at this moment; `now` becomes the identify's timestamp in whole seconds. Without
    `may_rename` nobody gets another customer id."""
    mirror = subject.mirror
    if subject.user.merged_into is not None:
        return Decision("skip", "merged")
    if mirror is not None and mirror.suppressed_at is not None:
        return Decision("skip", "suppressed")
    if subject.erased:
        return Decision("skip", "erased")
    live = mirror if mirror is not None and mirror.deleted_at is None else None
    inside = mapping.whitelisted(subject.segment_bits, settings)
    if live is None:
        return _enter(subject, settings, now) if inside else Decision("skip", "not_in_segment")
    sent_as = CustomerId(live.id_kind, live.customer_id)
    if inside:
        return _stay(subject, live, sent_as, settings, now, may_rename=may_rename)
    decision = _leave(subject, live, sent_as, settings, now)
    if decision.verb in {"update", "delete"} and mapping.is_misread(sent_as, settings):
        return Decision("skip", "bad_customer_id", sent_as)
    return decision


def _leave(subject: Subject, mirror: Mirror, sent_as: CustomerId, settings: Settings, now: datetime) -> Decision:
    if not settings.people.delete.enabled:
        alone = _opt_out_alone(subject, mirror, sent_as, settings, now)
        return alone or Decision("skip", "left_kept", sent_as)
    until = (now if mirror.left_at is None else mirror.left_at) + settings.people.delete.grace
    if mirror.left_at is None or now < until:
        alone = _opt_out_alone(subject, mirror, sent_as, settings, now, until=until)
        return alone or Decision("postpone", "leaving", sent_as, until=until)
    return Decision("delete", "left", sent_as, timestamp=_timestamp(mirror, now))


def entering(subject: Subject, settings: Settings, now: datetime) -> Decision:
    """What is due for one in a whitelisted segment who is nobody there, and nobody's who was erased; a create without
    what it would carry, so without a look at the attributes."""
    user, dead = subject.user, subject.mirror
    if user.known_by == "customerio":
        return Decision("skip", "only_from_customerio")
    customer_id = subject.customer_id or mapping.customer_id(user, settings)
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
    return Decision("create", "entered", customer_id)


def _enter(subject: Subject, settings: Settings, now: datetime) -> Decision:
    found = entering(subject, settings, now)
    if found.verb != "create":
        return found
    user, dead = subject.user, subject.mirror
    opted_out = user.opted_out or mapping.says_opt_out(user, settings)
    wanted, left_out = mapping.attributes(user, subject.segment_bits, settings, opted_out=opted_out or None)
    carried = {**wanted, **mapping.preferences(subject.preferences)}
    visitors, untold = mapping.anonymous_ids(subject.anonymous_ids, (), settings)
    timestamp = int(now.timestamp()) if dead is None else _timestamp(dead, now)
    left_out += untold
    return Decision(
        "create", "entered", found.customer_id, None, carried, wanted, left_out, timestamp, anonymous_ids=visitors
    )


def _stay(
    subject: Subject, mirror: Mirror, sent_as: CustomerId, settings: Settings, now: datetime, *, may_rename: bool
) -> Decision:
    user, renamed = subject.user, None
    today = subject.customer_id or mapping.customer_id(user, settings)
    if today != sent_as:
        can = may_rename and subject.cio_id is not None and not subject.taken
        if can and isinstance(today, CustomerId):
            renamed = today
        elif mapping.is_misread(sent_as, settings):
            return Decision("skip", "bad_customer_id", sent_as)
        elif today != "no_customer_id" and not (mirror.was_never_heard_of and isinstance(today, CustomerId)):
            reason = "unreadable" if today == "unreadable" else "customer_id_changed"
            return _opt_out_alone(subject, mirror, sent_as, settings, now) or Decision("skip", reason, sent_as)
    opt_out, why = _opt_out(subject, mirror, settings)
    bits, sent = subject.segment_bits, mirror.attributes
    if sent_as.kind == "email" and renamed is None and not user.email and "email" in sent:
        user = replace(user, email=sent["email"])  # without it nobody could address them any more
    wanted, left_out = mapping.attributes(user, bits, settings, opted_out=opt_out, sent=sent)
    changes = diff.changes(sent, wanted, settings.people.segments_attribute, mapping.MAX_ATTRIBUTES)
    if why == "opt_said":
        changes[mapping.OPT_OUT] = opt_out  # they may have been told the same before, and something else since
    is_known = mirror.unsure != EVERYTHING
    if not is_known:
        changes = _all_of_it(subject, mirror, wanted, settings)
    elif mirror.unsure:
        changes |= _unheard(subject.user, mirror, wanted)
    if renamed is not None:
        changes = {renamed.kind: renamed.value, **changes}
    told = mirror.anonymous_ids if is_known else ()
    visitors, untold = mapping.anonymous_ids(subject.anonymous_ids, told, settings)
    left_out += untold
    if not changes and not visitors:
        return Decision("skip", "unchanged", sent_as, attributes=wanted, left_out=left_out)
    addressed = sent_as
    # They may not be there: then it would be the cio_id of a person who was, before they were deleted.
    if subject.cio_id is not None and (renamed is not None or ("email" in changes and is_known)):
        addressed = CustomerId("cio_id", subject.cio_id)
    word = "customer_id_changed" if renamed else "opted_out" if why == "opted_out" else "changed"
    word = word if is_known else "unsure"
    timestamp = _timestamp(mirror, now)
    return Decision("update", word, addressed, renamed, changes, wanted, left_out, timestamp, anonymous_ids=visitors)


def _unheard(user: User, mirror: Mirror, wanted: Mapping[str, Any]) -> dict[str, Any]:
    """What the person should have under the names that a call may have set, whatever the mirror says."""
    names = [name for name in mirror.unsure.split("\n") if name not in _NO_ATTRIBUTES]
    found = {name: wanted.get(name) for name in names}
    if mapping.OPT_OUT in found and found[mapping.OPT_OUT] is None:
        del found[mapping.OPT_OUT]  # an opt-out is not taken back because nobody heard of it
        found |= {mapping.OPT_OUT: True} if user.opted_out else {}
    return found


def _all_of_it(subject: Subject, mirror: Mirror, wanted: Mapping[str, Any], settings: Settings) -> dict[str, Any]:
    """Everything that the person should have, and an end to all that they may have and shouldn't; with the consent that
    a create would carry, because they may not be there at all."""
    out = {mapping.OPT_OUT: True} if subject.user.opted_out or mapping.says_opt_out(subject.user, settings) else {}
    whole = {**wanted, **out, **mapping.preferences(subject.preferences)}
    names = [*mirror.attributes, *(pick.sent_as for pick in settings.people.attributes)]
    room = mapping.MAX_ATTRIBUTES - len(whole)
    emptied = [name for name in dict.fromkeys(names) if name not in whole]
    return {**whole, **dict.fromkeys(emptied[:room])}


def _opt_out_alone(
    subject: Subject,
    mirror: Mirror,
    sent_as: CustomerId,
    settings: Settings,
    now: datetime,
    *,
    until: datetime | None = None,
) -> Decision | None:
    """The opt-out of a person to whom nothing else is sent, if Customer.io has to hear it; what else they have of us
    stays as it was sent."""
    opt_out, why = _opt_out(subject, mirror, settings)
    before = mirror.attributes
    if not opt_out or (why is None and before.get(mapping.OPT_OUT) is True):
        return None
    changes: dict[str, Any] = {mapping.OPT_OUT: True}
    if len(before) >= mapping.MAX_ATTRIBUTES and mapping.OPT_OUT not in before:
        own = {"email", "created_at", settings.people.segments_attribute}
        changes = {next(name for name in reversed([*before]) if name not in own): None, **changes}
    after = {name: value for name, value in {**before, **changes}.items() if value is not None}
    timestamp = _timestamp(mirror, now)
    return Decision("update", "opted_out", sent_as, None, changes, after, timestamp=timestamp, until=until)


def _opt_out(subject: Subject, mirror: Mirror, settings: Settings) -> tuple[bool | None, str | None]:
    """What to send as `unsubscribed` (None: nothing), and why it has to go even if it was sent before."""
    user = subject.user
    carried: bool | None = mirror.attributes.get(mapping.OPT_OUT)
    says_so = mapping.says_opt_out(user, settings)
    said_at = user.opt_changed_at
    if said_at is not None and user.opted_by == "own" and (mirror.opt_sent_at is None or said_at > mirror.opt_sent_at):
        return user.opted_out or says_so, "opt_said"
    if user.opted_out and carried is False:
        return True, "opted_out"
    if user.opted_out and carried is None and said_at is not None and said_at < mirror.created_at:
        return True, "opted_out"
    return (True, None) if says_so else (carried, None)


def _timestamp(mirror: Mirror, now: datetime) -> int:
    return max(int(now.timestamp()), mirror.sent_ts + 1)
