"""Every kind of current-format webhook, and what it carries in `data` beside the person and the delivery. A table.

Follows the schemas of the reporting-webhooks reference (docs.customer.io/integrations/api/webhooks): 66 kinds of
message, and three metrics of a person, each of which is reported for `customer` or for the channel that caused it.
A kind is a tuple of the words it is known by; joined with dots they are its name:

    email.sent                     a message: object type and metric
    customer.unsubscribed          a person
    customer.unsubscribed.email    a person, reported with the channel as object type

So the two shapes of `email` + `unsubscribed` are two kinds. The reference's list of events to subscribe to also
names email_deferred, sms_dropped, slack_converted and webhook_converted, without a schema: these aren't sent.
"""

from __future__ import annotations

import msgspec

Kind = tuple[str, ...]

CHANNELS = ("email", "sms", "whatsapp", "push", "in_app", "slack", "webhook")
PREFERENCES = "cio_subscription_preferences_changed"


class Fields(msgspec.Struct, frozen=True):
    """`required` by the schema; `optional` ones that are sent all the same; `body` only with Body Content on."""

    required: tuple[str, ...]
    optional: tuple[str, ...] = ()
    body: tuple[str, ...] = ()


def _row(required: str = "", *, optional: str = "", body: str = "") -> Fields:
    return Fields(tuple(required.split()), tuple(optional.split()), tuple(body.split()))


_MESSAGES: dict[Kind, Fields] = {
    ("email", "drafted"): _row("recipient subject"),
    ("email", "attempted"): _row("failure_message"),
    ("email", "sent"): _row("recipient subject", body="content headers"),
    ("email", "delivered"): _row("recipient subject"),
    ("email", "opened"): _row("recipient", optional="subject proxied prefetched synthetic"),
    ("email", "clicked"): _row("recipient subject href link_id", optional="machine"),
    ("email", "converted"): _row("recipient subject"),
    ("email", "unsubscribed"): _row("recipient subject"),
    ("email", "bounced"): _row("recipient subject failure_message"),
    ("email", "dropped"): _row("recipient subject failure_message"),
    ("email", "spammed"): _row("recipient subject"),
    ("email", "failed"): _row("subject failure_message"),  # no recipient
    ("email", "undeliverable"): _row("recipient subject failure_message"),
    ("sms", "drafted"): _row(),
    ("sms", "attempted"): _row("failure_message"),
    ("sms", "sent"): _row("recipient", body="content"),
    ("sms", "delivered"): _row("recipient"),
    ("sms", "clicked"): _row("recipient href link_id"),
    ("sms", "converted"): _row("recipient"),
    ("sms", "bounced"): _row("recipient failure_message"),
    ("sms", "failed"): _row("failure_message"),
    ("sms", "undeliverable"): _row("failure_message"),
    ("sms", "replied"): _row("recipient to inbound_event_id"),
    ("whatsapp", "drafted"): _row(),
    ("whatsapp", "attempted"): _row("failure_message"),
    ("whatsapp", "sent"): _row("recipient", body="content"),
    ("whatsapp", "delivered"): _row("recipient"),
    ("whatsapp", "opened"): _row("recipient"),
    ("whatsapp", "clicked"): _row("recipient href link_id"),
    ("whatsapp", "converted"): _row("recipient"),
    ("whatsapp", "bounced"): _row("recipient failure_message"),
    ("whatsapp", "dropped"): _row("recipient failure_message"),
    ("whatsapp", "failed"): _row("failure_message"),
    ("whatsapp", "undeliverable"): _row("failure_message"),
    ("whatsapp", "replied"): _row("recipient to inbound_event_id"),
    ("push", "drafted"): _row(),
    ("push", "attempted"): _row("failure_message"),
    ("push", "sent"): _row("recipients", body="content"),
    ("push", "delivered"): _row("recipients"),
    ("push", "opened"): _row("recipients"),
    ("push", "clicked"): _row("recipients href link_id"),
    ("push", "converted"): _row("recipients"),
    ("push", "bounced"): _row("recipients"),  # each with its failure_message
    ("push", "dropped"): _row("recipients"),  # likewise
    ("push", "failed"): _row("failure_message"),
    ("push", "undeliverable"): _row("failure_message"),
    ("in_app", "drafted"): _row(),
    ("in_app", "attempted"): _row("failure_message"),
    ("in_app", "sent"): _row("recipient", body="content"),
    ("in_app", "opened"): _row(),
    ("in_app", "clicked"): _row("recipient href link_id", optional="tracked_response"),
    ("in_app", "converted"): _row("recipient"),
    ("in_app", "failed"): _row("failure_message"),
    ("in_app", "undeliverable"): _row("failure_message"),
    ("slack", "drafted"): _row(),
    ("slack", "attempted"): _row("failure_message"),
    ("slack", "sent"): _row("recipient", body="content"),
    ("slack", "clicked"): _row("recipient href link_id"),
    ("slack", "failed"): _row("failure_message"),
    ("slack", "undeliverable"): _row("failure_message"),
    ("webhook", "drafted"): _row(),
    ("webhook", "attempted"): _row("failure_message"),
    ("webhook", "sent"): _row("recipient", body="content"),
    ("webhook", "clicked"): _row("recipient href link_id"),
    ("webhook", "failed"): _row("failure_message"),
    ("webhook", "undeliverable"): _row("failure_message"),
}
_PERSON: dict[Kind, Fields] = {
    ("customer", "subscribed"): _row("email_address"),
    ("customer", "unsubscribed"): _row("email_address"),
    ("customer", PREFERENCES): _row("email_address", body="content"),
}
_PERSON_BY_CHANNEL = {(*kind, channel): fields for kind, fields in _PERSON.items() for channel in CHANNELS}

KINDS: dict[Kind, Fields] = _MESSAGES | _PERSON | _PERSON_BY_CHANNEL


def is_about_a_message(kind: Kind) -> bool:
    """Else it is about a person."""
    return kind in _MESSAGES


def object_type(kind: Kind) -> str:
    """As the wire has it: for a person the channel that caused it, when the kind names one."""
    return kind[2] if len(kind) == 3 else kind[0]
