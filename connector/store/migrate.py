"""Bringing a store's schema up to what this version expects.

The scripts stand in `migrations/` at the top of a checkout and travel as `connector/migrations` in a wheel.
On SQLite they run with foreign keys off, because a table rebuild with them on empties the child table, and
the keys are checked before the commit.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.engine import Connection

import connector
from connector import errors
from connector.store import database


def upgrade(db: database.Database, revision: str = "head") -> tuple[str | None, str | None]:
    """Migrates to `revision` in one transaction; returns the revisions before and after."""
    return _migrate(db, lambda config: command.upgrade(config, revision))


def downgrade(db: database.Database, revision: str) -> tuple[str | None, str | None]:
    """Migrates back to `revision` ("base" is an empty store) in one transaction."""
    return _migrate(db, lambda config: command.downgrade(config, revision))


def current(connection: Connection) -> str | None:
    """The store's revision; None when there is no store yet."""
    return MigrationContext.configure(connection).get_current_revision()


@functools.cache
def head() -> str | None:
    """The revision that this version expects."""
    return ScriptDirectory.from_config(_config()).get_current_head()


def require_current(db: database.Database) -> None:
    """Raises StoreBehind, with the command to run, unless the store is at this version's revision."""
    if db.dialect == "sqlite" and not Path(db.url.database or "").exists():
        raise errors.StoreBehind(f"there is no store at {db.url.database} yet: run `connector migrate` to make it")
    try:
        found = db.read(current)
    except sa.exc.DBAPIError as error:
        raise errors.Failed(f"the store can't be used: {str(error.orig).splitlines()[0]}") from error
    if found == head():
        return
    if found is None:
        raise errors.StoreBehind("the store has no tables yet: run `connector migrate` to make them")
    _require_known(found)
    raise errors.StoreBehind(f"the store is behind (at {found}, this version needs {head()}): run `connector migrate`")


def _require_known(revision: str | None) -> None:
    known = {script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()}
    if revision is not None and revision not in known:
        raise errors.StoreBehind(
            f"the store is at {revision}, which this version does not know: a newer connector made it; upgrade this one"
        )


def _migrate(db: database.Database, run: Callable[[Config], None]) -> tuple[str | None, str | None]:
    with db.writer.connect() as connection:
        sqlite = connection.dialect.name == "sqlite"
        if sqlite:
            # The pragma does nothing inside a transaction, so it comes before the one that SQLAlchemy begins.
            connection.connection.driver_connection.execute("PRAGMA foreign_keys = OFF")  # type: ignore[union-attr]
        try:
            with connection.begin():
                database.lock_migrations(connection)
                before = current(connection)
                _require_known(before)
                config = _config()
                config.attributes["connection"] = connection
                run(config)
                if sqlite and (broken := connection.exec_driver_sql("PRAGMA foreign_key_check").fetchall()):
                    raise errors.Failed(
                        f"the migration would leave {len(broken)} rows without their parent; nothing was changed"
                    )
                after = current(connection)
        finally:
            if sqlite:
                connection.connection.driver_connection.execute("PRAGMA foreign_keys = ON")  # type: ignore[union-attr]
    return before, after


def _config() -> Config:
    package = Path(connector.__file__).parent
    shipped = package / "migrations"
    config = Config()
    config.set_main_option("script_location", str(shipped if shipped.is_dir() else package.parent / "migrations"))
    return config
