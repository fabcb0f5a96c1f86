"""Transactions: durable, isolated, never quietly lost, and silent about people's data."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from connector import errors
from connector.records import Identifier
from connector.store import alone, schema, users
from connector.store.database import Database
from tests.store import given
from tests.store.given import NOW

ROOT = Path(__file__).parents[2]


def grow(connection: Connection) -> None:
    """One more: read, then written, as a careless program would."""
    version = connection.execute(sa.select(schema.users.c.version).where(schema.users.c.id == "U1")).scalar_one()
    connection.execute(sa.update(schema.users).values(version=version + 1))


def grow_in_one(connection: Connection) -> None:
    """One more, in one statement."""
    connection.execute(sa.update(schema.users).values(version=schema.users.c.version + 1))


def version(db: Database) -> int:
    [found] = given.rows(db, schema.users, "version")
    assert isinstance(found, int)
    return found


def test_a_write_in_a_read_is_refused(db: Database) -> None:
    given.have(db, given.user("U1"))
    with pytest.raises(sa.exc.DBAPIError):
        db.read(grow_in_one)
    with pytest.raises(sa.exc.DBAPIError):
        db.read(users.add, [given.user("U2")], [])
    assert version(db) == 1


def test_reads_and_writes_take_turns_on_the_same_connections(db: Database) -> None:
    given.have(db, given.user("U1"))
    for turn in range(1, 6):
        assert version(db) == turn
        db.write(grow_in_one)


def test_eighty_increments_at_once_lose_nothing(db: Database, store_url: str) -> None:
    given.have(db, given.user("U1", version=0))
    stores = [Database(store_url) for _ in range(4)]

    def grow_often(own: Database) -> None:
        for _ in range(10):
            own.write(grow if db.dialect == "sqlite" else grow_in_one)

    given.at_once([partial(grow_often, own) for own in stores * 2])
    for own in stores:
        own.close()
    assert version(db) == 80


async def test_increments_on_the_database_threads_lose_nothing(db: Database) -> None:
    given.have(db, given.user("U1", version=0))
    under_lock = grow if db.dialect == "sqlite" else grow_in_one
    await asyncio.gather(*(db.run(under_lock) for _ in range(40)), *(db.run_append(under_lock) for _ in range(40)))
    assert await db.run_read(lambda connection: connection.execute(sa.select(schema.users.c.version)).scalar()) == 80


def test_a_transaction_that_fails_leaves_nothing(db: Database) -> None:
    def fails(connection: Connection) -> None:
        users.add(connection, [given.user("U1")], [])
        raise LookupError

    with pytest.raises(LookupError):
        db.write(fails)
    assert db.read(users.count) == 0


def test_a_read_sees_nothing_of_a_write_under_way(db: Database) -> None:
    with db.transaction() as connection:
        users.add(connection, [given.user("U1")], [])
        assert db.read(users.count) == 0
    assert db.read(users.count) == 1


def test_foreign_keys_are_enforced(db: Database) -> None:
    with pytest.raises(sa.exc.IntegrityError):
        db.write(users.add, [], [(Identifier("email", "a@b.co"), "nobody")])
    given.have(db, given.user("U1", email="a@b.co"))
    with pytest.raises(sa.exc.IntegrityError):
        db.write(lambda connection: connection.execute(sa.delete(schema.users)))


def test_every_commit_is_durable(db: Database) -> None:
    def setting(name: str) -> object:
        with db.writer.connect() as connection:
            return connection.exec_driver_sql(f"{'PRAGMA' if db.dialect == 'sqlite' else 'SHOW'} {name}").scalar()

    if db.dialect == "sqlite":
        assert (setting("journal_mode"), setting("synchronous"), setting("foreign_keys")) == ("wal", 2, 1)
    else:
        assert setting("synchronous_commit") == "on"


SECRET = "ann.secret@example.com"


def test_the_text_of_an_error_never_holds_a_value(db: Database) -> None:
    given.have(db, given.user("U1", email=SECRET))

    def twice(connection: Connection) -> None:
        users.add(connection, [], [(Identifier("email", SECRET), "U1")])

    def many(connection: Connection) -> None:
        users.add(connection, [], [(Identifier("email", f"{number}"), "U1") for number in range(3)])
        users.add(connection, [given.user("U2", known_by=None, email=SECRET, attributes={"name": SECRET})], [])

    def too_long(connection: Connection) -> None:
        noise = SECRET + os.urandom(20_000).hex()
        users.add(connection, [], [(Identifier("email", noise), "U1"), (Identifier("email", SECRET), "U1")])

    def no_json(connection: Connection) -> None:
        connection.execute(sa.update(schema.users).values(attributes={"name": f"{SECRET}\0"}))
        connection.execute(sa.update(schema.users).values(known_by=None))

    def naive(connection: Connection) -> None:
        users.add(connection, [given.user(SECRET, created_at=NOW.replace(tzinfo=None))], [])

    for fails in (twice, many, too_long, no_json, naive):
        with pytest.raises((sa.exc.StatementError, ValueError)) as caught:
            db.write(fails)
        error: BaseException | None = caught.value
        while error is not None:
            for told in (str(error), repr(error), *(str(each) for each in error.args)):
                assert SECRET not in told, fails.__name__
            error = error.__cause__ or error.__context__


def test_an_error_still_says_what_kind_it_is(db: Database) -> None:
    given.have(db, given.user("U1", email="a@b.co"))
    with pytest.raises(sa.exc.IntegrityError, match=r"(?i)unique.*identifiers|identifiers.*unique"):
        db.write(users.add, [], [(Identifier("email", "a@b.co"), "U1")])


HOLD = """
import sys
from connector.store import alone
with alone.only_one(sys.argv[1], "serve"):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_connector_on_one_sqlite_file_is_refused_and_postgresql_takes_any_number(store_url: str) -> None:
    first = subprocess.Popen(
        [sys.executable, "-c", HOLD, store_url], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert first.stdout is not None
    assert first.stdout.readline() == "held\n"
    if store_url.startswith("sqlite"):
        refused = pytest.raises(errors.Misconfigured, match="another connector runs on")
        with refused, alone.only_one(store_url, "serve"):
            pass
    else:
        with alone.only_one(store_url, "serve"):
            pass
    first.communicate(timeout=30)
    with alone.only_one(store_url, "serve"):
        pass


def test_a_look_at_who_runs_on_a_sqlite_file_keeps_nobody_from_starting(store_url: str) -> None:
    assert not alone.is_taken(store_url, "work")
    with alone.only_one(store_url, "work"):
        assert alone.is_taken(store_url, "work") == store_url.startswith("sqlite")
        assert not alone.is_taken(store_url, "serve")
    assert not alone.is_taken(store_url, "work")


def test_a_lock_whose_holder_was_killed_is_free(store_url: str) -> None:
    first = subprocess.Popen(
        [sys.executable, "-c", HOLD, store_url], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert first.stdout is not None
    assert first.stdout.readline() == "held\n"
    first.kill()
    first.communicate(timeout=30)
    with alone.only_one(store_url, "serve"):
        pass


@pytest.mark.parametrize("scheme", ["postgres", "postgresql"])
def test_a_dsn_as_people_paste_it_gets_our_driver(scheme: str) -> None:
    db = Database(f"{scheme}://user:secret@host:5432/store?sslmode=require")
    assert (db.dialect, db.url.drivername, db.url.query["sslmode"]) == ("postgresql", "postgresql+psycopg", "require")
    assert "secret" not in repr(db.url)
    db.close()


@pytest.mark.parametrize("url", ["postgresql://host:port/store", "no url at all", "://"])
def test_a_url_that_cannot_be_read_is_told_without_quoting_it(url: str) -> None:
    with pytest.raises(errors.Misconfigured, match=r"store.url can't be read") as caught:
        Database(url)
    assert url not in str(caught.value)


def test_a_folder_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(errors.Misconfigured, match=r"the folder .*missing does not exist; create it first"):
        Database(f"sqlite:///{tmp_path}/missing/connector.db")
