"""`connector import` as scripts meet it: stdin, several files, JSON, options, exit statuses."""

from __future__ import annotations

import gzip
import json
import os
from datetime import timedelta
from pathlib import Path

import pytest

from connector import app
from tests import warm
from tests.places import Place


@pytest.fixture
def sqlite_place(tmp_path: Path) -> Place:
    return Place(tmp_path, "sqlite:///connector.db").write()


def piped(place: Place, data: bytes, *arguments: str, exit_status: int = 0) -> str:
    """Runs a command in the place's folder with this on its stdin; returns what it printed."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("CONNECTOR_")}
    command = ["--settings", str(place.path), *arguments]
    status, shown = warm.run(command, environ, 60, reads=data, folder=place.folder)
    assert status == exit_status, shown
    assert "Traceback" not in shown, shown
    return shown


CSV = b"external_id,plan,seats\n1,pro,5\n2,free,6\n"
JSONL = b'\n{"external_id": "1", "plan": "pro", "seats": 5}\n{"external_id": "2", "plan": "free", "seats": 6}\n'


@pytest.mark.parametrize(
    "data",
    [CSV, gzip.compress(CSV, mtime=0), b"\xef\xbb\xbf" + JSONL],
    ids=["CSV", "compressed", "JSONL after a byte order mark"],
)
def test_stdin_is_read_as_what_it_is(sqlite_place: Place, data: bytes) -> None:
    assert "stdin: 2 created, 0 updated, 0 unchanged" in piped(sqlite_place, data, "import", "users", "-")
    users = sqlite_place.export("users")
    assert [user["attributes"] for user in users] == [{"plan": "pro", "seats": 5}, {"plan": "free", "seats": 6}]


def test_rejects_of_stdin_lie_in_the_current_folder(sqlite_place: Place) -> None:
    shown = piped(sqlite_place, b'{"plan": "pro"}\n', "import", "users", "-", "--format", "jsonl", exit_status=1)
    assert "1 rejected (1 no_identifier), see stdin.rejects.jsonl" in shown
    (kept,) = (sqlite_place.folder / "stdin.rejects.jsonl").read_text().splitlines()
    assert json.loads(kept)["row"] == {"plan": "pro"}


def test_types_are_shown_before_it_starts_and_can_be_said(sqlite_place: Place) -> None:
    file = sqlite_place.folder / "u.txt"
    file.write_bytes(b"Customer;E-mail;plan\n1;a@x.co;7\n")
    options = ["--format", "csv", "--map", "customer=external_id", "--map", "E-mail=email", "--types", "plan=text"]
    shown = sqlite_place.run("import", "users", str(file), *options)
    assert "u.txt has external_id: text, email: text, plan: text" in shown
    assert sqlite_place.export("users")[0]["attributes"] == {"plan": "7"}


def test_json_says_what_became_of_each_file(sqlite_place: Place) -> None:
    names = ["a.jsonl", "b.jsonl"]
    for name in names:
        (sqlite_place.folder / name).write_bytes(b'{"external_id": "1"}\n{}\n')
    files = [str(sqlite_place.folder / name) for name in names]
    shown = sqlite_place.run("import", "users", *files, "--json", exit_status=1)
    first, second = (json.loads(line) for line in shown.splitlines())
    counts = {"created": 0, "updated": 0, "unchanged": 0, "rejected": {"no_identifier": 1}, "went_on_at": None}
    assert first == counts | {"file": files[0], "created": 1, "rejects": f"{files[0]}.rejects.jsonl"}
    assert second == counts | {"file": files[1], "unchanged": 1, "rejects": f"{files[1]}.rejects.jsonl"}


def test_messages_are_read_before_the_command_ends(sqlite_place: Place) -> None:
    message = {"type": "track", "userId": "1", "event": "Order", "timestamp": "2026-01-31T12:00:00Z"}
    shown = piped(sqlite_place, json.dumps(message).encode(), "import", "messages", "-")
    assert "stdin: 1 stored, 0 duplicate" in shown
    assert json.loads(sqlite_place.run("status", "--json"))["inbox"]["new"] == 0
    assert [event["name"] for event in sqlite_place.export("events")] == ["Order"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["users", "u.jsonl", "--send"], "--send is for events"),
        (["users", "u.jsonl", "--map", "email"], "write it like 'E-mail=email'"),
        (["users", "absent.csv"], "absent.csv can't be read: No such file or directory"),
    ],
)
def test_what_can_not_be_done_is_a_sentence(sqlite_place: Place, arguments: list[str], words: str) -> None:
    assert words in sqlite_place.run("import", *arguments, exit_status=2)


def test_due_events_wait_and_history_does_not(sqlite_place: Place) -> None:
    sqlite_place.write(events='names = ["New"]')
    file = sqlite_place.folder / "e.jsonl"
    now = app.now()
    said = {}
    for name, options in (("Old", []), ("New", ["--send"])):
        ages = (timedelta(hours=1), timedelta(days=4), timedelta(days=9))
        rows = [{"external_id": "1", "name": name, "occurred_at": (now - age).isoformat()} for age in ages]
        file.write_text("\n".join(map(json.dumps, rows)))
        said[name] = sqlite_place.run("import", "events", str(file), *options)
    assert [(event["name"], event["outbound"]) for event in sqlite_place.export("events")] == [
        *[("Old", "none")] * 3,
        *[("New", "due")] * 2,
        ("New", "skipped"),
    ]
    assert "due to be sent" not in said["Old"]
    assert "2 due to be sent; 1 of them are younger than 72 hours and would trigger campaigns" in said["New"]
    assert "1 will not be sent (too_old)" in said["New"]
    shown = json.loads(sqlite_place.run("import", "events", str(file), "--send", "--restart", "--json"))
    assert (shown["duplicate"], shown["due"], shown["would_trigger"]) == (3, 0, 0)
    planned = json.loads(sqlite_place.run("plan", "--json"))
    assert (planned["events"], planned["events_by_name"], planned["events_triggering"]) == (2, {"New": 2}, 1)
    assert 'events: 2 due (2 "New"), of which 1 are young enough to trigger' in sqlite_place.run("plan")


def test_events_are_sent_again_by_their_name(sqlite_place: Place) -> None:
    file = sqlite_place.folder / "e.jsonl"
    file.write_text(json.dumps({"external_id": "1", "name": "Order", "occurred_at": app.now().isoformat()}))
    sqlite_place.run("import", "events", str(file))
    words = "must be later than --since"
    assert words in sqlite_place.run("resend", "--event", "Order", "--since", "1h", "--until", "2h", exit_status=2)
    assert "--until must be a time" in sqlite_place.run(
        "resend", "--event", "Order", "--since", "1h", "--until", "soon", exit_status=2
    )
    nobody = ("resend", "--event", "Order", "--since", "1h", "--user", "2")
    assert "nobody is known as 2" in sqlite_place.run(*nobody, exit_status=1)
    none = sqlite_place.run("resend", "--event", "Else", "--since", "1h", "--json")
    assert json.loads(none) == {"resent": 0, "triggering": 0}
    (before,) = sqlite_place.export("events")
    assert before["outbound"] == "none"
    said = sqlite_place.run("resend", "--event", "Order", "--since", "1h", "--user", "1")
    assert "1 event is due again: a running connector sends them now, else connector sync" in said
    assert sqlite_place.export("events") == [before | {"outbound": "due"}]
