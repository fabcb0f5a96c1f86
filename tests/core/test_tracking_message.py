"""Messages of the Segment spec, read as the inbox holds them: what they say, and why some can't be taken."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from connector.core import tracking_message, tracking_request
from connector.records import Message, Unread
from tests.core.given import NOW, values

AT = datetime(2026, 1, 2, 3, 4, 0, tzinfo=UTC)


def kept(message: dict[str, Any], **beside: Any) -> bytes:
    return msgspec.json.encode({"message": message, **beside})


def outcome(message: Any, **beside: Any) -> Message | Unread:
    return tracking_message.read("m", kept(message, **beside), NOW)


def read(kind: str = "track", *, beside: dict[str, Any] | None = None, **message: Any) -> Message:
    """The reading of a message of user 42, whose event is Clicked."""
    named = {"event": "Clicked"} if kind == "track" else {}
    found = outcome({"type": kind, "userId": "42", **named, **message}, **(beside or {}))
    assert isinstance(found, Message), found
    return found


def refusal(kind: str = "track", **message: Any) -> str:
    """Why such a message can't be taken."""
    found = outcome({"type": kind, "userId": "42", "event": "Clicked", **message})
    assert isinstance(found, Unread), found
    return found.reason


def test_an_event_is_read_with_all_that_the_spec_says_of_it() -> None:
    message = {
        "type": "track",
        "messageId": "m",
        "userId": "42",
        "anonymousId": "a-1",
        "event": "Order Completed",
        "properties": {"total": 9.5},
        "timestamp": "2026-01-02T03:04:00Z",
        "context": {"ip": "192.0.2.1"},
        "integrations": {},
    }

    assert outcome(message) == Message(
        source_id="m",
        type="track",
        external_id="42",
        email=None,
        anonymous_id="a-1",
        previous_id=None,
        traits={},
        account=None,
        created_at=None,
        name="Order Completed",
        properties={"total": 9.5},
        context={"ip": "192.0.2.1"},
        occurred_at=AT,
        said_at=AT,
    )


def test_an_identify_says_what_the_user_is_like_and_when_they_were_created() -> None:
    message = read(
        "identify", traits={"email": "Ann@Example.com", "createdAt": "2020-05-06", "plan": "pro", "old": None}
    )

    assert (message.name, message.properties) == ("", {})
    assert message.email == "Ann@Example.com"
    assert message.created_at == datetime(2020, 5, 6, tzinfo=UTC)
    assert message.traits == {"plan": "pro", "old": None}


def test_traits_in_the_context_count_too_and_the_messages_own_win() -> None:
    message = read(
        "identify",
        traits={"plan": "pro", "created_at": 1_600_000_000},
        context={"traits": {"plan": "free", "age": 7, "email": "b@x.co", "createdAt": 1_500_000_000}, "ip": "::1"},
    )

    assert message.traits == {"plan": "pro", "age": 7}
    assert message.email == "b@x.co"
    assert message.created_at == datetime(2020, 9, 13, 12, 26, 40, tzinfo=UTC)
    assert message.context == {"ip": "::1"}


@pytest.mark.parametrize("kind", ["track", "page", "screen", "alias"])
def test_traits_in_the_context_of_any_message_are_the_users(kind: str) -> None:
    message = read(kind, context={"traits": {"plan": "pro", "email": "b@x.co"}})

    assert (message.traits, message.email) == ({"plan": "pro"}, "b@x.co")


def test_the_traits_of_a_group_are_the_accounts_and_never_the_users() -> None:
    message = read(
        "group",
        groupId=7,
        traits={"email": "info@acme.example", "createdAt": 1, "name": "Acme", "id": "other"},
        context={"traits": {"plan": "pro"}},
    )

    assert message.account == {"email": "info@acme.example", "createdAt": 1, "name": "Acme", "id": "7"}
    assert (message.email, message.created_at, message.traits) == (None, None, {"plan": "pro"})


@pytest.mark.parametrize("kind", ["identify", "track", "page", "screen", "alias"])
def test_only_a_group_has_an_account(kind: str) -> None:
    message = read(kind, groupId="acme")

    assert message.account is None
    assert message.context == {"groupId": "acme"}


def test_an_alias_names_who_they_were() -> None:
    assert read("alias", previousId="a-1").previous_id == "a-1"
    assert read("identify", previousId="a-1").previous_id is None


@pytest.mark.parametrize(
    ("given", "external_id"),
    [("42", "42"), (42, "42"), (42.0, "42"), (4.5, "4.5"), (" 42 ", "42"), (1e300, "1e+300"), (2**70, str(2**70))],
)
def test_a_number_for_an_id_becomes_text(given: Any, external_id: str) -> None:
    assert read(userId=given).external_id == external_id


@pytest.mark.parametrize("blank", [None, "", "  "])
def test_a_blank_id_is_none(blank: Any) -> None:
    message = read(userId=blank, anonymousId="a-1")

    assert (message.external_id, message.anonymous_id) == (None, "a-1")
    assert refusal(userId=blank, anonymousId=blank) == "no_identifier"


@pytest.mark.parametrize("name", ["userId", "anonymousId"])
@pytest.mark.parametrize("given", [["42"], {"id": "42"}, True, "x" * 1001, "ü" * 501])
def test_an_id_that_is_no_text_or_too_long_is_refused(name: str, given: Any) -> None:
    assert refusal(**{name: given}) == "bad_identifier"


def test_the_ids_that_only_some_types_have_are_looked_at_there() -> None:
    assert refusal("alias", previousId=[]) == "bad_identifier"
    assert refusal("group", groupId={}) == "bad_identifier"
    assert refusal("group", groupId="") == "no_group_id"
    assert read("track", previousId=[], groupId=[]).name == "Clicked"


def test_who_has_only_an_email_is_somebody() -> None:
    assert outcome({"type": "identify", "traits": {"email": "a@x.co"}}) == read(
        "identify", userId=None, traits={"email": "a@x.co"}
    )


@pytest.mark.parametrize(
    ("listed", "ids"),
    [
        ("9", ("9", None, None)),
        (9, ("9", None, None)),
        ([{"id": "9", "type": "user_id"}], ("9", None, None)),
        ([{"id": "9", "type": "userId"}, {"id": "8", "type": "id"}], ("9", None, None)),
        ([{"id": "A@x.co", "type": "email"}, {"id": "a-1", "type": "anonymous_id"}], (None, "A@x.co", "a-1")),
        ([{"id": "no address", "type": "email"}, {"id": "a", "type": "id"}], ("a", None, None)),
        ([{"id": "x" * 1001, "type": "id"}, {"id": "a", "type": "id"}], ("a", None, None)),
        ([{"id": "9", "type": "braze_id"}, {"id": "9", "type": ["id"]}, {"id": None, "type": "id"}, 7, []], None),
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", ["externalId", "externalIds"])
def test_ids_in_the_context_say_who_it_is(name: str, listed: Any, ids: tuple[str | None, ...] | None) -> None:
    message = {"type": "track", "event": "e", "context": {name: listed}}
    found = outcome(message)

    if ids is None:
        assert found == Unread("no_identifier")
        return
    assert isinstance(found, Message)
    assert (found.external_id, found.email, found.anonymous_id) == ids
    assert found.context == {name: listed}


def test_the_messages_own_ids_go_before_those_in_its_context() -> None:
    listed = [{"id": "9", "type": "id"}, {"id": "b@x.co", "type": "email"}, {"id": "b", "type": "anonymous_id"}]
    message = read(anonymousId="a", context={"externalId": listed, "traits": {"email": "a@x.co"}})

    assert (message.external_id, message.email, message.anonymous_id) == ("42", "a@x.co", "a")


@pytest.mark.parametrize("email", ["no address", ["a@x.co"], 7, "x" * 1000 + "@x.co"])
def test_an_email_that_is_no_address_is_dropped_and_flagged(email: Any) -> None:
    message = read("identify", traits={"email": email, "plan": "pro"}, context={"traits": {"email": email}})

    assert (message.email, message.traits) == (None, {"plan": "pro"})
    assert message.context == {"flags": ["bad_email"]}


@pytest.mark.parametrize("created_at", ["yesterday", [], True, "0000-01-01", 1e300, 10**400])
def test_a_created_time_that_is_none_is_dropped_and_flagged(created_at: Any) -> None:
    message = read("identify", traits={"createdAt": created_at, "created_at": created_at})

    assert (message.created_at, message.traits) == (None, {})
    assert message.context == {"flags": ["bad_created_at"]}


def test_an_empty_email_or_created_time_says_nothing() -> None:
    message = read(
        "identify", traits={"email": None, "createdAt": "", "created_at": None}, context={"traits": {"email": ""}}
    )

    assert (message.email, message.created_at, message.traits, message.context) == (None, None, {}, {})


@pytest.mark.parametrize(
    ("kind", "message", "name"),
    [
        ("page", {"name": "Home", "properties": {"name": "Other"}}, "Home"),
        ("page", {"properties": {"name": "Other"}}, "Other"),
        ("page", {"name": "", "properties": {"name": 7}}, "page"),
        ("screen", {}, "screen"),
        ("screen", {"name": "Basket"}, "Basket"),
        ("track", {"event": " Clicked "}, " Clicked "),
        ("identify", {"name": "x", "event": "y"}, ""),
    ],
)
def test_a_name_is_where_its_type_has_it(kind: str, message: dict[str, Any], name: str) -> None:
    assert read(kind, **message).name == name


@pytest.mark.parametrize("event", [None, "", "  ", 7, ["Clicked"]])
def test_a_track_without_a_name_is_refused(event: Any) -> None:
    assert refusal(event=event) == "no_event_name"


def test_a_name_that_no_index_holds_is_refused() -> None:
    assert refusal(event="x" * 1001) == "long_name"
    assert refusal("page", name="x" * 1001) == "long_name"
    assert read(event="x" * 1000).name == "x" * 1000


def test_the_category_of_a_page_is_a_property() -> None:
    assert read("page", category="Docs").properties == {"category": "Docs"}
    assert read("screen", category="Docs", properties={"category": "own"}).properties == {"category": "own"}
    assert read("track", category="Docs").properties == {}
    assert read("page", category=7).properties == {}


def test_what_is_useful_beside_the_message_is_kept_in_its_context() -> None:
    message = read(integrations={"All": False}, groupId="acme", context={"flags": 7, "ip": "::1"})

    assert message.context == {"ip": "::1", "integrations": {"All": False}, "groupId": "acme", "sent_flags": 7}


def test_the_batchs_context_stands_for_what_the_message_does_not_say() -> None:
    message = read(context={"ip": "own"}, beside={"context": {"ip": "batch", "library": {"name": "x"}}})

    assert message.context == {"ip": "own", "library": {"name": "x"}}


@pytest.mark.parametrize(
    ("times", "occurred_at", "said_at"),
    [
        pytest.param({}, NOW, None, id="none"),
        pytest.param({"timestamp": None, "originalTimestamp": "", "sentAt": AT}, NOW, None, id="blank"),
        pytest.param({"timestamp": AT}, AT, AT, id="timestamp"),
        pytest.param({"originalTimestamp": AT}, AT, AT, id="RudderStack's"),
        pytest.param({"timestamp": 1767323040}, AT, AT, id="seconds"),
        pytest.param({"timestamp": "1767323040000"}, AT, AT, id="milliseconds as text"),
        pytest.param(
            {"timestamp": AT, "sentAt": AT + timedelta(seconds=9)}, NOW - timedelta(seconds=9), AT, id="corrected"
        ),
        pytest.param(
            {"originalTimestamp": AT, "sentAt": AT - timedelta(hours=1)}, NOW + timedelta(hours=1), AT, id="ahead"
        ),
        pytest.param({"timestamp": AT, "sentAt": "soon"}, AT, AT, id="sentAt is no time"),
        pytest.param({"timestamp": AT, "sentAt": ["x"]}, AT, AT, id="sentAt is a list"),
        pytest.param({"timestamp": AT, "originalTimestamp": NOW, "sentAt": NOW}, AT, AT, id="corrected before"),
        pytest.param(
            {"timestamp": "0001-01-01", "sentAt": "9999-12-31"},
            datetime(1, 1, 1, tzinfo=UTC),
            datetime(1, 1, 1, tzinfo=UTC),
            id="out of range",
        ),
    ],
)
def test_the_senders_clock_is_corrected(times: dict[str, Any], occurred_at: datetime, said_at: datetime | None) -> None:
    message = read(**times)

    assert (message.occurred_at, message.said_at) == (occurred_at, said_at)


def test_the_batchs_sending_time_counts_where_a_message_has_none() -> None:
    sent_at = (AT + timedelta(seconds=9)).isoformat()

    assert read(timestamp=AT, beside={"sentAt": sent_at}).occurred_at == NOW - timedelta(seconds=9)
    assert read(timestamp=AT, sentAt=AT, beside={"sentAt": sent_at}).occurred_at == NOW


def test_in_history_no_clock_is_corrected() -> None:
    message = read(timestamp=AT, sentAt=AT, beside={"imported": True})

    assert (message.occurred_at, message.imported, message.public) == (AT, True, False)
    assert read(beside={"public": True}).public is True


@pytest.mark.parametrize(
    "timestamp",
    ["0000-01-01T00:00:00Z", "99999-01-01T00:00:00Z", "+099999-01-01T00:00:00Z", "soon", 1e30, [], {}, True, -1e14],
)
@pytest.mark.parametrize("name", ["timestamp", "originalTimestamp"])
def test_a_time_that_can_not_be_is_refused(name: str, timestamp: Any) -> None:
    assert refusal(**{name: timestamp}) == "bad_timestamp"


def test_a_message_needs_a_type_that_is_known() -> None:
    assert refusal(type=None) == refusal(type="") == "no_type"
    assert refusal(type="Track") == refusal(type=["track"]) == refusal(type="merge") == "unknown_type"


def test_the_path_says_what_a_message_is_whatever_it_says_itself() -> None:
    found = outcome({"type": "track", "userId": "42", "name": "Home"}, type="page")

    assert isinstance(found, Message)
    assert (found.type, found.name) == ("page", "Home")


@pytest.mark.parametrize(
    "message", [{"traits": []}, {"properties": [1]}, {"context": "x"}, {"context": {"traits": []}}, {"properties": 0}]
)
def test_anything_else_where_an_object_belongs_is_refused(message: dict[str, Any]) -> None:
    assert refusal(**message) == "wrong_shape"


def test_a_nul_is_replaced_and_flagged() -> None:
    message = read(event="a\0b", userId="4\0", properties={"\0": ["\0"]}, beside={"context": {"x": "\0"}})

    assert (message.name, message.external_id, message.properties) == ("a\ufffdb", "4\ufffd", {"\ufffd": ["\ufffd"]})
    assert message.context == {"x": "\ufffd", "flags": ["nul_replaced"]}
    assert read(event=r"a\u0000").context == {}


WRITTEN = b'{"type":"track","userId":"42","event":"e","properties":{"a":?}}'


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"NaN", "not_a_number"),
        (b"-Infinity", "not_a_number"),
        (b'"\\ud800"', "bad_text"),
        (b'"\xff"', "bad_text"),
        (b"1e999", "huge_number"),
        (b"1" * 5000, "huge_number"),
        (b"}", "not_json"),
        (b"", "not_json"),
        (b'"' + b"x" * 33 * 1024 + b'"', "too_large"),
        (b"[" * 198 + b"]" * 198, None),
        (b"[" * 199 + b"]" * 199, "too_deep"),
        (b"[" * 900 + b"]" * 900, "too_deep"),
        (b"[" * 9000 + b"]" * 9000, "too_deep"),
        (b"[" * 9000 + b"NaN", "too_deep"),
        (b'NaN,"b":' + b"[" * 9000, "too_deep"),
        (b"[" + b"[]," * 300 + b"[]]", None),
    ],
    ids=lambda value: repr(value[:9]) if isinstance(value, bytes) else value,
)
def test_what_is_no_json_has_its_reason(value: bytes, reason: str | None) -> None:
    raw = WRITTEN.replace(b"?", value)
    unreadable = b'{"unreadable":"%s"}' % base64.b64encode(raw)
    found = tracking_message.read("m", unreadable, NOW)

    assert (found.reason if isinstance(found, Unread) else None) == reason
    (item,) = tracking_request.items(tracking_request.Parsed((raw,)), NOW)
    assert item.reason == reason


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "not_json"),
        (b"{", "not_json"),
        (b"\xff", "not_json"),
        (b'{"unreadable":"%"}', "not_json"),
        (b"[" * 100_000, "not_json"),
        (b'{"message":[]}', "wrong_shape"),
        (b'{"message":' + WRITTEN.replace(b"?", b"1") + b',"context":[]}', "wrong_shape"),
        (b'{"message":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "too_deep"),
        (b'{"message":"\xff"}', "bad_text"),
    ],
    ids=range(9),
)
def test_a_body_that_is_not_ours_is_unread_like_any_other(body: bytes, reason: str) -> None:
    assert tracking_message.read("m", body, NOW) == Unread(reason)


IDS = st.sampled_from(["42", "a-1", ""]) | values
OBJECTS = st.dictionaries(st.sampled_from(["email", "createdAt", "name", "traits", "externalId", "flags"]), values)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "type": st.sampled_from(["identify", "track", "page", "screen", "group", "alias"]) | values,
            "userId": IDS,
            "anonymousId": IDS,
            "groupId": IDS,
            "previousId": IDS,
            "event": st.just("Clicked") | values,
            "traits": OBJECTS | values,
            "properties": OBJECTS | values,
            "context": OBJECTS | values,
            "timestamp": st.datetimes().map(str) | st.integers() | values,
            "sentAt": st.datetimes().map(str) | values,
        },
    )
    | values,
    OBJECTS,
)
@example({"type": "identify", "traits": {"email": "(" * 30_000 + "@"}}, {})
def test_no_message_makes_reading_fail_and_all_that_is_read_can_be_stored(message: Any, context: Any) -> None:
    body = kept(message, context=context)
    found = tracking_message.read("m", body, NOW)

    assert found == tracking_message.read("m", body, NOW)
    assert isinstance(found, Message | Unread)
    if isinstance(found, Message):
        stored = msgspec.json.encode([found.traits, found.account, found.properties, found.context])
        assert msgspec.json.decode(stored) == [found.traits, found.account, found.properties, found.context]
        assert b"\\u0000" not in stored.replace(b"\\\\", b"")
        assert found.external_id or found.email or found.anonymous_id
        assert found.traits.keys().isdisjoint({"email", "created_at", "createdAt"})
        assert found.occurred_at.tzinfo is UTC


@given(st.binary())
def test_no_bytes_make_reading_fail(body: bytes) -> None:
    assert isinstance(tracking_message.read("m", body, NOW), Message | Unread)
    assert isinstance(tracking_message.read("m", b'{"message":' + body + b"}", NOW), Message | Unread)
