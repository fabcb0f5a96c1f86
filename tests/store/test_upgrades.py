"""A store of an older version, with rows in every table that it had, comes up to this one and goes back as it was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from connector.commands import import_files
from connector.store import guarded, migrate
from connector.store.database import Database
from tests.store.given import NOW, SETTINGS

T = "2025-01-02 03:04:05.123456"
LATEST = "9999-12-31 23:59:59.999999"


def fill(connection: Connection) -> None:
    """Rows of the first schema, as its version wrote them; one of them has a name too long for an index."""
    have(connection, "holds", id=1, hash="h", what="create", reason="r", count=1, allowed=0, settings_hash="s", since=T)
    have(connection, "runs", kind="pass", state="done", started_at=T, counts="{}")
    have(connection, "workspace", id=1, environment_id="e")
    have(connection, "inbox", source="customerio", source_id="s", received_at=T, body="00", state="read")
    for number in ("1", "2"):
        user_id = f"U{number}"
        named = {"external_id": number, "email": f"Ann{number}@example.com", "attributes": '{"ä": {"b": [1, null]}}'}
        times = {"created_at": T, "first_seen_at": T, "updated_at": LATEST}
        have(connection, "users", id=user_id, **named, known_by="own", **times, opted_out=True, version=3)
        have(connection, "identifiers", kind="external_id", value=number, user_id=user_id)
        what = {"type": "track", "name": "n" * 3000, "properties": '{"a": 1}', "context": "{}"}
        event = {"source": "customerio", "source_id": number, "activity_id": "A", "outbound": "none"}
        have(connection, "events", user_id=user_id, **event, **what, occurred_at=T, received_at=LATEST)
        have(connection, "attempts", user_id=user_id, what="identify", calls=1, reason="r", message="m", at=T)
        sent = {"customer_id": number, "id_kind": "id", "attributes": "{}", "segment_bits": "1", "mapping_hash": "h"}
        have(connection, "mirror", user_id=user_id, **sent, version=1, sent_ts=1, created_at=T, synced_at=T)
        have(connection, "pending", user_id=user_id, due_at=T, priority=0, changed=False, attempts=2)
        have(connection, "held", what="create", user_id=user_id, hold_id=1)


def have(connection: Connection, table: str, **values: Any) -> None:
    written = ", ".join(f"'{value}'" if isinstance(value, str) else str(value) for value in values.values())
    connection.exec_driver_sql(f"INSERT INTO {table} ({', '.join(values)}) VALUES ({written})")


def everything(db: Database) -> dict[str, list[dict[str, Any]]]:
    def read(connection: Connection) -> dict[str, list[dict[str, Any]]]:
        found = {}
        for table in sa.inspect(connection).get_table_names():
            if table != "alembic_version":
                rows = connection.exec_driver_sql(f"SELECT * FROM {table}").mappings()
                found[table] = sorted((dict(row) for row in rows), key=repr)
        return found

    return db.read(read)


@pytest.mark.parametrize("start", ["0001", "0002", "0003", "0004"])
def test_a_populated_store_comes_up_works_and_goes_back_as_it_was(
    empty_store_url: str, tmp_path: Path, start: str
) -> None:
    db = Database(empty_store_url)
    migrate.upgrade(db, "0001")
    db.write(fill)
    migrate.upgrade(db, start)
    before = everything(db)
    assert all(before[table] for table in ("inbox", "users", "identifiers", "events", "mirror", "pending", "held"))

    migrate.upgrade(db)
    after = everything(db)
    for table, rows in before.items():
        for old, new in zip(rows, after[table], strict=True):
            assert new == new | old

    migrate.downgrade(db, start)
    assert everything(db) == before
    migrate.upgrade(db)
    assert everything(db) == after

    file = tmp_path / "users.csv"
    file.write_text("external_id,plan\n1,pro\n3,free\n")
    assert import_files.users(db, SETTINGS, file, lambda: NOW).results == {"created": 1, "updated": 1}
    db.close()


def test_what_the_guard_has_counted_still_counts_after_an_upgrade(empty_store_url: str) -> None:
    db = Database(empty_store_url)
    migrate.upgrade(db, "0006")

    def sent(connection: Connection) -> None:
        for number in range(5):
            name = f"U{number}"
            have(connection, "users", id=name, known_by="own")
            kept = {"attributes": "{}", "segment_bits": "", "mapping_hash": "", "version": 1, "sent_ts": 1}
            times = {"created_at": T, "synced_at": T} | ({"deleted_at": T} if number < 2 else {})
            let_go = {"release": "guard"} if number > 3 else {}
            have(connection, "mirror", user_id=name, customer_id=name, id_kind="id", **kept, **times, **let_go)

    db.write(sent)
    migrate.upgrade(db)
    before = NOW.replace(year=2025, month=1, day=1)
    assert (db.read(guarded.since, "delete", before), db.read(guarded.since, "create", before)) == (2, 1)
    migrate.downgrade(db, "0006")
    migrate.upgrade(db)
    assert db.read(guarded.since, "delete", before) == 2
    db.close()
