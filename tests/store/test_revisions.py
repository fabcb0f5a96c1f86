"""Revisions of the settings, as both stores keep them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from connector.store import revisions
from connector.store.database import Database
from tests.store.given import NOW

FIRST, SECOND = "[sync]\nevery = '1m'\n", "[sync]\nevery = '2m'\n"


def test_a_store_without_revisions_has_none(db: Database) -> None:
    assert db.read(revisions.newest) is None
    assert db.read(revisions.newest_applied) is None
    assert db.read(revisions.of, 1) is None
    assert db.read(revisions.history) == []


def test_a_revision_comes_back_as_it_was_added(db: Database) -> None:
    counts = {"decisions": {"create": {"entered": 3}}}
    added = db.write(
        revisions.add, "held", "h1", FIRST, NOW, changed=["a: 1 -> 2"], counts=counts, reason="max_creates"
    )
    assert added == revisions.Revision(1, NOW, "held", "h1", ("a: 1 -> 2",), counts, "max_creates", FIRST)
    assert db.read(revisions.of, 1) == added
    assert db.read(revisions.history) == [added]


def test_numbers_count_and_the_newest_come_first(db: Database) -> None:
    for number in range(3):
        db.write(revisions.add, "applied", f"h{number}", FIRST, NOW + timedelta(minutes=number))
    assert [each.number for each in db.read(revisions.history)] == [3, 2, 1]
    assert [each.number for each in db.read(revisions.history, 2)] == [3, 2]


def test_what_is_in_force_is_the_newest_that_was_applied(db: Database) -> None:
    db.write(revisions.add, "applied", "a", FIRST, NOW)
    db.write(revisions.add, "applied", "b", SECOND, NOW)
    db.write(revisions.add, "held", "c", FIRST, NOW)
    db.write(revisions.add, "refused", None, None, NOW, reason="line 3: …")
    in_force = db.read(revisions.newest_applied)
    assert in_force is not None
    assert in_force.hash == "b"
    before = db.read(revisions.newest_applied, before=in_force.number)
    assert before is not None
    assert before.hash == "a"
    assert db.read(revisions.newest_applied, before=1) is None


def test_the_same_said_again_is_one_revision_and_said_later_it_is_another(db: Database) -> None:
    first = db.write(revisions.add, "applied", "a", FIRST, NOW)
    assert db.write(revisions.add, "applied", "a", FIRST, NOW + timedelta(hours=1)) == first
    db.write(revisions.add, "applied", "b", SECOND, NOW)
    again = db.write(revisions.add, "applied", "a", FIRST, NOW)
    assert again.number == 3
    assert db.read(revisions.by_hash, "a") == again
    assert db.read(revisions.by_hash, "nope") is None


def test_an_edit_that_changes_nothing_that_is_sent_is_a_revision_too(db: Database) -> None:
    db.write(revisions.add, "applied", "same", FIRST, NOW)
    assert db.write(revisions.add, "applied", "same", SECOND, NOW).number == 2


def test_processes_that_see_the_same_edit_at_once_add_it_once(db: Database) -> None:
    with ThreadPoolExecutor(8) as threads:
        added = list(threads.map(lambda _: db.write(revisions.add, "applied", "a", FIRST, NOW), range(24)))
    assert {each.number for each in added} == {1}


def test_what_is_in_force_is_not_held_again_and_what_was_before_it_is(db: Database) -> None:
    db.write(revisions.add, "applied", "a", FIRST, NOW)
    db.write(revisions.add, "held", "b", SECOND, NOW, reason="max_deletes")
    assert db.write(revisions.settle, 2, "applied", "approved")
    again = db.write(revisions.add, "held", "b", SECOND, NOW, reason="max_deletes")
    assert (again.number, again.state) == (2, "applied")
    assert db.write(revisions.add, "held", "a", FIRST, NOW, reason="max_deletes").number == 3


def test_a_held_one_is_settled_once(db: Database) -> None:
    db.write(revisions.add, "held", "a", FIRST, NOW, reason="max_deletes")
    assert db.write(revisions.settle, 1, "applied")
    assert not db.write(revisions.settle, 1, "refused", "superseded")
    found = db.read(revisions.newest_applied)
    assert found is not None
    assert (found.state, found.reason) == ("applied", None)


@pytest.mark.parametrize(
    "text",
    [
        '[customerio]\napi_key = "canary"\n',
        '[webhooks]\nsigning_keys = ["env:KEY", "canary"]\n',
        '[webhooks]\nsigning_keys = "canary"\n',
        '[admin]\ntoken = ["canary"]\n',
        "[customerio\napi_key = canary\n",
        '[store]\nurl = "postgresql://u:canar\\u0079@h/d"\n',
    ],
)
def test_a_text_in_which_a_secret_may_stand_is_not_stored(db: Database, text: str) -> None:
    with pytest.raises(ValueError, match="no revision"):
        db.write(revisions.add, "applied", "a", text, NOW)
    refused = db.write(revisions.add, "refused", None, text, NOW, reason="1 fault")
    assert refused.text is None
    assert [each.text for each in db.read(revisions.history)] == [None]


def test_the_password_of_the_store_is_masked(db: Database) -> None:
    text = '[store]\nurl = "postgresql://u:canary@h/d?password=canary&sslmode=require"\n'
    added = db.write(revisions.add, "applied", "a", text, NOW)
    assert added.text == '[store]\nurl = "postgresql://u:***@h/d?password=***&sslmode=require"\n'
