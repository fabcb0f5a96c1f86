"""What a settings file comes to when a connector starts with it, or `connector sync` is run, on a store that knows of
settings; real files, a real store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from structlog.testing import capture_logs

from connector import errors, settings_file
from connector.settings import Guard
from connector.store import alone, approvals, revisions, schema
from connector.store.database import Database
from connector.watching import starting
from connector.watching.current import Current
from tests.store import given
from tests.store.given import NOW

SENDING = """[customerio]
site_id = "a-site"
region = "us"
api_key = "env:API_KEY"
[segments]
"All" = { everyone = true }
[people]
require_email = false
customer_id = "id"
segments = ["All"]
"""
# As another version of the connector had it, in which a key had another name.
FOREIGN = SENDING.replace("require_email", "needs_email")
FIRST, SECOND = "[guard]\nmax_creates = 1\n", "[guard]\nmax_creates = 2\n"


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("API_KEY", "a key")
    return tmp_path / "settings.toml"


def begun(db: Database, file: Path, text: str) -> Current:
    file.write_text(text)
    return starting.begin(file, settings_file.load(file), db, NOW)


def settled(db: Database, file: Path, text: str) -> Current:
    file.write_text(text)
    return starting.settle(file, settings_file.load(file), db, NOW)


def told(db: Database) -> list[tuple[int, str]]:
    return [(each.number, each.state) for each in db.read(revisions.history)]


def test_processes_whose_files_differ_in_what_is_not_sent_start_again_without_a_new_revision(
    db: Database, file: Path
) -> None:
    mine, yours = SECOND, f"[server]\nport = 9090\n{SECOND}"
    begun(db, file, yours)
    settled(db, file, FIRST)
    db.write(revisions.add, "applied", settings_file.of_text(file, mine).sent_hash(), mine, NOW)
    for _ in range(3):
        for text in (mine, yours):
            current = begun(db, file, text)
            assert (current.revision, current.waits_for) == (told(db)[0][0], None)
    assert told(db)[0] == (4, "applied"), "each text once, since others were in force"


def test_a_start_with_the_file_as_it_was_before_ends_what_is_held_and_what_is_broken(db: Database, file: Path) -> None:
    begun(db, file, FIRST)
    db.write(revisions.add, "held", "another", SECOND, NOW, reason="max_creates")
    begun(db, file, FIRST)
    assert db.read(approvals.waiting) is None
    db.write(revisions.add, "refused", None, None, NOW, reason="line 1")
    begun(db, file, FIRST)
    assert [state for _, state in told(db)] == ["applied", "refused", "applied", "held", "applied"]


@pytest.mark.parametrize("store_kind", ["postgresql"], indirect=True)  # on SQLite one process sends, by the newest file
def test_a_sync_with_a_file_that_was_superseded_takes_nobodys_place_and_says_the_way_on(
    db: Database, file: Path
) -> None:
    begun(db, file, FIRST)
    begun(db, file, f"{FIRST}# the same\n")
    settled(db, file, SECOND)
    before = told(db)
    for text in (FIRST, f"[sync]\nevery = '7m'\n{FIRST}"):
        with pytest.raises(errors.Failed, match="superseded: this file") as failed:
            settled(db, file, text)
        for words in ("revision 2", "revision 3", "connector settings diff 2 3", "connector settings undo 3"):
            assert words in str(failed.value)
    assert told(db) == before
    assert settled(db, file, "[guard]\nmax_creates = 3\n").revision == 4, "nobody has seen it yet"


def test_on_sqlite_a_sync_with_an_older_file_is_superseded_as_long_as_a_connector_sends(
    db: Database, store_url: str, file: Path
) -> None:
    first, second = (f'[store]\nurl = "{store_url}"\n{text}' for text in (FIRST, SECOND))
    begun(db, file, first)
    settled(db, file, second)
    before = told(db)
    with alone.only_one(store_url, "work"), pytest.raises(errors.Failed, match="superseded: this file"):
        settled(db, file, first)
    assert told(db) == before
    if db.dialect == "sqlite":
        with alone.only_one(store_url, "serve"):
            assert settled(db, file, first).revision == 3, "nobody sends, so its file is the newest"


def foreign(db: Database, guard: str) -> None:
    """Settings that this version can't read are in force, and five users would be created."""
    given.have(db, *(given.user(f"U{number}") for number in range(5)))
    db.write(revisions.add, "applied", "foreign", FOREIGN + guard, NOW)


@pytest.mark.parametrize("guard", ["", "[guard]\nmax_creates = 2\n"])
def test_settings_after_some_that_cannot_be_read_become_a_revision_and_that_is_said(
    db: Database, file: Path, guard: str
) -> None:
    foreign(db, guard)
    with capture_logs() as logged:
        current = settled(db, file, SENDING + guard)
    assert (current.held, current.revision, current.settings) == (None, 2, settings_file.load(file))
    assert told(db) == [(2, "applied"), (1, "applied")]
    (line,) = logged
    assert (line["event"], line["reason"], line["revision"]) == ("settings_not_compared", "other_version", 1)


def test_a_guard_that_is_lifted_after_settings_that_cannot_be_read_counts_as_it_was(db: Database, file: Path) -> None:
    foreign(db, "[guard]\nmax_creates = 2\n")
    lifted = SENDING + "[guard]\nmax_creates = 100\n"
    current = begun(db, file, lifted)
    assert (current.file, current.settings.guard.max_creates) == (None, 2), "until it is judged"
    current = settled(db, file, lifted)
    assert current.held is not None
    assert current.held.reason == "5 users who were here before would be created (max_creates)"
    assert current.settings.guard.max_creates == 2
    assert told(db) == [(2, "held"), (1, "applied")]
    in_force = starting.in_force(file, settings_file.load(file), db)
    assert in_force.sent_hash() == current.settings.sent_hash(), "what a pass of it held is approved under the same"


def test_a_guard_of_which_settings_that_cannot_be_read_say_nothing_is_the_usual_one(db: Database, file: Path) -> None:
    foreign(db, "")
    lifted = SENDING + '[guard]\nmax_creates = "unlimited"\n'
    assert begun(db, file, lifted).settings.guard == Guard()


@pytest.mark.parametrize("text", [None, '[guard]\nmax_creates = "some"\n'])
def test_where_not_even_the_guard_before_can_be_read_the_own_one_counts(db: Database, file: Path, text: Any) -> None:
    foreign(db, "")
    db.write(lambda connection: connection.execute(sa.update(schema.settings_revisions).values(text=text)))
    guard = "[guard]\nmax_creates = 3\n"
    assert begun(db, file, SENDING + guard).settings == settings_file.load(file)
    assert settled(db, file, SENDING + guard).revision == 2
