"""`import users`: what rows of CSV and JSONL files become, on both stores."""

from __future__ import annotations

import dataclasses
import gzip
import json
import os
import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from connector import app, errors
from connector.commands import import_files
from connector.commands.rows.source import Options
from connector.records import Received
from connector.settings import Settings
from connector.store import export, inbox, runs, schema
from connector.store.database import Database
from tests.store import given
from tests.store.given import NOW

SETTINGS = Settings()


def imported(db: Database, path: Path, text: str | bytes) -> import_files.Summary:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return import_files.users(db, SETTINGS, path, app.now)


def stored(db: Database) -> list[dict[str, Any]]:
    return sorted(export.everything(db, "users", SETTINGS, app.now()), key=lambda user: user["external_id"] or "")


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
        ('{"external_id": "2", "x": "\\ud800"}', "bad_text"),
        ("[" * 50_000 + "]" * 50_000, "too_deep"),
        ('{"external_id": "2", "x": 1, "x": 2}', "duplicate_keys"),
        ('{"external_id": "2", "x": "' + "x" * 4_200_000 + '"}', "too_large"),
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
    assert not db.read(runs.asked, NOW)
    imported(db, tmp_path / "u.csv", "external_id\n1\n")
    assert db.read(runs.asked, NOW)


def test_rejects_are_readable_by_their_owner_alone_and_those_of_the_last_import(db: Database, tmp_path: Path) -> None:
    path = tmp_path / "u.csv"
    kept = path.with_name("u.csv.rejects.jsonl")
    kept.write_text("of an earlier import\n")
    kept.chmod(0o644)
    imported(db, path, "email\nnobody\n")
    assert kept.stat().st_mode & 0o777 == 0o600
    assert rejects(path) == [
        {"line": 2, "reason": "bad_email", "message": "the email is no address", "row": {"email": "nobody"}}
    ]
    imported(db, path, "email\na@b.co\n")
    assert not kept.exists()


def test_a_row_that_the_database_refuses_is_rejected_alone(db: Database, tmp_path: Path) -> None:
    """What a database can't hold is not always known before: here, a trigger says so."""
    db.write(_refuse, db.dialect)
    path = tmp_path / "u.jsonl"
    rows = [{"external_id": str(n), "email": "bad@x.co" if n == 1234 else f"u{n}@x.co"} for n in range(1, 1501)]
    summary = imported(db, path, "".join(json.dumps(row) + "\n" for row in rows))
    assert dict(summary.results) == {"created": 1499}
    assert [(row["line"], row["reason"]) for row in rejects(path)] == [(1234, "store_refused")]
    assert len(stored(db)) == 1499


def _refuse(connection: sa.Connection, dialect: str) -> None:
    if dialect == "sqlite":
        connection.exec_driver_sql(
            "CREATE TRIGGER refusing BEFORE INSERT ON users WHEN NEW.email = 'bad@x.co' "
            "BEGIN SELECT RAISE(ABORT, 'not this one'); END"
        )
    else:
        connection.exec_driver_sql("ALTER TABLE users ADD CONSTRAINT refusing CHECK (email <> 'bad@x.co')")


def test_columns_are_renamed_and_typed_as_asked(db: Database, tmp_path: Path) -> None:
    path = tmp_path / "u.csv"
    path.write_text("Customer No, E-MAIL ,Plan,Age,vip\n007,A@x.co,1,34,true\n8,b@x.co,2,old,false\n")
    options = Options(None, {"customer no": "external_id", "e-mail": "email"}, {"Plan": "text", "Age": "number"})
    import_files.one(db, SETTINGS, import_files.USERS, path, app.now, options)
    assert [(user["external_id"], user["email"], user["attributes"]) for user in stored(db)] == [
        ("007", "A@x.co", {"Plan": "1", "Age": 34, "vip": True})
    ]
    assert [(row["line"], row["reason"]) for row in rejects(path)] == [(3, "wrong_type")]


def test_headers_match_in_any_case_and_with_blanks_around(db: Database, tmp_path: Path) -> None:
    imported(db, tmp_path / "u.csv", " External_ID ;EMAIL;Last Name;\n1;a@x.co;Ä;\n")
    assert [(user["external_id"], user["email"], user["attributes"]) for user in stored(db)] == [
        ("1", "a@x.co", {"Last Name": "Ä"})
    ]


@pytest.mark.parametrize("name", ["u.csv.gz", "u.jsonl.gz", "u.jsonl"])
def test_a_gzip_is_read_whatever_it_is_called(db: Database, tmp_path: Path, name: str) -> None:
    text = b"external_id,plan\n1,pro\n" if "csv" in name else b'{"external_id": "1", "plan": "pro"}\n'
    summary = imported(db, tmp_path / name, gzip.compress(text, mtime=0))
    assert dict(summary.results) == {"created": 1}
    assert stored(db)[0]["attributes"] == {"plan": "pro"}


def test_a_gzip_that_is_cut_off_says_so_and_keeps_what_was_read(db: Database, tmp_path: Path) -> None:
    lines = "".join(json.dumps({"external_id": str(n), "noise": os.urandom(20).hex()}) + "\n" for n in range(4000))
    whole = gzip.compress(lines.encode(), mtime=0)
    with pytest.raises(errors.Failed, match="can't be read to its end: Compressed file ended"):
        imported(db, tmp_path / "u.jsonl.gz", whole[: len(whole) * 3 // 4])
    assert len(stored(db)) >= 1000


def stopping(after: int) -> import_files.Kind:
    """Users, until so many chunks were stored; the next one is written and not committed."""
    left = [after]

    def store(connection: sa.Connection, batch: Sequence[Any], now: datetime) -> Sequence[str]:
        words = import_files.USERS.store(connection, batch, now)
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        return words

    return dataclasses.replace(import_files.USERS, store=store)


def test_an_interrupted_import_goes_on_behind_the_last_chunk(db: Database, tmp_path: Path) -> None:
    path = tmp_path / "u.jsonl"
    rows = [{"email": f"u{n}@x.co" if n % 500 else "nobody", "n": n} for n in range(2500)]
    path.write_text("\n".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(KeyboardInterrupt):
        import_files.one(db, SETTINGS, stopping(after=1), path, app.now)
    assert len(stored(db)) == 998
    assert [row["line"] for row in rejects(path)][:2] == [1, 1001]
    moved = path.rename(tmp_path / "moved.jsonl")
    path.with_name("u.jsonl.rejects.jsonl").rename(tmp_path / "moved.jsonl.rejects.jsonl")
    summary = import_files.users(db, SETTINGS, moved, app.now)
    assert summary.went_on_at == 1001
    assert dict(summary.results) == {"created": 1497}
    assert [row["line"] for row in rejects(moved)] == [1, 1001, 2001, 3001, 4001]
    assert summary.rejected == {"bad_email": 5}
    assert given.rows(db, schema.imports) == []
    assert dict(import_files.users(db, SETTINGS, moved, app.now).results) == {"unchanged": 2495}


def test_an_interrupted_import_begins_anew_when_asked_or_read_in_another_way(db: Database, tmp_path: Path) -> None:
    path = tmp_path / "u.csv"
    path.write_text("external_id,n\n" + "".join(f"{n},{n}\n" for n in range(1500)))
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            import_files.one(db, SETTINGS, stopping(after=1), path, app.now)
        assert import_files.one(db, SETTINGS, import_files.USERS, path, app.now, restart=True).went_on_at == 0
    with pytest.raises(KeyboardInterrupt):
        import_files.one(db, SETTINGS, stopping(after=1), path, app.now)
    in_text = Options(None, {}, {"n": "text"})
    assert import_files.one(db, SETTINGS, import_files.USERS, path, app.now, in_text).results == {"updated": 1500}


def test_others_write_while_an_import_runs(db: Database, tmp_path: Path) -> None:
    path = tmp_path / "u.jsonl"
    path.write_text("".join(json.dumps({"external_id": str(n), "x": "y" * 200}) + "\n" for n in range(12_000)))
    over = threading.Event()
    waits = []

    def append() -> None:
        other = Database(db.url.render_as_string(hide_password=False).replace("+psycopg", ""))
        while not over.is_set():
            began = time.monotonic()
            other.write(inbox.append, inbox.CUSTOMERIO, [Received(str(len(waits)), NOW, b"{}")])
            waits.append(time.monotonic() - began)
            time.sleep(0.01)  # others write now and then; waiting for nothing, they would only slow each other
        other.close()

    def run() -> float:
        began = time.monotonic()
        try:
            import_files.users(db, SETTINGS, path, app.now)
        finally:
            over.set()
        return time.monotonic() - began

    _, took = given.at_once([append, run])
    assert len(waits) > 3
    assert max(waits) < max(5, took / 3)
