"""Users whom plain SQL wrote are found by what names them, and nobody is there twice."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy.engine import Connection

from connector.inbound import adopting, upsert
from connector.records import Learnt
from connector.store import nameless, schema, users
from connector.store.database import Database
from tests.store import given
from tests.store.given import NOW, webhook


def write(db: Database, **values: Any) -> None:
    """A user as SQL writes one, without identifiers."""
    db.write(users.add, [given.user(values.pop("id"), **values)], [])


def change(db: Database, user_id: str, **values: Any) -> None:
    def run(connection: Connection) -> None:
        connection.execute(schema.users.update().where(schema.users.c.id == user_id).values(**values))

    db.write(run)


def adopt(db: Database) -> int:
    return adopting.adopt(db, lambda: NOW)


def named(db: Database) -> list[Any]:
    return given.rows(db, schema.identifiers, "kind", "value", "user_id")


def conflicts(db: Database) -> list[Any]:
    return given.rows(db, schema.conflicts, "user_id", "kind", "value", "count")


def test_a_written_user_is_named_by_external_id_and_email_in_lower_case(db: Database) -> None:
    write(db, id="U1", external_id="A1", email="Änn@Example.COM")
    assert adopt(db) == 1
    assert named(db) == [("email", "änn@example.com", "U1"), ("external_id", "A1", "U1")]
    assert given.rows(db, schema.users, "version", "email") == [(1, "Änn@Example.COM")]


def test_what_is_in_step_is_left_alone(db: Database) -> None:
    given.have(db, given.user("U1", external_id="1", email="Ann@B.co"), given.user("U2"))
    write(db, id="U3", external_id="", email="")
    given.read(db, webhook("a", identifiers={"id": "9", "email": "x@b.co"}))
    before = named(db)
    assert adopt(db) == 0
    assert named(db) == before


def test_a_second_look_finds_nobody_whatever_the_first_one_did(db: Database) -> None:
    given.have(db, given.user("U1", external_id="1", email="a@b.co"))
    write(db, id="U2", external_id="2", email="a@b.co")
    write(db, id="U3", external_id="3", email="c@b.co")
    assert adopt(db) == 2
    assert adopt(db) == 0
    assert conflicts(db) == [("U2", "email", "a@b.co", 1)]


def test_an_import_after_that_finds_the_written_user(db: Database) -> None:
    write(db, id="U1", external_id="1", email="a@b.co", attributes={"plan": "pro"})
    adopt(db)
    assert db.write(upsert.upsert, [given.row("1", seats=3)], NOW) == ["updated"]
    assert given.rows(db, schema.users, "id", "attributes") == [("U1", {"plan": "pro", "seats": 3})]


def test_a_changed_address_names_the_user_and_the_old_one_nobody(db: Database) -> None:
    given.have(db, given.user("U1", external_id="1", email="old@b.co"))
    change(db, "U1", email="new@b.co")
    adopt(db)
    assert named(db) == [("email", "new@b.co", "U1"), ("external_id", "1", "U1")]


def test_an_address_of_a_known_user_is_a_conflict_until_they_give_it_up(db: Database) -> None:
    given.have(db, given.user("U1", external_id="1", email="a@b.co"))
    write(db, id="U2", external_id="2", email="A@b.co")
    adopt(db)
    assert ("email", "a@b.co", "U1") in named(db)
    change(db, "U1", email="other@b.co")
    adopt(db)
    adopt(db)
    assert named(db) == [
        ("email", "a@b.co", "U2"),
        ("email", "other@b.co", "U1"),
        ("external_id", "1", "U1"),
        ("external_id", "2", "U2"),
    ]


def test_who_was_known_from_webhooks_becomes_the_written_user_and_stays_opted_out(db: Database) -> None:
    given.read(db, webhook("a", "customer.unsubscribed", identifiers={"id": "1", "email": "a@b.co", "cio_id": "c1"}))
    write(db, id="U1", external_id="1", email="a@b.co", attributes={"plan": "pro"})
    adopt(db)
    assert given.rows(db, schema.users, "id", "opted_out", "known_by") == [("U1", True, "own")]
    assert given.rows(db, schema.events, "user_id") == ["U1"]
    assert {user_id for _, _, user_id in named(db)} == {"U1"}


def test_who_had_left_only_an_address_becomes_the_written_user(db: Database) -> None:
    given.have(db, given.user("U0", email="a@b.co", attributes={"plan": "free", "from": "form"}))
    write(db, id="U1", external_id="1", email="a@b.co", attributes={"plan": "pro"})
    adopt(db)
    assert given.rows(db, schema.users, "id", "attributes") == [("U1", {"plan": "pro", "from": "form"})]


def test_a_row_for_an_external_id_that_is_there_already_becomes_one_user_with_it_and_keeps_the_person(
    db: Database,
) -> None:
    given.have(db, given.user("U0", external_id="1", attributes={"plan": "free", "seats": 2}))
    given.sent(db, given.person("U0", customer_id="1"))
    write(db, id="U1", external_id="1", attributes={"plan": "pro"})
    adopt(db)
    assert given.rows(db, schema.users, "id", "attributes") == [("U1", {"plan": "pro", "seats": 2})]
    assert given.rows(db, schema.mirror, "user_id", "customer_id") == [("U1", "1")]
    assert given.rows(db, schema.pending, "user_id") == ["U1"]


def test_two_rows_for_one_external_id_become_one_user(db: Database) -> None:
    write(db, id="U1", external_id="1", attributes={"a": 1})
    write(db, id="U2", external_id="1", attributes={"b": 2})
    adopt(db)
    assert given.rows(db, schema.users, "attributes") == [{"a": 1, "b": 2}]
    assert len(named(db)) == 1


def test_a_known_user_who_gets_the_external_id_of_another_is_not_merged_with_them(db: Database) -> None:
    given.have(db, given.user("U1", external_id="1"), given.user("U2", external_id="2"))
    change(db, "U1", external_id="2")
    adopt(db)
    assert given.rows(db, schema.users, "id") == ["U1", "U2"]
    assert conflicts(db) == [("U1", "external_id", "2", 1)]


def test_an_id_too_long_for_an_index_stops_nobody_else(db: Database) -> None:
    write(db, id="U1", external_id="é" * 3000, email="a@b.co")
    write(db, id="U2", external_id="2")
    adopt(db)
    assert named(db) == [("email", "a@b.co", "U1"), ("external_id", "2", "U2")]


def test_many_are_adopted_in_chunks_while_others_write(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nameless, "CHUNK", 3)
    db.write(users.add, [given.user(f"U{each:02}", external_id=f"{each}") for each in range(20)], [])
    times = []

    def clock() -> datetime:
        db.write(users.touch, ["U19"])
        times.append(1)
        return datetime.now(UTC)

    assert adopting.adopt(db, clock) == 20
    assert len(times) == 7
    assert len(named(db)) == 20


def test_what_was_learnt_moves_along_whoever_wrote_the_row(db: Database) -> None:
    given.have(db, given.user("U0", email="a@b.co"))
    learnt = Learnt(facts={"opened_at": 5})
    db.write(users.remember, {"U0": learnt}, NOW)
    write(db, id="U1", external_id="1", email="a@b.co")
    adopt(db)
    assert db.read(users.learnt, ["U1"]) == {"U1": learnt}


def test_the_look_at_everybody_uses_the_key_of_the_identifiers(db: Database, store_kind: str) -> None:
    if store_kind != "sqlite":
        return  # PostgreSQL reads the whole table once, which is faster here

    def plan(connection: Connection) -> list[str]:
        compiled = nameless.query().compile(connection, compile_kwargs={"literal_binds": True})
        return [row[-1] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {compiled}")]

    assert sum("SEARCH identifiers" in step and "kind=? AND value=?" in step for step in db.read(plan)) == 2
