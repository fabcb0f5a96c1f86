"""An admin asks who is in a segment, and why a user is in it or not."""

from __future__ import annotations

import json

import pytest

from connector.store import inbox
from connector.store.database import Database
from tests.places import Give, Place, example
from tests.store import given

SEGMENTS = """\
"Paying" = { attribute = "plan", in = ["pro", "team"] }
"New" = { attribute = "signed_up", within = "30d" }
"Opened" = { event = "Email Opened", within = "3650d", where = [{ property = "action_id", gt = 1 }] }
"Quiet payers" = { all = [{ segment = "Paying" }, { none = [{ segment = "Opened" }] }], internal = true }
"""
ROWS = (
    {"external_id": "41", "email": "a@example.com", "plan": "pro", "signed_up": "2001-01-01"},
    {"external_id": "42", "email": "B@example.com", "plan": "team"},
    {"external_id": "43", "plan": "free", "signed_up": 0},
)


@pytest.fixture
def stocked(place: Place, give: Give) -> Place:
    """Three users in four segments."""
    place.write(segments=SEGMENTS, people='segments = ["Paying"]')
    give(place.settings(), *ROWS)
    return place


def test_segments_are_listed_with_their_sizes(stocked: Place) -> None:
    assert stocked.run("segments").splitlines() == [
        "Paying                2 users  whitelisted",
        "New                   0 users",
        "Opened                0 users",
        "Quiet payers          2 users  internal",
    ]
    assert json.loads(stocked.run("segments", "--json"))[3] == {
        "name": "Quiet payers",
        "users": 2,
        "whitelisted": False,
        "internal": True,
    }


def test_what_has_arrived_is_read_first(stocked: Place, db: Database) -> None:
    db.write(inbox.append, inbox.CUSTOMERIO, given.received(example(customer_id="42", identifiers={"id": "42"})))
    assert [each["users"] for each in json.loads(stocked.run("segments", "--json"))] == [2, 0, 1, 1]


def test_a_segments_members_are_shown(stocked: Place) -> None:
    shown = stocked.run("segments", "Paying").splitlines()
    assert shown[0] == "Paying          2 users  whitelisted"
    assert sorted(line.split()[1:] for line in shown[1:]) == [["41", "a@example.com"], ["42", "B@example.com"]]
    found = json.loads(stocked.run("segments", "Paying", "--json"))
    assert found["users"] == 2
    assert {member["external_id"] for member in found["members"]} == {"41", "42"}
    every = [json.loads(line) for line in stocked.run("segments", "Paying", "--all", "--json").splitlines()]
    assert every == found["members"]


def test_of_many_members_the_first_are_shown_unless_all_are_asked_for(place: Place, give: Give) -> None:
    place.write(segments='"All" = { everyone = true }')
    give(place.settings(), *({"external_id": f"u{number}"} for number in range(25)))
    shown = place.run("segments", "All").splitlines()
    assert len(shown) == 1 + 20 + 1
    assert shown[-1] == "… and 5 more: --all shows them"
    assert len(place.run("segments", "All", "--all").splitlines()) == 1 + 25


@pytest.mark.parametrize("named", ["41", "A@Example.com"])
def test_which_condition_holds_for_a_user_is_shown(stocked: Place, named: str) -> None:
    assert stocked.run("segments", "Quiet payers", "--user", named).splitlines() == [
        "yes  all of",
        'yes    in the segment "Paying"',
        'yes      plan in "pro", "team"',
        "yes    none of",
        'no       in the segment "Opened"',
        'no         "Email Opened" within the last 3650d where action_id gt 1',
    ]
    found = json.loads(stocked.run("segments", "New", "--user", named, "--json"))
    assert (found["condition"], found["holds"]) == ("signed_up within the last 30d", False)


def test_in_which_segments_a_user_is_can_be_asked(stocked: Place) -> None:
    assert stocked.run("segments", "--user", "43").splitlines() == [
        "no   Paying",
        "no   New",
        "no   Opened",
        "no   Quiet payers",
    ]


def test_an_unknown_name_is_told_with_the_one_that_was_meant(stocked: Place) -> None:
    assert 'no segment is called "Payng"; did you mean "Paying"?' in stocked.run("segments", "Payng", exit_status=2)
    assert "nobody is known as 99" in stocked.run("segments", "Paying", "--user", "99", exit_status=1)
