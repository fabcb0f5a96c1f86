"""What each kind of webhook carries, checked against the vendor's table, written down here a second time."""

from __future__ import annotations

import json
import random
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest

from connector import app
from connector.inbound.webhooks import PATH
from connector.sandbox.webhooks import legacy_bodies, webhook_bodies, webhook_kinds, webhook_sender
from connector.sandbox.webhooks.legacy_bodies import Address
from connector.sandbox.webhooks.webhook_bodies import (
    Broadcast,
    Campaign,
    Newsletter,
    Origin,
    Recipient,
    Setup,
    Transactional,
    Webhook,
)
from connector.sandbox.webhooks.webhook_kinds import KINDS, Kind
from connector.sandbox.webhooks.webhook_sender import Endpoint, Report
from connector.store import export
from tests import places
from tests.places import Place
from tests.receiver import KEY, Receiver, receiving

ANN = Recipient("42", "a@b.co", "d9c106000001")
NOBODY = Recipient(None, None, "d9c106000002")
DELIVERY = "RPILAgUBcRhIBqSfeiIwdIYJKxTY"
EVENT_ID = "01E4C4CT6YDC7Y5M7FE1GWWPQJ"
TIMESTAMP = 1613063089

# The vendor's table: a row for each metric, a column for each object type. "-": no such kind. ".": nothing more.
COLUMNS = ["email", "sms", "whatsapp", "push", "in_app", "slack", "webhook"]
R, RS, FM, FMR, HL = "recipient", "recipients", "failure_message", "failure_message recipient", "href link_id recipient"
REQUIRED = {
    "drafted": [f"{R} subject", ".", ".", ".", ".", ".", "."],
    "attempted": [FM, FM, FM, FM, FM, FM, FM],
    "sent": [f"{R} subject", R, R, RS, R, R, R],
    "delivered": [f"{R} subject", R, R, RS, "-", "-", "-"],
    "opened": [R, "-", R, RS, ".", "-", "-"],
    "clicked": [f"{HL} subject", HL, HL, f"href link_id {RS}", HL, HL, HL],
    "converted": [f"{R} subject", R, R, RS, R, "-", "-"],
    "unsubscribed": [f"{R} subject", "-", "-", "-", "-", "-", "-"],
    "bounced": [f"{FMR} subject", FMR, FMR, RS, "-", "-", "-"],
    "dropped": [f"{FMR} subject", "-", FMR, RS, "-", "-", "-"],
    "spammed": [f"{R} subject", "-", "-", "-", "-", "-", "-"],
    "failed": [f"{FM} subject", FM, FM, FM, FM, FM, FM],
    "undeliverable": [f"{FMR} subject", FM, FM, FM, FM, FM, FM],
    "replied": ["-", f"inbound_event_id to {R}", f"inbound_event_id to {R}", "-", "-", "-", "-"],
}
DOCUMENTED = {
    (column, metric): set(fields.split()) - {"."}
    for metric, row in REQUIRED.items()
    for column, fields in zip(COLUMNS, row, strict=True)
    if fields != "-"
}
OPTIONAL = {
    ("email", "opened"): {"subject", "proxied", "prefetched", "synthetic"},
    ("email", "clicked"): {"machine"},
    ("in_app", "clicked"): {"tracked_response"},
}
PERSON = {"customer_id", "identifiers"}
CAMPAIGN = {"delivery_id", "campaign_id", "action_id", "journey_id", "trigger_event_id"}
PREFERENCES = ("customer", "cio_subscription_preferences_changed")
PERSON_METRICS = ("subscribed", "unsubscribed", "cio_subscription_preferences_changed")
TYPES = {str: "text", bool: "flag", int: "number", list: "list", dict: "map"}
FIELD_TYPES = {
    "recipient": "text",
    "recipients": "list",
    "subject": "text",
    "failure_message": "text",
    "href": "text",
    "link_id": "number",
    "tracked_response": "text",
    "to": "text",
    "inbound_event_id": "text",
    "content": "text",
    "headers": "map",
    "machine": "flag",
    "proxied": "flag",
    "prefetched": "flag",
    "synthetic": "flag",
    "email_address": "text",
}


def build(kind: Kind, recipient: Recipient = ANN, origin: Origin | None = None, **more: Any) -> Webhook:
    origin = origin or Campaign(DELIVERY)
    return webhook_bodies.webhook(kind, recipient, event_id=EVENT_ID, timestamp=TIMESTAMP, origin=origin, **more)


def data_of(kind: Kind, recipient: Recipient = ANN, origin: Origin | None = None, **more: Any) -> dict[str, Any]:
    sent = json.loads(build(kind, recipient, origin, **more).body)
    assert isinstance(sent["data"], dict)
    return sent["data"]


def build_legacy(name: str, recipient: Recipient = ANN, address: Address = "bare") -> legacy_bodies.LegacyWebhook:
    event_id = legacy_bodies.event_id(random.Random(name))
    return legacy_bodies.webhook(
        name, recipient, event_id=event_id, timestamp=TIMESTAMP, delivery_id=DELIVERY, address=address
    )


def test_there_are_66_kinds_of_message_and_three_metrics_of_a_person_for_each_channel() -> None:
    assert len(DOCUMENTED) == 66
    assert {kind for kind in KINDS if webhook_kinds.is_about_a_message(kind)} == DOCUMENTED.keys()
    of_people = {("customer", metric) for metric in PERSON_METRICS}
    by_channel = {("customer", metric, channel) for metric in PERSON_METRICS for channel in COLUMNS}
    assert KINDS.keys() - DOCUMENTED.keys() == of_people | by_channel


@pytest.mark.parametrize("kind", DOCUMENTED, ids=".".join)
def test_a_message_carries_the_documented_fields(kind: Kind) -> None:
    sent = json.loads(build(kind).body)
    assert list(sent) == ["event_id", "object_type", "metric", "timestamp", "data"]
    assert (sent["object_type"], sent["metric"]) == kind
    assert (sent["event_id"], sent["timestamp"]) == (EVENT_ID, TIMESTAMP)
    data: dict[str, Any] = sent["data"]
    assert data.keys() == PERSON | CAMPAIGN | DOCUMENTED[(kind[0], kind[1])] | OPTIONAL.get((kind[0], kind[1]), set())
    assert data["customer_id"] == "42"
    assert data["identifiers"] == {"id": "42", "email": "a@b.co", "cio_id": "d9c106000001"}
    assert {name: TYPES[type(data[name])] for name in data.keys() & FIELD_TYPES.keys()}.items() <= FIELD_TYPES.items()


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in DOCUMENTED], ids=".".join)
def test_a_person_is_reported_without_a_message_for_customer_or_for_a_channel(kind: Kind) -> None:
    sent = json.loads(build(kind).body)
    assert sent["object_type"] == (kind[2] if len(kind) == 3 else "customer")
    assert sent["metric"] == kind[1]
    origin = CAMPAIGN if kind[1] == PREFERENCES[1] else set()
    assert sent["data"].keys() == PERSON | {"email_address"} | origin
    assert sent["data"]["email_address"] == "a@b.co"


def test_email_unsubscribed_has_two_shapes() -> None:
    of_message, of_person = build(("email", "unsubscribed")), build(("customer", "unsubscribed", "email"))
    assert of_message.kind == of_person.kind == "email.unsubscribed"
    assert {"recipient", "subject"} <= of_message.data.keys()
    assert "email_address" not in of_message.data
    assert of_person.data.keys() == {"customer_id", "identifiers", "email_address"}


def test_the_bodies_of_three_kinds_are_written_out() -> None:
    assert build(("customer", "subscribed")).body == (
        b'{"event_id":"01E4C4CT6YDC7Y5M7FE1GWWPQJ","object_type":"customer","metric":"subscribed",'
        b'"timestamp":1613063089,"data":{"customer_id":"42","identifiers":{"id":"42","email":"a@b.co",'
        b'"cio_id":"d9c106000001"},"email_address":"a@b.co"}}'
    )
    common = {
        "customer_id": "42",
        "identifiers": {"id": "42", "email": "a@b.co", "cio_id": "d9c106000001"},
        "delivery_id": "RPILAgUBcRhIBqSfeiIwdIYJKxTY",
        "campaign_id": 7,
        "action_id": 42,
        "journey_id": "01HX0000000000000000000000",
        "trigger_event_id": None,
    }
    assert data_of(("email", "clicked")) == common | {
        "recipient": "a@b.co",
        "subject": "Thanks for signing up",
        "href": "https://example.com/welcome",
        "link_id": 1,
        "machine": False,
    }
    assert data_of(("push", "bounced")) == common | {
        "recipients": [
            {
                "device_id": "token-d9c106000001",
                "device_platform": "ios",
                "failure_message": "550 5.1.1 user unknown",
            }
        ]
    }


@pytest.mark.parametrize(
    ("object_type", "recipient"),
    [
        ("email", "a@b.co"),
        ("sms", "+15550001111"),
        ("whatsapp", "+15550001111"),
        ("in_app", "42"),
        ("slack", "#general"),
        ("webhook", "https://example.com/hook"),
    ],
)
def test_a_recipient_is_what_the_channel_reaches(object_type: str, recipient: str) -> None:
    ann = Recipient("42", "a@b.co", "d9c106000001", phone="+15550001111")
    assert data_of((object_type, "sent"), ann)["recipient"] == recipient


def test_a_device_says_why_it_was_not_reached_only_when_it_was_not() -> None:
    for metric in ("sent", "delivered", "opened", "clicked", "converted"):
        (device,) = data_of(("push", metric))["recipients"]
        assert device.keys() == {"device_id", "device_platform"}
    for metric in ("bounced", "dropped"):
        (device,) = data_of(("push", metric))["recipients"]
        assert device["failure_message"]


@pytest.mark.parametrize("kind", KINDS, ids=".".join)
def test_body_content_adds_to_sent_and_to_changed_preferences_alone(kind: Kind) -> None:
    off, on = data_of(kind), data_of(kind, setup=Setup(body_content=True))
    added = on.keys() - off.keys()
    if kind == ("email", "sent"):
        assert added == {"content", "headers"}
        assert all(isinstance(value, list) for value in on["headers"].values())
    else:
        assert added == ({"content"} if kind[1] in ("sent", PREFERENCES[1]) else set())
    assert isinstance(on.get("content", ""), str)


def test_the_content_of_changed_preferences_is_json_in_a_string() -> None:
    preferences = {"topics": {"topic_1": False}, "channels": {"email": True}}
    data = data_of(PREFERENCES, setup=Setup(body_content=True), preferences=preferences)
    assert json.loads(data["content"]) == preferences


def test_the_misspelt_name_of_the_object_type_comes_only_when_asked_for_and_only_there() -> None:
    setup = Setup(object_type_type=True)
    sent = json.loads(build(PREFERENCES, setup=setup).body)
    assert list(sent) == ["event_id", "object_type_type", "metric", "timestamp", "data"]
    assert sent["object_type_type"] == "customer"
    by_channel = json.loads(build((*PREFERENCES, "sms"), setup=setup).body)
    assert by_channel["object_type_type"] == "sms"
    assert "object_type" in json.loads(build(("customer", "unsubscribed"), setup=setup).body)


def test_a_workspace_of_ids_alone_has_no_other_identifier() -> None:
    assert data_of(("email", "sent"), setup=Setup(only_ids=True))["identifiers"] == {"id": "42"}


def test_a_person_without_identifiers_has_a_blank_customer_id_and_nulls() -> None:
    data = data_of(("customer", "unsubscribed"), NOBODY)
    assert data["customer_id"] == ""
    assert data["email_address"] is None
    assert data["identifiers"] == {"id": None, "email": None, "cio_id": "d9c106000002"}


def test_a_deleted_person_has_a_blank_customer_id() -> None:
    data = data_of(("email", "sent"), Recipient("42", "a@b.co", "d9c106000001", deleted=True))
    assert (data["customer_id"], data["identifiers"]["id"]) == ("", "42")


@pytest.mark.parametrize("flag", ["machine", "proxied", "prefetched", "synthetic"])
def test_a_flag_is_true_where_it_is_asked_for(flag: str) -> None:
    kind = ("email", "clicked" if flag == "machine" else "opened")
    assert data_of(kind)[flag] is False
    data = data_of(kind, flags=[flag])
    assert [name for name, value in data.items() if value is True] == [flag]
    assert flag not in data_of(("email", "sent"), flags=[flag])


@pytest.mark.parametrize(
    ("origin", "ids"),
    [
        (Campaign(DELIVERY), {"campaign_id": 7, "action_id": 42, "journey_id": "01HX" + "0" * 22}),
        (Campaign(DELIVERY, None, journey_id=15, parent_action_id=8), {"campaign_id": None, "parent_action_id": 8}),
        (Campaign(DELIVERY, trigger_event_id=EVENT_ID), {"trigger_event_id": EVENT_ID}),
        (Broadcast(DELIVERY), {"broadcast_id": 9, "trigger_id": 3, "action_id": 42}),
        (Broadcast(DELIVERY, None), {"broadcast_id": None}),
        (Newsletter(DELIVERY), {"newsletter_id": 11, "content_id": 2}),
        (Newsletter(DELIVERY, None), {"newsletter_id": None}),
        (Transactional(DELIVERY), {"transactional_message_id": 5}),
    ],
    ids=str,
)
def test_a_message_tells_what_it_was_part_of(origin: Origin, ids: dict[str, Any]) -> None:
    data = data_of(("email", "sent"), origin=origin)
    assert data["delivery_id"] == DELIVERY
    assert ids.items() <= data.items()
    others = {"campaign_id", "broadcast_id", "newsletter_id", "transactional_message_id"}
    assert len(others & data.keys()) == 1


def test_only_email_and_push_are_transactional() -> None:
    for kind in DOCUMENTED:
        found = webhook_bodies.origins(kind, DELIVERY)
        assert any(isinstance(origin, Transactional) for origin in found) == (kind[0] in ("email", "push"))


LEGACY_TYPES = [
    *("customer_subscribed", "customer_unsubscribed"),
    *("email_attempted", "email_bounced", "email_clicked", "email_converted", "email_deferred", "email_delivered"),
    *("email_drafted", "email_dropped", "email_failed", "email_opened", "email_sent", "email_spammed"),
    "email_unsubscribed",
]
LEGACY_MESSAGE = {
    *("customer_id", "email_address", "email_id", "subject", "campaign_id", "campaign_name"),
    *("message_id", "message_name", "template_id", "variables"),
}


def test_there_are_15_legacy_types() -> None:
    assert list(legacy_bodies.TYPES) == LEGACY_TYPES


@pytest.mark.parametrize("name", LEGACY_TYPES)
def test_a_legacy_webhook_has_an_event_type_and_no_identifiers(name: str) -> None:
    sent = json.loads(build_legacy(name).body)
    assert list(sent) == ["event_type", "event_id", "timestamp", "data"]
    assert (sent["event_type"], sent["timestamp"]) == (name, TIMESTAMP)
    assert re.fullmatch("[0-9a-f]{20}", sent["event_id"])
    data = sent["data"]
    if name.startswith("email"):
        assert data.keys() == LEGACY_MESSAGE
        assert data["variables"].keys() == {"campaign", "customer", "delivery_id", "email_id", "layout", "message"}
        assert isinstance(data["campaign_id"], str)
    else:
        assert data.keys() == {"customer_id", "email_address", "variables"}
    assert data["customer_id"] == "42"


def test_a_legacy_address_is_bare_named_or_null() -> None:
    def shown(address: Address, recipient: Recipient = ANN) -> object:
        return json.loads(build_legacy("email_sent", recipient, address).body)["data"]["email_address"]

    assert (shown("bare"), shown("named"), shown("null")) == ("a@b.co", "A <a@b.co>", None)
    assert shown("named", NOBODY) is None


def test_a_stream_is_the_same_for_the_same_seed_and_no_event_id_repeats() -> None:
    def events(seed: int) -> list[Webhook]:
        rng = random.Random(seed)
        return list(webhook_bodies.stream([ANN, NOBODY], list(KINDS), rng, timestamp=TIMESTAMP))

    first = events(1)
    assert first == events(1)
    assert first != events(2)
    assert len({event.event_id for event in first}) == len(first) == 2 * len(KINDS)
    assert [event.timestamp for event in first[:3]] == [TIMESTAMP, TIMESTAMP + 1, TIMESTAMP + 2]
    assert len({event.data["delivery_id"] for event in first if "delivery_id" in event.data}) == 2


def test_a_ulid_is_26_letters_that_sort_by_time() -> None:
    rng = random.Random(0)
    # python-ulid gives the same time part for this moment.
    assert re.fullmatch(r"01EY90TTV8[0-9A-HJKMNP-TV-Z]{16}", webhook_bodies.ulid(rng, TIMESTAMP))
    assert webhook_bodies.ulid(rng, TIMESTAMP) < webhook_bodies.ulid(rng, TIMESTAMP + 1)


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as receiver:
        yield receiver


def every_kind() -> list[Report]:
    """All kinds of both formats, each under an event id of its own, with and without the options."""
    rng = random.Random(0)
    made: list[Report] = [build_legacy(name) for name in LEGACY_TYPES]
    for setup in (Setup(), Setup(body_content=True, only_ids=True, object_type_type=True)):
        for kind in KINDS:
            for origin in webhook_bodies.origins(kind, DELIVERY):
                event_id = webhook_bodies.ulid(rng, TIMESTAMP)
                made.append(
                    webhook_bodies.webhook(
                        kind, ANN, event_id=event_id, timestamp=TIMESTAMP, origin=origin, setup=setup
                    )
                )
    return made


async def test_every_kind_arrives_with_a_signature_that_holds(receiver: Receiver) -> None:
    made = every_kind()
    answers = await webhook_sender.send(Endpoint(receiver.url, KEY), made)
    assert {answer.status for answer in answers} == {200}
    assert [post.body for post in receiver.received] == [each.body for each in made]
    assert all(post.is_signed() for post in receiver.received)
    assert not any(post.is_signed("another key") for post in receiver.received)


async def test_every_kind_is_answered_200_by_the_connector_and_kept(place: Place) -> None:
    place.write()
    made = every_kind()
    async with app.running(place.path, place.settings()) as connector:
        endpoint = Endpoint(connector.public_url + PATH, places.KEY)
        answers = await webhook_sender.send(endpoint, made)
        assert [answer for answer in answers if answer.status != 200] == []
        await connector.reader.read_outstanding()
        rows = list(export.everything(connector.db, "webhooks", connector.current.settings, app.now()))
    assert {row["event_id"] for row in rows} == {each.event_id for each in made}
    assert {row["state"] for row in rows} <= {"read", "unread"}
    assert {row["reason"] for row in rows} <= {None, "unknown_kind", "wrong_shape"}
