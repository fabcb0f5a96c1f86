"""The corpus of webhooks is whole: every kind the vendor names, every body valid, every reading well-formed."""

from __future__ import annotations

import json
import re
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests import corpus

ALL = list(corpus.cases())
NAMES = [name for name, _, _ in ALL]

# What each message kind must have in `data`, from the vendor's schemas (reporting webhooks, OpenAPI 3.1).
# Two keys that the schemas demand are not here: `recipient` of email.failed (demanded, but not among its properties)
# and `trigger_id` of a broadcast (missing in the vendor's own example).
MESSAGES: dict[str, dict[str, str]] = {
    "email": {
        "drafted": "recipient subject",
        "attempted": "failure_message",
        "sent": "recipient subject",
        "delivered": "recipient subject",
        "opened": "recipient",
        "clicked": "href link_id recipient subject",
        "converted": "recipient subject",
        "unsubscribed": "recipient subject",
        "bounced": "failure_message recipient subject",
        "dropped": "failure_message recipient subject",
        "spammed": "recipient subject",
        "failed": "failure_message subject",
        "undeliverable": "failure_message recipient subject",
    },
    "sms": {
        "drafted": "",
        "attempted": "failure_message",
        "sent": "recipient",
        "delivered": "recipient",
        "clicked": "href link_id recipient",
        "converted": "recipient",
        "bounced": "failure_message recipient",
        "failed": "failure_message",
        "undeliverable": "failure_message",
        "replied": "inbound_event_id to recipient",
    },
    "whatsapp": {
        "drafted": "",
        "attempted": "failure_message",
        "sent": "recipient",
        "delivered": "recipient",
        "opened": "recipient",
        "clicked": "href link_id recipient",
        "converted": "recipient",
        "bounced": "failure_message recipient",
        "dropped": "failure_message recipient",
        "failed": "failure_message",
        "undeliverable": "failure_message",
        "replied": "inbound_event_id to recipient",
    },
    "push": {
        "drafted": "",
        "attempted": "failure_message",
        "sent": "recipients",
        "delivered": "recipients",
        "opened": "recipients",
        "clicked": "href link_id recipients",
        "converted": "recipients",
        "bounced": "recipients",
        "dropped": "recipients",
        "failed": "failure_message",
        "undeliverable": "failure_message",
    },
    "in_app": {
        "drafted": "",
        "attempted": "failure_message",
        "sent": "recipient",
        "opened": "",
        "clicked": "href link_id recipient",
        "converted": "recipient",
        "failed": "failure_message",
        "undeliverable": "failure_message",
    },
    "slack": {
        "drafted": "",
        "attempted": "failure_message",
        "sent": "recipient",
        "clicked": "href link_id recipient",
        "failed": "failure_message",
        "undeliverable": "failure_message",
    },
    "webhook": {
        "drafted": "",
        "attempted": "failure_message",
        "sent": "recipient",
        "clicked": "href link_id recipient",
        "failed": "failure_message",
        "undeliverable": "failure_message",
    },
}
# What a person wishes; the object type is `customer`, or the channel by which it was said.
PERSON_METRICS = ("subscribed", "unsubscribed", "cio_subscription_preferences_changed")
PERSON_DATA = {"customer_id", "email_address", "identifiers"}
# In the App API's list of events that a webhook can subscribe to, but without a schema.
WITHOUT_SCHEMA = ("email.deferred", "sms.dropped", "slack.converted", "webhook.converted")
LEGACY = (
    "customer_subscribed",
    "customer_unsubscribed",
    "email_attempted",
    "email_bounced",
    "email_clicked",
    "email_converted",
    "email_deferred",
    "email_delivered",
    "email_drafted",
    "email_dropped",
    "email_failed",
    "email_opened",
    "email_sent",
    "email_spammed",
    "email_unsubscribed",
)
MESSAGE_KINDS = {
    f"{channel}.{metric}": data for channel, metrics in MESSAGES.items() for metric, data in metrics.items()
}
PERSON_KINDS = {f"{where}.{metric}" for where in ("customer", *MESSAGES) for metric in PERSON_METRICS}

READING = {
    "kind": str,
    "name": str,
    "identifiers": list,
    "occurred_at": str,
    "flags": list,
    "without": list,
    "opted_out": bool | None,
    "fact": str | None,
    "preferences": dict | None,
}
FACTS = {None, "delivered_at", "opened_at", "clicked_at", "bounced_at", "spammed_at"}
ENVELOPE = {"event_id", "object_type", "object_type_type", "event_type", "metric", "timestamp", "data"}
ULID = re.compile("[0-7][0-9A-HJKMNP-TV-Z]{25}")


def parsed(body: bytes) -> dict[str, Any]:
    whole: dict[str, Any] = json.loads(body.decode())
    return whole


CASES = [(name, parsed(body), reading) for name, body, reading in ALL]
BODIES = {name: body for name, body, _ in CASES}


def test_the_vendor_has_66_kinds_of_messages_and_3_of_people() -> None:
    assert len(MESSAGE_KINDS) == 66
    assert len(PERSON_METRICS) == 3


@pytest.mark.parametrize("kind", sorted({*MESSAGE_KINDS, *PERSON_KINDS, *WITHOUT_SCHEMA}))
def test_every_kind_has_a_case(kind: str) -> None:
    assert kind in NAMES


@pytest.mark.parametrize("event_type", LEGACY)
def test_every_type_of_the_older_format_has_a_case(event_type: str) -> None:
    assert f"legacy.{event_type}" in NAMES


def test_a_case_without_a_peculiarity_is_of_a_kind_that_the_vendor_names() -> None:
    known = {*MESSAGE_KINDS, *PERSON_KINDS, *WITHOUT_SCHEMA, *(f"legacy.{event_type}" for event_type in LEGACY)}

    assert {name for name in NAMES if "~" not in name} == known


@pytest.mark.parametrize(("name", "body", "reading"), CASES, ids=NAMES)
def test_a_body_is_of_the_kind_that_its_name_says(name: str, body: dict[str, Any], reading: dict[str, Any]) -> None:
    stem = name.split("~")[0]
    if stem.startswith("legacy."):
        assert body.keys() == {"event_type", "event_id", "timestamp", "data"}
        assert stem == f"legacy.{body['event_type']}"
        assert reading["kind"] == body["event_type"].replace("_", ".", 1)
    else:
        assert "event_type" not in body
        assert stem == reading["kind"] == f"{body.get('object_type') or body['object_type_type']}.{body['metric']}"


@pytest.mark.parametrize(("name", "demanded"), MESSAGE_KINDS.items())
def test_a_plain_message_has_what_the_vendor_s_schema_demands(name: str, demanded: str) -> None:
    data = BODIES[name]["data"]

    assert data.keys() >= set(demanded.split()) | {"customer_id", "delivery_id"}
    assert "id" in data["identifiers"]
    assert len(data.keys() & {"campaign_id", "broadcast_id", "newsletter_id", "transactional_message_id"}) == 1


@pytest.mark.parametrize("name", sorted(PERSON_KINDS - MESSAGE_KINDS.keys()))
def test_a_plain_webhook_of_a_person_has_what_the_vendor_s_schema_demands(name: str) -> None:
    data = BODIES[name]["data"]

    assert data.keys() >= {"customer_id", "email_address", "identifiers"}
    assert "id" in data["identifiers"]


def test_no_two_bodies_share_an_event_id() -> None:
    times_seen = Counter(body["event_id"] for _, body, _ in CASES)

    assert [event_id for event_id, times in times_seen.items() if times > 1] == []


def test_an_event_id_is_a_ulid_except_the_oldest_format_s() -> None:
    others = [name for name, body, _ in CASES if not ULID.fullmatch(body["event_id"])]

    assert others == ["legacy.email_sent~hex_event_id"]


@pytest.mark.parametrize("field", READING)
def test_every_reading_has_the_field(field: str) -> None:
    assert [name for name, _, reading in CASES if not isinstance(reading[field], READING[field])] == []


def test_no_reading_has_a_field_or_word_that_is_not_described() -> None:
    assert {field for _, _, reading in CASES for field in reading} == {*READING, "envelope"}
    assert {flag for _, _, reading in CASES for flag in reading["flags"]} == {
        "no_timestamp",
        "no_content",
        "unreadable_content",
    }
    assert {reading["fact"] for _, _, reading in CASES} == FACTS
    assert {key for _, _, reading in CASES for key in reading["preferences"] or {}} == {"topics", "channels"}


@pytest.mark.parametrize(("name", "body", "reading"), CASES, ids=NAMES)
def test_identifiers_come_strongest_first(name: str, body: dict[str, Any], reading: dict[str, Any]) -> None:
    kinds = [kind for kind, _ in reading["identifiers"]]

    assert kinds == [kind for kind in ("customer_id", "cio_id", "email") if kind in kinds]
    assert all(isinstance(value, str) and value == value.strip() != "" for _, value in reading["identifiers"])
    assert all("@" in value and value == value.lower() for kind, value in reading["identifiers"] if kind == "email")


@pytest.mark.parametrize(("name", "body", "reading"), CASES, ids=NAMES)
def test_a_reading_s_time_is_the_body_s_or_flagged(name: str, body: dict[str, Any], reading: dict[str, Any]) -> None:
    if reading["occurred_at"] == "received":
        assert "no_timestamp" in reading["flags"]
    else:
        assert "no_timestamp" not in reading["flags"]
        assert datetime.fromisoformat(reading["occurred_at"]) == datetime.fromtimestamp(body["timestamp"], UTC)


def test_only_the_body_of_a_message_is_left_out() -> None:
    # What a preference webhook has under the same key is no message's body; the older format has no such key; what it
    # is in a webhook of an unknown type nobody can tell.
    with_a_body = {
        name
        for name, body, reading in CASES
        if "content" in body["data"]
        and not reading["kind"].endswith(".cio_subscription_preferences_changed")
        and not name.endswith("~unknown_type")
    }

    assert {name for name, _, reading in CASES if reading["without"] == ["content"]} == with_a_body
    assert {name for name, _, reading in CASES if reading["without"] == []} == set(NAMES) - with_a_body


def test_an_envelope_is_what_the_vendor_s_format_does_not_have() -> None:
    wrong = [
        name
        for name, body, reading in CASES
        if reading.get("envelope", {}) != {key: value for key, value in body.items() if key not in ENVELOPE}
    ]

    assert wrong == []


def test_preferences_are_read_or_their_absence_is_flagged() -> None:
    of_preferences = {
        name for name, _, reading in CASES if reading["kind"].endswith(".cio_subscription_preferences_changed")
    }
    read = {name for name, _, reading in CASES if reading["preferences"] is not None}
    flagged = {name for name, _, reading in CASES if {"no_content", "unreadable_content"} & set(reading["flags"])}

    assert read | flagged == of_preferences
    assert read & flagged == set()


def test_a_kind_has_one_name_and_a_name_one_kind() -> None:
    pairs = {(reading["kind"], reading["name"]) for _, _, reading in CASES}

    assert len({kind for kind, _ in pairs}) == len({called for _, called in pairs}) == len(pairs)


def test_people_and_their_pages_are_at_a_domain_that_is_nobody_s() -> None:
    written = "".join(json.dumps(body, ensure_ascii=False) for _, body, _ in CASES)
    domains = re.findall(r"@([\w.-]+\.\w+)", written) + re.findall(r"https?://(?:[^/@\s\"]*@)?([\w.-]+)", written)

    assert {".".join(domain.lower().split(".")[-2:]) for domain in domains} == {"example.com"}


@pytest.mark.parametrize("left", ["email.sent.json", "email.sent.expected.json"])
def test_a_file_without_its_partner_is_refused(tmp_path: Path, left: str) -> None:
    (tmp_path / left).write_text("{}")

    with pytest.raises(ValueError, match=r"only one of two files for email\.sent$"):
        list(corpus.cases(tmp_path))


def test_a_file_that_is_neither_is_refused(tmp_path: Path) -> None:
    for name in ("email.sent.json", "email.sent.expected.json", "email.sent.txt"):
        (tmp_path / name).write_text("{}")

    with pytest.raises(ValueError, match=r"neither body nor reading: email\.sent\.txt$"):
        list(corpus.cases(tmp_path))


def test_cases_come_by_name_with_the_body_as_it_lies_there(tmp_path: Path) -> None:
    for name, body in (("sms.sent", b"{ }\n"), ("email.sent~b", b"[]"), ("email.sent", b"\xff")):
        (tmp_path / f"{name}.json").write_bytes(body)
        (tmp_path / f"{name}.expected.json").write_text(json.dumps({"kind": name}))

    assert list(corpus.cases(tmp_path)) == [
        ("email.sent", b"\xff", {"kind": "email.sent"}),
        ("email.sent~b", b"[]", {"kind": "email.sent~b"}),
        ("sms.sent", b"{ }\n", {"kind": "sms.sent"}),
    ]
