"""The command line as scripts meet it: exit statuses, messages, and never a traceback."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.places import Place, Process

BAD = """\
[server]
port = "eighty"
prot = 1
[store]
url = "sqlite:///connector.db"
[webhooks]
signing_keys = ["env:NOT_SET_ANYWHERE"]
[people]
segments = ["Payng"]
[segments]
"Paying" = { attribute = "plan", iz = "pro" }
"""


@pytest.fixture
def sqlite_place(tmp_path: Path) -> Place:
    return Place(tmp_path, "sqlite:///connector.db")


def test_bad_settings_are_refused_with_every_fault_at_its_path_and_line(sqlite_place: Place) -> None:
    sqlite_place.path.write_text(BAD)
    shown = sqlite_place.run("run", exit_status=2)
    for line, path in (
        (2, "server.port"),
        (3, "server.prot"),
        (7, "webhooks.signing_keys[0]"),
        (9, "people.segments[0]"),
        (11, "segments.Paying.iz"),
    ):
        assert f"line {line}: {path}: " in shown
    assert "NOT_SET_ANYWHERE" in shown
    assert 'did you mean "port"' in shown
    assert 'did you mean "Paying"' in shown


def test_a_missing_settings_file_says_what_to_do(sqlite_place: Place) -> None:
    assert "settings.example.toml" in sqlite_place.run("sync", exit_status=2)


def test_status_of_a_missing_settings_file_says_so_and_looks_into_the_store_beside_it(sqlite_place: Place) -> None:
    sqlite_place.write()
    sqlite_place.run("migrate")
    sqlite_place.path.unlink()
    shown = sqlite_place.run("status")
    assert f"There is no settings file {sqlite_place.path}" in shown
    assert "stored    0 users" in shown
    (sqlite_place.folder / "connector.db").unlink()
    assert "There is no settings file" in sqlite_place.run("status", exit_status=2)
    assert not (sqlite_place.folder / "connector.db").exists()


@pytest.mark.parametrize("command", ["prove", "sandbox"])
def test_settings_are_refused_where_none_are_used(sqlite_place: Place, command: str) -> None:
    shown = sqlite_place.run(command, exit_status=2)
    assert f"`connector {command}` uses no settings file" in shown
    later = [sys.executable, "-m", "connector", command, "--settings", str(sqlite_place.path)]
    done = subprocess.run(later, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (2, shown)


def test_a_store_that_is_behind_is_refused_with_the_command_to_run(place: Place) -> None:
    place.write()
    engine = sa.create_engine(place.store_url.replace("postgresql://", "postgresql+psycopg://"))
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '0000'")
    engine.dispose()
    for command in (["run"], ["sync"], ["status"], ["export", "users"], ["migrate"]):
        assert "newer connector" in place.run(*command, exit_status=2)


def test_a_store_without_tables_is_refused_with_the_command_to_run(empty_store_url: str, tmp_path: Path) -> None:
    place = Place(tmp_path, empty_store_url).write()
    assert "connector migrate" in place.run("status", exit_status=2)
    assert "migrated from nothing" in place.run("migrate")
    assert "already" in place.run("migrate")
    assert "0 users" in place.run("status")


def test_the_settings_option_works_before_and_after_the_command(sqlite_place: Place) -> None:
    sqlite_place.write()
    sqlite_place.run("migrate")
    for arguments in (
        ["--settings", str(sqlite_place.path), "status"],
        ["status", "--settings", str(sqlite_place.path)],
    ):
        done = subprocess.run(
            [sys.executable, "-m", "connector", *arguments], capture_output=True, text=True, check=True
        )
        assert "0 users" in done.stdout


def test_a_sync_of_nobody_is_a_slip_and_says_what_an_id_may_be(sqlite_place: Place) -> None:
    sqlite_place.track_url = "http://127.0.0.1:9"
    sqlite_place.write()
    sqlite_place.run("migrate")
    shown = sqlite_place.run("sync", "--user", "nope", "--user", "neither", exit_status=2)
    assert "nobody is known as nope, neither; tried as user_id, external_id, email" in shown


def test_a_second_run_on_the_same_file_is_refused_and_other_commands_are_not(sqlite_place: Place) -> None:
    sqlite_place.write()
    process = Process(sqlite_place)
    try:
        assert "another connector runs" in sqlite_place.run("run", exit_status=2)
        assert json.loads(sqlite_place.run("status", "--json"))["inbox"] == {
            "new": 0,
            "unread": 0,
            "last_received_at": None,
        }
    finally:
        assert process.terminate() == 0


def test_check_says_what_is_missing_and_what_to_do(sqlite_place: Place) -> None:
    sqlite_place.write(webhooks="signing_keys = []")
    shown = sqlite_place.run("check", exit_status=1)
    assert "webhooks.signing_keys is empty" in shown
    assert "customerio.site_id is empty" in shown
    assert "connector migrate" in shown


def test_sync_without_credentials_says_where_they_belong(sqlite_place: Place) -> None:
    sqlite_place.write()
    sqlite_place.run("migrate")
    assert "customerio.site_id is empty" in sqlite_place.run("sync", exit_status=2)


def test_a_reader_that_has_enough_ends_the_export_quietly(sqlite_place: Place) -> None:
    sqlite_place.write()
    rows = sqlite_place.folder / "rows.jsonl"
    rows.write_text("".join(json.dumps({"external_id": f"u{n}", "x": "y" * 500}) + "\n" for n in range(2000)))
    sqlite_place.run("import", "users", str(rows))
    command = f"{sys.executable} -m connector --settings {sqlite_place.path} export users | head -n 1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["external_id"].startswith("u")
    assert done.stderr == ""


def test_a_store_that_is_no_database_is_a_sentence(sqlite_place: Place) -> None:
    (sqlite_place.folder / "connector.db").write_text("certainly no database\n" * 100)
    sqlite_place.write()
    assert "file is not a database" in sqlite_place.run("status", exit_status=1)


def test_synchronous_full_is_in_force(sqlite_place: Place) -> None:
    sqlite_place.write()
    sqlite_place.run("migrate")
    with sqlite3.connect(sqlite_place.folder / "connector.db") as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_run_makes_its_store_in_an_empty_file_too(sqlite_place: Place) -> None:
    """What a first start that was killed leaves behind must not stop the second."""
    sqlite_place.write()
    (sqlite_place.folder / "connector.db").touch()
    assert Process(sqlite_place).terminate() == 0
    assert "0 users" in sqlite_place.run("status")
