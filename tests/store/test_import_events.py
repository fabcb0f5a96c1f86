"""`import events`: rows become events that are history, unless they are to be sent."""

from __future__ import annotations

import functools
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from connector import app
from connector.commands import import_files
from connector.commands.import_files import What
from connector.settings import Events, Settings
from connector.store import pending, schema
from connector.store.database import Database
from tests.store import given

SETTINGS = Settings()
AT = "2026-01-31T12:00:00Z"


def imported(db: Database, path: Path, text: str, *, send: Events | None = None) -> import_files.Summary:
    path.write_text(text)
    return import_files.one(db, SETTINGS, import_files.kind(What.events, send=send), path, app.now)


def stored(db: Database, *names: str) -> list[Any]:
    return given.rows(db, schema.events, *names)


def reasons(path: Path) -> dict[int, str]:
    rejects = path.with_name(path.name + ".rejects.jsonl").read_text().splitlines()
    return {row["line"]: row["reason"] for row in map(json.loads, rejects)}


def test_a_csv_of_events_is_history_of_the_users_it_names(db: Database, tmp_path: Path) -> None:
    given.have(db, given.user("U1", external_id="1", email="a@x.co"))
    summary = imported(
        db,
        tmp_path / "e.csv",
        "External_ID,email,name,type,occurred_at,id,Properties.total,properties.item.sku,context.ip\n"
        "1,,Order Completed,,2026-01-31T12:00:00Z,o1,9.5,007,::1\n"
        ",A@x.co,,page,1700000000,,,,\n",
    )
    assert dict(summary.results) == {"stored": 2}
    order, page = stored(db)
    assert {each["user_id"] for each in (order, page)} == {"U1"}
    assert (order["source"], order["source_id"], order["type"], order["name"]) == (
        "import",
        "o1",
        "track",
        "Order Completed",
    )
    assert order["properties"] == {"total": 9.5, "item": {"sku": "007"}}
    assert order["context"]["ip"] == "::1"
    assert order["occurred_at"] == datetime(2026, 1, 31, 12, tzinfo=UTC)
    assert (page["type"], page["name"]) == ("page", "page")
    assert {each["outbound"] for each in (order, page)} == {"none"}


def test_of_events_to_be_sent_those_are_due_that_are_whitelisted_and_young(db: Database, tmp_path: Path) -> None:
    now = app.now()
    times = {"new": timedelta(hours=71), "older": timedelta(hours=73), "old": timedelta(days=8)}
    rows: list[dict[str, Any]] = [
        {"external_id": "1", "name": "Signed Up", "id": name, "occurred_at": (now - age).isoformat()}
        for name, age in times.items()
    ]
    rows.append(rows[0] | {"name": "Else", "id": "else"})
    text = "\n".join(map(json.dumps, rows))
    summary = imported(db, tmp_path / "e.jsonl", text, send=Events(names=("Signed *",)))
    assert dict(summary.results) == {"triggering": 1, "due": 1, "too_old": 1, "not_whitelisted": 1}
    assert (summary.count("stored"), summary.count("duplicate")) == (4, 0)
    assert stored(db, "source_id", "outbound", "reason") == [
        ("new", "due", None),
        ("older", "due", None),
        ("old", "skipped", "too_old"),
        ("else", "none", None),
    ]
    (waiting,) = given.rows(db, schema.pending)
    assert (waiting["user_id"], waiting["priority"]) == (stored(db, "user_id")[0], pending.CHANGED)
    again = imported(db, tmp_path / "f.jsonl", text, send=Events(names=("Signed *",)))
    assert dict(again.results) == {"duplicate": 4}


def test_without_send_events_are_history_whatever_is_whitelisted(db: Database, tmp_path: Path) -> None:
    row = {"external_id": "1", "name": "Signed Up", "occurred_at": app.now().isoformat()}
    assert dict(imported(db, tmp_path / "e.jsonl", json.dumps(row)).results) == {"stored": 1}
    assert stored(db, "outbound", "due_at") == [("none", None)]
    assert given.rows(db, schema.pending) == []


def test_the_same_rows_again_are_no_new_events(db: Database, tmp_path: Path) -> None:
    row = {"external_id": "1", "name": "Order", "occurred_at": AT, "properties": {"total": 1, "sku": "x"}}
    turned = {"properties": {"sku": "x", "total": 1}, "occurred_at": "2026-01-31T13:00:00+01:00", "name": "Order"}
    text = "\n".join(json.dumps(each) for each in (row, row, {**turned, "external_id": 1}))
    assert dict(imported(db, tmp_path / "e.jsonl", text).results) == {"stored": 1, "duplicate": 2}
    other = json.dumps({**row, "properties": {"total": 2}})
    assert dict(imported(db, tmp_path / "f.jsonl", other).results) == {"stored": 1}
    named = [{**row, "id": 42}, {**row, "id": "42", "name": "Another name"}]
    text = "\n".join(map(json.dumps, named))
    assert dict(imported(db, tmp_path / "g.jsonl", text).results) == {"stored": 1, "duplicate": 1}


def test_bad_rows_of_events_have_one_reason_each(db: Database, tmp_path: Path) -> None:
    path = tmp_path / "e.jsonl"
    good: dict[str, Any] = {"external_id": "1", "name": "Order", "occurred_at": AT}
    rows: list[tuple[dict[str, Any], str | None]] = [
        (good, None),
        ({**good, "total": 5}, "unknown_column"),
        ({**good, "properties": [1]}, "wrong_shape"),
        ({**good, "context": "x"}, "wrong_shape"),
        ({**good, "name": 5}, "wrong_shape"),
        ({**good, "name": " "}, "no_event_name"),
        ({**good, "name": "n" * 1001}, "long_name"),
        ({**good, "type": "identify"}, "unknown_type"),
        ({**good, "occurred_at": None}, "no_time"),
        ({**good, "occurred_at": "0000-01-01"}, "bad_time"),
        ({**good, "occurred_at": 1e300}, "bad_time"),
        ({**good, "occurred_at": "20240517"}, "bad_time"),
        ({**good, "occurred_at": 20240517}, "bad_time"),
        ({**good, "id": True}, "bad_id"),
        ({**good, "id": "x" * 201}, "bad_id"),
        ({**good, "external_id": None}, "no_identifier"),
        ({**good, "email": "nobody"}, "bad_email"),
        ({**good, "type": "Screen", "name": None, "properties": {"name": "Home"}}, None),
    ]
    summary = imported(db, path, "\n".join(json.dumps(row) for row, _ in rows))
    expected = {number: reason for number, (_, reason) in enumerate(rows, start=1) if reason}
    assert reasons(path) == expected
    assert summary.rejected.total() == len(expected)
    assert stored(db, "name") == ["Order", "Home"]


@pytest.mark.parametrize("text", ["a\0b", "\0"])
def test_characters_that_no_store_takes_are_replaced(db: Database, tmp_path: Path, text: str) -> None:
    row = {"external_id": "1", "name": f"Order {text}", "occurred_at": AT, "properties": {text: text}}
    imported(db, tmp_path / "e.jsonl", json.dumps(row))
    shown = text.replace("\0", "\ufffd")
    assert [(each["name"], each["properties"]) for each in stored(db)] == [(f"Order {shown}", {shown: shown})]


def test_many_events_at_once_find_those_that_are_there(db: Database, tmp_path: Path) -> None:
    """So many that PostgreSQL takes them by COPY."""
    row = functools.partial(dict, external_id="1", name="Seen", occurred_at=AT)
    first = "".join(json.dumps(row(id=f"e{n}")) + "\n" for n in range(0, 2000, 2))
    again = "".join(json.dumps(row(id=f"e{n}")) + "\n" for n in range(2000))
    assert dict(imported(db, tmp_path / "a.jsonl", first).results) == {"stored": 1000}
    assert dict(imported(db, tmp_path / "b.jsonl", again).results) == {"stored": 1000, "duplicate": 1000}
    assert len(stored(db, "id")) == 2000
