"""Indexes on attributes: made, used by what segments compile to, repaired, and gone when nobody lists them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from connector import indexing
from connector.settings import Attribute, Settings, Store
from connector.store import indexes, schema, segments, users
from connector.store.database import Database
from tests.store import given

INDEXED = ("plan", "account.name", "it's 100%", "n")
MANY = 5000

# A build is one transaction on SQLite.
on_postgresql = pytest.mark.parametrize("store_kind", ["postgresql"], indirect=True)


def made(db: Database) -> set[str]:
    """The names of the indexes on attributes that the store has."""
    catalogue = {
        "sqlite": "SELECT name FROM sqlite_master WHERE type = 'index'",
        "postgresql": "SELECT indexname FROM pg_indexes",
    }[db.dialect]
    found = db.read(lambda connection: connection.execute(sa.text(catalogue)).scalars().all())
    return {name for name in found if name.startswith(indexes.PREFIX)}


def have_many(db: Database) -> None:
    """So many users that reading them all would be the slower way, and the planner knows it."""
    numbers = [(number, number % 1000) for number in range(MANY)]
    rows = [
        given.user(
            f"U{number:05}",
            attributes={"plan": f"p{kind}", "account": {"name": f"a{kind}"}, "it's 100%": kind, "n": kind},
        )
        for number, kind in numbers
    ]
    db.write(lambda connection: users.add(connection, rows, []))


@pytest.fixture
def plans(db: Database) -> Iterator[list[str]]:
    """How the store goes about each query from here on."""
    found: list[str] = []
    explain = "EXPLAIN QUERY PLAN " if db.dialect == "sqlite" else "EXPLAIN "

    def explained(_: Connection, cursor: Any, statement: str, parameters: Any, context: Any, many: bool) -> None:
        if statement.lstrip().startswith("SELECT"):
            cursor.execute(explain + statement, parameters)
            found.append("\n".join(" ".join(map(str, row)) for row in cursor.fetchall()))

    sa.event.listen(sa.Engine, "before_cursor_execute", explained)
    yield found
    sa.event.remove(sa.Engine, "before_cursor_execute", explained)


@pytest.mark.parametrize(
    "condition",
    [
        Attribute("plan", "is", "p7"),
        Attribute("plan", "in", ("p7", "p8", "p9")),
        Attribute("account.name", "is", "a7"),
        Attribute("it's 100%", "is", 7),
        Attribute("n", "in", (7.0, 8)),
    ],
    ids=str,
)
def test_equality_with_an_indexed_attribute_is_looked_up_in_its_index(
    db: Database, plans: list[str], condition: Attribute
) -> None:
    have_many(db)
    assert indexes.apply(db, [condition.attribute]) == ((condition.attribute,), ())
    settings = Settings(segments={"s": condition}, store=Store(indexed_attributes=[condition.attribute]))

    plans.clear()
    assert db.read(segments.sizes, settings, given.NOW)["s"] in (5, 10, 15)

    assert made(db).pop() in plans[0], plans


def test_the_indexes_follow_the_settings(db: Database) -> None:
    assert indexes.apply(db, INDEXED) == (INDEXED, ())
    before = made(db)
    assert len(before) == len(INDEXED)
    assert indexes.apply(db, INDEXED) == ((), ())
    assert made(db) == before
    changes = indexes.apply(db, ["n", "new", "new"])
    assert changes is not None
    assert (changes.made, len(changes.dropped)) == (("new",), 3)
    assert len(made(db)) == 2
    assert indexes.apply(db, []) is not None
    assert made(db) == set()


def test_values_of_any_length_and_kind_are_stored_beside_an_index(db: Database) -> None:
    indexes.apply(db, ["a"])
    long = "".join(chr(0x4E00 + number % 20_000) for number in range(50_000))
    values = [long, [long] * 2, {"x": long}, 10**300, 1.5, True, None]
    found = [given.user(f"U{number}", attributes={"a": value}) for number, value in enumerate(values)]
    given.have(db, *found)
    settings = Settings(
        segments={
            "long": Attribute("a", "is", long),
            "half": Attribute("a", "is", 1.5),
            "true": Attribute("a", "is", True),
        },
        store=Store(indexed_attributes=["a"]),
    )
    assert db.read(segments.sizes, settings, given.NOW) == {"long": 1, "half": 1, "true": 1}


@on_postgresql
def test_what_an_interrupted_build_left_behind_is_built_anew(db: Database) -> None:
    indexes.apply(db, ["plan"])
    (name,) = made(db)
    invalidate = sa.text(f"UPDATE pg_index SET indisvalid = false WHERE indexrelid = '{name}'::regclass")
    db.write(lambda connection: connection.execute(invalidate))
    assert indexes.apply(db, ["plan"]) == (("plan",), ())
    valid = sa.text(f"SELECT indisvalid FROM pg_index WHERE indexrelid = '{name}'::regclass")
    assert db.read(lambda connection: connection.execute(valid).scalar_one())


@on_postgresql
def test_users_are_written_while_an_index_is_built(db: Database) -> None:
    """The build waits for what is open, and nobody waits for the build."""
    with ThreadPoolExecutor(1) as thread:
        with db.transaction() as held:
            users.add(held, [given.user("U1")], [])
            building = thread.submit(indexes.apply, db, ["plan"])
            while not db.read(waiting_builds):
                assert not building.done()
            given.have(db, given.user("U2"))
        assert building.result(30) == (("plan",), ())
    assert given.rows(db, schema.users, "id") == ["U1", "U2"]


@on_postgresql
async def test_a_stop_does_not_wait_for_a_build(db: Database) -> None:
    settings = Settings(store=Store(indexed_attributes=["plan", "n"]))
    stopping = asyncio.Event()
    with db.transaction() as held:
        users.add(held, [given.user("U1")], [])
        task = asyncio.create_task(indexing.run(db, lambda: settings, lambda: False, stopping))
        while not await db.run_read(waiting_builds):
            assert not task.done()
        stopping.set()
        await asyncio.wait_for(task, 10)
    assert indexes.apply(db, ["plan", "n"]) == (("plan", "n"), ())


async def test_the_task_applies_what_the_settings_list_and_what_an_edit_lists(db: Database) -> None:
    listed = [Settings(store=Store(indexed_attributes=["plan"]))]
    stopping = asyncio.Event()
    task = asyncio.create_task(indexing.run(db, lambda: listed[-1], lambda: False, stopping))
    for edit, expected in (((), 1), (("plan", "n"), 2), ((), 0)):
        listed.append(Settings(store=Store(indexed_attributes=edit)) if edit or not expected else listed[-1])
        async with asyncio.timeout(20):
            while len(await asyncio.to_thread(made, db)) != expected:
                assert not task.done()
    stopping.set()
    await asyncio.wait_for(task, 10)


async def test_what_a_process_with_an_older_file_dropped_is_made_again_after_a_while(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(indexing, "_ANEW", 0.0)
    for rest in ("_LOOK", "_AGAIN"):
        monkeypatch.setattr(indexing, rest, 0.01)
    settings = Settings(store=Store(indexed_attributes=["plan"]))
    stopping = asyncio.Event()
    task = asyncio.create_task(indexing.run(db, lambda: settings, lambda: False, stopping))
    await until_made(db, 1)
    await asyncio.to_thread(drop_all, db)
    await until_made(db, 1)
    stopping.set()
    await asyncio.wait_for(task, 10)


async def test_while_others_have_newer_settings_nothing_is_dropped(db: Database) -> None:
    indexes.apply(db, ["theirs"])
    settings = Settings(store=Store(indexed_attributes=["plan"]))
    is_stale = True
    stopping = asyncio.Event()
    task = asyncio.create_task(indexing.run(db, lambda: settings, lambda: is_stale, stopping))
    await until_made(db, 2)
    is_stale = False
    await until_made(db, 1)
    stopping.set()
    await asyncio.wait_for(task, 10)
    assert indexes.apply(db, ["plan"]) == ((), ())


async def until_made(db: Database, number: int) -> None:
    async with asyncio.timeout(20):
        while len(await asyncio.to_thread(made, db)) != number:
            await asyncio.sleep(0)


def drop_all(db: Database) -> None:
    while indexes.apply(db, []) is None:
        pass


def waiting_builds(connection: Connection) -> int:
    builds = "query LIKE 'CREATE INDEX CONCURRENTLY%' AND wait_event_type = 'Lock'"
    return connection.execute(sa.text(f"SELECT count(*) FROM pg_stat_activity WHERE {builds}")).scalar_one()


@on_postgresql
def test_while_one_process_builds_another_leaves_it_alone(db: Database) -> None:
    with db.transaction() as other:
        other.execute(sa.select(sa.func.pg_advisory_lock(indexes._LOCK)))
        assert indexes.apply(db, ["plan"]) is None
        other.execute(sa.select(sa.func.pg_advisory_unlock(indexes._LOCK)))
    assert indexes.apply(db, ["plan"]) == (("plan",), ())


def test_the_schema_has_no_index_on_an_attribute_of_its_own(db: Database) -> None:
    assert made(db) == set()
    assert not any(index.name.startswith(indexes.PREFIX) for index in schema.users.indexes if index.name)
