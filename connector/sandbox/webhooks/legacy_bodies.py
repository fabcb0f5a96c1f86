"""Webhooks in the format before the current one, the "Email Activity Webhook". Pure.

    {"event_type": "email_sent", "event_id": …, "timestamp": …, "data": {…}}

There is no object_type and no metric, and nothing called identifiers: a person is a customer_id and, most of the
time, an email_address. Follows what learn.customer.io and other connectors' mappings say of its 15 types. A type is
a row of `TYPES`.

Stricter readings of what is unverified:
- An event id is 20 hexadecimal digits, as in the oldest ones: it isn't a ULID.
- An email_address comes bare, as `Name <address>` and null, whatever the type.
- No type carries more than is known of all of them: a click has no href, a bounce no message.
- They are signed like the current ones.
"""

from __future__ import annotations

import random
from typing import Any, Literal

import msgspec

from connector.sandbox.webhooks.webhook_bodies import Recipient

Address = Literal["bare", "named", "null"]

_PERSON = ("customer_id", "email_address", "variables")
_MESSAGE = (
    *("customer_id", "email_address", "email_id", "subject", "campaign_id", "campaign_name"),
    *("message_id", "message_name", "template_id", "variables"),
)
TYPES: dict[str, tuple[str, ...]] = {
    "customer_subscribed": _PERSON,
    "customer_unsubscribed": _PERSON,
    "email_attempted": _MESSAGE,
    "email_bounced": _MESSAGE,
    "email_clicked": _MESSAGE,
    "email_converted": _MESSAGE,
    "email_deferred": _MESSAGE,
    "email_delivered": _MESSAGE,
    "email_drafted": _MESSAGE,
    "email_dropped": _MESSAGE,
    "email_failed": _MESSAGE,
    "email_opened": _MESSAGE,
    "email_sent": _MESSAGE,
    "email_spammed": _MESSAGE,
    "email_unsubscribed": _MESSAGE,
}
_DIGITS = 20


class LegacyWebhook(msgspec.Struct, frozen=True):
    """Fields are in the order of the wire."""

    event_type: str
    event_id: str
    timestamp: int
    data: dict[str, Any]

    @property
    def kind(self) -> str:
        return self.event_type

    @property
    def body(self) -> bytes:
        """The bytes to send, always the same ones."""
        return msgspec.json.encode(self)


def webhook(
    event_type: str,
    recipient: Recipient,
    *,
    event_id: str,
    timestamp: int,
    delivery_id: str,
    address: Address = "bare",
    subject: str | None = "Thanks for signing up",
) -> LegacyWebhook:
    """One webhook. A person without an email has a null address in any case."""
    email = recipient.email
    if address == "null" or email is None:
        shown = None
    else:
        shown = email if address == "bare" else f"{email.partition('@')[0].title()} <{email}>"
    customer = {"id": recipient.id or "", "email": email or ""}
    campaign = {"id": "7", "name": "Welcome", "type": "behavioral"}
    message = {"id": "42", "name": "First mail", "subject": subject}
    of_message = "email_id" in TYPES[event_type]
    values: dict[str, object] = {
        "customer_id": "" if recipient.deleted else recipient.id or "",
        "email_address": shown,
        "email_id": delivery_id,
        "subject": subject,
        "campaign_id": campaign["id"],
        "campaign_name": campaign["name"],
        "message_id": message["id"],
        "message_name": message["name"],
        "template_id": "3",
        "variables": {"customer": customer}
        | (
            {
                "campaign": campaign,
                "delivery_id": delivery_id,
                "email_id": delivery_id,
                "layout": {},
                "message": message,
            }
            if of_message
            else {}
        ),
    }
    return LegacyWebhook(event_type, event_id, timestamp, {field: values[field] for field in TYPES[event_type]})


def event_id(rng: random.Random) -> str:
    return f"{rng.getrandbits(4 * _DIGITS):0{_DIGITS}x}"
