"""The migrations and the metadata are one schema, on both stores."""

from __future__ import annotations

import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from connector.store import migrate, schema
from connector.store.database import Database


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
