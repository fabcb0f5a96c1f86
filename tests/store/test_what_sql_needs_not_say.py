"""Whoever writes with plain SQL names what they know; the migration that allows it keeps what was there."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from connector.commands import export_events
from connector.core import ulid
from connector.records import Event
from connector.store import events, export, leases, migrate, pending, schema
from connector.store.database import Database
from tests.store import given
from tests.store.given import NOW, SETTINGS

BEFORE = "0004"
NEWER = {
    "ix_events_asked",
    "ix_events_due",
    "ix_events_parked",
    "ix_events_sent",
    "ix_events_skipped",
    "ix_events_user_id_occurred_at",
    "ix_mirror_left_at",
    "ix_mirror_deleted_at",
    "uq_mirror_live_customer_id",
    "pk_erased",
    "pk_facts",
    "ix_pending_parked",
    "pk_decided",
    "pk_gate",
    "pk_guarded",
    "pk_settings_revisions",
    "ix_settings_revisions_hash",
    "pk_throttle",
}
OTHERS_THEN = {"uq_mirror_customer_id", "ix_mirror_guarded", "ix_pending_due"}
TABLES = ("users", "identifiers", "events", "pending", "mirror", "attempts")


def execute(db: Database, *statements: str) -> None:
    def run(connection: Connection) -> None:
        for each in statements:
            connection.exec_driver_sql(each)

    db.write(run)


def shape(db: Database) -> dict[str, Any]:
    """Columns with their types, defaults and nullability, keys and constraints of every table."""
    look = sa.inspect(db.writer)
    return {
        table: {
            "columns": [{**each, "type": str(each["type"])} for each in look.get_columns(table)],
            "key": look.get_pk_constraint(table),
            "foreign": look.get_foreign_keys(table),
            "unique": look.get_unique_constraints(table),
            "checks": sorted(str(each["name"]) for each in look.get_check_constraints(table)),
        }
        for table in schema.metadata.tables
    }


def test_a_user_an_event_and_a_pending_row_of_whom_only_what_is_known_was_said(db: Database) -> None:
    execute(
        db,
        "INSERT INTO users (external_id) VALUES ('1')",
        "INSERT INTO events (user_id, name) SELECT id, 'Order Completed' FROM users",
        "INSERT INTO pending (user_id) SELECT id FROM users",
    )
    (user,), (event,) = given.rows(db, schema.users), given.rows(db, schema.events)
    now = datetime.now(UTC)
    for at in (user["first_seen_at"], user["updated_at"], event["occurred_at"], event["received_at"]):
        assert abs(now - at) < timedelta(minutes=1)
    assert (len(user["id"]), len(event["source_id"])) == (32, 32)
    assert (user["attributes"], user["known_by"], user["opted_out"], user["version"]) == ({}, "own", False, 1)
    assert (user["customerio"], user["preferences"]) == ({}, {})
    assert (event["source"], event["type"], event["properties"], event["context"]) == ("sql", "track", {}, {})
    assert (event["outbound"], event["activity_id"]) == ("none", None)
    (claim,) = db.write(leases.claim, "lease", now + timedelta(minutes=1), now + timedelta(minutes=2), 10)
    assert (claim.user_id, claim.attempts, claim.release) == (user["id"], 0, None)


def test_every_row_gets_a_random_id_of_its_own(db: Database) -> None:
    execute(db, "INSERT INTO users (external_id) VALUES ('1'), ('2'), ('3')")
    assert len(set(given.rows(db, schema.users, "id"))) == 3


def test_on_sqlite_a_time_is_written_as_the_connector_writes_it(db: Database, store_kind: str) -> None:
    if store_kind != "sqlite":
        return
    execute(db, "INSERT INTO users (id) VALUES ('by sql')")
    given.have(db, given.user("by us"))
    with sqlite3.connect(db.url.database or "") as connection:
        by_sql, by_us = (at for (at,) in connection.execute("SELECT updated_at FROM users ORDER BY id"))
    connection.close()
    assert by_us == "2026-03-01 12:00:00.000000"
    assert datetime.fromisoformat(by_sql).isoformat(" ", "microseconds") == by_sql


def test_export_shows_the_activity_id_that_follows_from_the_event(db: Database) -> None:
    execute(db, "INSERT INTO events (source_id, name) VALUES ('order 7', 'Order Completed')")
    (event,) = export_events.complete(export.everything(db, "events", SETTINGS, NOW))
    assert event["activity_id"] == ulid.activity_id("sql", "order 7", event["occurred_at"])


def test_the_metadata_makes_the_same_columns_and_defaults_as_the_migrations(db: Database, empty_store_url: str) -> None:
    made = Database(empty_store_url)
    schema.metadata.create_all(made.writer)
    for table, migrated in shape(db).items():
        columns = {each["name"]: (each["type"], each["nullable"], each["default"]) for each in migrated["columns"]}
        assert columns == {
            each["name"]: (each["type"], each["nullable"], each["default"]) for each in shape(made)[table]["columns"]
        }
    assert checks(db) == checks(made)
    made.close()


UNREADABLE = {
    "users": {
        "attributes": ("not json", "[1]", '"text"', "null", "{plan: 'pro'}"),
        "created_at": ("yesterday", "2024-02-31 09:30:00.000000", "0000-01-01 00:00:00", "infinity"),
        "updated_at": ("1700000000", "2024-05-17 24:30:00"),
        "first_seen_at": ("2024-05-17 09:60:00.000000",),
    },
    "events": {
        "properties": ("not json", "[1]"),
        "context": ("7",),
        "occurred_at": ("yesterday evening", "-infinity"),
        "received_at": ("17.05.2024",),
    },
    "pending": {"due_at": ("soon",)},
}


@pytest.mark.parametrize(
    ("table", "column", "value"),
    [(table, column, value) for table, of in UNREADABLE.items() for column, values in of.items() for value in values],
)
def test_what_nobody_could_read_is_refused_to_its_writer(
    db: Database, store_kind: str, table: str, column: str, value: str
) -> None:
    if store_kind == "postgresql" and value == "yesterday":
        return  # PostgreSQL knows when that was
    execute(db, "INSERT INTO users (id) VALUES ('there')")
    needed = {"users": ("id", "new"), "events": ("name", "x"), "pending": ("user_id", "there")}[table]
    quoted = value.replace("'", "''")
    statement = f"INSERT INTO {table} ({needed[0]}, {column}) VALUES ('{needed[1]}', '{quoted}')"
    with pytest.raises((sa.exc.IntegrityError, sa.exc.DataError)):
        execute(db, statement)


def test_on_sqlite_a_time_in_another_zone_is_refused_rather_than_read_as_utc(db: Database, store_kind: str) -> None:
    if store_kind != "sqlite":
        return
    with pytest.raises(sa.exc.IntegrityError):
        execute(db, "INSERT INTO users (created_at) VALUES ('2024-05-17T09:30:00+02:00')")
    execute(db, "INSERT INTO users (created_at, updated_at) VALUES (NULL, CURRENT_TIMESTAMP)")


@pytest.mark.parametrize(
    "at",
    [
        datetime.min.replace(tzinfo=UTC),
        datetime(2024, 2, 29, 23, 59, 59, 999_999, UTC),
        datetime.max.replace(tzinfo=UTC),
    ],
)
def test_every_time_that_can_be_read_can_be_written(db: Database, at: datetime) -> None:
    given.have(db, given.user("U1", created_at=at))
    assert given.rows(db, schema.users, "created_at") == [at]


def checks(db: Database) -> dict[str, dict[str, str]]:
    """What every table refuses, by the name of the check."""
    look = sa.inspect(db.writer)
    return {
        table: {str(each["name"]): str(each["sqltext"]) for each in look.get_check_constraints(table)}
        for table in schema.metadata.tables
    }


def test_up_and_down_keep_every_row_index_and_constraint_of_a_populated_store(empty_store_url: str) -> None:
    db = Database(empty_store_url)
    migrate.upgrade(db)
    given.have(
        db, *(given.user(f"U{each}", external_id=f"{each}", attributes={"n": each, "ä": [None]}) for each in range(9))
    )
    event = Event("import", "e1", "U1", "track", "x: y", {"a": 1}, {}, NOW, NOW, "an id", "due")
    db.write(events.add, [event])
    db.write(pending.mark, ["U1", "U2"], NOW, pending.CHANGED)
    given.sent(db, given.person("U3", attributes={"plan": "pro"}))
    execute(db, "INSERT INTO events (source_id, name) VALUES ('by sql', 'y')")
    before = shape(db)
    expression = """json_extract(attributes, '$."n: m"')""" if db.dialect == "sqlite" else "(attributes->'n: m')"
    execute(db, f'CREATE INDEX "a: hot one" ON users ({expression})')
    indexed = indexes(db)
    rows = {table: given.rows(db, schema.metadata.tables[table]) for table in TABLES}

    migrate.downgrade(db, BEFORE)
    with pytest.raises(sa.exc.IntegrityError):
        execute(db, "INSERT INTO users (external_id) VALUES ('10')")
    with pytest.raises(sa.exc.IntegrityError):
        execute(db, "INSERT INTO pending (user_id) VALUES ('U5')")
    kept = [each for each in indexes(db) if each[0] not in OTHERS_THEN]
    assert kept == [each for each in indexed if each[0] not in NEWER | OTHERS_THEN]
    by_sql = given.rows(db, schema.events, "source_id", "activity_id", "occurred_at")[-1]
    assert by_sql[:2] == ("by sql", ulid.activity_id("sql", "by sql", by_sql[2]))

    migrate.upgrade(db)
    assert indexes(db) == indexed
    execute(db, 'DROP INDEX "a: hot one"')
    assert shape(db) == before
    rows["events"] = [row | {"activity_id": row["activity_id"] or by_sql[1]} for row in rows["events"]]
    assert {table: given.rows(db, schema.metadata.tables[table]) for table in TABLES} == rows
    with pytest.raises(sa.exc.IntegrityError):
        db.write(pending.mark, ["nobody"], NOW, pending.CHANGED)
    with pytest.raises(sa.exc.IntegrityError):
        execute(db, "INSERT INTO events (source, source_id, name) VALUES ('import', 'e1', 'again')")
    execute(db, "INSERT INTO events (name) VALUES ('after')")
    assert given.rows(db, schema.events, "name") == ["x: y", "y", "after"]
    db.close()


def indexes(db: Database) -> list[Any]:
    """Every index as the store itself writes it, those on expressions included."""
    query = "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL ORDER BY name"
    if db.dialect == "postgresql":
        query = "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY indexname"
    return db.read(lambda connection: [tuple(each) for each in connection.exec_driver_sql(query)])
