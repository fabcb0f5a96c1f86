"""What Customer.io gets of an event, and in which bytes."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector.core import activity, mapping, tracking_message, tracking_request
from connector.core.activity import Activity, Unsendable
from connector.core.tracking_request import Parsed
from connector.records import CustomerId, Damaged, DueEvent, LeftOut, Message
from connector.settings import Settings
from tests import tracking_corpus
from tests.core.given import NOW, NOW_SECONDS, text, user, values
from tests.core.test_tracking_payloads import inflated, type_of

ULID = "01EY90TTV89AZ1X7MP9E62SZRZ"
URL = "https://shop.example.com/pricing?utm_source=mail"
WHO = CustomerId("id", "42")
ON = {"events": {"pass_reserved": True}}


def due(
    name: str = "Order Completed",
    properties: Any = None,
    context: Any = None,
    *,
    type_: str = "track",
    at: datetime = NOW,
) -> DueEvent:
    return DueEvent(
        7, "01HUSER", ULID, type_, name, {} if properties is None else properties, context or {}, at, NOW, NOW
    )


def made(event: DueEvent, **tables: Any) -> Activity:
    found = activity.of(event, Settings.model_validate(tables))
    assert isinstance(found, Activity)
    return found


def sent(properties: dict[str, Any], **tables: Any) -> dict[str, Any]:
    return made(due(properties=properties), **tables).data


def refused(event: DueEvent) -> Unsendable:
    found = activity.of(event, Settings())
    assert isinstance(found, Unsendable)
    assert found.reason in activity.UNSENDABLE
    return found


def page(properties: Any = None, context: Any = None) -> Activity:
    return made(due("Home", properties, context, type_="page"))


@pytest.mark.parametrize(("type_", "expected"), [("track", "event"), ("screen", "screen"), ("what SQL wrote", "event")])
def test_an_event_goes_under_its_name_with_its_id_its_time_and_its_properties(type_: str, expected: str) -> None:
    found = made(due(properties={"total": 9.5, "items": [{"sku": "a"}], "none": None}, type_=type_))

    assert found == Activity(
        type=expected,  # type: ignore[arg-type]
        name="Order Completed",
        id=ULID,
        timestamp=NOW_SECONDS,
        data={"total": 9.5, "items": [{"sku": "a"}], "none": None},
        encoded=b"",
        left_out=(),
    )
    assert msgspec.json.decode(found.encoded) == found.data


def test_the_context_of_an_event_stays_here() -> None:
    context = {"ip": "192.0.2.1", "page_url": URL, "referrer_url": URL}

    assert made(due(context=context)).data == {}


@pytest.mark.parametrize(
    ("properties", "context", "expected"),
    [
        ({"url": URL}, {"page_url": "b", "page": {"url": "c"}}, URL),
        ({"url": f" {URL}\n"}, {}, URL),
        ({}, {"page_url": "b", "page": {"url": "c"}}, "b"),
        ({"url": ""}, {"page_url": " ", "page": {"url": "c"}}, "c"),
        ({"url": {"href": "a"}}, {"page_url": 7, "page": {"url": "c"}}, "c"),
        ({"url": None}, {"page": {"url": "c"}}, "c"),
        ({}, {"page": {"path": "/x"}}, None),
        ({}, {"page": "c"}, None),
        ({}, {}, None),
    ],
)
def test_a_page_is_named_by_its_url(properties: dict[str, Any], context: dict[str, Any], expected: str | None) -> None:
    found = page(properties, context)

    assert (found.type, found.name) == ("page", expected or "page")
    assert found.data == properties
    assert activity.page_url(properties, context) == expected


@pytest.mark.parametrize(
    ("properties", "context", "expected"),
    [
        ({"referrer": "a"}, {"referrer_url": "b", "page": {"referrer": "c"}}, {"referrer": "a"}),
        ({}, {"referrer_url": "b", "page": {"referrer": "c"}}, {"referrer": "b"}),
        ({"referrer": ""}, {"page": {"referrer": "c"}}, {"referrer": "c"}),
        ({"referrer": ""}, {"referrer_url": ""}, {"referrer": ""}),
        ({}, {"page": {"url": "c"}}, {}),
    ],
)
def test_a_page_has_its_referrer_in_the_data(
    properties: dict[str, Any], context: dict[str, Any], expected: dict[str, Any]
) -> None:
    given_properties = dict(properties)

    assert page(properties, context).data == expected
    assert properties == given_properties


def test_title_path_search_and_url_of_a_page_stay_in_its_data() -> None:
    properties = {"title": "Pricing", "path": "/pricing", "search": "?utm_source=mail", "url": URL, "name": "Pricing"}

    assert page(properties).data == properties


def test_what_nobody_can_read_is_no_url_and_no_referrer() -> None:
    lost = Damaged({"url": "https://\ufffd", "referrer": "\ufffd"}, frozenset({"url", "referrer"}))

    found = page(lost, {"page": {"url": "b", "referrer": "c"}})
    assert (found.name, found.data) == ("b", {"referrer": "c"})
    assert page({}, Damaged({"page": {"url": "\ufffd"}}, frozenset({"page.url"}))).name == "page"


@pytest.mark.parametrize("name", ["", " ", "\t\n"])
@pytest.mark.parametrize("type_", ["track", "screen"])
def test_an_event_of_blanks_cannot_be_sent(name: str, type_: str) -> None:
    assert refused(due(name, type_=type_)).reason == "no_name"


def test_blanks_around_a_name_go_as_customer_io_takes_them_off() -> None:
    assert made(due(" Order Completed\n")).name == "Order Completed"


@pytest.mark.parametrize("rest", [f"?utm={'x' * 100}", f"#{'x' * 100}", f"#!/{'x' * 50}?a={'x' * 50}", f" ?{'é' * 50}"])
@pytest.mark.parametrize("where", ["properties", "page_url", "page.url"])
def test_a_url_that_is_too_long_for_a_name_goes_without_query_and_fragment(rest: str, where: str) -> None:
    url = f"https://shop.example.com/pricing{rest}"
    properties = {"url": url, "title": "Pricing"} if where == "properties" else {"title": "Pricing"}
    context = {"properties": {}, "page_url": {"page_url": url}, "page.url": {"page": {"url": url}}}[where]

    found = page(properties, context)
    assert (found.name, found.data) == ("https://shop.example.com/pricing", {"url": url, "title": "Pricing"})
    assert msgspec.json.decode(found.encoded) == found.data
    assert activity.page_url(properties, context) == url


@pytest.mark.parametrize("url", ["x" * 101, f"{'x' * 101}?a=1", f"?{'x' * 100}", f"#{'x' * 100}"])
def test_a_url_that_is_too_long_without_query_and_fragment_cannot_be_sent(url: str) -> None:
    assert refused(due("Home", {"url": url}, type_="page")).reason == "name_too_long"


def test_a_url_of_a_hundred_bytes_is_the_name_as_it_is() -> None:
    url = f"https://shop.example.com/?{'x' * 74}"
    found = page({}, {"page_url": url})
    assert (len(url), found.name, found.data) == (100, url, {})


@pytest.mark.parametrize("name", ["x" * 100, "é" * 50, "😀" * 25, " " + "x" * 100 + " "])
def test_a_name_has_at_most_100_bytes(name: str) -> None:
    assert made(due(name)).name == name.strip()
    assert refused(due(f"{name.strip()}y")) == Unsendable("name_too_long", "the name is 101 bytes, 100 are allowed")
    assert refused(due("Home", {"url": f"{name.strip()}y"}, type_="page")).reason == "name_too_long"


@pytest.mark.parametrize(
    ("at", "expected"),
    [
        (datetime(2021, 2, 11, 17, 4, 49, 999_999, UTC), 1613063089),
        (datetime(1970, 1, 1, 0, 0, 2, tzinfo=UTC), 2),
        (datetime(1970, 1, 1, tzinfo=UTC), 1),
        (datetime(1969, 12, 31, 23, 59, 59, 999_999, UTC), 1),
        (datetime.min.replace(tzinfo=UTC), 1),
        (datetime(2106, 2, 7, 6, 28, 16, tzinfo=UTC), 2**32),
        (datetime(5138, 11, 16, 9, 46, 39, tzinfo=UTC), 99_999_999_999),
        (datetime(5138, 11, 16, 9, 46, 40, tzinfo=UTC), 99_999_999_999),
        (datetime.max.replace(tzinfo=UTC), 99_999_999_999),
    ],
)
def test_the_time_is_the_events_own_as_seconds_that_nobody_takes_for_now_or_for_milliseconds(
    at: datetime, expected: int
) -> None:
    assert made(due(at=at)).timestamp == expected


def test_times_among_the_properties_become_unix_seconds_as_those_of_people_do() -> None:
    paris = {"people": {"timezone": "Europe/Paris"}}
    at, seconds = "2021-02-11T17:04:49Z", 1613063089

    assert sent({"note": at, "seen_at": "2021-02-11", "seen": "2021-02-11"}, **paris) == {
        "note": seconds,
        "seen_at": 1612998000,
        "seen": "2021-02-11",
    }
    assert sent({"ship": {"sent_date": "2021-02-11", "to": {"note": at}}}, **paris) == {
        "ship": {"sent_date": 1612998000, "to": {"note": seconds}}
    }
    assert sent({"items": [{"made_at": at}, at, [[{"made_at": at}], at]], "seen_at": [at, 2]}) == {
        "items": [{"made_at": seconds}, at, [[{"made_at": seconds}], at]],
        "seen_at": [at, 2],
    }
    for other in ("tomorrow", "2021", "1613063089", "", 2, 1.5, True, None):
        assert sent({"seen_at": other, "note": other}) == {"seen_at": other, "note": other}


@given(st.dictionaries(text, values, max_size=3) | st.just({"a_at": "2021-02-11"}))
def test_a_property_is_sent_as_an_attribute_of_that_name_would_be(properties: dict[str, Any]) -> None:
    found = sent(properties, **ON)

    assert found.keys() == properties.keys()
    for name, value in properties.items():
        if isinstance(value, str):
            picks = {"people": {"attributes": [{"name": "v", "as": "v_at" if name.endswith("_at") else "v"}]}}
            person, _ = mapping.attributes(
                user(email=None, attributes={"v": value}), "", Settings.model_validate(picks)
            )
            assert next((v for k, v in person.items() if k.startswith("v")), "") == found[name]


def test_what_would_redirect_a_campaign_is_left_out_unless_the_settings_pass_it() -> None:
    properties = {"recipient": "x@y.co", "from_address": 1, "reply_to": None, "Recipient": "kept", "total": 1}
    found = made(due(properties=properties))

    assert found.data == {"Recipient": "kept", "total": 1}
    assert [(each.name, each.reason) for each in found.left_out] == [
        ("recipient", "reserved"),
        ("from_address", "reserved"),
        ("reply_to", "reserved"),
    ]
    assert "x@y.co" not in str(found.left_out)
    passed = made(due(properties=properties), **ON)
    assert (passed.data, passed.left_out) == (properties, ())


def test_what_the_store_holds_and_nobody_can_read_is_left_out() -> None:
    damaged = Damaged({"a": 1, "b": "\ufffd", "c": {"d": None, "e": 1}}, frozenset({"b", "c.d"}))
    found = made(due(properties=damaged))

    assert found.data == {"a": 1}
    message = "what the store holds can't be read"
    assert found.left_out == (LeftOut("b", "unreadable", message), LeftOut("c", "unreadable", message))


def test_an_event_of_which_no_property_can_be_read_says_so() -> None:
    found = made(due(properties=Damaged({}, frozenset({""}))))

    assert found.data == {}
    assert [(each.name, each.reason) for each in found.left_out] == [("properties", "unreadable")]


@pytest.mark.parametrize("letter", ["x", "é", '"'])
def test_data_have_at_most_100_000_bytes_as_json(letter: str) -> None:
    each = len(msgspec.json.encode(letter)) - 2
    room = 100_000 - len(b'{"a":"","b":""}')
    fits = {"a": letter * (room // each), "b": "y" * (room % each)}

    assert len(made(due(properties=fits)).encoded) == 100_000
    found = refused(due(properties=fits | {"b": fits["b"] + "y"}))
    assert found == Unsendable("event_too_large", "the data are 100,001 bytes, 100,000 are allowed")


def test_a_v2_operation_calls_the_data_attributes() -> None:
    found = made(due(properties={"total": 9.5}, type_="screen"))

    assert activity.v2_operation(found, CustomerId("cio_id", "d9c1")) == (
        b'{"type":"person","action":"screen","identifiers":{"cio_id":"d9c1"},"name":"Order Completed",'
        b'"id":"01EY90TTV89AZ1X7MP9E62SZRZ","timestamp":1767323045,"attributes":{"total":9.5}}'
    )


def test_a_v1_body_calls_them_data() -> None:
    found = made(due(properties={"total": 9.5}))
    expected = (
        b'{"name":"Order Completed","id":"01EY90TTV89AZ1X7MP9E62SZRZ","type":"event","timestamp":1767323045,'
        b'"data":{"total":9.5}'
    )

    assert activity.v1_body(found) == expected + b"}"
    assert activity.v1_anonymous_body(found, 'a"b') == expected + b',"anonymous_id":"a\\"b"}'


@given(
    st.integers(29_000, 33_000),
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=100),
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=150),
    st.sampled_from(["id", "email", "cio_id"]),
)
def test_what_needs_no_call_of_its_own_fits_into_a_batch(size: int, name: str, customer_id: str, kind: Any) -> None:
    name = name.encode()[:100].decode(errors="ignore").strip() or "\1" * 100
    who = CustomerId(kind, customer_id.encode()[:150].decode(errors="ignore") or "\1" * 150)
    found = made(due(name, {"a": "x" * size}, type_="screen"))

    operation = activity.v2_operation(found, who)
    assert len(operation) <= 32_000 or found.needs_v1
    assert not found.needs_v1 or len(operation) > 30_000


def test_the_worst_names_and_ids_fit_too() -> None:
    name, who = "\1" * 100, CustomerId("cio_id", "\1" * 150)
    sizes = range(30_200, 30_300)
    found = [made(due(name, {"a": "x" * size}, type_="screen")) for size in sizes]

    largest = next(each for each in reversed(found) if not each.needs_v1)
    assert found[-1].needs_v1
    assert 31_800 < len(activity.v2_operation(largest, who)) <= 32_000


@pytest.mark.parametrize(
    ("kind", "value", "fine"),
    [
        ("id", "42", True),
        ("email", "ann@example.com", True),
        ("cio_id", "d9c1", True),
        ("id", "ann@example.com", False),
        ("id", "cio_42", False),
        ("email", "cio_ann@example.com", False),
    ],
)
def test_an_activity_too_large_for_a_batch_stays_here_when_v1_would_give_it_to_somebody_else(
    kind: Any, value: str, fine: bool
) -> None:
    large = made(due(properties={"a": "x" * 40_000}))

    found = activity.v1_fault(large, CustomerId(kind, value))
    assert large.needs_v1
    if fine:
        assert found is None
    else:
        assert found is not None
        assert found.reason == "id_not_for_v1"
        assert value not in found.message
        assert found.reason in activity.UNSENDABLE


def _pages() -> list[Message]:
    """All page views of the corpus."""
    found = []
    for case in tracking_corpus.cases():
        request = tracking_request.parsed(inflated(case), type_of(case))
        assert isinstance(request, Parsed)
        items = tracking_request.items(request, NOW)
        read = [tracking_message.read(item.source_id, item.body, NOW) for item in items]
        found += [message for message in read if isinstance(message, Message) and message.type == "page"]
    return found


PAGES = _pages()
OF_BROWSERS = [message for message in PAGES if "page" in message.context]


def test_page_views_of_any_sdk_are_named_by_their_url() -> None:
    assert len(PAGES) > len(OF_BROWSERS) > 0
    for message in PAGES:
        found = page(message.properties, message.context)
        assert (found.type, found.name) == ("page", message.properties["url"])
        assert found.name.startswith("https://www.example.com/docs")
        assert found.data == message.properties


@pytest.mark.parametrize("message", OF_BROWSERS, ids=lambda message: message.source_id)
def test_page_views_of_browsers_say_where_the_visitor_came_from_and_what_they_saw(message: Message) -> None:
    data = page(message.properties, message.context).data

    assert data["referrer"] == "https://search.example.com/"
    assert data["title"] == "Docs"
    assert data["path"] == "/docs"
    assert data["search"] == data["url"].removeprefix("https://www.example.com/docs")
    # Their context alone would do.
    bare = page({}, message.context)
    assert (bare.name, bare.data) == (data["url"], {"referrer": "https://search.example.com/"})


@given(
    st.sampled_from(["track", "page", "screen", "other"]),
    text,
    st.dictionaries(text | st.sampled_from(["url", "referrer", "recipient", "a_at"]), values, max_size=4),
    st.dictionaries(st.sampled_from(["page_url", "referrer_url", "page", "x"]), values, max_size=3),
    st.datetimes(timezones=st.just(UTC)),
)
def test_any_event_is_an_activity_within_the_limits_or_has_a_reason(
    type_: str, name: str, properties: dict[str, Any], context: dict[str, Any], at: datetime
) -> None:
    found = activity.of(due(name, properties, context, type_=type_, at=at), Settings())

    if isinstance(found, Unsendable):
        assert found.reason in activity.UNSENDABLE
        return
    assert found.name == found.name.strip() != ""
    assert 0 < found.timestamp < 10**11
    assert set(properties) - {each.name for each in found.left_out} == set(found.data) - (
        {"referrer"} - set(properties)
    )
    assert msgspec.json.decode(activity.v1_body(found)) == {
        "name": found.name,
        "id": ULID,
        "type": found.type,
        "timestamp": found.timestamp,
        "data": msgspec.json.decode(msgspec.json.encode(found.data)),
    }
    assert len(activity.v2_operation(found, WHO)) <= 32_000


def test_a_later_look_makes_the_same_activity() -> None:
    event = due(properties={"a_at": "2021-02-11"})

    again = replace(event, received_at=NOW + timedelta(days=1), due_at=NOW + timedelta(days=2))
    assert made(again) == made(event)
