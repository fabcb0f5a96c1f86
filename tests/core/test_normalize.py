"""Webhooks, read: the vendor's example, every kind, and what nobody should ever send."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from connector.core import naming, normalize
from connector.records import Identifier, Reading, Unread, Word
from tests.core.given import NOW, values

EVENT_ID = "01E4C4CT6YDC7Y5M7FE1GWWPQJ"
AT = datetime(2021, 2, 11, 17, 4, 49, tzinfo=UTC)
IDENTIFIERS = {"id": "42", "email": "test@example.com", "cio_id": "d9c106000001"}


def webhook(kind: str = "email.opened", *, timestamp: object = 1613063089, **data: Any) -> bytes:
    object_type, metric = kind.split(".")
    return msgspec.json.encode(
        {"event_id": EVENT_ID, "object_type": object_type, "metric": metric, "timestamp": timestamp, "data": data}
    )


def read(body: bytes) -> Reading:
    reading = normalize.read(EVENT_ID, body, NOW)
    assert isinstance(reading, Reading)
    return reading


def named(**data: Any) -> dict[str, str]:
    """The identifiers that an email webhook with this data names, strongest first."""
    return {each.kind: each.value for each in read(webhook(**data)).identifiers}


def test_the_vendors_own_example_is_an_opened_email_of_customer_42() -> None:
    body = (
        b'{"event_id":"01E4C4CT6YDC7Y5M7FE1GWWPQJ","object_type":"email","metric":"opened","timestamp":1613063089,'
        b'"data":{"customer_id":"0200000001",'
        b'"identifiers":{"id":"42","email":"test@example.com","cio_id":"d9c106000001"},'
        b'"delivery_id":"RPILAgUBcRhIBqSfeiIwdIYJKxTY","action_id":42,"broadcast_id":9,'
        b'"recipient":"test@example.com","subject":"Thanks for signing up"}}'
    )

    assert normalize.glance(body).source_id == EVENT_ID
    assert normalize.read(EVENT_ID, body, NOW) == Reading(
        source_id=EVENT_ID,
        kind="email.opened",
        name="Email Opened",
        identifiers=(
            Identifier("customer_id", "42"),
            Identifier("cio_id", "d9c106000001"),
            Identifier("email", "test@example.com"),
        ),
        properties={
            "customer_id": "0200000001",
            "identifiers": IDENTIFIERS,
            "delivery_id": "RPILAgUBcRhIBqSfeiIwdIYJKxTY",
            "action_id": 42,
            "broadcast_id": 9,
            "recipient": "test@example.com",
            "subject": "Thanks for signing up",
        },
        context={"kind": "email.opened"},
        occurred_at=AT,
        word=Word(AT, fact="opened_at"),
    )


@pytest.mark.parametrize("kind", naming.NAMES)
def test_every_kind_that_has_a_name_is_read_under_it(kind: str) -> None:
    reading = read(webhook(kind, identifiers=IDENTIFIERS))

    assert (reading.kind, reading.name) == (kind, naming.NAMES[kind])


@pytest.mark.parametrize(
    ("kind", "opted_out"),
    [
        ("customer.unsubscribed", True),
        ("customer.subscribed", False),
        ("email.unsubscribed", True),
        ("email.subscribed", False),
        ("email.spammed", True),
        ("email.opened", None),
        ("email.bounced", None),
        ("customer.cio_subscription_preferences_changed", None),
    ],
)
def test_a_word_on_consent_counts_from_when_it_was_said(kind: str, opted_out: bool | None) -> None:
    word = read(webhook(kind, identifiers=IDENTIFIERS)).word

    assert (word.opted_out if word is not None else None) == opted_out
    assert word is None or word.at == AT


@pytest.mark.parametrize(
    ("data", "identifiers"),
    [
        pytest.param(
            {"identifiers": IDENTIFIERS, "customer_id": "other"},
            {"customer_id": "42", "cio_id": "d9c106000001", "email": "test@example.com"},
            id="identifiers go before the deprecated customer_id",
        ),
        pytest.param({"identifiers": {"id": "42"}}, {"customer_id": "42"}, id="a workspace that knows ids only"),
        pytest.param(
            {"identifiers": {"id": None, "email": "A@b.co", "cio_id": "d9"}},
            {"cio_id": "d9", "email": "a@b.co"},
            id="a person without an id",
        ),
        pytest.param({"customer_id": "42"}, {"customer_id": "42"}, id="no identifiers"),
        pytest.param({"customer_id": "42", "identifiers": None}, {"customer_id": "42"}, id="null identifiers"),
        pytest.param({"customer_id": "42", "identifiers": ["7"]}, {"customer_id": "42"}, id="a list of identifiers"),
        pytest.param({"customer_id": ""}, {}, id="a deleted person"),
        pytest.param({"customer_id": " "}, {}, id="blanks are no id"),
        pytest.param({"customer_id": " 42 "}, {"customer_id": "42"}, id="blanks around an id are not part of it"),
        pytest.param({"customer_id": "4 2"}, {"customer_id": "4 2"}, id="a blank inside an id is"),
        pytest.param({"identifiers": {"id": 42}}, {"customer_id": "42"}, id="a number is text"),
        pytest.param({"identifiers": {"id": 0}}, {"customer_id": "0"}, id="zero is an id"),
        pytest.param({"identifiers": {"id": True, "cio_id": ["d9"]}}, {}, id="neither truth nor a list is an id"),
        pytest.param({"email_address": "Ann <Ann@b.co>"}, {"email": "ann@b.co"}, id="an address with a name"),
        pytest.param({"email_address": None, "recipient": "a@b.co"}, {"email": "a@b.co"}, id="the mail's recipient"),
        pytest.param({"recipient": ["a@b.co"]}, {}, id="a list is no address"),
        pytest.param({"identifiers": {"email": "none"}}, {}, id="text without an @ is no address"),
        pytest.param({}, {}, id="nobody"),
    ],
)
def test_whose_event_it_is(data: dict[str, Any], identifiers: dict[str, str]) -> None:
    assert named(**data) == identifiers
    assert list(named(**data)) == list(identifiers)


def test_the_recipient_of_something_other_than_mail_is_no_email_identifier() -> None:
    assert read(webhook("customer.subscribed", recipient="a@b.co")).identifiers == ()


def test_an_identifier_of_a_thousand_bytes_is_taken_and_a_longer_one_is_not() -> None:
    # A database's index refuses a key of a few thousand bytes, and with it the whole batch of webhooks.
    longest, too_long = "é" * 500, "é" * 500 + "x"

    assert named(identifiers={"id": longest}) == {"customer_id": longest}
    reading = read(webhook(identifiers={"id": too_long, "cio_id": too_long, "email": f"{too_long}@b.co"}))
    assert reading.identifiers == ()
    assert reading.properties["identifiers"]["id"] == too_long
    assert reading.context["flags"] == ["identifier_too_long"]


@pytest.mark.parametrize(
    ("timestamp", "expected"),
    [
        (1613063089, AT),
        ("1613063089", AT),
        (1613063089.0, AT),
        (1613063089.25, AT.replace(microsecond=250_000)),
        (1, datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)),
        (253402300799, datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)),
    ],
)
def test_an_event_happened_at_the_unix_seconds_that_it_carries(timestamp: object, expected: datetime) -> None:
    reading = read(webhook(timestamp=timestamp))

    assert (reading.occurred_at, reading.context) == (expected, {"kind": "email.opened"})


@pytest.mark.parametrize(
    "timestamp",
    [
        *(None, True, False, 0, -1, "", "soon", "-1", "1613063089.5", "１６", "²", [], {}, [1613063089]),
        *(253402300800, 1613063089000, 1e300, "9" * 30),
        pytest.param("1" * 5000, id="more digits than Python reads"),
        pytest.param(10**400, id="more than a float holds"),
    ],
)
def test_without_a_possible_timestamp_an_event_happened_when_it_came(timestamp: object) -> None:
    reading = read(webhook("customer.unsubscribed", timestamp=timestamp))

    assert reading.occurred_at == NOW
    assert reading.word == Word(NOW, opted_out=True)
    assert reading.context["flags"] == ["no_timestamp"]


def test_a_missing_timestamp_is_flagged() -> None:
    reading = read(b'{"event_id":"1","object_type":"email","metric":"sent","data":{}}')

    assert (reading.occurred_at, reading.context["flags"]) == (NOW, ["no_timestamp"])


def test_a_mails_body_is_left_out_of_the_event() -> None:
    assert read(webhook("email.sent", subject="Hi", content="<p>…")).properties == {"subject": "Hi"}


def test_the_preferences_of_a_customer_are_kept() -> None:
    content = '{"topics":{"topic_1":true}}'
    reading = read(webhook("customer.cio_subscription_preferences_changed", content=content))

    assert reading.properties == {"content": content}


def test_a_nul_is_replaced_and_flagged_in_names_values_and_identifiers() -> None:
    data: dict[str, Any] = {"identifiers": {"id": "4\0002"}, "a\0": ["b\0"]}
    reading = read(webhook(**data))

    assert reading.identifiers == (Identifier("customer_id", "4\ufffd2"),)
    assert reading.properties == {"identifiers": {"id": "4\ufffd2"}, "a\ufffd": ["b\ufffd"]}
    assert reading.context["flags"] == ["nul_replaced"]


def test_a_nul_in_preferences_is_replaced_although_their_json_stands_in_a_string() -> None:
    content = r'{"topics":{"a\u0000":true,"b":false},"channels\u0000":{"sms":true}}'
    word = read(webhook("customer.cio_subscription_preferences_changed", content=content)).word

    assert word == Word(AT, preferences={"topics": {"a\ufffd": True, "b": False}})


def test_the_letters_of_an_escaped_nul_are_not_a_nul() -> None:
    reading = read(webhook(subject=r"what \u0000 means"))

    assert reading.properties == {"subject": r"what \u0000 means"}
    assert "flags" not in reading.context


def test_all_that_is_odd_about_a_webhook_is_flagged() -> None:
    reading = read(webhook(timestamp=None, subject="\0", identifiers={"id": "4" * 1001}))

    assert reading.context["flags"] == ["nul_replaced", "no_timestamp", "identifier_too_long"]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "not_json"),
        (b"<html>", "not_json"),
        (b'{"event_id":', "not_json"),
        (webhook()[:-1], "not_json"),
        (webhook() + b"x", "not_json"),
        (b"\xef\xbb\xbf" + webhook(), "bad_text"),
        (webhook(subject="?").replace(b"?", b"\xff"), "not_json"),
        (webhook(subject="?").replace(b"?", b"\\ud800"), "bad_text"),
        (webhook(subject="?").replace(b"?", b"\xed\xa0\x80"), "bad_text"),
        (webhook().decode().encode("utf-16"), "bad_text"),
        (webhook(subject="?").replace(b"?", b"\0"), "not_json"),
        (webhook(number="?").replace(b'"?"', b"NaN"), "not_json"),
        (b"null", "wrong_shape"),
        (b"[]", "wrong_shape"),
        (b"{}", "wrong_shape"),
        (b'[{"event_id":"1","object_type":"email","metric":"sent","data":{}}]', "wrong_shape"),
        (b'{"event_id":"1","object_type":"email","metric":"sent"}', "wrong_shape"),
        (b'{"event_id":"1","object_type":"email","metric":"sent","data":null}', "wrong_shape"),
        (b'{"event_id":"1","object_type":"email","metric":"sent","data":[]}', "wrong_shape"),
        (b'{"event_id":"1","object_type":["email"],"metric":"sent","data":{}}', "wrong_shape"),
        (b'{"event_type":["email_sent"],"event_id":"1","timestamp":1,"data":{}}', "wrong_shape"),
        (b'{"event_type":"email_sent","event_id":"1","timestamp":1,"data":1}', "wrong_shape"),
        (webhook("email.op\0ened"), "wrong_shape"),
        (webhook("email." + "x" * 81), "wrong_shape"),
        (webhook(number="?").replace(b'"?"', b"1e400"), "huge_number"),
        (webhook(number="?").replace(b'"?"', b"1" * 5000), "huge_number"),
        (b'{"a":1,"a":1}', "duplicate_keys"),
        (webhook(a=1).replace(b'"a":1', b'"a":1,"a" : 2'), "duplicate_keys"),
        (webhook(a=1).replace(b'"a":1', b'"a":1,"\\u0061":2'), "duplicate_keys"),
        (webhook(text='"x":', a=1).replace(b'"a":1', b'"a":[{"b":1,"b":2}]'), "duplicate_keys"),
    ],
)
def test_what_is_no_webhook_stays_unread_with_its_reason(body: bytes, reason: str) -> None:
    unread = normalize.read(EVENT_ID, body, NOW)

    assert isinstance(unread, Unread)
    assert unread.reason == reason


@pytest.mark.parametrize("text", ['"x":', '\\":', 'x":1,"x":', '{"topics":{"topic_1":true},"topics":{}}'], ids=range(4))
def test_text_that_looks_like_keys_is_no_duplicate_key(text: str) -> None:
    assert read(webhook(subject=text, more=[{"a": 1}, {"a": 1}])).properties["subject"] == text


def test_a_number_of_many_digits_is_kept_to_the_last() -> None:
    digits = "9" * 4300

    assert str(read(webhook(number="?").replace(b'"?"', digits.encode())).properties["number"]) == digits


@pytest.mark.parametrize("inner", ['"x"', '"\\u0000"'], ids=["text", "a NUL"])
@pytest.mark.parametrize(
    ("opening", "closing"), [("[", "]"), ('{"a":', "}"), ('[{"a":', "}]")], ids=["lists", "objects", "both"]
)
def test_a_webhook_is_read_to_a_depth_that_everything_behind_can_follow(opening: str, closing: str, inner: str) -> None:
    def nested(levels: int) -> bytes:
        times = levels // len(closing)
        return webhook(deep="?").replace(b'"?"', f"{opening * times}{inner}{closing * times}".encode())

    assert isinstance(normalize.read(EVENT_ID, nested(90), NOW), Reading)
    for levels in (120, 400, 500, 900, 100_000):
        assert normalize.read(EVENT_ID, nested(levels), NOW) == Unread("too_deep")


def test_many_shallow_things_are_not_deep() -> None:
    assert read(webhook(recipients=[{"device_id": "tok"}] * 1000)).properties["recipients"][999] == {"device_id": "tok"}


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("carrier_pigeon.sent", "Carrier Pigeon Sent"),
        ("email.teleported", "Email Teleported"),
        ("line.clicked", "Line Link Clicked"),
        ("in_app.cio_something_new", "In-App Message Cio Something New"),
        ("Email.Opened", "Email Opened"),
        ("line.inbox.read", "Line Inbox.read"),
    ],
)
def test_a_kind_that_nobody_has_documented_becomes_an_event_with_nothing_dropped(kind: str, name: str) -> None:
    object_type, _, metric = kind.partition(".")
    body = {"object_type": object_type, "metric": metric, "extra": [1], "data": {"content": "x", "a": {"b": 2}}}
    reading = read(msgspec.json.encode(body))

    assert (reading.kind, reading.name) == (kind, name)
    assert reading.properties == {"content": "x", "a": {"b": 2}}
    assert reading.context["envelope"] == {"extra": [1]}


def test_a_kind_is_called_what_the_settings_say() -> None:
    reading = normalize.read(EVENT_ID, webhook("email.clicked"), NOW, {"email.clicked": "Email Clicked"})

    assert isinstance(reading, Reading)
    assert (reading.name, reading.context["kind"]) == ("Email Clicked", "email.clicked")


@pytest.mark.parametrize("event_type", ["email_sent", "in_app_opened", "fax_torn_up", "mystery"])
def test_the_old_format_is_told_by_its_event_type(event_type: str) -> None:
    reading = read(msgspec.json.encode({"event_type": event_type, "event_id": "1", "timestamp": 1, "data": {}}))

    kinds = {"email_sent": "email.sent", "in_app_opened": "in_app.opened", "fax_torn_up": "fax.torn_up"}
    assert reading.kind == kinds.get(event_type, "mystery.reported")
    assert reading.context == {"kind": reading.kind, "format": "legacy"}


def test_a_null_metric_beside_an_event_type_is_the_old_format_too() -> None:
    reading = read(b'{"event_type":"email_sent","metric":null,"event_id":"1","timestamp":1,"data":{}}')

    assert (reading.kind, reading.context["format"]) == ("email.sent", "legacy")


def test_a_word_dated_in_the_future_counts_from_when_it_came() -> None:
    reading = read(webhook("customer.subscribed", timestamp=253402300799))

    assert reading.word == Word(NOW, opted_out=False)
    assert reading.occurred_at.year == 9999


@pytest.mark.parametrize(
    ("content", "topics", "opted_out"),
    [
        ('{"topics":{"topic_1":true,"topic_2":false}}', {"topic_1": True, "topic_2": False}, None),
        ({"topics": {"topic_1": True}}, {"topic_1": True}, None),
        ('{"topics":{"topic_1":"yes","topic_2":null}}', {}, None),
        ('{"unsubscribed":true,"topics":{}}', {}, True),
        ('{"unsubscribed":false,"topics":{}}', {}, False),
        ('{"unsubscribed":"true","topics":[]}', None, None),
    ],
)
def test_preferences_say_what_somebody_wants(content: Any, topics: dict[str, bool] | None, opted_out: bool) -> None:
    word = read(webhook("customer.cio_subscription_preferences_changed", content=content)).word

    assert word == Word(AT, opted_out=opted_out, preferences={} if topics is None else {"topics": topics})


@pytest.mark.parametrize(
    ("data", "flag"),
    [
        ({}, "no_content"),
        ({"content": ""}, "no_content"),
        ({"content": "no json"}, "unreadable_content"),
        ({"content": "[1]"}, "unreadable_content"),
        ({"content": 7}, "unreadable_content"),
    ],
)
def test_preferences_that_say_nothing_are_flagged(data: dict[str, Any], flag: str) -> None:
    reading = read(webhook("customer.cio_subscription_preferences_changed", **data))

    assert (reading.word, reading.context["flags"]) == (None, [flag])


@pytest.mark.parametrize(
    ("kind", "data", "fact"),
    [
        ("email.delivered", {}, "delivered_at"),
        ("push.opened", {}, "opened_at"),
        ("email.opened", {"prefetched": True}, None),
        ("email.opened", {"prefetched": False, "proxied": True, "synthetic": True}, "opened_at"),
        ("email.clicked", {"machine": True}, None),
        ("email.clicked", {"machine": False}, "clicked_at"),
        ("sms.bounced", {}, "bounced_at"),
        ("email.spammed", {}, "spammed_at"),
        ("customer.opened", {}, None),
        ("line.opened", {}, None),
        ("email.sent", {}, None),
    ],
)
def test_what_happened_to_a_message_is_a_fact_about_its_person(kind: str, data: Any, fact: str | None) -> None:
    word = read(webhook(kind, **data)).word

    assert (word.fact if word is not None else None) == fact


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("customer.unsubscribed", True),
        ("sms.subscribed", True),
        ("email.spammed", True),
        ("push.cio_subscription_preferences_changed", True),
        ("email.opened", False),
        ("email.dropped", False),
    ],
)
def test_which_kinds_may_say_what_somebody_wants(kind: str, says: bool) -> None:
    assert normalize.says_consent(kind) is says


def test_a_subscribe_under_an_unknown_type_allows_nothing_and_an_unsubscribe_counts() -> None:
    assert read(webhook("topic.subscribed")).word is None
    assert read(webhook("topic.unsubscribed")).word == Word(AT, opted_out=True)
    assert read(webhook("sms.subscribed")).word == Word(AT, opted_out=False)


def test_a_message_is_named_by_the_vendors_event_id_however_the_rest_looks() -> None:
    assert normalize.glance(webhook()).source_id == EVENT_ID
    assert normalize.glance(b'{"event_id":"e","more":[' + b"1," * 1000 + b"1]}").source_id == "e"
    assert normalize.glance(b'{"event_id":"' + b"e" * 200 + b'"}').source_id == "e" * 200


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b"{}",
        b'{"event_id":null}',
        b'{"event_id":""}',
        b'{"event_id":42}',
        b'{"event_id":["e"]}',
        b'{"event_id":"a\\nb"}',
        b'{"event_id":"a\\u0000"}',
        b'{"event_id":"\\ud800"}',
        b'{"event_id":"\xff"}',
        b'{"event_id":"' + b"e" * 201 + b'"}',
        b'{"event_id":' + b"[" * 100_000,
    ],
)
def test_a_message_without_a_usable_event_id_is_named_by_its_hash(body: bytes) -> None:
    assert normalize.glance(body).source_id == "sha256:" + hashlib.sha256(body).hexdigest()


def test_a_message_that_is_too_large_to_parse_is_named_by_its_hash() -> None:
    largest = webhook(subject="").replace(
        b'""', b'"' + b"x" * (normalize.MAX_READ_BYTES - len(webhook(subject=""))) + b'"'
    )

    assert len(largest) == normalize.MAX_READ_BYTES == 2**20
    assert normalize.glance(largest).source_id == EVENT_ID
    assert normalize.glance(largest + b" ").source_id.startswith("sha256:")


@given(st.binary() | st.binary().map(lambda tail: webhook()[:-2] + tail))
def test_no_bytes_make_reading_fail(body: bytes) -> None:
    assert isinstance(normalize.read("id", body, NOW), Reading | Unread)
    assert normalize.glance(body).source_id


IDENTIFIER_NAMES = st.sampled_from(["id", "email", "cio_id", "more"])
DATA_NAMES = st.sampled_from(["identifiers", "customer_id", "email_address", "recipient", "content", "more"])
JSON = values | st.dictionaries(IDENTIFIER_NAMES, values | st.emails(), max_size=3)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "event_id": st.just("e") | values,
            "object_type": st.sampled_from(["email", "customer"]) | values,
            "metric": st.sampled_from(["opened", "unsubscribed"]) | values,
            "timestamp": st.integers() | values,
            "data": st.dictionaries(DATA_NAMES, JSON, max_size=4) | values,
        },
    )
    | values
)
@example({"event_id": "e", "object_type": "email", "metric": "opened", "data": {"recipient": "(" * 100_000 + "@"}})
def test_no_json_makes_reading_fail_and_all_that_is_read_can_be_stored(document: Any) -> None:
    reading = normalize.read("id", msgspec.json.encode(document), NOW)

    assert isinstance(reading, Reading | Unread)
    if isinstance(reading, Reading):
        stored = msgspec.json.encode([reading.properties, reading.context])
        assert msgspec.json.decode(stored) == [reading.properties, reading.context]
        assert all(each.value and "\0" not in each.value for each in reading.identifiers)
        assert len({each.kind for each in reading.identifiers}) == len(reading.identifiers)
