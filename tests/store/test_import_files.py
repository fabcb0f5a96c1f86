"""`import users`: what rows of CSV and JSONL files become, on both stores."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from connector import app, errors
from connector.commands import import_files, rows
from connector.settings import Settings
from connector.store import export, runs
from connector.store.database import Database

SETTINGS = Settings()


def imported(db: Database, path: Path, text: str | bytes) -> import_files.Summary:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return import_files.users(db, SETTINGS, path, app.now)


def stored(db: Database) -> list[dict[str, Any]]:
    return sorted(export.everything(db, "users", SETTINGS), key=lambda user: user["external_id"] or "")


def rejects(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.with_name(path.name + ".rejects.jsonl").read_text().splitlines()]


def test_a_csv_nests_by_dots_and_types_whole_columns(db: Database, tmp_path: Path) -> None:
    summary = imported(
        db,
        tmp_path / "users.csv",
        "external_id,email,created_at,seats,score,vip,zip,mixed,account.name,account.plan.level\n"
        "1,A@Example.com,2024-01-31T12:00:00+02:00,5,1,true,01234,7,Acme,3\n"
        "2,,1700000000,6,2.5,false,99999,x,,\n",
    )
    assert dict(summary.results) == {"created": 2}
    first, second = stored(db)
    assert (first["external_id"], first["email"]) == ("1", "A@Example.com")
    assert first["created_at"] == datetime(2024, 1, 31, 10, tzinfo=UTC)
    assert first["attributes"] == {
        "seats": 5,
        "score": 1.0,
        "vip": True,
        "zip": "01234",
        "mixed": "7",
        "account": {"name": "Acme", "plan": {"level": 3}},
    }
    assert second["created_at"] == datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)
    assert second["attributes"] == {"seats": 6, "score": 2.5, "vip": False, "zip": "99999", "mixed": "x"}


def test_an_empty_cell_says_nothing_and_a_null_removes(db: Database, tmp_path: Path) -> None:
    imported(db, tmp_path / "a.csv", "external_id,plan,city\n1,pro,Kiel\n")
    imported(db, tmp_path / "b.csv", "external_id,plan,city\n1,,Bonn\n")
    assert stored(db)[0]["attributes"] == {"plan": "pro", "city": "Bonn"}
    imported(db, tmp_path / "c.jsonl", '{"external_id": "1", "plan": null}\n')
    assert stored(db)[0]["attributes"] == {"city": "Bonn"}


def test_the_same_file_again_changes_nothing(db: Database, tmp_path: Path) -> None:
    text = "".join(json.dumps({"external_id": n, "email": f"u{n}@x.co", "n": n}) + "\n" for n in range(1500))
    assert dict(imported(db, tmp_path / "u.jsonl", text).results) == {"created": 1500}
    before = stored(db)
    assert dict(imported(db, tmp_path / "u.jsonl", text).results) == {"unchanged": 1500}
    assert stored(db) == before


def test_bad_rows_go_to_a_rejects_file_and_the_others_are_stored(db: Database, tmp_path: Path) -> None:
    path = tmp_path / "users.jsonl"
    lines: list[tuple[str, str | None]] = [
        ('{"external_id": "1"}', None),
        ("{nonsense", "not_json"),
        ("[1]", "wrong_shape"),
        ('{"plan": "pro"}', "no_identifier"),
        ('{"external_id": true}', "bad_identifier"),
        ('{"external_id": "' + "x" * 1001 + '"}', "bad_identifier"),
        ('{"email": "nobody"}', "bad_email"),
        ('{"external_id": "2", "created_at": "yesterday"}', "bad_time"),
        ('{"external_id": "2", "x": NaN}', "not_json"),
        ('{"external_id": "2", "x": "\\ud800"}', "not_json"),
        ("[" * 50_000 + "]" * 50_000, "not_json"),
        ('{"external_id": "5", "x": ' + "[" * 700 + "]" * 700 + "}", "too_deep"),
        ('{"external_id": "' + "語" * 400 + '"}', "bad_identifier"),
        ("", None),
        ('{"external_id": "3", "email": "A@x.co"}', None),
        ('{"external_id": "4", "email": "a@X.co"}', "email_taken"),
    ]
    summary = imported(db, path, "\n".join(line for line, _ in lines))
    expected = {number: reason for number, (_, reason) in enumerate(lines, start=1) if reason}
    found = rejects(path)
    assert {row["line"]: row["reason"] for row in found} == expected
    assert all(row["message"] for row in found)
    assert summary.rejected.total() == len(expected)
    assert [user["external_id"] for user in stored(db)] == ["1", "3"]


def test_a_row_of_the_wrong_width_is_rejected_with_its_line(db: Database, tmp_path: Path) -> None:
    path = tmp_path / "users.csv"
    imported(db, path, 'external_id,note\n1,"two\nlines"\n2\n3,x,y\n4,fine\n')
    assert [(row["line"], row["reason"]) for row in rejects(path)] == [(4, "wrong_columns"), (5, "wrong_columns")]
    assert [user["external_id"] for user in stored(db)] == ["1", "4"]


def test_a_column_that_is_a_value_and_a_group_is_rejected_where_both_are_given(db: Database, tmp_path: Path) -> None:
    path = tmp_path / "users.csv"
    imported(db, path, "external_id,account,account.name\n1,x,y\n2,,y\n3,x,\n")
    assert [row["line"] for row in rejects(path)] == [2]
    assert [user["attributes"] for user in stored(db)] == [{"account": {"name": "y"}}, {"account": "x"}]


def test_characters_that_no_store_takes_are_replaced_not_lost(db: Database, tmp_path: Path) -> None:
    imported(
        db, tmp_path / "u.jsonl", '{"external_id": "1", "note": "a\\u0000b", "big": 123456789012345678901234567890}\n'
    )
    assert stored(db)[0]["attributes"] == {"note": "a\ufffdb", "big": 123456789012345678901234567890}


def test_times_at_either_end_of_the_calendar_are_taken_and_come_back(db: Database, tmp_path: Path) -> None:
    """In a server's own time zone they could not be read back, and with them nobody else."""
    if db.dialect == "postgresql":
        name = db.url.database
        db.write(lambda c: c.exec_driver_sql(f"ALTER DATABASE {name} SET timezone = 'America/New_York'"))
        db.writer.dispose()
    text = (
        '{"external_id": "1", "created_at": "0001-01-01T00:00:00Z"}\n'
        '{"external_id": "2", "created_at": "9999-12-31T23:59:59Z"}\n'
    )
    imported(db, tmp_path / "u.jsonl", text)
    assert [user["created_at"].year for user in stored(db)] == [1, 9999]


def test_a_byte_order_mark_is_no_part_of_the_first_header(db: Database, tmp_path: Path) -> None:
    imported(db, tmp_path / "u.csv", b"\xef\xbb\xbfexternal_id,plan\n1,pro\n")
    assert stored(db)[0]["external_id"] == "1"
    imported(db, tmp_path / "u.jsonl", b'\xef\xbb\xbf{"external_id": "0"}\n')
    assert stored(db)[0]["external_id"] == "0"


def test_an_import_asks_for_a_pass(db: Database, tmp_path: Path) -> None:
    assert not db.read(runs.asked)
    imported(db, tmp_path / "u.csv", "external_id\n1\n")
    assert db.read(runs.asked)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("users.xlsx", b"x", "name the file .csv or .jsonl"),
        ("users.csv", b"", "is empty"),
        ("users.csv", b"name,plan\nx,y\n", "needs a column external_id, email or anonymous_id"),
        ("users.csv", b"external_id,plan,plan\n", "names a column twice: plan"),
        ("users.csv", "external_id,n\n1,ä\n".encode("latin-1"), "is not UTF-8"),
        ("users.csv", b"external_id,n\n1," + b"x" * 200_000 + b"\n", "can't be read as CSV"),
        ("absent.csv", None, "can't be read: No such file"),
    ],
)
def test_a_file_that_can_not_be_read_says_what_to_do(
    tmp_path: Path, name: str, content: bytes | None, words: str
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(errors.Misconfigured, match=words):
        rows.open_source(path)
