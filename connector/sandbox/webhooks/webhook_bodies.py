"""Reporting webhooks in the current format: what Customer.io says happened to a message or a person. Pure.

Follows the reporting-webhooks reference (docs.customer.io/integrations/api/webhooks): one event per POST,
an envelope of event_id, object_type, metric, timestamp and data. What each kind carries in `data` is a row
of `webhook_kinds`. Every id is either given or drawn from a seeded `random.Random`, so that a run can be
repeated exactly.

    webhook(kind, recipient, origin, setup) -> Webhook
    stream(people, kinds, rng, timestamp) -> Webhook, Webhook, …

Stricter readings of what is unverified:
- Body Content is off by default, as at the vendor: `sent` then has no content and no headers, a change of
  preferences has no `content`. Where it is on, `content` is all preferences, not only those that changed.
- `identifiers` has all three keys by default, null where the person has none (several identifiers).
- `customer_id` is the person's id, else an empty string, as for deleted people.
- Optional flags (`machine`, `proxied`, `prefetched`, `synthetic`) are there, and false unless asked for.
- A kind whose schema requires nothing more (`drafted` of all but email) carries no recipient.
- `object_type_type`, which the reference has for a change of preferences, is sent only when asked for.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from connector.sandbox.webhooks import webhook_kinds
from connector.sandbox.webhooks.webhook_kinds import KINDS, PREFERENCES, Kind

PRETEND_PHONE = "+15551234567"

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
    """Whom a webhook is about. A person of the sandbox's state has the same names; `deleted` blanks customer_id."""

    id: str | None
    email: str | None
    cio_id: str
    phone: str = PRETEND_PHONE
    deleted: bool = False


class Webhook(msgspec.Struct, frozen=True):
    """`timestamp`: unix seconds of what is reported. Fields are in the order of the wire."""

    event_id: str
    object_type: str
    metric: str
    timestamp: int
    data: dict[str, Any]

    @property
    def kind(self) -> str:
        return f"{self.object_type}.{self.metric}"

    @property
    def body(self) -> bytes:
        """The bytes to send, always the same ones."""
        return msgspec.json.encode(self)


class MisspeltWebhook(Webhook, frozen=True):
    """A change of preferences as the reference has it, letter by letter."""

    @property
    def body(self) -> bytes:
        sent = {("object_type_type" if each == "object_type" else each): getattr(self, each) for each in _ENVELOPE}
        return msgspec.json.encode(sent)


_ENVELOPE = Webhook.__struct_fields__


class Campaign(msgspec.Struct, frozen=True):
    """The delivery that a message webhook belongs to: here one of a campaign. Null and absent are different."""

    delivery_id: str
    campaign_id: int | None = 7
    action_id: int = 42
    journey_id: str | int | UnsetType = "01HX0000000000000000000000"
    trigger_event_id: str | UnsetType | None = None
    parent_action_id: int | UnsetType = UNSET


class Broadcast(msgspec.Struct, frozen=True):
    """An API-triggered broadcast. The reference's own example has no trigger_id."""

    delivery_id: str
    broadcast_id: int | None = 9
    trigger_id: int | UnsetType = 3
    action_id: int = 42
    journey_id: str | int | UnsetType = UNSET
    parent_action_id: int | UnsetType = UNSET


class Newsletter(msgspec.Struct, frozen=True):
    delivery_id: str
    newsletter_id: int | None = 11
    content_id: int | UnsetType = 2


class Transactional(msgspec.Struct, frozen=True):
    """Only email and push have these in the reference."""

    delivery_id: str
    transactional_message_id: int = 5


Origin = Campaign | Broadcast | Newsletter | Transactional


class Setup(msgspec.Struct, frozen=True):
    """How its owner has set the workspace and the webhook up."""

    body_content: bool = False
    only_ids: bool = False  # people are known by `id` alone: `identifiers` then has no other key
    object_type_type: bool = False


def origins(kind: Kind, delivery_id: str) -> list[Origin]:
    """One of each kind of origin that such a message can have."""
    found: list[Origin] = [Campaign(delivery_id), Broadcast(delivery_id), Newsletter(delivery_id)]
    return [*found, Transactional(delivery_id)] if kind[0] in ("email", "push") else found


def webhook(
    kind: Kind,
    recipient: Recipient,
    *,
    event_id: str,
    timestamp: int,
    origin: Origin | None = None,
    setup: Setup = Setup(),  # noqa: B008 - frozen
    flags: Collection[str] = (),
    preferences: Mapping[str, Any] | None = None,
) -> Webhook:
    """One webhook. The origin of a (un)subscribed person is left out; `flags` names the flags that are true."""
    identifiers = {"id": recipient.id, "email": recipient.email, "cio_id": recipient.cio_id}
    data: dict[str, Any] = {
        "customer_id": "" if recipient.deleted else recipient.id or "",
        "identifiers": {"id": recipient.id} if setup.only_ids else identifiers,
    }
    metric, object_type = kind[1], webhook_kinds.object_type(kind)
    if origin is not None and (webhook_kinds.is_about_a_message(kind) or metric == PREFERENCES):
        data |= msgspec.to_builtins(origin)
    values = _values(object_type, metric, recipient, event_id, preferences)
    fields = KINDS[kind]
    for field in fields.required + fields.optional + (fields.body if setup.body_content else ()):
        data[field] = field in flags if field in FLAGS else values[field]
    misspelt = setup.object_type_type and metric == PREFERENCES
    return (MisspeltWebhook if misspelt else Webhook)(event_id, object_type, metric, timestamp, data)


FLAGS = ("machine", "proxied", "prefetched", "synthetic")


def stream(
    recipients: Sequence[Recipient],
    kinds: Sequence[Kind],
    rng: random.Random,
    *,
    timestamp: int,
) -> Iterator[Webhook]:
    """For each recipient each kind in turn, a second apart, on one delivery: the life of one message."""
    for recipient in recipients:
        origin = Campaign(delivery_id(rng))
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


def _values(
    object_type: str, metric: str, recipient: Recipient, event_id: str, preferences: Mapping[str, Any] | None
) -> dict[str, object]:
    """A value for every field that any kind can have."""
    failure = _FAILURES.get(metric)
    content: object = "<p>Welcome!</p>" if object_type == "email" else "Welcome!"
    if metric == PREFERENCES:
        content = msgspec.json.encode(
            preferences if preferences is not None else {"topics": {"topic_1": True}}
        ).decode()
    device = {"device_id": f"token-{recipient.cio_id}", "device_platform": "ios"}
    return {
        "recipient": _address(object_type, recipient),
        "recipients": [device | ({"failure_message": failure} if failure else {})],
        "email_address": recipient.email,
        "subject": "Thanks for signing up",
        "failure_message": failure,
        "href": "https://example.com/welcome",
        "link_id": 1,
        "tracked_response": "yes",
        "to": "+15557654321",
        "inbound_event_id": f"in-{event_id}",
        "content": content,
        "headers": {"List-Unsubscribe": ["<https://example.com/unsubscribe>"], "X-Mailer": ["Customer.io"]},
    }


def _address(object_type: str, recipient: Recipient) -> str:
    """Where a message of this type goes to."""
    match object_type:
        case "sms" | "whatsapp":
            return recipient.phone
        case "in_app":
            return recipient.id or recipient.cio_id
        case "slack":
            return "#general"
        case "webhook":
            return "https://example.com/hook"
        case _:
            return recipient.email or ""
