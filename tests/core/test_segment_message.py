"""Customer.io's events as Segment-spec track messages."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from connector.core import normalize, segment_message
from connector.records import Reading
from tests import corpus

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
NOBODY = {"integration": {"name": "Customer.io"}}


def event(kind: str = "email.sent", source_id: str = "01E4", **data: Any) -> dict[str, Any]:
    return {
        "source_id": source_id,
        "name": "Email Sent",
        "properties": data,
        "context": {"kind": kind},
        "occurred_at": AT,
    }


def made(kind: str = "email.sent", **data: Any) -> dict[str, Any]:
    return segment_message.message(event(kind, **data), None)


def properties(**data: Any) -> dict[str, Any]:
    """But for the eventId, which every message has."""
    found = dict(made(**data)["properties"])
    assert found.pop("eventId") == "01E4"
    return found


def test_the_message_in_full() -> None:
    found = made(
        "email.clicked",
        customer_id="42",
        identifiers={"id": "42", "email": "Ada@B.co", "cio_id": "d9"},
        delivery_id="RPIL",
        campaign_id=7,
        action_id=42,
        journey_id="01HX",
        parent_action_id=41,
        content_id=2,
        trigger_event_id=None,
        recipient="Ada <ada@b.co>",
        subject="Hi",
        href="https://x.co/",
        link_id=1,
        machine=False,
    )
    assert found == {
        "type": "track",
        "event": "Email Sent",
        "userId": "42",
        "messageId": "01E4",
        "originalTimestamp": AT,
        "timestamp": AT,
        "context": {"traits": {"email": "ada@b.co", "cioId": "d9"}, "integration": {"name": "Customer.io"}},
        "properties": {
            "eventId": "01E4",
            "deliveryId": "RPIL",
            "campaignId": 7,
            "actionId": 42,
            "journeyId": "01HX",
            "parentActionId": 41,
            "contentId": 2,
            "recipient": "Ada <ada@b.co>",
            "emailSubject": "Hi",
            "link": {"url": "https://x.co/", "id": 1},
        },
    }


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("trigger_id", "triggerId"),
        ("delivery_id", "deliveryId"),
        ("action_id", "actionId"),
        ("broadcast_id", "broadcastId"),
        ("journey_id", "journeyId"),
        ("parent_action_id", "parentActionId"),
        ("content", "content"),
        ("content_id", "contentId"),
        ("subject", "emailSubject"),
        ("failure_message", "reason"),
        ("campaign_id", "campaignId"),
        ("newsletter_id", "newsletterId"),
        ("transactional_message_id", "transactionalMessageId"),
        ("recipient", "recipient"),
        ("to", "to"),
        ("inbound_event_id", "inboundEventId"),
        ("recipients", "recipients"),
        ("device_id", "deviceId"),
        ("device_platform", "devicePlatform"),
    ],
)
@pytest.mark.parametrize("value", ["text", 0, False, ""])
def test_each_name_of_the_vendor_has_one_of_ours_whatever_its_value(theirs: str, ours: str, value: Any) -> None:
    assert properties(**{theirs: value}) == {ours: value}
    assert properties(**{theirs: None}) == {}


def test_a_link_may_have_only_one_of_its_parts() -> None:
    assert properties(href="https://x.co/") == {"link": {"url": "https://x.co/"}}
    assert properties(link_id=0, href=None) == {"link": {"id": 0}}


@pytest.mark.parametrize(
    ("data", "user_id"),
    [
        ({"identifiers": {"id": "1"}, "customer_id": "2"}, "1"),
        ({"identifiers": {"id": None}, "customer_id": "2"}, "2"),
        ({"identifiers": {"id": " "}, "customer_id": 2}, "2"),
        ({"customer_id": "2"}, "2"),
        ({"identifiers": None, "customer_id": "2"}, "2"),
        ({"identifiers": ["1"], "customer_id": " 2 "}, "2"),
    ],
)
def test_the_user_is_who_identifiers_name_else_the_customer_id(data: dict[str, Any], user_id: str) -> None:
    found = made(**data)
    assert found["userId"] == user_id
    assert "anonymousId" not in found


@pytest.mark.parametrize("customer_id", ["", "  ", None, True, [1]])
def test_without_an_id_the_email_is_the_anonymous_id(customer_id: Any) -> None:
    found = made(customer_id=customer_id, identifiers={"email": "a@b.co", "cio_id": "d9"})
    assert "userId" not in found
    assert found["anonymousId"] == "a@b.co"
    assert found["context"]["traits"] == {"email": "a@b.co", "cioId": "d9"}


def test_a_webhook_that_names_nobody_is_nobodys() -> None:
    found = made("slack.sent", recipient="#general")
    assert not found.keys() & {"userId", "anonymousId"}
    assert found["context"] == NOBODY


@pytest.mark.parametrize(
    ("kind", "data", "email"),
    [
        ("email.sent", {"identifiers": {"email": "a@b.co"}, "recipient": "c@b.co"}, "a@b.co"),
        (
            "email.sent",
            {"identifiers": {"email": None}, "email_address": "Ann <A@b.co>", "recipient": "c@b.co"},
            "a@b.co",
        ),
        ("email.sent", {"recipient": "Jörg <jörg@müßig.example>"}, "jörg@müßig.example"),
        ("customer.unsubscribed", {"email_address": "a@b.co"}, "a@b.co"),
        ("sms.sent", {"email_address": "a@b.co", "recipient": "+15551234567"}, "a@b.co"),
    ],
)
def test_the_email_is_the_strongest_that_is_named(kind: str, data: dict[str, Any], email: str) -> None:
    found = made(kind, **data)
    assert (found["anonymousId"], found["context"]["traits"]) == (email, {"email": email})


@pytest.mark.parametrize(
    ("kind", "recipient"),
    [
        ("email.sent", "+15551234567"),
        ("sms.sent", "+15551234567"),
        ("whatsapp.sent", "a@b.co"),
        ("in_app.clicked", "42"),
        ("slack.sent", "a@b.co"),
        ("webhook.sent", "https://user@example.com/hook"),
    ],
)
def test_a_phone_number_a_device_or_a_url_is_never_an_email(kind: str, recipient: str) -> None:
    found = made(kind, recipient=recipient)
    assert found["context"] == NOBODY
    assert found["properties"]["recipient"] == recipient


def test_a_push_tells_its_first_device_and_keeps_all_of_them() -> None:
    devices = [
        {"device_id": "tok1", "device_platform": "ios", "failure_message": "Unregistered"},
        {"device_id": "tok2", "device_platform": "android"},
    ]
    assert properties(kind="push.bounced", recipients=devices) == {
        "recipients": devices,
        "deviceId": "tok1",
        "devicePlatform": "ios",
        "reason": "Unregistered",
    }
    assert properties(kind="push.failed", recipients=devices, failure_message="fm")["reason"] == "fm"


@pytest.mark.parametrize("recipients", [[], ["tok"], [None], "tok", {}])
def test_recipients_of_another_shape_stay_as_they_are(recipients: Any) -> None:
    assert properties(recipients=recipients) == {"recipients": recipients}


def test_an_event_without_an_event_id_has_none() -> None:
    found = segment_message.message(event(source_id="sha256:00ff", to="x"), None)
    assert found["messageId"] == "sha256:00ff"
    assert found["properties"] == {"to": "x"}


def test_an_event_without_a_kind_is_mapped_too() -> None:
    found = segment_message.message({**event(recipient="a@b.co"), "context": {}}, None)
    assert found["context"] == NOBODY


def body(data: Any) -> bytes:
    return json.dumps({"event_id": "01E4", "data": data}).encode()


def test_a_messages_text_comes_from_the_raw_webhook_while_that_is_kept() -> None:
    def content(raw: bytes | None, **data: Any) -> Any:
        return segment_message.message(event(**data), raw)["properties"].get("content")

    assert content(body({"content": "<p>Hi</p>"})) == "<p>Hi</p>"
    assert content(body({"content": ""})) == ""
    assert content(body({"content": None})) is None
    assert content(body({"subject": 'the "content" is elsewhere'})) is None
    assert content(json.dumps({"content": "of the envelope", "data": []}).encode()) is None
    assert content(None) is None
    assert content(b'{"data": {"content": "twice", "content": "or once"}}') is None
    assert content(b'{"data": {"content": "cut o') is None
    assert content(body({"content": "raw"}), content='{"topics": {}}') == '{"topics": {}}'


@pytest.mark.parametrize(("raw", "expected"), [pytest.param(raw, each, id=name) for name, raw, each in corpus.cases()])
def test_every_kind_of_the_corpus_has_its_message(raw: bytes, expected: dict[str, Any]) -> None:
    reading = normalize.read(normalize.glance(raw).source_id, raw, AT)
    assert isinstance(reading, Reading)
    stored = {
        "source_id": reading.source_id,
        "name": reading.name,
        "properties": reading.properties,
        "context": reading.context,
        "occurred_at": reading.occurred_at,
    }
    found = segment_message.message(stored, raw)
    named = dict(expected["identifiers"])
    assert (found["event"], found["messageId"]) == (expected["name"], reading.source_id)
    assert found.get("userId") == named.get("customer_id")
    assert found.get("anonymousId") == (None if "customer_id" in named else named.get("email"))
    assert found["context"].get("traits", {}).get("email") == named.get("email")
    assert found["context"].get("traits", {}).get("cioId") == named.get("cio_id")
    data = json.loads(raw)["data"]
    assert found["properties"].get("content") == data.get("content")
    assert found["properties"].get("deliveryId") == data.get("delivery_id")
