"""JSON that the store holds and nobody can read stops nobody: it is read as far as it goes."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given as drawn
from hypothesis import strategies as st

from connector.commands import person, person_text
from connector.core import mapping
from connector.inbound import upsert
from connector.outbound import full_pass, planning
from connector.records import Damaged, Event, LeftOut
from connector.settings import Guard, Settings
from connector.store import events, export, schema, stored_json, users, vocabulary
from connector.store.database import Database
from tests.store import given, told, unreadable
from tests.store.given import NOW, webhook
from tests.store.told import message

SETTINGS = Settings.model_validate(
    {
        "customerio": {"site_id": "s", "api_key": "k", "region": "us"},
        "segments": {
            "all": {"everyone": True},
            "some": {"attribute": "note", "is": "x"},
            "listed": {"attribute": "note", "contains": "x"},
            "large": {"attribute": "note", "gt": 5},
            "lately": {"attribute": "note", "within": "30d"},
        },
        "people": {"segments": ["all"], "attributes": ["plan", "note"]},
        "guard": Guard(max_creates=None),
    }
)


def document(value: str, **more: Any) -> str:
    """An object with that value, which is JSON text, under the name `note`."""
    return json.dumps({"plan": "pro", **more})[:-1] + f', "note": {value}}}'


@pytest.fixture
def here(db: Database) -> Database:
    """A store with a user and an event for each value that nobody can read, all of which know `plan`, and `fine`."""
    for number, (user_id, value) in enumerate(everybody(db).items(), start=1):
        given.have(db, given.user(user_id, external_id=f"x{user_id}", email=f"{user_id}@b.co"))
        db.write(events.add, [Event("api", user_id, user_id, "track", "Bought", {}, {}, NOW, NOW, user_id)])
        unreadable.write(db, schema.users, "attributes", user_id, document(value))
        for column in ("properties", "context"):
            unreadable.write(db, schema.events, column, number, document(value))
    return db


def everybody(db: Database) -> dict[str, str]:
    """What stands where, by user."""
    return {"fine": '"fine"', **{name.replace(" ", "_"): value for name, value in unreadable.values(db).items()}}


def bad(db: Database) -> list[str]:
    return sorted(everybody(db).keys() - {"fine"})


def found(db: Database, user_id: str) -> Any:
    (subject,) = db.read(users.subjects, [user_id], SETTINGS, NOW)
    return subject


@pytest.mark.parametrize("value", unreadable.VALUES.values(), ids=unreadable.VALUES)
def test_only_what_cannot_be_read_is_lost(value: str) -> None:
    for text in (document(value, seats=3, tags=["a"]), document(value, seats=3, tags=["a"]).encode()):
        read = stored_json.loads(text)
        assert isinstance(read, Damaged)
        assert {name: read[name] for name in read if name != "note"} == {"plan": "pro", "seats": 3, "tags": ["a"]}
        assert read.has_lost("note")
        assert not any(read.has_lost(path) for path in ("plan", "seats", "tags", "not", "notes"))
        again = stored_json.loads(msgspec.json.encode(read))
        assert (again, type(again)) == (read, dict)


@pytest.mark.parametrize(
    ("text", "expected", "lost"),
    [
        ('{"a": "x\\ud800y"}', {"a": "x\ufffdy"}, {"a"}),
        ('{"a": "\\ud83d\\ude00 \\udc00"}', {"a": "😀 \ufffd"}, {"a"}),
        ('{"a": {"b": [1, 1e999], "c": 1}}', {"a": {"b": [1, None], "c": 1}}, {"a.b"}),
        ('{"\\ud800": 1}', {"\ufffd": 1}, {"\ufffd"}),
        ('{"a": {"x\\ud800": 1}}', {"a": {"x\ufffd": 1}}, {"a.x\ufffd"}),
        ('{"a": NaN, "b": 1}', {"a": None, "b": 1}, {"a"}),
        ('{"a": 1.5, "b": 1e400}', {"a": 1.5, "b": None}, {"b"}),
        ('{"a": 7, "b": "]}", "c": 1e400}', {"a": 7, "b": "]}", "c": None}, {"c"}),
        ("no JSON", {}, {""}),
        ("{" * 2000, {}, {""}),
    ],
)
def test_what_is_lost_is_told_by_its_path(text: str, expected: dict[str, Any], lost: set[str]) -> None:
    read = stored_json.loads(text)
    assert (read, read.lost) == (expected, lost)


def test_a_list_is_read_as_far_as_it_goes_too() -> None:
    assert stored_json.loads('["x", "\\ud800", 1e400]') == ["x", "\ufffd", None]


def test_nesting_is_read_down_to_three_hundred_levels() -> None:
    fits = '{"a": ' + "[" * 299 + "]" * 299 + ', "b": "' + "[" * 300 + '"}'
    assert stored_json.loads(fits) == json.loads(fits)
    assert type(stored_json.loads(fits)) is dict
    wide = json.dumps([[]] * 1000)
    assert stored_json.loads(wide) == json.loads(wide)
    cut = stored_json.loads('{"a": ' + "[" * 300 + "]" * 300 + ', "b": 1}')
    assert (json.dumps(cut["a"]).count("["), cut["b"], cut.lost) == (299, 1, {"a"})
    assert stored_json.loads('{"a": ' + "[" * 100_000 + "]" * 100_000 + ', "b": 1}') == cut


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=20,
)


@drawn(JSON)
def test_what_can_be_read_is_read_as_it_is(value: Any) -> None:
    text = msgspec.json.encode(value)
    assert stored_json.loads(text) == stored_json.loads(text.decode()) == msgspec.json.decode(text)


@drawn(st.dictionaries(st.text(max_size=3), JSON))
def test_what_stands_beside_the_unreadable_is_read_as_it_is(value: dict[str, Any]) -> None:
    text = json.dumps({"in": value, "bad": "?"}).replace('"bad": "?"', '"bad": 1e400')
    assert stored_json.loads(text)["in"] == json.loads(text)["in"]


def test_users_are_read_and_what_is_lost_is_left_out_by_name(here: Database) -> None:
    for user_id in bad(here):
        subject = found(here, user_id)
        wanted, left_out = mapping.attributes(subject.user, subject.segment_bits, SETTINGS)
        assert wanted["plan"] == "pro"
        assert "note" not in wanted
        assert left_out == (LeftOut("note", "unreadable", "what the store holds can't be read"),)
    loaded = here.read(users.load, list(everybody(here)))
    assert {each.attributes["plan"] for each in loaded.values()} == {"pro"}
    assert loaded["fine"].attributes["note"] == "fine"


def test_a_pass_finds_everybody(here: Database) -> None:
    assert full_pass.run(here, SETTINGS, lambda: NOW).released == len(everybody(here))  # type: ignore[union-attr]


def test_a_plan_names_everybody(here: Database) -> None:
    outlook = planning.outlook(here, SETTINGS, NOW)
    assert outlook.plan.decisions == {"create": {"entered": len(everybody(here))}}
    assert outlook.plan.left_out == {("note", "unreadable"): len(bad(here))}
    people = list(planning.everyone(here, SETTINGS, NOW, outlook.holds))
    assert {each.user_id for each in people} == everybody(here).keys()
    msgspec.json.encode([each.changes for each in people])


def test_the_store_is_exported(here: Database) -> None:
    for what, columns in (("users", ["attributes"]), ("events", ["properties", "context"])):
        exported = {each["external_id"][1:]: each for each in export.everything(here, what, SETTINGS, NOW)}
        assert exported.keys() == everybody(here).keys()
        for column in columns:
            assert {each[column]["plan"] for each in exported.values()} == {"pro"}
            assert exported["fine"][column]["note"] == "fine"
        msgspec.json.encode(exported)


def test_of_one_person_all_else_is_told(here: Database) -> None:
    for user_id in bad(here):
        said = "\n".join(person_text.describe(person.tell(here, SETTINGS, f"x{user_id}", 20, NOW)))
        assert 'attribute   "plan" = "pro"' in said
        assert '  left out  "note": unreadable' in said


def test_the_names_of_attributes_are_known(here: Database) -> None:
    assert {"plan", "note"} <= here.read(vocabulary.attributes)


def test_a_row_of_an_import_makes_a_user_readable(here: Database) -> None:
    rows = [given.row(f"x{user_id}", plan="team", note="new") for user_id in bad(here)]
    assert set(here.write(upsert.upsert, rows, NOW)) == {"updated"}
    for user_id in bad(here):
        attributes = found(here, user_id).user.attributes
        assert (attributes, type(attributes)) == ({"plan": "team", "note": "new"}, dict)


def test_webhooks_and_messages_of_such_users_are_read(here: Database) -> None:
    ids = bad(here)
    told.tell(here, *(message("identify", f"i-{user_id}", user=f"x{user_id}", traits={"seats": 3}) for user_id in ids))
    assert given.read(here, *(webhook(f"w-{user_id}", identifiers={"id": f"x{user_id}"}) for user_id in ids)) == len(
        ids
    )
    owners = dict(given.rows(here, schema.events, "source_id", "user_id"))
    for user_id in ids:
        assert owners[f"w-{user_id}"] == user_id
        attributes = found(here, user_id).user.attributes
        assert (attributes["plan"], attributes["seats"]) == ("pro", 3)


def test_who_turns_out_to_be_such_a_user_becomes_one_with_them(here: Database) -> None:
    for user_id in bad(here):
        told.tell(here, message("identify", f"1-{user_id}", anonymous=f"z{user_id}", traits={"seats": 3}))
        told.tell(here, message("identify", f"2-{user_id}", user=f"x{user_id}", anonymous=f"z{user_id}"))
        attributes = found(here, user_id).user.attributes
        assert (attributes["plan"], attributes["seats"]) == ("pro", 3)
    assert len(given.rows(here, schema.users)) == len(everybody(here))
