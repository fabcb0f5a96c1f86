"""What `plan` and `settings undo` foretell of a save is what a running connector makes of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from connector import settings_file
from connector.commands import plan_text, saving
from connector.outbound import planning
from connector.settings import Settings
from connector.store import approvals, revisions
from connector.store.database import Database
from connector.watching import starting
from tests.store import given
from tests.store.given import NOW

TEXT = """[customerio]
site_id = "a-site"
region = "us"
api_key = "env:API_KEY"
[segments]
"All" = { everyone = true }
[people]
require_email = false
customer_id = "id"
segments = ["All"]
[guard]
max_creates = 2
"""
LIFTED = TEXT.replace("max_creates = 2", "max_creates = 100")
FEWER = TEXT.replace("{ everyone = true }", '{ attribute = "plan", is = "none" }')


@pytest.fixture
def file(tmp_path: Path, db: Database, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of six users, none of whom goes by it."""
    monkeypatch.setenv("API_KEY", "a key")
    given.have(db, *(given.user(f"U{number}") for number in range(6)))
    path = tmp_path / "settings.toml"
    path.write_text(TEXT)
    return path


def loaded(file: Path, text: str = TEXT) -> Settings:
    return settings_file.of_text(file, text)


def foretold(db: Database, file: Path, text: str, present: str = TEXT) -> dict[str, Any] | None:
    return saving.foretold(db, file, loaded(file, present), loaded(file, text), NOW)


def test_it_is_judged_by_the_guard_in_force_not_by_its_own(db: Database, file: Path) -> None:
    starting.begin(file, loaded(file), db, NOW)
    told = foretold(db, file, LIFTED)
    assert told is not None
    assert told["holds"] == [{"what": "create", "reason": "max_creates", "count": 6, "allowed": 2}]
    assert (told["held"], told["reasons"]) == (True, ["max_creates"])
    outlook = planning.outlook(db, loaded(file, LIFTED), NOW)
    assert outlook.holds == ()
    (line,) = saving.surprises(told, outlook)
    assert line == (
        "HELD AS AN EDIT (max_creates): 6 users who were here before would be created; by the settings in force "
        "guard.max_creates leaves 2 in these 24 h. Its own guard would let them go, and is part of the edit."
    )
    assert saving.describe(told, "abc").endswith(
        "held (max_creates); who and what is sent stays as it is until connector approve abc"
    )
    assert starting.settle(file, loaded(file), db, NOW).held is None
    file.write_text(LIFTED)
    assert starting.settle(file, loaded(file, LIFTED), db, NOW).held is not None, "so it comes true"


def test_an_edit_that_is_saved_and_waits_is_held_and_is_none_once_it_is_approved(db: Database, file: Path) -> None:
    starting.begin(file, loaded(file), db, NOW)
    file.write_text(LIFTED)
    starting.settle(file, loaded(file, LIFTED), db, NOW)
    told = foretold(db, file, LIFTED, present=LIFTED)
    assert told is not None
    assert told["held"]
    held = db.read(approvals.waiting)
    assert held is not None
    db.write(approvals.approve, held.number, NOW)
    assert foretold(db, file, LIFTED, present=LIFTED) is None


def test_what_the_guard_lets_go_is_in_force_at_once(db: Database, file: Path) -> None:
    starting.begin(file, loaded(file), db, NOW)
    told = foretold(db, file, FEWER)
    assert told == {"held": False, "reasons": [], "holds": []}
    assert saving.describe(told, "abc") == "as an edit: in force at once"
    assert list(saving.surprises(told, planning.outlook(db, loaded(file, FEWER), NOW))) == []


def test_what_sends_the_same_is_no_edit_to_judge(db: Database, file: Path) -> None:
    starting.begin(file, loaded(file), db, NOW)
    assert foretold(db, file, TEXT + '[sync]\nevery = "9m"\n') is None
    assert list(saving.surprises(None, planning.outlook(db, loaded(file), NOW))) == []


def test_before_the_first_revision_the_present_file_is_in_force(db: Database, file: Path) -> None:
    assert foretold(db, file, TEXT) is None
    told = foretold(db, file, LIFTED)
    assert told is not None
    assert told["held"]


def test_a_revision_that_this_version_cannot_read_leaves_the_present_file(db: Database, file: Path) -> None:
    db.write(revisions.add, "applied", "old", "[guard]\nrenamed = 1\n", NOW)
    told = foretold(db, file, LIFTED)
    assert told is not None
    assert told["reasons"] == ["max_creates"]


def test_while_it_is_paused_it_says_how_many_events_would_go() -> None:
    assert list(plan_text.paused(Settings(), 5)) == []
    paused = Settings.model_validate({"sync": {"paused": True}})
    said = "sync.paused is true: nothing is sent until it is false"
    assert list(plan_text.paused(paused, 0)) == [said]
    assert list(plan_text.paused(paused, 1)) == [f"{said}: 1 event is due by now, and all would go"]
