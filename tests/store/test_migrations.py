"""The migrations and the metadata are one schema, on both stores."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from connector import errors
from connector.records import Identifier
from connector.store import migrate, schema, users
from connector.store.database import Database

ROOT = Path(__file__).parents[2]


def test_migrations_build_what_the_metadata_says(db: Database) -> None:
    with db.writer.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, schema.metadata) == []


def test_up_and_down_and_up_again(empty_store_url: str) -> None:
    db = Database(empty_store_url)
    assert migrate.upgrade(db) == (None, migrate.head())
    assert migrate.downgrade(db, "base") == (migrate.head(), None)
    assert sa.inspect(db.writer).get_table_names() == ["alembic_version"]
    assert migrate.upgrade(db) == (None, migrate.head())
    db.close()


def test_a_store_that_is_current_is_let_through(db: Database) -> None:
    migrate.require_current(db)


def test_an_empty_store_is_refused_with_the_command_to_run(empty_store_url: str) -> None:
    db = Database(empty_store_url)
    with pytest.raises(errors.StoreBehind, match="run `connector migrate`"):
        migrate.require_current(db)
    with db.writer.connect():
        pass  # on SQLite, the file is there now
    with pytest.raises(errors.StoreBehind, match="has no tables yet: run `connector migrate`"):
        migrate.require_current(db)
    db.close()


def test_a_store_at_an_unknown_revision_is_refused_and_the_way_out_is_told(db: Database) -> None:
    stamp(db, "from_the_future")
    with pytest.raises(errors.StoreBehind, match=r"at from_the_future, which this version does not know.*upgrade"):
        migrate.require_current(db)


def test_a_store_that_is_behind_is_refused_with_the_command_to_run(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrate, "head", lambda: "9999")
    with pytest.raises(errors.StoreBehind, match=r"the store is behind \(at .* needs 9999\): run `connector migrate`"):
        migrate.require_current(db)


def stamp(db: Database, revision: str) -> None:
    db.write(
        lambda connection: connection.execute(sa.text("UPDATE alembic_version SET version_num = :r"), {"r": revision})
    )


def test_processes_that_migrate_an_empty_store_at_once_all_succeed(empty_store_url: str) -> None:
    program = (
        "import sys; from connector.store import database, migrate; migrate.upgrade(database.Database(sys.argv[1]))"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", program, empty_store_url], cwd=ROOT, stderr=subprocess.PIPE)
        for _ in range(3)
    ]
    for process in running:
        _, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
    db = Database(empty_store_url)
    migrate.require_current(db)
    db.close()


def test_a_migration_keeps_foreign_keys_on_for_who_comes_after(db: Database) -> None:
    migrate.upgrade(db)
    with pytest.raises(sa.exc.IntegrityError):
        db.write(users.add, [], [(Identifier("email", "a@b.co"), "nobody")])
