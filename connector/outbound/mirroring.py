"""What Customer.io has of somebody after a call: the next difference is made against that."""

from __future__ import annotations

from collections.abc import Sequence

from connector.core import encode, mapping
from connector.outbound.notes import Terms
from connector.outbound.preparation import Prepared
from connector.records import EVERYTHING, CustomerId, Mirror
from connector.store import pending


def known_by(prepared: Prepared) -> CustomerId:
    """What the person is known by after all parts."""
    renamed = prepared.decision.renamed
    return renamed if renamed is not None else was_known_by(prepared)


def was_known_by(prepared: Prepared) -> CustomerId:
    """What the person is known by until they get another id."""
    sent = prepared.subject.mirror
    if sent is not None and sent.deleted_at is None:
        return CustomerId(sent.id_kind, sent.customer_id)
    return prepared.parts[0].customer_id


def after(prepared: Prepared, accepted: Sequence[encode.Part], terms: Terms) -> Mirror:
    """What the person has of us after the accepted parts."""
    now = terms.now
    decision, user = prepared.decision, prepared.subject.user
    sent = prepared.subject.mirror
    before = sent if sent is not None and sent.deleted_at is None else None
    now_known_by = CustomerId(before.id_kind, before.customer_id) if before is not None else known_by(prepared)
    attributes = dict(before.attributes) if before is not None else {}
    opt_sent_at = before.opt_sent_at if before is not None else user.opt_changed_at
    visitors = dict.fromkeys(before.anonymous_ids if before is not None else ())
    for part in accepted:
        if isinstance(part, encode.Delete):
            visitors.clear()
            continue
        now_known_by = part.renamed or now_known_by
        for name, value in part.attributes.items():
            if name in decision.attributes:
                attributes[name] = value
            elif value is None:
                attributes.pop(name, None)
        if mapping.ANONYMOUS_ID in part.attributes:
            visitors[part.attributes[mapping.ANONYMOUS_ID]] = None
        if mapping.OPT_OUT in part.attributes:
            opt_sent_at = now if opts_out(prepared) else user.opt_changed_at
    return Mirror(
        user_id=prepared.user_id,
        customer_id=now_known_by.value,
        id_kind=now_known_by.kind,
        attributes={} if decision.verb == "delete" else attributes,
        segment_bits=prepared.subject.segment_bits,
        mapping_hash=terms.mapping_hash,
        version=user.version,
        sent_ts=decision.timestamp,
        created_at=now if before is None or (accepted and is_perhaps_new(prepared)) else before.created_at,
        synced_at=now,
        release=before.release if before else prepared.claim.release,
        left_at=(before.left_at or now) if before is not None and decision.until is not None else None,
        deleted_at=now if decision.verb == "delete" else None,
        opt_sent_at=opt_sent_at,
        anonymous_ids=list(visitors),
    )


def is_perhaps_new(prepared: Prepared) -> bool:
    """Whether an update may make the person: nobody heard what came of their create."""
    sent = prepared.subject.mirror
    return (sent is not None and sent.was_never_heard_of) or was_perhaps_deleted(prepared)


def was_perhaps_deleted(prepared: Prepared) -> bool:
    """Nobody knows whether a delete was applied before they came back."""
    sent = prepared.subject.mirror
    return sent is not None and sent.unsure == EVERYTHING and prepared.claim.release in pending.DELETES


def unsure(each: Prepared, accepted: Sequence[encode.Part], before: Mirror | None) -> str:
    """What may have come of the parts that weren't accepted."""
    rest = [part for part in each.parts if part not in accepted]
    is_there = bool(accepted) or (before is not None and before.unsure != EVERYTHING)
    if not is_there or any(isinstance(part, encode.Delete) for part in rest):
        return EVERYTHING
    names = [name for part in rest if isinstance(part, encode.Identify) for name in part.attributes]
    earlier = before.unsure.split("\n") if before is not None and before.unsure else []
    return "\n".join(dict.fromkeys([*earlier, *names]))


def opts_out(each: Prepared) -> bool:
    """An attribute of ours opts them out, and nothing was known of it: plain SQL wrote it."""
    return each.decision.changes.get(mapping.OPT_OUT) is True and not each.subject.user.opted_out
