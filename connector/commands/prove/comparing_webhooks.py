"""What Customer.io reported, against how the store has it. Pure: see `comparing`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence, Set
from typing import NamedTuple

from connector.commands.prove.cases import Case

UNSUBSCRIBED = "customer.unsubscribed"

# Of what is reported here, as the README has it.
NAMES = {
    "email.sent": "Email Sent",
    "email.delivered": "Email Delivered",
    "email.opened": "Email Opened",
    "email.clicked": "Email Link Clicked",
    UNSUBSCRIBED: "Customer Unsubscribed",
}


class Said(NamedTuple):
    """A webhook as it was sent, of its own time in unix seconds. An empty `customer_id` names nobody."""

    kind: str
    customer_id: str
    at: int


class Filed(NamedTuple):
    """A webhook as the store has it; `user` is our id of whose event it is, `at` in unix seconds."""

    id: str
    user: str | None
    kind: str | None
    name: str
    at: float


def compare(sent: Mapping[str, Said], unanswered: Set[str], filed: Sequence[Filed]) -> Iterator[Case]:
    """`sent` were answered 200, by their ids; `unanswered` were tried."""
    stored = Counter(each.id for each in filed)
    yield from (Case("lost", "webhook_lost", each) for each in sorted(sent.keys() - stored.keys()))
    yield from (
        Case("doubled", "webhook_never_sent", each) for each in sorted(stored.keys() - sent.keys() - unanswered)
    )
    yield from (Case("doubled", "webhook_twice", each) for each, times in stored.items() if times > 1)
    for each in filed:
        if (said := sent.get(each.id)) is not None:
            yield from _misread(said, each)


def opted_out(sent: Mapping[str, Said]) -> dict[str, int]:
    """When each of those who said so did it last, by customer id."""
    found: dict[str, int] = {}
    for each in sent.values():
        if each.kind == UNSUBSCRIBED and each.customer_id:
            found[each.customer_id] = max(each.at, found.get(each.customer_id, 0))
    return found


def _misread(said: Said, filed: Filed) -> Iterator[Case]:
    pairs = {"kind": (filed.kind, said.kind), "time": (filed.at, said.at)}
    if said.customer_id:
        pairs["user"] = filed.user, said.customer_id
    if said.kind in NAMES:
        pairs["name"] = filed.name, NAMES[said.kind]
    differ = [f"{what}: has {has!r}, must have {must!r}" for what, (has, must) in pairs.items() if has != must]
    if differ:
        yield Case("wrong", "webhook_misread", filed.id, ", ".join(differ))
