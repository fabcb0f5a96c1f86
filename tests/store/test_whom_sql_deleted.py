"""Plain SQL on SQLite checks no foreign keys by itself: a user may be gone while other rows still speak of them."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from connector import app
from connector.commands import sync
from connector.store import pending, schema
from connector.store.database import Database
from tests.places import Place, Sandbox
from tests.store import given, told
from tests.store.given import NOW
from tests.store.told import message


@pytest.fixture
def path(tmp_path: Path, migrated_sqlite: Path) -> Path:
    shutil.copyfile(migrated_sqlite, tmp_path / "connector.db")
    return tmp_path / "connector.db"


@pytest.fixture
def db(path: Path) -> Iterator[Database]:
    database = Database(f"sqlite:///{path}")
    yield database
    database.close()


def delete_users(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("DELETE FROM users")
    connection.commit()
    connection.close()


def test_what_named_a_user_who_is_gone_names_the_next_who_comes_with_it(db: Database, path: Path) -> None:
    told.tell(db, message("identify", "i1", user="1", anonymous="a", traits={"email": "ann@b.co"}))
    delete_users(path)
    told.tell(db, message("identify", "i2", user="1", anonymous="a", traits={"email": "ann@b.co", "plan": "pro"}))
    [(user_id, attributes)] = given.rows(db, schema.users, "id", "attributes")
    assert attributes == {"plan": "pro"}
    assert given.rows(db, schema.identifiers, "user_id") == [user_id] * 3


async def test_a_pending_row_of_nobody_ends(db: Database, path: Path, sandbox: Sandbox, tmp_path: Path) -> None:
    place = Place(tmp_path, f"sqlite:///{path}", sandbox.url)
    given.have(db, given.user("U1", external_id="1", email="ann@b.co"))
    db.write(pending.mark, ["U1"], NOW - timedelta(days=1), pending.CHANGED)
    delete_users(path)
    summary = await sync.sync(db, place.write().settings(), app.now)
    assert summary.exit_status == 0
    assert given.rows(db, schema.pending) == []
