"""`import messages`: Segment-spec messages of a file are read as live ones are, each once, and are history."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from connector import app
from connector.commands import import_files
from connector.commands.import_files import What
from connector.core import tracking_request
from connector.records import Received
from connector.settings import Settings
from connector.store import inbox, schema
from connector.store.database import Database
from tests.store import given

SETTINGS = Settings()
AT = "2026-01-31T12:00:00Z"


def imported(db: Database, path: Path, *messages: Any) -> import_files.Summary:
    path.write_text("\n".join(each if isinstance(each, str) else json.dumps(each) for each in messages))
    summary = import_files.one(db, SETTINGS, import_files.kind(What.messages), path, app.now)
    given.read(db)
    return summary


def test_messages_become_users_and_events_that_are_history(db: Database, tmp_path: Path) -> None:
    summary = imported(
        db,
        tmp_path / "m.jsonl",
        {"type": "identify", "userId": "1", "traits": {"email": "a@x.co", "plan": "pro"}, "messageId": "m1"},
        {"type": "track", "userId": "1", "event": "Order", "properties": {"total": 5}, "timestamp": AT},
    )
    assert dict(summary.results) == {"stored": 2}
    assert given.rows(db, schema.users, "external_id", "email", "attributes") == [("1", "a@x.co", {"plan": "pro"})]
    assert given.rows(db, schema.events, "name", "properties", "outbound") == [("Order", {"total": 5}, "none")]
    assert set(given.rows(db, schema.inbox, "source", "state")) == {("intake", "read")}


def test_a_message_that_came_live_is_not_taken_again(db: Database, tmp_path: Path) -> None:
    message = {"type": "track", "userId": "1", "event": "Order", "messageId": "m1", "timestamp": AT}
    (live,) = tracking_request.items(tracking_request.Parsed((json.dumps(message).encode(),)), given.NOW)
    db.write(inbox.append, inbox.INTAKE, [Received(live.source_id, given.NOW, live.body)])
    other = {**message, "messageId": "m2"}
    assert dict(imported(db, tmp_path / "m.jsonl", message, other, other).results) == {"stored": 1, "duplicate": 2}
    assert given.rows(db, schema.events, "source_id") == ["m1", "m2"]


def test_bad_messages_are_rejected_with_the_words_of_the_intake_and_not_kept(db: Database, tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    good = {"type": "track", "userId": "1", "event": "Order", "timestamp": AT}
    lines: list[tuple[Any, str | None]] = [
        (good, None),
        ("{nonsense", "not_json"),
        ("[1]", "wrong_shape"),
        ({**good, "type": None}, "no_type"),
        ({**good, "type": "buy"}, "unknown_type"),
        ({**good, "userId": None}, "no_identifier"),
        ({**good, "event": None}, "no_event_name"),
        ({**good, "properties": []}, "wrong_shape"),
        ({**good, "properties": {"x": "y" * 33_000}}, "too_large"),
        ('{"type": "track", "userId": "1", "event": "Order", "properties": {"x": NaN}}', "not_a_number"),
        ("x" * 4_300_000, "too_large"),
    ]
    summary = imported(db, path, *(line for line, _ in lines))
    kept = [json.loads(row) for row in path.with_name("m.jsonl.rejects.jsonl").read_text().splitlines()]
    expected = {number: reason for number, (_, reason) in enumerate(lines, start=1) if reason}
    assert {row["line"]: row["reason"] for row in kept} == expected
    assert dict(summary.results) == {"stored": 1}
    assert given.rows(db, schema.inbox, "state") == ["read"]
