"""Segments in SQL against a plain reading of the same conditions, on random users; then single cases by name."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import hypothesis
import msgspec
import pytest
import sqlalchemy as sa
from hypothesis import strategies as st
from sqlalchemy.engine import Connection

from connector.settings import (
    All,
    AnyOf,
    Attribute,
    Condition,
    Event,
    Everyone,
    NoneOf,
    People,
    Property,
    Reference,
    Segment,
    Settings,
    Store,
)
from connector.store import schema, segments, standing, users
from connector.store.database import Database
from tests.store import given, plain_reading
from tests.store.given import NOW

ADA = {"external_id": "1", "email": "ada@example.com"}
SETTINGS = Settings(people=People(timezone="Europe/Paris"))

# Small worlds, so that users and conditions meet.
NAMES = (
    "plan",
    "n",
    "a",
    "a.b",
    "a.b.c",
    "list",
    "list.0",
    "it's",
    "ünï 😀",
    "%s",
    "$",
    "[0]",
    "0",
    "-1",
    "*",
    "#",
    ":n",
)
KEYS = (*(name for name in NAMES if "." not in name), "b", "c", "", 'quo"te', "back\\slash", "line\nbreak")
TEXTS = (
    "",
    "a",
    "A",
    "ab",
    "abc",
    "b",
    "ä",
    "aä😀",
    "%",
    "_",
    "\\",
    "'",
    '"',
    "a b",
    "5",
    "1.0",
    "true",
    "null",
    "[]",
    "\n",
)
TIMES = (
    "2026-03-01T12:00:00Z",
    "2026-03-01T12:00:00.000001Z",
    "2026-02-28T12:00Z",
    "2026-02-28 12:00:00.5",
    "2026-03-01",
    "2026-03-02",
    "2026-03-01T13:00",
    "2026-03-01T13:00:01+01:00",
    "2025-03-29T02:30",
    "2024-02-31",
    "0001-01-01",
    "9999-12-31T23:59:59",
    "now",
)
WHOLE = (0, 1, -1, 5, 2**53 + 1, 2**63 - 1, -(2**63), 1772366400, 1772366401, 1772366400000, 1772280000)
FRACTIONS = (0.0, -0.0, 1.0, 0.1, 5.5, -1.5, 1e-300, 1e15, float(2**53), 1772366400.5)
BEYOND = (10**30, -(10**30), 1e30, 1e300)  # no condition compares with these exactly
DURATIONS = (
    timedelta(milliseconds=1),
    timedelta(seconds=1),
    timedelta(hours=1),
    timedelta(days=1),
    timedelta(days=1, microseconds=-1),
    timedelta(days=400),
    timedelta(days=3650),
)
MOMENTS = tuple(
    NOW + sign * each for sign in (-1, 1) for each in (*DURATIONS[1:4], timedelta(), timedelta(microseconds=1))
)

texts = st.sampled_from([*TEXTS, *TIMES]) | st.text(st.sampled_from("aAäb%_\\'\" 😀"), max_size=4)
numbers = st.sampled_from([*WHOLE, *FRACTIONS]) | st.integers(-3, 8)
scalars = texts | numbers | st.booleans()
leaves = scalars | st.none() | st.sampled_from(BEYOND)
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=3),
    max_leaves=5,
)
documents = st.dictionaries(st.sampled_from(KEYS), values, max_size=6)
moments = st.sampled_from(MOMENTS)
event_names = st.sampled_from(["Order Completed", "order completed", "page", "it's", "a" * 200])
events = st.fixed_dictionaries({"name": event_names, "occurred_at": moments, "properties": documents})
facts = st.dictionaries(
    st.sampled_from(["opened_at", "clicked_at", "delivered_at"]), moments.map(lambda at: int(at.timestamp()))
)
people = st.fixed_dictionaries(
    {
        "attributes": documents,
        "external_id": st.none() | texts,
        "email": st.none() | st.sampled_from(["a@b.co", "A@b.co", "ä@b.co"]),
        "opted_out": st.booleans(),
        "created_at": st.none() | moments,
        "customerio": facts,
        "synced_at": st.none() | moments,
        "events": st.lists(events, max_size=4),
    }
)
names = st.sampled_from(
    [
        *(*NAMES, *NAMES, "id", "external_id", "email", "opted_out", "created_at"),
        *("customerio.opened_at", "customerio.bounced_at", "customerio.synced_at"),
    ]
)


def comparisons(kind: type[Any], named: st.SearchStrategy[str]) -> st.SearchStrategy[Any]:
    """One attribute or property with one operator, and a value that the settings let through."""
    listed = st.lists(scalars, min_size=1, max_size=4).map(tuple)
    some_text = texts.filter(bool)
    return st.one_of(
        st.builds(kind, named, st.sampled_from(["is", "is_not", "contains"]), scalars),
        st.builds(kind, named, st.sampled_from(["in", "not_in"]), listed),
        st.builds(kind, named, st.sampled_from(["starts_with", "ends_with"]), some_text),
        st.builds(kind, named, st.just("exists"), st.booleans()),
        st.builds(kind, named, st.sampled_from(["gt", "gte", "lt", "lte"]), numbers),
        st.builds(kind, named, st.sampled_from(["within", "not_within", "within_next"]), st.sampled_from(DURATIONS)),
    )


def counted() -> st.SearchStrategy[Condition]:
    """Events, at least or at most so many."""
    windows = st.none() | st.sampled_from(DURATIONS)
    where = st.lists(comparisons(Property, st.sampled_from(NAMES)), max_size=2).map(tuple)
    return st.one_of(
        st.builds(Event, event_names, st.integers(1, 3), st.none(), windows, where),
        st.builds(Event, event_names, st.none(), st.integers(0, 2), windows, where),
    )


def grouped(inner: st.SearchStrategy[Condition]) -> st.SearchStrategy[Condition]:
    several = st.lists(inner, min_size=1, max_size=3).map(tuple)
    return st.one_of(st.builds(All, several), st.builds(AnyOf, several), st.builds(NoneOf, several))


single = comparisons(Attribute, names) | counted()
nested = st.recursive(single | st.just(Everyone()), grouped, max_leaves=6)
referring = st.recursive(single | st.just(Reference("other")), grouped, max_leaves=6)


def in_sql(
    db: Database, found: Sequence[dict[str, Any]], *wanted: Condition, settings: Settings = SETTINGS
) -> list[set[str]]:
    """Who of these users each condition holds for, by the store."""

    def look(connection: Connection) -> list[set[str]]:
        savepoint = connection.begin_nested()
        columns = {column.name for column in schema.users.c}
        users.add(connection, [{name: user[name] for name in user if name in columns} for user in found], [])
        _add_what_happened(connection, found)
        held = []
        for condition in wanted:
            predicate = segments.predicate(condition, settings, db.dialect, NOW)
            held.append(set(connection.execute(sa.select(schema.users.c.id).where(predicate)).scalars()))
        savepoint.rollback()
        return held

    return db.write(look)


def _add_what_happened(connection: Connection, found: Sequence[dict[str, Any]]) -> None:
    for user in found:
        for number, event in enumerate(user.get("events", ())):
            row = {"context": {}, "received_at": NOW, "activity_id": "", "outbound": "none", "type": "track", **event}
            source = {"source": "sql", "source_id": f"{user['id']}-{number}", "user_id": user["id"]}
            connection.execute(sa.insert(schema.events).values(**source, **row))
        if user.get("synced_at") is not None:
            person = given.person(user["id"], synced_at=user["synced_at"])
            row = msgspec.structs.asdict(person)
            connection.execute(sa.insert(schema.mirror).values(**row))


@hypothesis.given(st.lists(people, min_size=1, max_size=8), referring, nested, single, st.booleans())
@hypothesis.settings(
    max_examples=80,
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture, hypothesis.HealthCheck.too_slow],
)
def test_the_predicate_holds_for_exactly_those_for_whom_a_plain_reading_does(
    db: Database, everyone: list[dict[str, Any]], several: Condition, other: Condition, one: Condition, indexed: bool
) -> None:
    store = Store(indexed_attributes=NAMES if indexed else ())
    settings = Settings(segments={"other": Segment(other)}, people=SETTINGS.people, store=store)
    found = [given.user(f"U{number}", **each) for number, each in enumerate(everyone)]
    wanted = (several, NoneOf((several,)), one, NoneOf((one,)), Reference("other"))
    expected = [{user["id"] for user in found if plain_reading.holds(each, user, settings, NOW)} for each in wanted]
    assert in_sql(db, found, *wanted, settings=settings) == expected
    everybody = {user["id"] for user in found}
    assert expected[0] ^ expected[1] == expected[2] ^ expected[3] == everybody


def test_a_dotted_path_goes_through_objects_and_never_into_lists(db: Database) -> None:
    found = [
        given.user("object", attributes={"list": {"0": "x"}}),
        given.user("list", attributes={"list": ["x"]}),
    ]
    assert in_sql(db, found, Attribute("list.0", "is", "x"), Attribute("list.-1", "exists", True)) == [
        {"object"},
        set(),
    ]


@pytest.mark.parametrize("operator", ["gt", "gte", "is"])
def test_whole_numbers_beyond_what_a_float_holds_are_compared_to_the_last_digit(db: Database, operator: Any) -> None:
    big = 2**53
    found = [given.user(str(number), attributes={"n": number}) for number in (big, big + 1, 2**63 - 1)]
    [held] = in_sql(db, found, Attribute("n", operator, float(big)))
    assert held == {
        str(user["attributes"]["n"]) for user in found if plain_reading.compare(user["attributes"]["n"], operator, big)
    }
    [held] = in_sql(db, found, Attribute("n", operator, big + 1))
    assert held == {
        str(user["attributes"]["n"])
        for user in found
        if plain_reading.compare(user["attributes"]["n"], operator, big + 1)
    }


@pytest.mark.parametrize("name", ["plan", "external_id", "list"])
def test_a_list_of_many_thousand_values_can_be_compared_with(db: Database, name: str) -> None:
    found = [
        given.user("in", external_id="v9", attributes={"plan": "v9", "list": 9.0}),
        given.user("out", external_id="v", attributes={"plan": "v", "list": True}),
        given.user("none"),
    ]
    many = (*(f"v{number}" for number in range(20_000)), 9, False, "quo'te")
    assert in_sql(db, found, Attribute(name, "in", many), Attribute(name, "not_in", many)) == [{"in"}, {"out", "none"}]


def test_as_many_conditions_and_segments_as_the_settings_let_through_are_one_query(db: Database) -> None:
    where = tuple(Property(f"p{number}", "within", timedelta(days=1)) for number in range(499))
    largest: list[Condition] = [
        NoneOf(tuple(Attribute("plan", "in", (f"p{number}", number, True)) for number in range(500))),
        All(tuple(Attribute("n", "gt", -number) for number in range(500))),
        All((Event("e", 2, None, timedelta(days=1), where),)),
    ]
    smaller = [
        *(Reference(f"s{number}") for number in (1, 2)),
        *(Attribute("plan", "ends_with", f"p{n}") for n in range(495)),
    ]
    named = {f"s{number}": condition for number, condition in enumerate([*largest, *smaller])}
    settings = Settings(segments=named, people=People(segments=tuple(named)))
    bits = "010" + "10" + "0" * 494 + "1"
    here = {"plan": "p494", "n": 2}
    given.have(db, given.user("new", attributes=here, **ADA))
    given.have(db, *(given.user(user_id, attributes=here) for user_id in ("as it was", "not")))
    for user_id, was in (("as it was", bits), ("not", "110" + bits[3:])):
        given.sent(db, given.person(user_id, segment_bits=was, mapping_hash=settings.mapping_hash()))
    found = db.read(lambda connection: list(standing.differing(connection, settings, NOW)))
    assert {(each.user_id, each.is_person, each.changed) for each in found} == {
        ("new", False, False),
        ("not", True, True),
    }


def test_conditions_nested_as_deep_as_the_settings_let_them_are_one_query(db: Database) -> None:
    condition: Condition = Attribute("n", "within_next", timedelta(days=1))
    for _ in range(20):
        condition = NoneOf((Event("e"), condition))
    found = [given.user("U1", attributes={"n": "2026-03-02"}), given.user("U2")]
    assert in_sql(db, found, condition) == [{"U1"}]


def test_segment_bits_stand_in_the_order_of_the_settings(db: Database) -> None:
    named = {"b": Attribute("n", "is", 1), "a": Everyone(), "c": NoneOf((Everyone(),))}
    settings = Settings(segments=named, people=People(segments=("b",)))
    given.have(db, given.user("U1", attributes={"n": 1}), given.user("U2"))
    bits = {each.user.id: each.segment_bits for each in db.read(users.subjects, ["U1", "U2"], settings, NOW)}
    assert bits == {"U1": "110", "U2": "010"}
    assert db.read(segments.sizes, settings, NOW) == {"b": 1, "a": 2, "c": 0}


def test_without_segments_nobody_is_whitelisted_and_there_are_no_bits(db: Database) -> None:
    given.have(db, given.user("U1"))
    [subject] = db.read(users.subjects, ["U1"], Settings(), NOW)
    assert subject.segment_bits == ""
    query = sa.select(schema.users.c.id).where(segments.whitelisted(Settings(), db.dialect, NOW))
    assert db.read(lambda connection: connection.execute(query).all()) == []


def test_a_time_can_be_asked_for_its_existence_and_for_when(db: Database) -> None:
    found = [given.user("told", created_at=NOW - timedelta(days=2)), given.user("untold")]
    asked = [
        Attribute("created_at", "exists", True),
        Attribute("created_at", "gt", 0),
        Attribute("created_at", "contains", "2026"),
        Attribute("created_at", "is_not", "2026-01-01"),
        Attribute("created_at", "within", timedelta(days=3)),
        Attribute("created_at", "not_within", timedelta(days=3)),
        Attribute("created_at", "within", timedelta(days=2)),
    ]
    assert in_sql(db, found, *asked) == [{"told"}, set(), set(), {"told", "untold"}, {"told"}, {"untold"}, set()]


def test_a_time_that_carries_no_offset_is_one_of_the_settings_zone(db: Database) -> None:
    found = [given.user("U1", attributes={"at": "2026-03-01T12:30"})]
    in_half_an_hour = Attribute("at", "within_next", timedelta(hours=1))
    for zone, expected in (("UTC", {"U1"}), ("Europe/Paris", set()), ("Atlantic/Azores", set())):
        settings = Settings(people=People(timezone=zone))
        assert in_sql(db, found, in_half_an_hour, settings=settings) == [expected], zone


def test_events_are_counted_from_every_source_and_of_every_type_by_their_exact_name(db: Database) -> None:
    happened = [
        {
            "name": "Order",
            "occurred_at": NOW - timedelta(days=1),
            "properties": {"total": 30, "shop": {"city": "Bern"}},
        },
        {"name": "Order", "occurred_at": NOW - timedelta(days=40), "properties": {"total": "30"}, "type": "page"},
        {"name": "order", "occurred_at": NOW, "properties": {"total": 99}},
        {"name": "Order", "occurred_at": NOW + timedelta(days=1), "properties": {}},
    ]
    found = [given.user("buyer", events=happened), given.user("nobody")]
    month = timedelta(days=30)
    asked = {
        Event("Order", 3): {"buyer"},
        Event("Order", 4): set(),
        Event("Order", None, 2): {"nobody"},
        Event("Order", None, 0): {"nobody"},
        Event("Order", 1, None, month): {"buyer"},
        Event("Order", 2, None, month): set(),
        Event("Order", 1, None, None, (Property("total", "gt", 20), Property("shop.city", "is", "Bern"))): {"buyer"},
        Event("Order", 2, None, None, (Property("total", "gt", 20),)): set(),
        Event("Order", 3, None, None, (Property("total", "is_not", "30"),)): set(),
        Event("Order", 2, None, None, (Property("total", "is_not", "30"),)): {"buyer"},
    }
    assert in_sql(db, found, *asked) == list(asked.values())


def test_who_was_merged_into_another_is_in_no_listing_and_no_pass(db: Database) -> None:
    settings = Settings(segments={"all": Everyone()}, people=People(segments=("all",)))
    given.have(db, given.user("left", **ADA), given.user("gone"))
    given.sent(db, given.person("gone", version=0))
    gone = sa.update(schema.users).where(schema.users.c.id == "gone")
    db.write(lambda connection: connection.execute(gone.values(merged_into="left")))
    assert db.read(segments.sizes, settings, NOW) == {"all": 1}
    assert db.read(segments.members, "all", settings, NOW) == [("left", "1", "ada@example.com")]
    assert db.read(lambda connection: list(standing.differing(connection, settings, NOW))) == [
        standing.Differing("left", is_person=False, outside=False, left_at=None, changed=False)
    ]


def test_members_come_in_pages(db: Database) -> None:
    settings = Settings(segments={"n": Attribute("n", "gte", 2)})
    given.have(db, *(given.user(f"U{number}", attributes={"n": number}) for number in range(6)))
    first = db.read(segments.members, "n", settings, NOW, "", 3)
    assert [each[0] for each in first] == ["U2", "U3", "U4"]
    assert [each[0] for each in db.read(segments.members, "n", settings, NOW, "U4", 3)] == ["U5"]


def test_each_condition_can_be_asked_for_one_user(db: Database) -> None:
    given.have(db, given.user("U1", attributes={"n": 1}), given.user("U2"))
    wanted = [Attribute("n", "is", 1), Attribute("n", "is", 2), *[Everyone()] * 2000, Event("e", None, 0)]
    held = db.read(segments.holding, "U1", wanted, SETTINGS, NOW)
    assert held == [True, False, *[True] * 2001]
