"""`connector plan`, as its user runs it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from connector.store import revisions
from connector.store.database import Database
from tests.places import Place, Process, Sandbox
from tests.store.given import NOW

SEGMENTS = '"Pro" = { attribute = "plan", is = "pro" }'


@pytest.fixture
def ready(place: Place) -> Place:
    """A store of users, 25 of whom would be created."""
    place.track_url = "http://127.0.0.1:9"
    place.more = {"people": 'segments = ["Pro"]\nattributes = ["plan"]', "segments": SEGMENTS}
    place.write()
    rows = [{"external_id": f"u{number}", "email": f"u{number}@example.com", "plan": "pro"} for number in range(25)]
    rows += [{"external_id": "free", "email": "free@example.com", "plan": "free"}, {"external_id": "x", "plan": "pro"}]
    path = place.folder / "users.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    place.run("import", "users", str(path))
    return place


def other(place: Place, **tables: str) -> Path:
    """A second settings file, in a folder of its own."""
    folder = place.folder / "new"
    folder.mkdir(exist_ok=True)
    path = Place(folder, place.store_url, place.track_url, place.more).write(**tables).path
    (folder / ".env").unlink()
    return path


def planned(place: Place, *arguments: str, exit_status: int = 0) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(place.run("plan", "--json", *arguments, exit_status=exit_status))
    return told


def test_a_plan_in_words_leads_with_what_surprises(ready: Place) -> None:
    first, second, *rest = ready.run("plan").splitlines()
    assert first.endswith("settings.toml: nothing was sent")
    assert second == "! 1 skipped: no_email"
    told = "\n".join(rest)
    assert "create    entered" in told
    assert '"plan": null -> "pro"' in told
    assert "… and 5 more: --all shows them" in told
    assert "events: none due" in told
    assert "to send: 25 operations in 1 call, " in told
    assert "guard: holds nothing" in told


def test_as_json_it_has_the_shape_that_programs_know(ready: Place) -> None:
    told = planned(ready)
    assert len(told["hash"]) == 12
    assert told["decisions"] == {"create": {"entered": 25}, "skip": {"no_email": 1, "not_in_segment": 1}}
    assert (told["events"], told["operations"], told["calls"], told["minutes"]) == (0, 25, 1, 0.0)
    assert (told["guard"]["held"], told["guard"]["reasons"]) == (False, [])
    assert len(told["people"]) == 20
    person = told["people"][0]
    assert set(person) == {"user_id", "customer_id", "decision", "reason", "changes"}
    assert person["changes"]["plan"] == [None, "pro"]
    everybody = planned(ready, "--all")
    assert len(everybody["people"]) == 25
    assert everybody["people"][:20] == told["people"]


def test_of_one_user_it_says_what_is_due_and_why(ready: Place) -> None:
    (person,) = planned(ready, "--user", "x")["people"]
    assert (person["decision"], person["reason"]) == ("skip", "no_email")
    assert "skip      no_email" in ready.run("plan", "--user", "x")
    assert "nobody is known as nope" in ready.run("plan", "--user", "nope", exit_status=1)


def test_other_settings_are_planned_on_the_store_of_those_in_force(ready: Place) -> None:
    everyone = '"Pro" = { attribute = "plan", in = ["pro", "free"] }'
    path = other(ready, store='url = "sqlite:///nowhere.db"', segments=everyone, guard="max_creates = 3")
    told = planned(ready, str(path), exit_status=3)
    assert told["decisions"]["create"] == {"held": 26}
    assert told["guard"]["holds"] == [{"what": "create", "reason": "max_creates", "count": 26, "allowed": 3}]
    assert told["surprises"][0].startswith("HELD (max_creates): 26 users who were here before would be created")
    assert told["saving"] == {"held": False, "reasons": [], "holds": []}, "what it lets nobody go for, the pass holds"
    assert told["hash"] != planned(ready)["hash"]
    assert not (path.parent / "nowhere.db").exists()


def test_what_saving_other_settings_comes_to_is_told_and_is_the_exit_status(ready: Place) -> None:
    ready.write(guard="max_creates = 3")
    db = Database(ready.store_url)
    db.write(revisions.add, "applied", ready.settings().sent_hash(), ready.path.read_text(), NOW)
    db.close()
    shown = ready.run("plan", str(other(ready, guard="max_creates = 100", sync="paused = true")), exit_status=3)
    assert "! HELD AS AN EDIT (max_creates): 25 users who were here before would be created; by the settings" in shown
    assert "! sync.paused is true: nothing is sent" in shown
    assert "guard: holds nothing" in shown
    assert "as an edit: held (max_creates); who and what is sent stays as it is until connector approve" in shown


def test_for_a_pull_request_it_is_markdown(ready: Place) -> None:
    told = ready.run("plan", "--markdown", str(other(ready, guard="max_creates = 3")), exit_status=3)
    assert told.startswith("### Plan `")
    assert "| create | held | 25 |" in told
    assert '"plan": null → "pro" |' in told
    assert "… and 5 more (`--all` shows them)" in told


def test_what_excludes_each_other_is_refused(ready: Place) -> None:
    ready.run("plan", "--all", "--user", "x", exit_status=2)
    ready.run("plan", "--json", "--markdown", exit_status=2)
    broken = other(ready, people='segments = ["Nope"]')
    assert 'no segment is called "Nope"' in ready.run("plan", str(broken), exit_status=2)


async def test_it_works_beside_a_running_connector(place: Place, ready: Place, sandbox: Sandbox) -> None:
    ready.track_url = sandbox.url
    ready.write(guard="max_creates = 0")
    with Process(ready) as running:
        running.wait_for("held")
        assert planned(ready, exit_status=3)["decisions"]["create"] == {"held": 25}
        assert running.terminate() == 0
