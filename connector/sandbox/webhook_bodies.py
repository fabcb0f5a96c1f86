"""Reporting webhooks in the current format: what Customer.io says happened to a message or a person. Pure.

Follows the reporting-webhooks reference (docs.customer.io/integrations/api/webhooks): one event per POST,
an envelope of event_id, object_type, metric, timestamp and data. What each kind carries in `data` is a row
of `KINDS`; a further kind is a further row. Every id is either given or drawn from a seeded
`random.Random`, so that a run can be repeated exactly.

    stream(people, kinds, rng, timestamp) -> Webhook, Webhook, …

Stricter readings of what is unverified:
- Body Content is off: `sent` carries no content and no headers.
- `identifiers` has all three keys, null where the person has none (a workspace with several identifiers).
- `customer_id` is the person's id, else an empty string, as for deleted people.
- Optional flags (`machine`, `proxied`, `prefetched`) are there and false.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

Kind = tuple[str, str]  # object_type and metric

# The required fields of each kind, and the optional ones that real traffic carries. Failed has no recipient.
KINDS: dict[Kind, tuple[str, ...]] = {
    ("email", "drafted"): ("recipient", "subject"),
    ("email", "attempted"): ("failure_message",),
    ("email", "sent"): ("recipient", "subject"),
    ("email", "delivered"): ("recipient", "subject"),
    ("email", "opened"): ("recipient", "subject", "proxied", "prefetched"),
    ("email", "clicked"): ("recipient", "subject", "href", "link_id", "machine"),
    ("email", "converted"): ("recipient", "subject"),
    ("email", "unsubscribed"): ("recipient", "subject"),
    ("email", "bounced"): ("recipient", "subject", "failure_message"),
    ("email", "dropped"): ("recipient", "subject", "failure_message"),
    ("email", "spammed"): ("recipient", "subject"),
    ("email", "failed"): ("subject", "failure_message"),
    ("email", "undeliverable"): ("recipient", "subject", "failure_message"),
    ("customer", "subscribed"): ("email_address",),
    ("customer", "unsubscribed"): ("email_address",),
}

_FAILURES = {
    "attempted": "421 4.7.0 try again later",
    "bounced": "550 5.1.1 user unknown",
    "dropped": "address is on the suppression list",
    "failed": "the message could not be rendered",
    "undeliverable": "message limit reached",
}
_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_BASE64URL = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
_DELIVERY_ID_LENGTH = 26


class Recipient(msgspec.Struct, frozen=True):
    """Whom a webhook is about. A person of the sandbox's state has the same three."""

    id: str | None
    email: str | None
    cio_id: str


class Webhook(msgspec.Struct, frozen=True):
    """`timestamp`: unix seconds of what is reported. Fields are in the order of the wire."""

    event_id: str
    object_type: str
    metric: str
    timestamp: int
    data: dict[str, Any]

    @property
    def body(self) -> bytes:
        """The bytes to send, always the same ones."""
        return msgspec.json.encode(self)


class Origin(msgspec.Struct, frozen=True):
    """The delivery that a message webhook belongs to, here one of a campaign."""

    delivery_id: str
    campaign_id: int = 7
    action_id: int = 42
    journey_id: str = "01HX0000000000000000000000"
    trigger_event_id: str | None = None


def webhook(kind: Kind, recipient: Recipient, *, event_id: str, timestamp: int, origin: Origin) -> Webhook:
    """One webhook. Customer kinds have no delivery and leave `origin` out."""
    object_type, metric = kind
    data: dict[str, Any] = {
        "customer_id": recipient.id or "",
        "identifiers": {"id": recipient.id, "email": recipient.email, "cio_id": recipient.cio_id},
    }
    if object_type != "customer":
        data |= msgspec.to_builtins(origin)
    values = _values(metric, recipient)
    data |= {field: values[field] for field in KINDS[kind]}
    return Webhook(event_id, object_type, metric, timestamp, data)


def stream(
    recipients: Sequence[Recipient],
    kinds: Sequence[Kind],
    rng: random.Random,
    *,
    timestamp: int,
) -> Iterator[Webhook]:
    """For each recipient each kind in turn, a second apart, on one delivery: the life of one message."""
    for recipient in recipients:
        origin = Origin(delivery_id(rng))
        for seconds, kind in enumerate(kinds):
            at = timestamp + seconds
            yield webhook(kind, recipient, event_id=ulid(rng, at), timestamp=at, origin=origin)


def ulid(rng: random.Random, timestamp: int) -> str:
    """48 bits of milliseconds and 80 random ones, in Crockford's base 32 (github.com/ulid/spec)."""
    number = (timestamp * 1000) << 80 | rng.getrandbits(80)
    return "".join(_CROCKFORD[number >> shift & 31] for shift in range(125, -1, -5))


def delivery_id(rng: random.Random) -> str:
    """Opaque text; like some of the vendor's it ends in `==`."""
    return "".join(rng.choices(_BASE64URL, k=_DELIVERY_ID_LENGTH)) + "=="


def _values(metric: str, recipient: Recipient) -> dict[str, object]:
    return {
        "recipient": recipient.email or "",
        "email_address": recipient.email,
        "subject": "Thanks for signing up",
        "failure_message": _FAILURES.get(metric),
        "href": "https://example.com/welcome",
        "link_id": 1,
        "machine": False,
        "proxied": False,
        "prefetched": False,
    }
