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
from connector.records import Identifier, OptWord, Reading, Unread
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

    assert normalize.source_id(body) == EVENT_ID
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
        context={},
        occurred_at=AT,
        opt_word=None,
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
    word = read(webhook(kind, identifiers=IDENTIFIERS)).opt_word

    assert word == (None if opted_out is None else OptWord(opted_out, AT))


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
    assert reading.context == {"flags": ["identifier_too_long"]}


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

    assert (reading.occurred_at, reading.context) == (expected, {})


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
    assert reading.opt_word == OptWord(opted_out=True, at=NOW)
    assert reading.context == {"flags": ["no_timestamp"]}


def test_a_missing_timestamp_is_flagged() -> None:
    reading = read(b'{"event_id":"1","object_type":"email","metric":"sent","data":{}}')

    assert (reading.occurred_at, reading.context) == (NOW, {"flags": ["no_timestamp"]})


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
    assert reading.context == {"flags": ["nul_replaced"]}


def test_the_letters_of_an_escaped_nul_are_not_a_nul() -> None:
    reading = read(webhook(subject=r"what \u0000 means"))

    assert reading.properties == {"subject": r"what \u0000 means"}
    assert reading.context == {}


def test_all_that_is_odd_about_a_webhook_is_flagged() -> None:
    reading = read(webhook(timestamp=None, subject="\0", identifiers={"id": "4" * 1001}))

    assert reading.context == {"flags": ["nul_replaced", "no_timestamp", "identifier_too_long"]}


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "not_json"),
        (b"<html>", "not_json"),
        (b'{"event_id":', "not_json"),
        (webhook()[:-1], "not_json"),
        (webhook() + b"x", "not_json"),
        (b"\xef\xbb\xbf" + webhook(), "not_json"),
        (webhook(subject="?").replace(b"?", b"\xff"), "not_json"),
        (webhook(subject="?").replace(b"?", b"\\ud800"), "not_json"),
        (webhook(subject="?").replace(b"?", b"\0"), "not_json"),
        (webhook(number="?").replace(b'"?"', b"NaN"), "not_json"),
        (b"null", "wrong_shape"),
        (b"[]", "wrong_shape"),
        (b"{}", "wrong_shape"),
        (b'[{"event_id":"1","object_type":"email","metric":"sent","data":{}}]', "wrong_shape"),
        (b'{"event_id":"1","object_type":"email","metric":"sent"}', "wrong_shape"),
        (b'{"event_id":"1","object_type":"email","metric":"sent","data":null}', "wrong_shape"),
        (b'{"event_id":"1","object_type":"email","metric":"sent","data":[]}', "wrong_shape"),
        (b'{"event_id":1,"object_type":"email","metric":"sent","data":{}}', "wrong_shape"),
        (b'{"event_id":"1","object_type":["email"],"metric":"sent","data":{}}', "wrong_shape"),
        (b'{"event_type":"email_sent","event_id":"1","timestamp":1,"data":{}}', "wrong_shape"),
        (webhook(number="?").replace(b'"?"', b"1e400"), "wrong_shape"),
        (webhook(number="?").replace(b'"?"', b"1" * 5000), "wrong_shape"),
    ],
)
def test_what_is_no_webhook_stays_unread_with_its_reason(body: bytes, reason: str) -> None:
    assert normalize.read(EVENT_ID, body, NOW) == Unread(reason)


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
    ("kind", "noted"),
    [
        ("carrier_pigeon.sent", "carrier_pigeon.sent"),
        ("email.teleported", "email.teleported"),
        ("Email.Opened", "Email.Opened"),
        ("email.op\0ened", "email.op\ufffdened"),
        ("email." + "x" * 1000, "email." + "x" * 194),
    ],
)
def test_an_unknown_kind_stays_unread_and_is_noted(kind: str, noted: str) -> None:
    assert normalize.read(EVENT_ID, webhook(kind), NOW) == Unread("unknown_kind", noted)


def test_a_message_is_named_by_the_vendors_event_id_however_the_rest_looks() -> None:
    assert normalize.source_id(webhook()) == EVENT_ID
    assert normalize.source_id(b'{"event_id":"e","more":[' + b"1," * 1000 + b"1]}") == "e"
    assert normalize.source_id(b'{"event_id":"' + b"e" * 200 + b'"}') == "e" * 200


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
    assert normalize.source_id(body) == "sha256:" + hashlib.sha256(body).hexdigest()


def test_a_message_that_is_too_large_to_parse_is_named_by_its_hash() -> None:
    largest = webhook(subject="").replace(
        b'""', b'"' + b"x" * (normalize.MAX_READ_BYTES - len(webhook(subject=""))) + b'"'
    )

    assert len(largest) == normalize.MAX_READ_BYTES == 2**20
    assert normalize.source_id(largest) == EVENT_ID
    assert normalize.source_id(largest + b" ").startswith("sha256:")


@given(st.binary() | st.binary().map(lambda tail: webhook()[:-2] + tail))
def test_no_bytes_make_reading_fail(body: bytes) -> None:
    assert isinstance(normalize.read("id", body, NOW), Reading | Unread)
    assert normalize.source_id(body)


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
