"""On PostgreSQL the tests of this tier share one database, emptied after each: making one costs more than most of them.

A test that altered the schema, or left a lock behind, costs the database; the next test gets a new one.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from connector.store import schema

FINGERPRINT = sa.text("""
    SELECT (SELECT count(*) FROM pg_class), (SELECT count(*) FROM pg_constraint),
           (SELECT count(*) FROM pg_trigger), (SELECT max(version_num) FROM alembic_version)
""")


class Shared:
    """The database, made when it is needed."""

    def __init__(self, server: sa.URL, template: str) -> None:
        self._server = server.set(drivername="postgresql+psycopg")
        self._template = template
        self._engine: sa.Engine | None = None
        self._fingerprint: Any = None

    def url(self) -> str:
        if self._engine is None:
            name = f"connector_{os.urandom(6).hex()}"
            self._administer(f"CREATE DATABASE {name} TEMPLATE {self._template}")
            self._engine = sa.create_engine(self._server.set(database=name), poolclass=sa.NullPool)
            with self._engine.connect() as connection:
                self._fingerprint = connection.execute(FINGERPRINT).one()
        return self._engine.url.set(drivername="postgresql").render_as_string(hide_password=False)

    def empty(self) -> None:
        """Without TRUNCATE, which makes every table's files anew."""
        assert self._engine is not None
        try:
            with self._engine.begin() as connection:
                connection.execute(sa.text("SET LOCAL lock_timeout = '2s'"))
                if connection.execute(FINGERPRINT).one() == self._fingerprint:
                    for table in reversed(schema.metadata.sorted_tables):
                        connection.execute(sa.delete(table))
                        if "id" in table.c and table.c.id.identity is not None:
                            sequence = sa.func.pg_get_serial_sequence(table.name, "id")
                            connection.execute(sa.select(sa.func.setval(sequence, 1, sa.false())))
                    return
        except sa.exc.DBAPIError:
            pass  # what is wrong with it was the test's to say
        self.drop()

    def drop(self) -> None:
        if self._engine is not None:
            self._administer(f"DROP DATABASE {self._engine.url.database} WITH (FORCE)")
            self._engine = None

    def _administer(self, statement: str) -> None:
        engine = sa.create_engine(self._server, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
        with engine.connect() as connection:
            connection.exec_driver_sql(statement)


@pytest.fixture(scope="session")
def shared_postgres(postgres_server: sa.URL, migrated_postgres: str) -> Iterator[Shared]:
    """One database for all."""
    shared = Shared(postgres_server, migrated_postgres)
    yield shared
    shared.drop()


@pytest.fixture
def store_url(store_kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of an empty, migrated store that nobody else uses meanwhile."""
    if store_kind == "sqlite":
        path = tmp_path / "connector.db"
        shutil.copyfile(request.getfixturevalue("migrated_sqlite"), path)
        yield f"sqlite:///{path}"
        return
    shared: Shared = request.getfixturevalue("shared_postgres")
    yield shared.url()
    shared.empty()
