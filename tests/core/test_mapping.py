"""What Customer.io should have of a user, and under which id."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from connector.core import mapping
from connector.records import CustomerId, Damaged, LeftOut, Preference
from connector.settings import Settings
from tests.core.given import NOWHERE, OTHER, VIP, settings, user, values

SEGMENTS = "hull_segments"


def sent(attributes: dict[str, Any], *picks: Any, **people: Any) -> dict[str, Any]:
    """What is sent of a user with these attributes, apart from email and segments."""
    people = {"segments_attribute": "", "attributes": list(picks), **people}
    wanted, left_out = mapping.attributes(user(email=None, attributes=attributes), VIP, settings(**people))
    assert left_out == ()
    return wanted


def left_out(attributes: dict[str, Any], *picks: Any) -> list[tuple[str, str]]:
    wanted, left = mapping.attributes(user(attributes=attributes), VIP, settings(attributes=list(picks)))
    assert not {each.name for each in left} & set(wanted)
    return [(each.name, each.reason) for each in left]


def test_memberships_are_the_names_of_the_set_bits_in_the_order_of_the_settings() -> None:
    three = Settings.model_validate({"segments": {name: {"everyone": True} for name in ("z", "a", "m")}})

    assert mapping.memberships("111", three) == ["z", "a", "m"]
    assert mapping.memberships("011", three) == ["a", "m"]
    assert mapping.memberships("000", three) == []


@pytest.mark.parametrize("bits", ["", "1", "111"])
def test_bits_of_other_settings_are_refused(bits: str) -> None:
    with pytest.raises(ValueError, match="zip"):
        mapping.memberships(bits, settings())


@pytest.mark.parametrize(("bits", "expected"), [(VIP, True), ("11", True), (OTHER, False), (NOWHERE, False)])
def test_a_user_is_sent_for_a_whitelisted_segment_only(bits: str, expected: bool) -> None:
    assert mapping.whitelisted(bits, settings()) is expected


@pytest.mark.parametrize(
    ("sources", "attributes", "expected"),
    [
        pytest.param("external_id", {}, ("external_id", "42"), id="one source"),
        pytest.param(["crm.id", "external_id"], {"crm": {"id": 7}}, ("crm.id", 7), id="the first with a value"),
        pytest.param(["crm.id", "external_id"], {"crm": {"id": None}}, ("external_id", "42"), id="null is none"),
        pytest.param(["crm.id", "external_id"], {"crm": "7"}, ("external_id", "42"), id="no object to look into"),
        pytest.param(["crm.id", "external_id"], {"crm.id": "7"}, ("external_id", "42"), id="a dot is a level"),
        pytest.param(["email", "external_id"], {"email": "x@b.co"}, ("email", "ann@example.com"), id="our own email"),
        pytest.param("id", {"id": "other"}, ("id", "01HUSER"), id="our own id"),
        pytest.param(["crm", "plan"], {}, ("", None), id="nothing"),
    ],
)
def test_the_customer_id_is_the_first_source_that_has_a_value(
    sources: Any, attributes: dict[str, Any], expected: tuple[str, Any]
) -> None:
    people = settings(customer_id=sources).people

    assert mapping.customer_id_value(user(attributes=attributes), people) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("42", "42"),
        ("Ab", "Ab"),
        ("a b", "a b"),
        (" 42\n", "42"),
        ("a/b?c", "a/b?c"),
        ("...", "..."),
        ("cio_42", "cio_42"),
        ("a@b.co", "a@b.co"),
        (42, "42"),
        (0, "0"),
        (-1, "-1"),
        (10**149, "1" + "0" * 149),
        (42.0, "42"),
        (42.5, "42.5"),
        (1e15, "1000000000000000"),
        ("x" * 150, "x" * 150),
        (" " + "x" * 150, "x" * 150),
        ("é" * 75, "é" * 75),
    ],
)
def test_an_id_is_the_value_as_text(value: Any, expected: str) -> None:
    found = mapping.customer_id(user(attributes={"crm": value}), settings(customer_id="crm"))

    assert found == CustomerId("id", expected)


@pytest.mark.parametrize(
    "value",
    [
        *("", " ", "\t\n", ".", "..", " .. ", True, False, [], ["42"], {}, {"id": 42}),
        *(float("nan"), float("inf"), float("-inf")),
        pytest.param("x" * 151, id="one byte too long"),
        pytest.param("é" * 75 + "x", id="one byte too long in fewer characters"),
        pytest.param(10**150, id="a number of one digit too many"),
    ],
)
def test_what_customer_io_could_not_take_or_tell_apart_is_no_id(value: Any) -> None:
    assert mapping.customer_id(user(attributes={"crm": value}), settings(customer_id="crm")) == "bad_customer_id"


def test_without_a_value_there_is_no_customer_id() -> None:
    assert mapping.customer_id(user(external_id=None), settings()) == "no_customer_id"


def test_an_email_as_customer_id_is_an_email_in_lower_case() -> None:
    found = mapping.customer_id(user(email="Ann@Example.com"), settings(customer_id="email"))

    assert found == CustomerId("email", "ann@example.com")


def test_an_email_is_measured_as_it_is_sent() -> None:
    # İ has two bytes, and three in lower case.
    assert mapping.customer_id(user(email="İ" * 70 + "@b.co"), settings(customer_id="email")) == "bad_customer_id"


@pytest.mark.parametrize(
    ("source", "value"),
    [("crm", "cio_42"), ("crm", "a@b.co"), ("email", "cio_ann@example.com"), ("email", "42")],
)
def test_an_id_that_a_v1_path_would_read_as_another_kind_is_bad_there(source: str, value: str) -> None:
    given_user = user(email=value, attributes={"crm": value})

    assert mapping.customer_id(given_user, settings(api="single", customer_id=source)) == "bad_customer_id"
    batched = mapping.customer_id(given_user, settings(customer_id=source))
    assert isinstance(batched, CustomerId)
    assert mapping.is_misread(batched, settings(api="single"))
    assert not mapping.is_misread(batched, settings())


def test_other_ids_and_emails_are_good_in_v1_paths() -> None:
    single = settings(api="single", customer_id="email")

    assert mapping.customer_id(user(), single) == CustomerId("email", "ann@example.com")
    assert mapping.customer_id(user(), settings(api="single")) == CustomerId("id", "42")
    for known_by in (CustomerId("email", "ann@example.com"), CustomerId("id", "42"), CustomerId("cio_id", "d9c1")):
        assert not mapping.is_misread(known_by, single)


@given(values)
def test_any_value_is_an_id_or_a_reason(value: Any) -> None:
    found = mapping.customer_id(user(attributes={"crm": value}), settings(customer_id="crm"))

    if isinstance(found, CustomerId):
        assert 0 < len(found.value.encode()) <= 150
        assert found.value == found.value.strip()
    else:
        assert found == ("no_customer_id" if value is None else "bad_customer_id")


def test_attributes_are_email_created_at_segments_and_the_picked_ones_in_that_order() -> None:
    given_user = user(
        attributes={"plan": "pro", "age": 3, "secret": 1}, created_at=datetime(2021, 2, 11, 17, 4, 49, 999_999, UTC)
    )
    wanted, left = mapping.attributes(given_user, "11", settings(attributes=["age", "plan"]))

    assert list(wanted.items()) == [
        ("email", "ann@example.com"),
        ("created_at", 1613063089),
        (SEGMENTS, ["VIP", "Others"]),
        ("age", 3),
        ("plan", "pro"),
    ]
    assert left == ()


def test_what_a_user_has_not_is_absent() -> None:
    nobody = user(email=None, attributes={"empty": "", "null": None, "text": {"inner": 1}})
    picks = ["empty", "null", "missing", "text.inner.deeper", "text.other"]

    assert mapping.attributes(nobody, NOWHERE, settings(attributes=picks)) == ({SEGMENTS: []}, ())


@pytest.mark.parametrize("value", [0, False, 0.0, [], {}, " ", "0", [None], 10**30])
def test_what_is_there_is_sent_however_little_it_is(value: Any) -> None:
    wanted = sent({"a": value}, "a")

    assert wanted == {"a": value}
    assert type(wanted["a"]) is type(value)


def test_the_opt_out_has_its_place_before_the_picked_ones() -> None:
    wanted, _ = mapping.attributes(user(attributes={"plan": "pro"}), VIP, settings(attributes=["plan"]), opted_out=True)

    assert list(wanted.items())[-2:] == [("unsubscribed", True), ("plan", "pro")]


def test_the_name_of_an_internal_segment_is_not_sent() -> None:
    tables = {"VIP": {"everyone": True}, "Scratch": {"everyone": True, "internal": True}}
    settings = Settings.model_validate({"segments": tables})

    assert mapping.memberships("11", settings) == ["VIP", "Scratch"]
    assert mapping.attributes(user(email=None), "11", settings)[0][SEGMENTS] == ["VIP"]
    assert mapping.attributes(user(email=None), "01", settings)[0][SEGMENTS] == []


def test_no_segments_are_sent_when_their_attribute_has_no_name() -> None:
    assert sent({}, segments_attribute="") == {}


@pytest.mark.parametrize(
    ("pick", "name"),
    [
        ("plan", "plan"),
        ("account.plan.name", "account_plan_name"),
        ("a/b", "a-b"),
        ({"name": "account.plan.name", "as": "tier/level"}, "tier-level"),
    ],
)
def test_a_picked_attribute_is_sent_under_its_name(pick: Any, name: str) -> None:
    data = {"plan": 1, "a/b": 1, "account": {"plan": {"name": 1}}}

    assert sent(data, pick) == {name: 1}


def test_our_own_columns_can_be_picked() -> None:
    picks = ["id", "external_id", {"name": "email", "as": "mail"}]
    wanted, _ = mapping.attributes(user(), VIP, settings(attributes=picks))

    assert wanted == {
        "email": "ann@example.com",
        SEGMENTS: ["VIP"],
        "hull_id": "01HUSER",
        "external_id": "42",
        "mail": "ann@example.com",
    }


@pytest.mark.parametrize(
    "pick",
    [
        pytest.param("seen_at", id="a name that ends in _at"),
        pytest.param("seen_date", id="a name that ends in _date"),
        pytest.param({"name": "seen", "as": "last_seen_at"}, id="sent under a name that ends so"),
        pytest.param({"name": "seen_at", "as": "seen"}, id="ours has a name that ends so"),
        pytest.param({"name": "seen", "date": True}, id="said to be a date"),
    ],
)
def test_a_date_becomes_unix_seconds_where_one_is_expected(pick: Any) -> None:
    def seen(value: Any) -> Any:
        data = {"seen": value, "seen_at": value, "seen_date": value}
        return next(iter(sent(data, pick, timezone="Europe/Paris").values()))

    assert seen("2021-02-11") == 1612998000
    assert seen("2021-02-11 17:04:49") == 1613059489
    assert seen("2021-02-11T17:04:49.9Z") == 1613063089
    for other in (
        "2",
        "12",
        "2021",
        "20210211",
        "tomorrow",
        "1613063089",
        2,
        12,
        1613063089,
        1.5,
        True,
        ["2021-02-11"],
    ):
        assert seen(other) == other


def test_elsewhere_only_a_time_with_an_offset_becomes_unix_seconds() -> None:
    assert sent({"note": "2021-02-11T18:04:49+01:00"}, "note") == {"note": 1613063089}
    for text in ("2021-02-11", "2021-02-11T17:04:49", "2021-02-31T17:04:49Z", "from 2021-02-11T17:04:49Z"):
        assert sent({"note": text}, "note") == {"note": text}


@pytest.mark.parametrize(
    ("fits", "too_long", "size"),
    [
        pytest.param("x" * 1000, "x" * 1001, "1,001", id="ASCII"),
        pytest.param("é" * 500, "é" * 499 + "xyz", "1,001", id="two bytes"),
        pytest.param("😀" * 250, "😀" * 250 + "x", "1,001", id="four bytes"),
        pytest.param('"' * 1000, '"' * 1001, "1,001", id="text before it is escaped"),
        pytest.param(["x" * 996], ["x" * 997], "1,001", id="a list as JSON"),
        pytest.param({"a": "x" * 992}, {"a": "x" * 993}, "1,001", id="an object as JSON"),
        pytest.param(10**999, 10**1000, "1,001", id="a number as JSON"),
    ],
)
def test_a_value_of_1000_bytes_goes_and_one_more_is_left_out(fits: Any, too_long: Any, size: str) -> None:
    assert sent({"a": fits}, "a") == {"a": fits}
    wanted, left = mapping.attributes(user(attributes={"a": too_long, "b": 1}), VIP, settings(attributes=["a", "b"]))
    assert left == (LeftOut("a", "value_too_long", f"the value is {size} bytes, 1,000 are allowed"),)
    assert wanted == {"email": "ann@example.com", SEGMENTS: ["VIP"], "b": 1}


def test_an_email_over_the_limit_is_left_out_like_any_value() -> None:
    wanted, left = mapping.attributes(user(email="x" * 1000 + "@b.co"), VIP, settings())

    assert wanted == {SEGMENTS: ["VIP"]}
    assert [(each.name, each.reason) for each in left] == [("email", "value_too_long")]


@pytest.mark.parametrize("letter", ["x", "é", '"'])
def test_segments_are_measured_as_the_list_that_is_sent(letter: str) -> None:
    def found(longest: int) -> tuple[dict[str, Any], tuple[LeftOut, ...]]:
        names = ["VIP", letter * 10, "x" * longest]
        tables = {name: {"everyone": True} for name in names}
        return mapping.attributes(
            user(email=None), "111", Settings.model_validate({"people": {"segments": ["VIP"]}, "segments": tables})
        )

    room = 1000 - len(msgspec.json.encode(["VIP", letter * 10, ""]))
    wanted, left = found(room)
    assert (len(msgspec.json.encode(wanted[SEGMENTS])), left) == (1000, ())
    wanted, left = found(room + 1)
    assert wanted == {}
    assert left == (LeftOut(SEGMENTS, "segments_too_long", "the segments are 1,001 bytes, 1,000 are allowed"),)


def test_a_person_has_at_most_300_attributes_and_the_first_ones_go() -> None:
    names = [f"a{number}" for number in range(300)]
    given_user = user(attributes=dict.fromkeys(names, 1), created_at=datetime(2021, 1, 1, tzinfo=UTC))

    def found(**more: Any) -> tuple[dict[str, Any], list[tuple[str, str]]]:
        wanted, left = mapping.attributes(given_user, VIP, settings(attributes=names), **more)
        return wanted, [(each.name, each.reason) for each in left]

    wanted, left = found()
    assert len(wanted) == 300
    assert list(wanted) == ["email", "created_at", SEGMENTS, *names[:297]]
    assert left == [("a297", "too_many"), ("a298", "too_many"), ("a299", "too_many")]
    # The opt-out is never the one that doesn't fit.
    wanted, left = found(opted_out=True)
    assert len(wanted) == 300
    assert wanted["unsubscribed"] is True
    assert len(left) == 4


def test_an_opt_out_of_ours_is_nothing_but_true() -> None:
    by = settings(opt_out="consent.none")

    for value in (None, False, 1, "true", "yes", {"a": True}, [True]):
        assert not mapping.says_opt_out(user(attributes={"consent": {"none": value}}), by)
    assert mapping.says_opt_out(user(attributes={"consent": {"none": True}}), by)
    assert not mapping.says_opt_out(user(attributes={"consent": {"none": True}, "": True}), settings())


def test_preferences_go_by_group_as_they_were_chosen_and_refused() -> None:
    known = {
        "topics": {"topic_1": Preference(False, 1), "topic_2": Preference(True, 2)},
        "channels": {"sms": Preference(False, 3)},
        "empty": {},
    }

    assert mapping.preferences(known) == {
        "cio_subscription_preferences": {
            "topics": {"topic_1": False, "topic_2": True},
            "channels": {"sms": False},
        }
    }
    assert mapping.preferences({}) == mapping.preferences({"topics": {}}) == {}


def test_of_preferences_that_are_too_long_the_refusals_go() -> None:
    topics = {f"topic_{number:03}": Preference(number % 10 > 0, 1) for number in range(100)}
    channels = {"email": Preference(True, 1)}

    assert mapping.preferences({"topics": topics, "channels": channels}) == {
        "cio_subscription_preferences": {"topics": {f"topic_{number:03}": False for number in range(0, 100, 10)}}
    }
    assert mapping.preferences({"topics": dict.fromkeys(topics, Preference(True, 1))}) == {}


def test_what_is_too_long_now_stays_as_it_was_sent_in_its_place() -> None:
    picks = ["a", "b", "c"]
    given_user = user(email=None, attributes={"a": 1, "b": "x" * 1001, "c": "x" * 1001})
    wanted, left = mapping.attributes(given_user, VIP, settings(attributes=picks), sent={"b": "short", "a": 0})

    assert list(wanted.items()) == [(SEGMENTS, ["VIP"]), ("a", 1), ("b", "short")]
    assert [(each.name, each.reason) for each in left] == [("b", "value_too_long"), ("c", "value_too_long")]


def test_segments_that_are_too_long_now_stay_as_they_were_sent() -> None:
    tables = {letter * 500: {"everyone": True} for letter in "AB"}
    by = Settings.model_validate({"segments": tables})
    wanted, left = mapping.attributes(user(email=None), "11", by, sent={SEGMENTS: ["Old"]})

    assert wanted == {SEGMENTS: ["Old"]}
    assert [each.reason for each in left] == ["segments_too_long"]


def test_what_the_store_holds_and_nobody_can_read_stays_as_it_was_sent() -> None:
    damaged = Damaged({"a": 1, "account": {"plan": "pro"}}, frozenset({"b", "account.name", "c"}))
    given_user = replace(user(email=None), attributes=damaged)
    by = settings(attributes=["a", "b", "c", "account", "account.plan"])
    wanted, left = mapping.attributes(given_user, VIP, by, sent={"b": "before", "account": {"name": "Acme"}})

    kept = {"b": "before", "account": {"name": "Acme"}}
    assert wanted == {SEGMENTS: ["VIP"], "a": 1, "account_plan": "pro", **kept}
    assert {(each.name, each.reason) for each in left} == {(name, "unreadable") for name in ("b", "c", "account")}


def test_a_customer_id_that_nobody_can_read_is_none() -> None:
    damaged = replace(user(), attributes=Damaged({"other": "x"}, frozenset({"crm"})))

    for sources, expected in ((["crm", "other"], "unreadable"), (["other", "crm"], CustomerId("id", "x"))):
        assert mapping.customer_id(damaged, settings(customer_id=sources)) == expected
    assert mapping.customer_id(damaged, settings(customer_id=["gone", "crm"])) == "unreadable"


def test_one_that_is_left_out_leaves_its_place_to_the_next() -> None:
    names = [f"a{number}" for number in range(300)]
    attributes: dict[str, Any] = dict.fromkeys(names, 1) | {"a0": "x" * 1001, "a1": "", "a2": None}

    assert left_out(attributes, *names) == [("a0", "value_too_long")]


@given(st.dictionaries(st.sampled_from(["a", "b_at", "c", "d"]), values), st.booleans())
def test_whatever_a_user_has_is_sent_within_the_limits_or_left_out_with_a_reason(
    attributes: dict[str, Any], opted_out: bool
) -> None:
    picks = ["a", "b_at", {"name": "c", "date": True}, "d"]
    wanted, left = mapping.attributes(
        user(email=None, attributes=attributes), VIP, settings(attributes=picks), opted_out=opted_out or None
    )

    for value in wanted.values():
        assert value not in (None, "")
        assert len(value.encode() if isinstance(value, str) else msgspec.json.encode(value)) <= 1000
    given_names = {name for name, value in attributes.items() if value is not None and value != ""}
    expected = given_names | {SEGMENTS} | ({"unsubscribed"} if opted_out else set())
    assert set(wanted) | {each.name for each in left} == expected
    assert wanted.get("unsubscribed", True) is True
