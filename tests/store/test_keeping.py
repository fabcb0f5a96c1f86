"""Tasks begin again after a failure, and a store that is away is said once, and found again."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
import structlog

from connector import keeping
from connector.keeping import Keeper
from connector.store import database, driver_errors
from connector.store.database import Database


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "_PAUSE_AFTER_FAILURE", 0.01)
    monkeypatch.setattr(keeping, "_FIRST_LOOK", 0.01)


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    # Where the log goes was settled by whichever test configured it first.
    monkeypatch.setattr(keeping, "_log", structlog.get_logger())
    with structlog.testing.capture_logs() as lines:
        yield lines


def sqlite_error(name: str, code: int) -> sa.exc.OperationalError:
    original = Exception(name)
    original.sqlite_errorcode, original.sqlite_errorname = code, name  # type: ignore[attr-defined]
    return sa.exc.OperationalError("INSERT", {}, original)


BUSY = ("SQLITE_BUSY", 5)


class Task:
    """Fails so many times, then ends."""

    def __init__(self, *failures: Exception) -> None:
        self.failures = list(failures)
        self.began = 0

    async def run(self) -> None:
        self.began += 1
        if self.failures:
            raise self.failures.pop(0)


async def test_a_task_that_fails_begins_again_with_its_reason_in_the_log(db: Database, said: list[Any]) -> None:
    task = Task(ZeroDivisionError(), ZeroDivisionError())
    await Keeper(db).keep("passes", task.run)
    assert task.began == 3
    assert [(line["event"], line["task"], line["error"]) for line in said] == [
        ("task_failed", "passes", "ZeroDivisionError")
    ] * 2
    assert all(isinstance(line["exc_info"], ZeroDivisionError) for line in said)


async def test_all_tasks_wait_for_one_look_at_a_store_that_is_away(db: Database, said: list[Any]) -> None:
    keeper = Keeper(db)
    tasks = [Task(sqlite_error(*BUSY)) for _ in range(3)]
    await asyncio.gather(*(keeper.keep("one", task.run) for task in tasks))
    assert [task.began for task in tasks] == [2, 2, 2]
    assert [line["event"] for line in said] == ["store_unreachable", "store_reachable"]
    assert said[0]["error"] == "SQLITE_BUSY"
    assert "exc_info" not in said[0]
    assert not keeper.store_is_away


async def test_a_store_that_comes_and_goes_is_looked_at_ever_more_seldom(
    db: Database, said: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "_LAST_LOOK_WHEN_UNSTABLE", 0.05)
    keeper = Keeper(db)
    looks: list[float] = []

    class Seen(Task):
        async def run(self) -> None:
            looks.append(keeper._look)
            await super().run()

    await keeper.keep("one", Seen(*(sqlite_error("SQLITE_FULL", 13) for _ in range(4))).run)
    assert looks == [0.01, 0.01, 0.02, 0.04, 0.05]
    assert [line["event"] for line in said] == ["store_unreachable", "store_reachable"] * 4


async def test_what_is_away_at_a_stop_is_waited_for_no_longer(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "_FIRST_LOOK", 60)
    keeper = Keeper(db)
    task = Task(sqlite_error(*BUSY))
    kept = asyncio.create_task(keeper.keep("one", task.run))
    await asyncio.sleep(0.05)
    assert keeper.store_is_away
    keeper.stop()
    async with asyncio.timeout(5):
        await kept
    assert task.began == 1, "it isn't begun again"


def test_what_says_that_the_store_is_away(db: Database) -> None:
    def why(statement: str, *, ends: bool = False) -> str | None:
        with pytest.raises(sa.exc.DBAPIError) as raised:
            db.write(lambda connection: connection.execute(sa.text(statement)))
        assert raised.value.connection_invalidated == ends
        return driver_errors.unreachable(raised.value)

    assert why("SELECT 1 FROM nothing_of_that_name") is None
    assert why("INSERT INTO users (id) VALUES (NULL)") is None
    if db.dialect == "postgresql":
        assert why("SELECT pg_terminate_backend(pg_backend_pid())", ends=True) == "AdminShutdown"
        assert why("SELECT 1 / 0") is None
        assert why("SET LOCAL statement_timeout = 1; SELECT pg_sleep(1)") == "QueryCanceled"
        assert why("SET TRANSACTION READ ONLY; DELETE FROM users") == "ReadOnlySqlTransaction"
    assert driver_errors.unreachable(ZeroDivisionError()) is None
    extended = 8 | (1 << 8)
    assert driver_errors.unreachable(sqlite_error("SQLITE_READONLY_RECOVERY", extended)) == "SQLITE_READONLY_RECOVERY"
    assert driver_errors.unreachable(sqlite_error("SQLITE_ERROR", 1)) is None


def test_a_server_that_is_not_there_is_away() -> None:
    nowhere = Database("postgresql://nobody@127.0.0.1:1/nothing")
    with pytest.raises(sa.exc.OperationalError) as raised:
        nowhere.write(database.try_to_write)
    assert driver_errors.unreachable(raised.value) == "OperationalError"
    nowhere.close()


def test_trying_to_write_changes_nothing(db: Database) -> None:
    if db.dialect == "sqlite":
        db.write(lambda connection: connection.exec_driver_sql("PRAGMA user_version = 7"))
    db.write(database.try_to_write)
    if db.dialect == "sqlite":
        assert db.read(lambda connection: connection.exec_driver_sql("PRAGMA user_version").scalar_one()) == 7


def test_of_many_who_stand_in_line_for_a_locked_file_only_the_first_waits_long(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    if db.dialect == "postgresql":
        return  # nobody stands in line there
    monkeypatch.setattr(database, "BUSY_AGAIN_SECONDS", 0)
    assert db.url.database is not None
    other = sqlite3.connect(db.url.database, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    waited = []
    for _ in range(3):
        began = time.monotonic()
        with pytest.raises(sa.exc.OperationalError, match="locked"):
            db.write(database.try_to_write)
        waited.append(time.monotonic() - began)
    assert waited[0] > database.BUSY_SECONDS - 1
    assert max(waited[1:]) < 1
    other.execute("ROLLBACK")
    db.write(database.try_to_write)
    assert db._busy_seconds() == database.BUSY_SECONDS, "it was free: who comes next waits as long as ever"
    other.close()
