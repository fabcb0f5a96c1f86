"""The settings record: what it takes, how a segment's table is read, and what the hashes tell apart."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from connector.settings import (
    All,
    AnyOf,
    Attribute,
    Event,
    Everyone,
    NoneOf,
    Pick,
    Property,
    Reference,
    Segment,
    Settings,
    condition_tables,
    conditions,
)


def read(raw: dict[str, Any]) -> Settings:
    return Settings.model_validate(raw)


def segment(table: object) -> object:
    return read({"segments": {"s": table}}).segments["s"].condition


def test_with_nothing_said_nobody_is_sent_and_every_secret_is_off() -> None:
    settings = Settings()

    assert settings.people.segments == ()
    assert settings.customerio.region is None
    assert settings.webhooks.signing_keys == ()
    assert settings.guard.max_creates == 1000
    assert settings.people.delete.enabled is False


@pytest.mark.parametrize("key", [{"signing_keys": ["k"]}, {"url_key": "k"}])
def test_people_can_be_deleted_once_opt_outs_are_learnt_by_either_kind_of_webhook(key: dict[str, Any]) -> None:
    assert read({"people": {"delete": {"enabled": True}}, "webhooks": key}).people.delete.enabled


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Settings().sync.every = timedelta(0)  # type: ignore[misc]


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("500ms", timedelta(milliseconds=500)),
        ("1s", timedelta(seconds=1)),
        ("5m", timedelta(minutes=5)),
        ("24h", timedelta(hours=24)),
        ("7d", timedelta(days=7)),
    ],
)
def test_a_duration_is_a_whole_number_and_a_unit(written: str, meant: timedelta) -> None:
    assert read({"sync": {"every": written}}).sync.every == meant


@pytest.mark.parametrize(
    "written", ["5", "5 m", "5min", "", "0s", "-1s", "1.5h", "٣s", "999999999999d", "3651d", 5, True, ["1s"]]
)
def test_other_durations_are_refused(written: object) -> None:
    with pytest.raises(ValidationError, match="must be"):
        read({"sync": {"every": written}})


@pytest.mark.parametrize(("written", "meant"), [("unlimited", None), (0, 0), (7, 7)])
def test_a_limit_is_a_number_or_unlimited(written: object, meant: int | None) -> None:
    assert read({"guard": {"max_creates": written}}).guard.max_creates == meant


@pytest.mark.parametrize("written", ["none", -1, 1.5, True])
def test_other_limits_are_refused(written: object) -> None:
    with pytest.raises(ValidationError):
        read({"guard": {"max_creates": written}})


@pytest.mark.parametrize(("written", "meant"), [("forever", None), ("30d", timedelta(days=30))])
def test_events_are_kept_forever_or_for_a_while(written: str, meant: timedelta | None) -> None:
    assert read({"store": {"events": written}}).store.events == meant


def test_segments_may_look_back_as_far_as_events_are_kept() -> None:
    buyers = {"event": "Bought", "within": "90d"}
    loyal = {"all": [{"segment": "Buyers"}, {"attribute": "seen_at", "within": "400d"}]}
    read({"store": {"events": "90d"}, "segments": {"Buyers": buyers, "Loyal": loyal}})
    read({"store": {"events": "forever"}, "segments": {"Buyers": {"event": "Bought"}}})


def test_one_customer_id_may_be_written_without_a_list() -> None:
    assert read({"people": {"customer_id": "email"}}).people.customer_id == ("email",)
    assert read({"people": {"customer_id": ["id", "email"]}}).people.customer_id == ("id", "email")


@pytest.mark.parametrize(
    ("pick", "sent_as"),
    [
        ("plan", "plan"),
        ("account.name", "account_name"),
        ("a/b", "a-b"),
        ("id", "hull_id"),
        ({"name": "account.name", "as": "company"}, "company"),
        ({"name": "id", "as": "own_id"}, "own_id"),
        ({"name": "trialEnds", "date": True}, "trialEnds"),
    ],
)
def test_an_attribute_is_sent_under_its_own_name_or_the_one_asked_for(pick: object, sent_as: str) -> None:
    assert Pick.model_validate(pick).sent_as == sent_as


def test_an_empty_signing_key_is_no_key() -> None:
    settings = read({"webhooks": {"signing_keys": ["", "k1"]}})

    assert [key.get_secret_value() for key in settings.webhooks.signing_keys] == ["k1"]


def test_the_slash_at_the_end_of_a_url_goes() -> None:
    assert read({"server": {"public_url": "https://a.example/x/"}}).server.public_url == "https://a.example/x"


@pytest.mark.parametrize("url", ["postgres://u:p@h/d", "postgresql:///d", "postgresql://[::1]:5432/d?sslmode=require"])
def test_a_postgresql_url_stays_as_it_is(url: str) -> None:
    assert read({"store": {"url": url}}).store.url.get_secret_value() == url


@pytest.mark.parametrize(
    "url",
    [
        "",
        "connector.db",
        "sqlite://",
        "sqlite:///",
        "sqlite:///:memory:",
        "sqlite:///folder/",
        "sqlite:///a.db?mode=ro",
        "sqlite+pysqlite:///a.db",
        "postgresql+psycopg://u:canary@h/d",
        "postgresql://u:canary@h:port/d",
        "mysql://u:canary@h/d",
        "postgresql://u:12/canary@h/d",
        "postgresql://u:12?canary@h/d",
        "postgresql://u:12#canary@h/d",
        "postgresql://u:can@ary@h/d",
        "postgresql://h:5432/d?password=can@ary",
        "postgresql://u/canary:x@h/d",
    ],
)
def test_another_store_is_refused_without_quoting_its_url(url: str) -> None:
    with pytest.raises(ValidationError) as refused:
        read({"store": {"url": url}})

    assert "canary" not in str(refused.value)


def test_a_settings_record_shows_no_secret() -> None:
    settings = read(
        {
            "admin": {"token": "canary"},
            "store": {"url": "postgresql://u:canary@h/d"},
            "customerio": {"site_id": "s", "region": "eu", "api_key": "canary"},
            "webhooks": {"signing_keys": ["canary"]},
        }
    )

    assert "canary" not in f"{settings!r} {settings} {settings.model_dump_json(exclude={'segments'})}"


def test_conditions_nest() -> None:
    table = {
        "all": [
            {"attribute": "plan", "in": ["pro", 2, True]},
            {"any": [{"attribute": "account.seats", "gte": 5}, {"attribute": "vip", "is": True}]},
            {"none": [{"attribute": "email", "ends_with": "@example.com"}, {"everyone": True}]},
        ]
    }

    assert segment(table) == All(
        (
            Attribute("plan", "in", ("pro", 2, True)),
            AnyOf((Attribute("account.seats", "gte", 5), Attribute("vip", "is", True))),
            NoneOf((Attribute("email", "ends_with", "@example.com"), Everyone())),
        )
    )


@pytest.mark.parametrize(
    "table",
    [
        {"everyone": True},
        {"attribute": "a", "exists": False},
        {"attribute": "a", "not_in": [1, "x"]},
        {"any": [{"all": [{"attribute": "a.b", "lt": 1.5}]}, {"none": [{"everyone": True}]}]},
        {"attribute": "a", "within_next": "90m"},
        {"event": "Bought", "at_least": 2, "within": "30d", "where": [{"property": "a.b", "not_within": "500ms"}]},
        {"event": "Bought", "at_most": 0},
        {"all": [{"segment": "other"}], "internal": True},
    ],
)
def test_a_condition_written_plainly_reads_back_the_same(table: dict[str, object]) -> None:
    segment = condition_tables.read(table)

    assert conditions.plain(segment) == table
    assert condition_tables.read(segment) is segment
    assert condition_tables.read(segment.condition) == Segment(segment.condition)


def test_an_event_condition_counts_events_of_a_time_with_properties() -> None:
    where = [{"property": "total", "gt": 20}, {"property": "items", "contains": "shoe"}]
    table = {"event": "Order Completed", "at_least": 3, "within": "30d", "where": where}

    filters = (Property("total", "gt", 20), Property("items", "contains", "shoe"))
    assert segment(table) == Event("Order Completed", 3, None, timedelta(days=30), filters)
    assert segment({"event": "page"}) == Event("page", 1)
    assert segment({"event": "page", "at_most": 0}) == Event("page", None, 0)


def test_a_segment_may_refer_to_another_whichever_comes_first() -> None:
    settings = read({"segments": {"a": {"none": [{"segment": "b"}]}, "b": {"everyone": True, "internal": True}}})

    assert settings.segments["a"] == Segment(NoneOf((Reference("b"),)))
    assert settings.segments["b"] == Segment(Everyone(), internal=True)


def test_a_chain_of_segments_may_be_as_long_as_there_are_segments() -> None:
    chain: dict[str, Any] = {f"s{number}": {"segment": f"s{number + 1}"} for number in range(499)}

    assert len(read({"segments": {**chain, "s499": {"everyone": True}}}).segments) == 500
    with pytest.raises(ValidationError, match="leads back to itself"):
        read({"segments": {**chain, "s499": {"segment": "s0"}}})


def test_segments_that_grow_with_each_reference_are_refused_before_they_are_written_out() -> None:
    twice = {f"s{number}": {"any": [{"segment": f"s{number + 1}"}] * 2} for number in range(60)}

    with pytest.raises(ValidationError, match=r"comes to .* conditions with all that it refers to, 500 are the most"):
        read({"segments": {**twice, "s60": {"everyone": True}}})


def test_segments_that_are_nested_too_deep_by_their_references_are_refused() -> None:
    chain: dict[str, Any] = {f"s{number}": {"none": [{"segment": f"s{number + 1}"}]} for number in range(21)}

    with pytest.raises(ValidationError, match="is nested 21 deep with all that it refers to, 20 is the most"):
        read({"segments": {**chain, "s21": {"everyone": True}}})


def test_more_conditions_than_a_database_takes_in_one_query_are_refused() -> None:
    large = {"any": [{"attribute": "a", "is": number} for number in range(500)]}

    assert len(read({"segments": {f"s{number}": large for number in range(6)}}).segments) == 6
    with pytest.raises(ValidationError, match="come to 3,500 conditions in all, 3,000 are the most"):
        read({"segments": {f"s{number}": large for number in range(7)}})


@pytest.mark.parametrize(
    ("operator", "value"),
    [
        ("is", []), ("is", {}), ("is", float("nan")), ("is", 2**63), ("is", "\0"),
        ("in", "pro"), ("in", []), ("in", [["x"]]), ("not_in", [float("inf")]),
        ("contains", ["x"]),
        ("starts_with", 1), ("ends_with", True), ("starts_with", ""),
        ("exists", "true"), ("exists", 1),
        ("gt", "1"), ("gte", True), ("lt", [1]), ("lte", float("nan")),
        ("within", 30), ("not_within", "30"), ("within_next", "0d"),
    ],
)  # fmt: skip
def test_an_operator_refuses_what_it_cannot_compare(operator: str, value: object) -> None:
    with pytest.raises(ValidationError, match=operator):
        segment({"attribute": "a", operator: value})


@pytest.mark.parametrize("name", ["", ".", "a.", ".a", "a..b", 'a"b', "a\\b", "a\nb", "a\0"])
def test_an_attribute_needs_a_whole_name(name: str) -> None:
    with pytest.raises(ValidationError):
        segment({"attribute": name, "exists": True})
    with pytest.raises(ValidationError):
        read({"people": {"attributes": [name]}})
    with pytest.raises(ValidationError):
        read({"people": {"customer_id": name}})


def test_conditions_nested_without_end_are_refused() -> None:
    table: dict[str, object] = {"everyone": True}
    for _ in range(3000):
        table = {"all": [table]}

    with pytest.raises(ValidationError, match="nested more than"):
        segment(table)


BASE: dict[str, Any] = {
    "customerio": {"site_id": "s", "api_key": "k", "region": "eu"},
    "people": {"segments": ["a"], "attributes": ["plan"]},
    "segments": {"a": {"everyone": True}, "b": {"attribute": "x", "is": 1}},
}


def changed(table: str, **keys: object) -> Settings:
    return read({**BASE, table: {**BASE.get(table, {}), **keys}})


def test_a_hash_is_twelve_hex_digits_and_the_same_for_equal_settings() -> None:
    assert read(BASE).sent_hash() == read(BASE).sent_hash()
    assert read(BASE).mapping_hash() == read(BASE).mapping_hash()
    for digest in (read(BASE).sent_hash(), read(BASE).mapping_hash()):
        assert len(digest) == 12
        assert int(digest, 16) >= 0


@pytest.mark.parametrize(
    "edited",
    [
        changed("people", attributes=["plan", "seats"]),
        changed("people", attributes=[{"name": "plan", "date": True}]),
        changed("people", segments=["b"]),
        changed("people", timezone="Europe/Paris"),
        changed("people", opt_out="no_mail"),
        changed("events", anonymous=True),
        changed("segments", b={"attribute": "x", "is": True}),
        read({**BASE, "segments": dict(reversed(BASE["segments"].items()))}),
    ],
)
def test_who_and_what_is_sent_are_in_both_hashes(edited: Settings) -> None:
    assert edited.sent_hash() != read(BASE).sent_hash()
    assert edited.mapping_hash() != read(BASE).mapping_hash()


@pytest.mark.parametrize(
    "edited",
    [
        changed("customerio", region="us"),
        changed("customerio", site_id="other"),
        changed("customerio", track_url="http://localhost:1"),
        changed("guard", max_creates=1),
        changed("guard", max_delete_share=0.5),
        changed("guard", max_deletes=5),
        changed("people", delete={"blind": True}),
        changed("people", delete={"enabled": True, "blind": True}),
        changed("people", delete={"grace": "1h"}),
        changed("guard", max_events_per_user=5),
        changed("events", names=["Order *"]),
        changed("events", pages=["/pricing*"]),
        changed("events", max_age="1d"),
        changed("events", wait="1d"),
        changed("events", pass_reserved=True),
    ],
)
def test_where_it_is_sent_the_events_and_the_guard_are_in_the_hash_of_what_is_sent_only(edited: Settings) -> None:
    assert edited.sent_hash() != read(BASE).sent_hash()
    assert edited.mapping_hash() == read(BASE).mapping_hash()


@pytest.mark.parametrize(
    "edited",
    [
        changed("customerio", api_key="other"),
        changed("customerio", rate_per_second=1, in_flight=1, api="single"),
        changed("webhooks", signing_keys=["k"]),
        changed("admin", token="t", port=1),
        changed("server", port=2),
        changed("store", url="sqlite:///other.db"),
        changed("sync", every="1h"),
        changed("log", level="debug"),
    ],
)
def test_secrets_ports_and_pace_are_in_no_hash(edited: Settings) -> None:
    assert edited.sent_hash() == read(BASE).sent_hash()
    assert edited.mapping_hash() == read(BASE).mapping_hash()
