"""Segments in SQL against a plain reading of the same conditions, on random users; then single cases by name."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import hypothesis
import pytest
import sqlalchemy as sa
from hypothesis import strategies as st
from sqlalchemy.engine import Connection

from connector.settings import All, AnyOf, Attribute, Condition, Everyone, NoneOf, People, Settings
from connector.store import schema, segments, users
from connector.store.database import Database
from tests.store import given

MISSING = object()

# Small worlds, so that users and conditions meet.
NAMES = ("plan", "n", "a", "a.b", "a.b.c", "list", "list.0", "it's", "ünï 😀", "%s", "$", "[0]", "0", "-1", "*", "#")
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
WHOLE = (0, 1, -1, 5, 2**53 + 1, 2**63 - 1, -(2**63))
FRACTIONS = (0.0, -0.0, 1.0, 0.1, 5.5, -1.5, 1e-300, 1e15, float(2**53))
BEYOND = (10**30, -(10**30), 1e30, 1e300)  # no condition compares with these exactly

texts = st.sampled_from(TEXTS) | st.text(st.sampled_from("aAäb%_\\'\" 😀"), max_size=4)
numbers = st.sampled_from([*WHOLE, *FRACTIONS]) | st.integers(-3, 8)
scalars = texts | numbers | st.booleans()
leaves = scalars | st.none() | st.sampled_from(BEYOND)
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=3),
    max_leaves=5,
)
attributes = st.dictionaries(st.sampled_from(KEYS), values, max_size=6)
people = st.fixed_dictionaries(
    {
        "attributes": attributes,
        "external_id": st.none() | texts,
        "email": st.none() | st.sampled_from(["a@b.co", "A@b.co", "ä@b.co"]),
        "opted_out": st.booleans(),
        "created_at": st.none() | st.just(given.NOW),
    }
)
names = st.sampled_from([*NAMES, *NAMES, "id", "external_id", "email", "opted_out", "created_at"])


def compared() -> st.SearchStrategy[Condition]:
    """One attribute with one operator, and a value that the settings let through."""
    listed = st.lists(scalars, min_size=1, max_size=4).map(tuple)
    some_text = texts.filter(bool)
    return st.one_of(
        st.builds(Attribute, names, st.sampled_from(["is", "is_not", "contains"]), scalars),
        st.builds(Attribute, names, st.sampled_from(["in", "not_in"]), listed),
        st.builds(Attribute, names, st.sampled_from(["starts_with", "ends_with"]), some_text),
        st.builds(Attribute, names, st.just("exists"), st.booleans()),
        st.builds(Attribute, names, st.sampled_from(["gt", "gte", "lt", "lte"]), numbers),
    )


def grouped(inner: st.SearchStrategy[Condition]) -> st.SearchStrategy[Condition]:
    several = st.lists(inner, min_size=1, max_size=3).map(tuple)
    return st.one_of(st.builds(All, several), st.builds(AnyOf, several), st.builds(NoneOf, several))


conditions = st.recursive(compared() | st.just(Everyone()), grouped, max_leaves=6)


def holds(condition: Condition, user: dict[str, Any]) -> bool:
    """The plain reading."""
    match condition:
        case Everyone():
            return True
        case All(inner):
            return all(holds(each, user) for each in inner)
        case AnyOf(inner):
            return any(holds(each, user) for each in inner)
        case NoneOf(inner):
            return not any(holds(each, user) for each in inner)
        case Attribute(name, operator, value):
            return compare(looked_up(user, name), operator, value)


def looked_up(user: dict[str, Any], name: str) -> Any:
    if name in ("id", "external_id", "email", "opted_out", "created_at"):
        return user[name]
    found: Any = user["attributes"]
    for part in name.split("."):
        found = found.get(part, MISSING) if isinstance(found, dict) else MISSING
    return found


def compare(found: Any, operator: str, value: Any) -> bool:
    match operator:
        case "is":
            return same(found, value)
        case "is_not":
            return not same(found, value)
        case "in":
            return any(same(found, each) for each in value)
        case "not_in":
            return not any(same(found, each) for each in value)
        case "exists":
            return (found is not MISSING and found is not None) == value
        case "contains":
            if isinstance(found, str) and isinstance(value, str):
                return value in found
            return isinstance(found, list) and any(same(each, value) for each in found)
        case "starts_with":
            return isinstance(found, str) and found.startswith(value)
        case "ends_with":
            return isinstance(found, str) and found.endswith(value)
    if not is_number(found):
        return False
    one, other = exact(found), exact(value)
    return {"gt": one > other, "gte": one >= other, "lt": one < other, "lte": one <= other}[operator]


def same(found: Any, value: Any) -> bool:
    if is_number(found) and is_number(value):
        return exact(found) == exact(value)
    return type(found) is type(value) and found == value


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def exact(value: float) -> Decimal:
    """A number as it is written."""
    return Decimal(repr(value))


def in_sql(db: Database, found: list[dict[str, Any]], *wanted: Condition) -> list[set[str]]:
    """Who of these users each condition holds for, by the store."""

    def look(connection: Connection) -> list[set[str]]:
        nested = connection.begin_nested()
        users.add(connection, found, [])
        held = []
        for condition in wanted:
            predicate = segments.predicate(condition, db.dialect)
            held.append(set(connection.execute(sa.select(schema.users.c.id).where(predicate)).scalars()))
        nested.rollback()
        return held

    return db.write(look)


@hypothesis.given(st.lists(people, min_size=1, max_size=8), conditions, compared())
@hypothesis.settings(
    max_examples=120,
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture, hypothesis.HealthCheck.too_slow],
)
def test_the_predicate_holds_for_exactly_those_for_whom_a_plain_reading_does(
    db: Database, everyone: list[dict[str, Any]], condition: Condition, single: Condition
) -> None:
    found = [given.user(f"U{number}", **each) for number, each in enumerate(everyone)]
    wanted = (condition, NoneOf((condition,)), single, NoneOf((single,)))
    expected = [{user["id"] for user in found if holds(each, user)} for each in wanted]
    assert in_sql(db, found, *wanted) == expected
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
    assert held == {str(user["attributes"]["n"]) for user in found if compare(user["attributes"]["n"], operator, big)}
    [held] = in_sql(db, found, Attribute("n", operator, big + 1))
    assert held == {
        str(user["attributes"]["n"]) for user in found if compare(user["attributes"]["n"], operator, big + 1)
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


def test_many_conditions_and_many_segments_are_one_query(db: Database) -> None:
    several = AnyOf(tuple(Attribute("plan", "is", f"p{number}") for number in range(300)))
    named = {f"s{number}": several if number == 0 else Attribute("n", "gte", number) for number in range(150)}
    settings = Settings(segments=named)
    given.have(db, given.user("U1", attributes={"plan": "p299", "n": 2}))
    [subject] = db.read(users.subjects, ["U1"], settings)
    assert subject.segment_bits == "111" + "0" * 147


def test_segment_bits_stand_in_the_order_of_the_settings(db: Database) -> None:
    named = {"b": Attribute("n", "is", 1), "a": Everyone(), "c": NoneOf((Everyone(),))}
    settings = Settings(segments=named, people=People(segments=("b",)))
    given.have(db, given.user("U1", attributes={"n": 1}), given.user("U2"))
    bits = {each.user.id: each.segment_bits for each in db.read(users.subjects, ["U1", "U2"], settings)}
    assert bits == {"U1": "110", "U2": "010"}
    assert db.read(segments.sizes, settings) == {"b": 1, "a": 2, "c": 0}


def test_without_segments_nobody_is_whitelisted_and_there_are_no_bits(db: Database) -> None:
    given.have(db, given.user("U1"))
    [subject] = db.read(users.subjects, ["U1"], Settings())
    assert subject.segment_bits == ""
    query = sa.select(schema.users.c.id).where(segments.whitelisted(Settings(), db.dialect))
    assert db.read(lambda connection: connection.execute(query).all()) == []


def test_a_time_can_only_be_asked_for_its_existence(db: Database) -> None:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    found = [given.user("told", created_at=at), given.user("untold")]
    asked = [
        Attribute("created_at", "exists", True),
        Attribute("created_at", "gt", 0),
        Attribute("created_at", "contains", "2026"),
        Attribute("created_at", "is_not", "2026-01-01"),
    ]
    assert in_sql(db, found, *asked) == [{"told"}, set(), set(), {"told", "untold"}]
