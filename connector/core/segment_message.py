"""A stored event of Customer.io as a Segment-spec track message: the mapping of RudderStack's own Customer.io source
(https://github.com/rudderlabs/rudder-transformer/blob/develop/src/sources/customerio/mapping.json), so that what is
exported here can be loaded there beside what came that way.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from connector.core import document, text

# The vendor's names in `data`, and ours in `properties`.
_PROPERTIES = {
    "recipient": "recipient",
    "to": "to",
    "inbound_event_id": "inboundEventId",
    "action_id": "actionId",
    "broadcast_id": "broadcastId",
    "campaign_id": "campaignId",
    "content_id": "contentId",
    "delivery_id": "deliveryId",
    "newsletter_id": "newsletterId",
    "journey_id": "journeyId",
    "parent_action_id": "parentActionId",
    "trigger_id": "triggerId",
    "transactional_message_id": "transactionalMessageId",
    "recipients": "recipients",
    "subject": "emailSubject",
}

_HASHED = "sha256:"


def message(event: Mapping[str, Any], body: bytes | None) -> dict[str, Any]:
    """The message of an event with source_id, name, properties, context and occurred_at, as the store has them.

    `body` is the raw webhook while that is kept: a message's text stands only there. Absent values and nulls are left
    out; a webhook that named nobody has neither userId nor anonymousId. Times are datetimes. `timestamp` repeats
    `originalTimestamp`: whoever loads it would otherwise take the time of loading.
    """
    data: Mapping[str, Any] = event["properties"]
    named = data.get("identifiers")
    named = named if isinstance(named, dict) else {}
    user_id = text.identifier(named.get("id")) or text.identifier(data.get("customer_id"))
    email = _email(data, named, str(event["context"].get("kind", "")))
    return _present(
        {
            "type": "track",
            "event": event["name"],
            "userId": user_id,
            "anonymousId": email if user_id is None else None,
            "messageId": event["source_id"],
            "originalTimestamp": event["occurred_at"],
            "timestamp": event["occurred_at"],
            "context": _present(
                {
                    "traits": _present({"email": email, "cioId": text.identifier(named.get("cio_id"))}) or None,
                    "integration": {"name": "Customer.io"},
                }
            ),
            "properties": _properties(event, body),
        }
    )


def _email(data: Mapping[str, Any], named: Mapping[str, Any], kind: str) -> str | None:
    """An address, never a phone number or a device: a recipient counts only where the message was an email."""
    address = text.email_address(named.get("email")) or text.email_address(data.get("email_address"))
    return address or (text.email_address(data.get("recipient")) if kind.startswith("email.") else None)


def _properties(event: Mapping[str, Any], body: bytes | None) -> dict[str, Any]:
    data: Mapping[str, Any] = event["properties"]
    device = _first_recipient(data)
    source_id = str(event["source_id"])
    return _present(
        {
            "eventId": None if source_id.startswith(_HASHED) else source_id,
            **{ours: data.get(theirs) for theirs, ours in _PROPERTIES.items()},
            "content": data["content"] if data.get("content") is not None else _content(body),
            "reason": _either(data.get("failure_message"), device.get("failure_message")),
            "deviceId": _either(data.get("device_id"), device.get("device_id")),
            "devicePlatform": _either(data.get("device_platform"), device.get("device_platform")),
            "link": _present({"url": data.get("href"), "id": data.get("link_id")}) or None,
        }
    )


def _first_recipient(data: Mapping[str, Any]) -> Mapping[str, Any]:
    """The first device of a push."""
    devices = data.get("recipients")
    return devices[0] if isinstance(devices, list) and devices and isinstance(devices[0], dict) else {}


def _content(body: bytes | None) -> Any:
    """The text of the message in a webhook; None when it has none, or can't be read."""
    if body is None or b'"content"' not in body:
        return None
    found = document.read(body)
    data = found.get("data") if isinstance(found, dict) else None
    return data.get("content") if isinstance(data, dict) else None


def _either(first: Any, second: Any) -> Any:
    return second if first is None else first


def _present(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
