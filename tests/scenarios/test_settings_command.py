"""`connector settings`: the history, what is different, and the way back."""

from __future__ import annotations

import json
import stat
from datetime import timedelta
from pathlib import Path

import jsonschema
import pytest

from connector.settings import secret_places
from connector.store import revisions
from connector.store.database import Database
from tests.places import Place
from tests.store import given
from tests.store.given import NOW

PRO = '"Pro" = { attribute = "plan", is = "pro" }'
TEAM = '"Pro" = { attribute = "plan", in = ["pro", "team"] }'


@pytest.fixture
def edited(place: Place) -> Place:
    """Three revisions were applied, then one was held; the file says what the third one said."""
    place.track_url = "http://127.0.0.1:9"
    place.more = {"people": 'segments = ["Pro"]\nattributes = ["plan"]', "segments": PRO}
    db = Database(place.store_url)
    for number, more in enumerate([{}, {"segments": TEAM}, {"segments": TEAM, "guard": "max_creates = 5"}]):
        note(db, place.write(**more), number)
    held = place.path.read_text()
    note(db, place.write(segments='"Pro" = { everyone = true }', guard="max_creates = 5"), 3, state="held")
    db.close()
    place.path.write_text(held)
    return place


def note(db: Database, place: Place, number: int, state: revisions.State = "applied") -> None:
    words = [f"edit number {number}"]
    counts = {"decisions": {"create": {"entered": 1200 + number}}, "calls": 2}
    db.write(
        revisions.add, state, place.settings().sent_hash(), place.path.read_text(), NOW + timedelta(hours=number),
        changed=words, counts=counts, reason="max_creates" if state == "held" else None,
    )  # fmt: skip


def test_the_history_tells_when_what_and_what_became_of_it(edited: Place) -> None:
    lines = edited.run("settings", "history").splitlines()
    assert lines[0].split() == [
        "4",
        "2026-03-01",
        "15:00:00",
        "UTC",
        lines[0].split()[4],
        "held",
        "(waits)",
        "max_creates",
    ]
    assert lines[1].strip() == "edit number 3"
    assert lines[2].strip() == "plan: 2 calls, decisions: create: 1,203 entered"
    assert lines[3].split()[5:] == ["applied", "(in", "force)"]
    found = json.loads(edited.run("settings", "--settings", str(edited.path), "history", "--json"))
    assert [each["number"] for each in found] == [4, 3, 2, 1]
    assert set(found[0]) == {"number", "at", "state", "hash", "changed", "counts", "reason"}


def test_a_store_without_revisions_says_when_the_first_one_comes(place: Place) -> None:
    assert "no revision yet" in place.write().run("settings", "history")
    assert "nothing to go back to" in place.run("settings", "undo", "--yes", exit_status=1)


def test_the_difference_of_two_revisions_is_told_key_by_key_and_line_by_line(edited: Place) -> None:
    shown = edited.run("settings", "diff", "1", "3")
    sent = "(changes who or what is sent)"
    old, new = PRO.partition(" = ")[2], TEAM.partition(" = ")[2]
    assert shown.splitlines()[:2] == [f"guard.max_creates: 1000 -> 5 {sent}", f"segments.Pro: {old} -> {new} {sent}"]
    assert f"-{PRO}" in shown
    assert f"+{TEAM}" in shown
    assert "--- revision 1 (applied 2026-03-01 12:00:00 UTC)" in shown
    found = json.loads(edited.run("settings", "diff", "2", "3", "--json"))
    assert [(each["key"], each["old"], each["new"]) for each in found["changes"]] == [("guard.max_creates", 1000, 5)]
    assert edited.run("settings", "diff", "3").strip() == "they say the same"
    assert "there is no revision 9" in edited.run("settings", "diff", "1", "9", exit_status=1)


def test_what_cannot_be_read_any_more_is_told_line_by_line(edited: Place) -> None:
    (edited.folder / ".env").write_text("API_KEY=k\n")
    shown = edited.run("settings", "diff", "1", "2")
    assert f"+{TEAM}" in shown
    assert "SIGNING_KEY is not set" in shown


def test_undo_writes_the_revision_before_the_newest_applied_after_its_plan(edited: Place) -> None:
    edited.path.chmod(0o640)
    shown = edited.run("settings", "undo", "--yes")
    assert "guard.max_creates: 5 -> 1000" in shown
    assert "of revision 2: nothing was sent" in shown
    assert f"{edited.path} says what revision 2 said" in shown
    assert TEAM in edited.path.read_text()
    assert "max_creates" not in edited.path.read_text()
    assert stat.S_IMODE(edited.path.stat().st_mode) == 0o640
    assert sorted(each.name for each in edited.folder.iterdir() if "settings" in each.name) == ["settings.toml"]


def test_undo_of_an_edit_that_was_not_applied_goes_back_to_what_is_in_force(edited: Place) -> None:
    before = edited.path.read_text()
    edited.write(segments='"Pro" = { everyone = true }', guard="max_creates = 5")
    told = json.loads(edited.run("settings", "undo", "--yes", "--json"))
    assert (told["revision"], told["written"]) == (3, True)
    assert told["plan"]["guard"]["held"] is False
    assert edited.path.read_text() == before


def test_undo_exits_3_when_what_it_writes_will_be_held(edited: Place) -> None:
    db = Database(edited.store_url)
    given.have(db, *(given.user(f"U{number}", external_id=f"{number}", email=f"{number}@b.co") for number in range(6)))
    db.close()
    shown = edited.run("settings", "undo", "4", "--yes", exit_status=3)
    assert "HELD AS AN EDIT (max_creates)" in shown
    assert "says what revision 4 said; a running connector holds it until connector approve " in shown
    assert "everyone = true" in edited.path.read_text()
    edited.run("settings", "undo", "--yes")
    told = json.loads(edited.run("settings", "undo", "4", "--yes", "--json", exit_status=3))
    assert (told["written"], told["plan"]["saving"]["held"]) == (True, True)


@pytest.mark.parametrize("broken", ['[people]\nsegments = ["Nope"]\n', "[people\n", '[segments]\n"A" = {\n'])
def test_undo_mends_a_broken_file(edited: Place, broken: str) -> None:
    before = edited.path.read_text()
    edited.path.write_text(f'[store]\nurl = "{edited.store_url}"\n{broken}')
    assert "says what revision 3 said" in edited.run("settings", "undo", "--yes")
    assert edited.path.read_text() == before


def test_undo_goes_back_past_revisions_that_say_what_the_file_says(edited: Place) -> None:
    db = Database(edited.store_url)
    db.write(revisions.add, "refused", None, None, NOW, reason="a slip")
    note(db, edited, 4)
    db.close()
    assert "says what revision 2 said" in edited.run("settings", "undo", "--yes")
    assert TEAM in edited.path.read_text()
    assert "max_creates" not in edited.path.read_text()
    lines = edited.run("settings", "history").splitlines()
    assert [line.split()[5:7] for line in lines if "UTC" in line][:3] == [
        ["applied", "(in"],
        ["refused", "a"],
        ["held", "(over)"],
    ]


def test_undo_takes_a_number_and_asks(edited: Place) -> None:
    before = edited.path.read_text()
    assert "Write revision 1 to" in edited.run("settings", "undo", "1", exit_status=1)
    assert edited.path.read_text() == before
    edited.run("settings", "undo", "1", "--yes")
    assert PRO in edited.path.read_text()
    assert "says what revision 1 says already" in edited.run("settings", "undo", "1")
    assert "there is no revision 9" in edited.run("settings", "undo", "9", exit_status=1)
    assert "--json goes with --yes" in edited.run("settings", "undo", "--json", exit_status=2)


def test_undo_prints_the_text_for_a_file_that_is_read_only(edited: Place) -> None:
    before = edited.path.read_text()
    edited.path.chmod(0o444)
    shown = edited.run("settings", "undo", "2", "--yes", exit_status=1)
    assert "can't be written (it is read-only): put this text there by hand" in shown
    assert TEAM in shown
    assert edited.path.read_text() == before
    told = json.loads(edited.run("settings", "undo", "2", "--yes", "--json", exit_status=1).splitlines()[0])
    assert TEAM in told["text"]


def test_undo_writes_what_a_link_leads_to_and_the_link_stays(edited: Place) -> None:
    real = edited.folder / "real" / "connector.toml"
    real.parent.mkdir()
    edited.path.rename(real)
    edited.path.symlink_to(real)
    edited.run("settings", "undo", "1", "--yes")
    assert edited.path.is_symlink()
    assert PRO in real.read_text()
    assert list(real.parent.iterdir()) == [real]


def test_a_revision_that_cannot_be_used_any_more_is_not_written(edited: Place) -> None:
    before = edited.path.read_text()
    text = before.replace("SIGNING_KEY", "GONE_KEY")
    db = Database(edited.store_url)
    db.write(revisions.add, "applied", "x", text, NOW)
    db.write(revisions.add, "refused", None, text, NOW, reason="1 fault")
    db.close()
    assert "GONE_KEY is not set" in edited.run("settings", "undo", "5", "--yes", exit_status=1)
    assert "is not kept: it was refused" in edited.run("settings", "undo", "6", "--yes", exit_status=1)
    assert "is not kept: it was refused" in edited.run("settings", "diff", "5", "6", exit_status=1)
    assert edited.path.read_text() == before


def test_the_password_of_the_store_is_shown_nowhere_and_survives_an_undo(edited: Place) -> None:
    url = "postgresql://u:canary@127.0.0.1:9/d"
    text = edited.path.read_text()
    db = Database(edited.store_url)
    masked = db.write(revisions.add, "applied", "x", text.replace(edited.store_url, url), NOW)
    db.close()
    assert masked.text is not None
    assert secret_places.with_password_of(masked.text, f'[store]\nurl = "{url}"\n') == text.replace(
        edited.store_url, url
    )
    assert "canary" not in edited.run("settings", "diff", "3", "5")
    assert "whose password is not kept" in edited.run("settings", "undo", "5", "--yes", exit_status=1)
    assert edited.path.read_text() == text
    edited.path.write_text('[admin]\ntoken = "canary"\n' + text)
    shown = edited.run("settings", "diff", "3", exit_status=1)
    assert "a secret may stand in it" in shown
    assert "canary" not in shown


def test_the_schema_is_printed_without_settings(tmp_path: Path) -> None:
    place = Place(tmp_path, "sqlite:///none.db")
    schema = json.loads(place.run("settings", "schema"))
    jsonschema.Draft7Validator.check_schema(schema)
    assert schema["properties"]["guard"]["properties"]["max_creates"]["description"].startswith("The most people")
