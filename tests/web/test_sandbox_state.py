"""The rules of the sandbox's workspace, one a test: what applies, and what is refused without a word."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from connector.sandbox import operations
from connector.sandbox.operations import ActivityType, Delete, Identifier, Kind, Track
from connector.sandbox.rules import people
from connector.sandbox.rules.people import Person
from connector.sandbox.state import State

ULID = "01E4C4CT6YDC7Y5M7FE1GWWPQJ"


@dataclass
class Workspace:
    """A state with a clock that stands still, and short ways to say things to it."""

    time: float = 1000.5
    email_updates_by_id: bool = False
    state: State = field(init=False)

    def __post_init__(self) -> None:
        self.state = State(lambda: self.time, email_updates_by_id=self.email_updates_by_id)

    def identify(
        self,
        value: str,
        /,
        *,
        by: Kind = "id",
        timestamp: int | None = None,
        update_only: bool = False,
        **attributes: Any,
    ) -> None:
        who = Identifier(by, value)
        self.state.apply(operations.identify(who, attributes, update_only=update_only, timestamp=timestamp))

    def track(
        self, value: str | None, event_id: str | None = None, *, by: Kind = "id", kind: ActivityType = "event"
    ) -> None:
        who = None if value is None else Identifier(by, value)
        self.state.apply(Track(who, kind, "bought", event_id, None, {"total": 12}))

    def delete(self, value: str, by: Kind = "id") -> None:
        self.state.apply(Delete(Identifier(by, value)))

    def person(self, value: str, by: Kind = "id") -> Person:
        found = self.state.find(by, value)
        assert found is not None
        return found

    @property
    def refusals(self) -> list[str]:
        return [entry.reason for entry in self.state.log]


@pytest.fixture
def workspace() -> Workspace:
    return Workspace()


def test_an_identify_creates_then_updates(workspace: Workspace) -> None:
    workspace.identify("42", email="a@b.co", plan="pro")
    workspace.identify("42", plan="team", seats=3)
    person = workspace.person("42")
    assert person.attributes == {"plan": "team", "seats": 3}
    assert (person.email, person.created, person.changed_at) == ("a@b.co", 1000, 1000)
    assert workspace.state.applied == {"created": 1, "updated": 1}


def test_ids_compare_with_case_and_emails_without(workspace: Workspace) -> None:
    workspace.identify("Ab", email="A@b.co")
    workspace.identify("ab")
    assert len(workspace.state.people) == 2
    assert workspace.person("a@B.co", "email") is workspace.person("Ab")


def test_a_cio_id_finds_its_person(workspace: Workspace) -> None:
    workspace.identify("42")
    cio_id = workspace.person("42").cio_id
    workspace.identify(cio_id, by="cio_id", plan="pro")
    assert workspace.person("42").attributes == {"plan": "pro"}


def test_an_unknown_cio_id_is_dropped(workspace: Workspace) -> None:
    workspace.identify("d9c1ffffffff", by="cio_id", plan="pro")
    workspace.track("d9c1ffffffff", by="cio_id")
    assert len(workspace.state.people) == 0
    assert workspace.refusals == ["unknown_cio_id", "unknown_cio_id"]


def test_update_only_creates_nobody(workspace: Workspace) -> None:
    workspace.identify("42", update_only=True, plan="pro")
    assert len(workspace.state.people) == 0
    assert workspace.refusals == ["no_match"]
    workspace.identify("42")
    workspace.identify("42", update_only=True, plan="pro")
    assert workspace.person("42").attributes == {"plan": "pro"}


@pytest.mark.parametrize(
    ("timestamp", "applies"), [(999, False), (1000, True), (1001, True)], ids=["older", "equal", "newer"]
)
def test_an_identify_older_than_the_last_change_changes_nothing(
    workspace: Workspace, timestamp: int, applies: bool
) -> None:
    workspace.identify("42", timestamp=1000, plan="pro")
    workspace.identify("42", timestamp=timestamp, plan="team", email="a@b.co")
    assert workspace.person("42").attributes == {"plan": "team" if applies else "pro"}
    assert workspace.person("42").email == ("a@b.co" if applies else None)
    assert workspace.refusals == ([] if applies else ["older_timestamp"])


def test_an_identify_without_a_timestamp_counts_with_the_time_of_receipt(workspace: Workspace) -> None:
    workspace.identify("42", plan="pro")
    workspace.identify("42", timestamp=1000, plan="team")
    workspace.identify("42", timestamp=999, plan="free")
    assert workspace.person("42").attributes == {"plan": "team"}


def test_an_event_is_no_change_of_the_person(workspace: Workspace) -> None:
    workspace.track("42")
    workspace.identify("42", timestamp=5, plan="pro")
    assert workspace.person("42").attributes == {"plan": "pro"}


@pytest.mark.parametrize("empty", [None, ""])
def test_an_empty_value_clears_an_attribute(workspace: Workspace, empty: str | None) -> None:
    workspace.identify("42", plan="pro", seats=0, admin=False)
    workspace.identify("42", plan=empty)
    assert workspace.person("42").attributes == {"seats": 0, "admin": False}


def test_attributes_that_the_system_owns_are_not_written(workspace: Workspace) -> None:
    workspace.identify("42", cio_id="mine", _created_in_customerio_at=1)
    assert workspace.person("42").attributes == {}
    assert workspace.person("42").cio_id != "mine"


@pytest.mark.parametrize(
    ("value", "unsubscribed"),
    [
        (True, True),
        ("true", True),
        ("TRUE", True),
        ("True", True),
        (1, True),
        ("1", True),
        (False, False),
        ("false", False),
        (0, False),
        (2, False),
        ("yes", False),
        (" true", False),
        (1.0, False),
        ([True], False),
        (None, False),
        ("", False),
    ],
)
def test_only_these_values_unsubscribe(workspace: Workspace, value: object, unsubscribed: bool) -> None:
    workspace.identify("42", unsubscribed=True)
    workspace.identify("42", unsubscribed=value)
    assert workspace.person("42").unsubscribed is unsubscribed
    assert people.means_unsubscribed(value) is unsubscribed


def test_a_dotted_preference_changes_one_topic_and_the_object_replaces_all(workspace: Workspace) -> None:
    name = "cio_subscription_preferences"
    both: dict[str, Any] = {name: {"topics": {"topic_1": True, "topic_2": True}}}
    one: dict[str, Any] = {f"{name}.topics.topic_1": False}
    other: dict[str, Any] = {name: {"topics": {"topic_3": True}}}
    workspace.identify("42", **both)
    workspace.identify("42", **one)
    assert workspace.person("42").attributes == {name: {"topics": {"topic_1": False, "topic_2": True}}}
    workspace.identify("42", **other)
    assert workspace.person("42").attributes == other


def test_an_update_leaves_what_was_read_before_unchanged(workspace: Workspace) -> None:
    workspace.identify("42", plan="pro")
    before = workspace.person("42").attributes
    workspace.identify("42", plan="team")
    assert before == {"plan": "pro"}


def test_a_new_id_with_a_known_email_names_that_person(workspace: Workspace) -> None:
    workspace.identify("a@b.co", by="email")
    workspace.identify("42", email="A@b.co")
    assert len(workspace.state.people) == 1
    assert workspace.person("42").email == "A@b.co"


def test_identifiers_of_two_people_are_a_conflict(workspace: Workspace) -> None:
    workspace.identify("42")
    workspace.identify("43", email="a@b.co")
    workspace.identify("42", email="a@b.co", plan="pro")
    assert workspace.refusals == ["identity_conflict"]
    assert workspace.person("42").attributes == {}


def test_an_identify_that_contradicts_itself_about_a_new_person_is_a_conflict(workspace: Workspace) -> None:
    workspace.identify("42", id="43")
    assert workspace.refusals == ["identity_conflict"]
    assert len(workspace.state.people) == 0


def test_an_identifier_that_is_set_changes_only_through_the_cio_id(workspace: Workspace) -> None:
    workspace.identify("42", email="a@b.co")
    workspace.identify("42", email="new@b.co", plan="pro")
    workspace.identify("42", id="43")
    workspace.identify("43", email="a@b.co")
    workspace.identify("42", email=None)
    assert workspace.refusals == ["identifier_set"] * 4
    assert workspace.person("42").attributes == {}
    workspace.identify(workspace.person("42").cio_id, by="cio_id", id="43", email="new@b.co")
    person = workspace.person("43")
    assert (person.id, person.email) == ("43", "new@b.co")
    assert workspace.state.find("id", "42") is None
    assert workspace.state.find("email", "a@b.co") is None
    workspace.identify(person.cio_id, by="cio_id", email=None)
    assert workspace.person("43").email is None
    assert workspace.state.find("email", "new@b.co") is None


def test_an_email_changes_by_id_where_the_workspace_allows_it() -> None:
    workspace = Workspace(email_updates_by_id=True)
    workspace.identify("42", email="a@b.co")
    workspace.identify("42", email="new@b.co")
    workspace.identify("42", id="43")
    assert workspace.person("new@b.co", "email").id == "42"
    assert workspace.refusals == ["identifier_set"]


def test_another_spelling_of_an_email_is_no_change_of_identifier(workspace: Workspace) -> None:
    workspace.identify("42", email="a@b.co")
    workspace.identify("42", email="A@B.co")
    assert workspace.person("42").email == "A@B.co"
    assert workspace.refusals == []


def test_an_identify_with_what_is_no_email_changes_nothing(workspace: Workspace) -> None:
    workspace.identify("42", email="nobody", plan="pro")
    workspace.identify("nobody", by="email")
    workspace.track("nobody", by="email")
    assert len(workspace.state.people) == 0
    assert workspace.refusals == ["invalid_email"] * 3


def test_a_person_has_300_attributes_at_most(workspace: Workspace) -> None:
    many: dict[str, Any] = {f"a{n}": n for n in range(300)}
    workspace.identify("42", **many)
    workspace.identify("42", email="a@b.co")  # identifiers are not counted
    assert workspace.refusals == []
    workspace.identify("42", one_more=1)
    assert workspace.refusals == ["too_many_attributes"]
    workspace.identify("42", a0=None, one_more=1)
    assert workspace.refusals == ["too_many_attributes"]
    assert workspace.person("42").attributes["one_more"] == 1


def test_a_repeated_ulid_is_ignored_whoever_it_is_about(workspace: Workspace) -> None:
    workspace.track("42", ULID)
    workspace.track("42", ULID)
    workspace.track("43", ULID.lower())
    assert len(workspace.state.activities()) == 1
    assert workspace.state.find("id", "43") is None
    assert workspace.refusals == ["repeated_event", "repeated_event"]


@pytest.mark.parametrize("event_id", ["order-1", "42", ULID[:-1], "8" + ULID[1:], ULID[:-1] + "U", None])
def test_an_id_that_is_no_ulid_is_kept_and_not_compared(workspace: Workspace, event_id: str | None) -> None:
    workspace.track("42", event_id)
    workspace.track("42", event_id)
    assert [activity.id for _, activity in workspace.state.activities()] == [event_id, event_id]


def test_an_event_for_an_unknown_id_makes_a_bare_person(workspace: Workspace) -> None:
    workspace.track("42")
    person = workspace.person("42")
    assert (person.email, person.attributes, person.changed_at) == (None, {}, None)
    assert [activity.data for activity in person.activities] == [{"total": 12}]


def test_anonymous_and_invite_events_make_nobody(workspace: Workspace) -> None:
    workspace.track("anon-1", by="anonymous_id")
    workspace.track(None)
    assert len(workspace.state.people) == 0
    assert [person for person, _ in workspace.state.activities()] == [None, None]


def test_activities_are_read_back_in_the_order_applied(workspace: Workspace) -> None:
    workspace.track("1", "first")
    workspace.track("anon", "second", by="anonymous_id", kind="page")
    workspace.track("2", "third", kind="screen")
    workspace.track("1", "fourth")
    assert [activity.id for _, activity in workspace.state.activities()] == [
        "first",
        "second",
        "third",
        "fourth",
    ]
    assert workspace.state.activities_kept() == 4


def test_delete_forgets_everything_and_a_new_person_is_blank(workspace: Workspace) -> None:
    workspace.identify("42", timestamp=2000, email="a@b.co", unsubscribed=True, plan="pro")
    workspace.track("42")
    cio_id = workspace.person("42").cio_id
    workspace.delete("A@B.CO", "email")
    assert len(workspace.state.people) == 0
    assert workspace.state.activities() == []
    workspace.identify("42", timestamp=1000, seats=1)
    person = workspace.person("42")
    assert (person.attributes, person.email, person.unsubscribed) == ({"seats": 1}, None, False)
    assert person.cio_id != cio_id
    assert workspace.refusals == []


def test_the_delete_of_nobody_is_noted(workspace: Workspace) -> None:
    workspace.delete("42")
    assert workspace.refusals == ["unknown_person"]


def test_another_writers_edit_is_newer_than_every_change_before_it(workspace: Workspace) -> None:
    workspace.identify("42", timestamp=5000, plan="pro")
    workspace.state.edit("id", "42", plan="team")
    assert (workspace.person("42").attributes, workspace.person("42").changed_at) == ({"plan": "team"}, 5001)
    workspace.state.edit("id", "43", plan="team")
    assert workspace.refusals == ["unknown_person"]


LARGE = "x" * (16 * 1024 * 1024)


@pytest.mark.parametrize(("path", "body"), [("/", LARGE.encode()), (LARGE, b"")], ids=["bodies", "paths"])
def test_old_calls_are_let_go_and_still_counted(workspace: Workspace, path: str, body: bytes) -> None:
    for _ in range(6):
        workspace.state.received("PUT", path, 200, body)
    assert [call.number for call in workspace.state.calls] == [4, 5, 6]
    assert workspace.state.calls_received == 6
