"""What is kept of who was erased, and how all the rest goes."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from connector import errors
from connector.commands import erase
from connector.inbound import adopting, forgetting
from connector.records import CustomerId, Identifier, Received
from connector.store import database, erasure, inbox, kept_out, retention, schema, users
from connector.store.database import Database
from tests.store import given, meanwhile, told
from tests.store.given import NOW, SETTINGS
from tests.store.told import message

NAMES = [Identifier("external_id", "42"), Identifier("email", "ann@b.co"), Identifier("anonymous_id", "device")]
KEY = b"k" * kept_out.KEY_BYTES


def begin(db: Database, *user_ids: str, sent: str = "42") -> erasure.Erasure:
    def begun(connection: Connection) -> erasure.Erasure:
        database.lock_identities(connection)
        return erasure.begin(connection, erasure.with_merged(connection, user_ids), [CustomerId("id", sent)], NOW)

    return db.write(begun)


def test_a_hash_says_nothing_without_its_key_and_is_another_for_each_kind() -> None:
    hashes = {
        kept_out.hashed(KEY, "external_id", "42"),
        kept_out.hashed(KEY, "customer_id", "42"),
        kept_out.hashed(b"another key", "external_id", "42"),
    }
    assert len(hashes) == 3
    assert kept_out.hashed(KEY, "email", "Ann@B.co") == kept_out.hashed(KEY, "email", "ann@b.co")
    assert kept_out.hashed(KEY, "external_id", "A") != kept_out.hashed(KEY, "external_id", "a")


def test_before_the_first_erasure_nobody_is_kept_out_and_there_is_no_key(db: Database) -> None:
    assert db.read(kept_out.among, NAMES) == frozenset()
    assert db.read(kept_out.of_value, "42") == []
    assert given.rows(db, schema.facts) == []


def test_each_store_has_a_key_of_its_own_and_keeps_it(db: Database) -> None:
    db.write(kept_out.add, NAMES[:1], NOW)
    [(_, key)] = given.rows(db, schema.facts, "name", "value")
    db.write(kept_out.add, NAMES[1:], NOW)
    assert given.rows(db, schema.facts, "name", "value") == [("erasure_key", key)]
    assert len(bytes.fromhex(key["key"])) == kept_out.KEY_BYTES
    assert db.read(kept_out.among, [*NAMES, Identifier("email", "ben@b.co")]) == frozenset(NAMES)


def test_begun_again_it_is_the_same_erasure(db: Database) -> None:
    given.have(db, given.user("U1", external_id="42", email="Ann@b.co"))
    first = begin(db, "U1")
    later = db.write(kept_out.add, [("email", "ann@b.co"), ("email", "new@b.co")], NOW + timedelta(days=1))
    assert (begin(db, "U1"), later) == (first, NOW)
    assert first.names == {*NAMES[:2], Identifier("customer_id", "42")}
    assert first.known_as == (CustomerId("email", "ann@b.co"), CustomerId("id", "42"))


def test_what_names_somebody_else_is_not_theirs(db: Database) -> None:
    given.have(
        db,
        given.user("U1", external_id="42"),
        given.user("U2", external_id="43", email="ben@b.co"),
        given.user("U3", external_id="c9"),
    )
    given.sent(db, given.person("U2", customer_id="c1"))
    with db.transaction() as connection:
        connection.execute(sa.update(schema.users).where(schema.users.c.id == "U1").values(email="Ben@b.co"))
    for rival in ("c1", "c9"):
        assert begin(db, "U1", sent=rival).names == {NAMES[0]}
    # A dead mirror's id, too, that a living person has by now.
    given.sent(db, given.person("U3", customer_id="c2", deleted_at=NOW), given.person("U1", customer_id="c2"))
    assert begin(db, "U3", sent="c9").known_as == (CustomerId("id", "c9"),)


def test_more_events_than_a_page_go_page_by_page(db: Database) -> None:
    given.have(db, given.user("U1", external_id="42"), given.user("U2", external_id="43"))
    event = {"name": "Paid", "occurred_at": NOW, "received_at": NOW}
    rows = [{**event, "source_id": f"{owner}-{n}", "user_id": owner} for owner in ("U1", "U2") for n in range(2500)]
    with db.transaction() as connection:
        connection.execute(sa.insert(schema.events), rows)
    begun = begin(db, "U1")
    assert [db.write(erasure.remove_events, begun.user_ids) for _ in range(3)] == [2000, 500, 0]
    assert set(given.rows(db, schema.events, "user_id")) == {"U2"}
    assert db.write(erasure.finish, begun)["users"] == 1


def test_the_raw_message_of_an_event_of_theirs_is_emptied_whomever_it_names(db: Database) -> None:
    told.tell(db, message("track", "m1", user="42"))
    [user_id] = given.rows(db, schema.users, "id")
    db.write(erasure.remove_events, [user_id])
    assert given.rows(db, schema.inbox, "body", "state", "reason") == [(b"", "ignored", "erased")]


def test_unreadable_messages_go_when_one_of_their_longer_identifiers_stands_in_them(db: Database) -> None:
    wrapped = json.dumps({"unreadable": base64.b64encode(b'{"to":"ANN@b.co",').decode()}).encode()
    bodies = {
        "plain": b"to Ann@b.co, and no JSON",
        "wrapped": wrapped,
        "somebody-else": b"to joann@b.com, and no JSON",
        "short": b"42, and no JSON",
        "new": b'{"message": {"type": "identify", "userId": "42"}}',
    }
    rows = [Received(name, NOW, body, None if name == "new" else "not_json") for name, body in bodies.items()]
    db.write(inbox.append, inbox.INTAKE, rows)
    assert forgetting.forget(db, SETTINGS, frozenset(NAMES)) == 2
    left = {name: body for name, body in given.rows(db, schema.inbox, "source_id", "body") if body}
    assert sorted(left) == ["new", "short", "somebody-else"]  # what is new is the reader's


def test_messages_are_looked_through_in_portions_of_bytes(db: Database) -> None:
    large = b"x" * (3 * 1024 * 1024)
    rows = [Received(str(n), NOW, b'{"to": "ann@b.co" ' + large, "not_json") for n in range(3)]
    db.write(inbox.append, inbox.CUSTOMERIO, rows)
    assert len(db.read(erasure.messages, 0, 99)) == 1
    assert forgetting.forget(db, SETTINGS, frozenset(NAMES)) == 3


@meanwhile.on_postgresql
def test_messages_behind_a_page_that_retention_empties_meanwhile_are_looked_through(
    store_url: str, db: Database
) -> None:
    old = given.received(given.webhook("1", recipient="x" * 5_000_000), at=NOW - timedelta(days=60))
    db.write(inbox.append, inbox.CUSTOMERIO, old)
    db.write(lambda connection: connection.execute(sa.update(schema.inbox).values(state="read")))
    db.write(inbox.append, inbox.CUSTOMERIO, [Received("2", NOW, b"to ann@b.co, and no JSON", "not_json")])
    month_ago = NOW - timedelta(days=30)
    page = db.read(retention.old_webhooks, month_ago, 0)
    assert page is not None
    with meanwhile.other(db, store_url) as other:

        def delete() -> None:
            assert other.db.write(retention.delete_webhooks, month_ago, page) == 1

        with meanwhile.before(db, "SELECT inbox.id, inbox.source,", delete):
            assert forgetting.forget(db, SETTINGS, frozenset(NAMES)) == 1


def test_a_message_that_names_a_living_user_more_strongly_is_theirs(db: Database) -> None:
    told.tell(db, message("track", "m1", user="43", anonymous="device"), message("track", "m2", anonymous="device"))
    assert forgetting.forget(db, SETTINGS, frozenset(NAMES)) == 1
    assert [bool(body) for body in given.rows(db, schema.inbox, "body")] == [True, False]


def test_a_row_of_sql_gets_no_name_that_was_an_erased_persons(db: Database) -> None:
    db.write(kept_out.add, NAMES, NOW)
    with db.transaction() as connection:
        connection.execute(sa.text("INSERT INTO users (external_id, email) VALUES ('42', 'x@b.co'), ('43', 'y@b.co')"))
    adopting.adopt(db, lambda: NOW)
    assert given.rows(db, schema.identifiers, "value") == ["y@b.co", "43"]
    assert len(db.read(erasure.written_again, "42")) == 1
    assert len(db.read(erasure.written_again, "X@b.co")) == 1
    assert db.read(erasure.written_again, "43") == []


def test_who_is_kept_out_is_looked_up_by_the_key_of_the_table(db: Database) -> None:
    db.write(kept_out.add, [("email", f"{n}@b.co") for n in range(3000)], NOW)
    with db.writer.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("ANALYZE")
    plans: list[str] = []
    explain = "EXPLAIN QUERY PLAN " if db.dialect == "sqlite" else "EXPLAIN "

    def explained(_connection, cursor, statement, parameters, _context, _many):  # type: ignore[no-untyped-def]
        if "erased" in statement:
            cursor.execute(explain + statement, parameters)
            plans.append(" ".join(str(column) for row in cursor.fetchall() for column in row))

    sa.event.listen(db.writer, "before_cursor_execute", explained)
    db.write(kept_out.among, [Identifier("email", f"{n}@b.co") for n in range(250)])
    sa.event.remove(db.writer, "before_cursor_execute", explained)
    [plan] = plans
    key = "sqlite_autoindex_erased_1" if db.dialect == "sqlite" else "pk_erased"
    assert key in plan
    assert "Seq Scan on erased" not in plan
    assert "SCAN erased" not in plan


def just_before_it_begins(step: Callable[[], object]) -> Callable[[], datetime]:
    """The clock of an erasure: looked at when what has arrived is read, and when it begins."""
    looked = []

    def clock() -> datetime:
        looked.append(NOW)
        if len(looked) == 2:
            step()
        return NOW

    return clock


async def test_who_is_merged_before_it_begins_is_erased_with_the_one_whom_they_became(
    db: Database, tmp_path: Path
) -> None:
    told.tell(db, message("identify", "m1", user="42"))
    told.tell(db, message("identify", "m2", anonymous="device", traits={"email": "ann@b.co"}))
    merging = message("identify", "m3", user="42", traits={"email": "ann@b.co"})
    clock = just_before_it_begins(lambda: told.tell(db, merging))
    receipt = await erase.erase(db, SETTINGS, "ann@b.co", clock, tmp_path, here_only=True)
    assert receipt.removed["users"] == 1
    assert given.rows(db, schema.users) == []
    assert db.read(kept_out.among, NAMES) == frozenset(NAMES)


async def test_when_nothing_names_them_any_more_as_it_begins_nothing_is_removed(db: Database, tmp_path: Path) -> None:
    told.tell(db, message("identify", "m1", user="42"))
    told.tell(db, message("identify", "m2", traits={"email": "ann@b.co"}))
    loser = db.read(users.find, [NAMES[1]])[NAMES[1]]
    merging = message("identify", "m3", user="42", traits={"email": "ann@b.co"})
    clock = just_before_it_begins(lambda: told.tell(db, merging))
    with pytest.raises(errors.Failed, match="Nothing was removed; run it again"):
        await erase.erase(db, SETTINGS, loser, clock, tmp_path, here_only=True)
    assert given.rows(db, schema.users, "external_id") == ["42"]
    assert db.read(kept_out.among, NAMES) == frozenset()


async def test_who_is_erased_by_another_command_before_it_begins_is_not_erased_twice(
    db: Database, tmp_path: Path
) -> None:
    told.tell(db, message("identify", "m1", user="42"))
    [user_id] = given.rows(db, schema.users, "id")
    clock = just_before_it_begins(lambda: db.write(erasure.finish, begin(db, user_id)))
    with pytest.raises(errors.Failed, match="another command"):
        await erase.erase(db, SETTINGS, "42", clock, tmp_path, here_only=True)
