"""A message that the database can't take stays unread; a database that can't work now blames no message."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from connector.inbound import reader
from connector.store import events, inbox, schema
from connector.store.database import Database
from tests.places import example
from tests.store import given
from tests.store.given import NOW, webhook


def refuse_indigestible_subjects(connection: Connection) -> None:
    """What an admin's own index on a property does to a text that does not fit into it; SQLite knows no such limit."""
    if connection.dialect.name == "postgresql":
        connection.execute(sa.text("CREATE INDEX theirs ON events ((properties ->> 'subject'))"))
        return
    connection.execute(
        sa.text(
            """CREATE TRIGGER theirs BEFORE INSERT ON events WHEN length(new.properties) > 3000
                BEGIN SELECT RAISE(ABORT, 'too long'); END"""
        )
    )


def indigestible(event_id: str, **data: Any) -> bytes:
    """A subject that compression can't bring under the limit of an index entry."""
    noise = "".join(chr(0x4E00 + (number * 7919 * (number + 3)) % 20000) for number in range(4000))
    return webhook(event_id, subject=noise, **data)


def test_a_message_that_the_database_refuses_stays_unread_and_its_neighbours_are_stored(db: Database) -> None:
    db.write(refuse_indigestible_subjects)
    refused = indigestible("b", identifiers={"id": "2", "email": "a@b.co"})
    bodies = [webhook("a", identifiers={"id": "1"}), refused, webhook("c", identifiers={"id": "3"}), webhook("d")]
    assert given.read(db, *bodies) == 4
    assert given.rows(db, schema.inbox, "source_id", "state", "reason") == [
        ("a", "read", None),
        ("b", "unread", "store_refused"),
        ("c", "read", None),
        ("d", "read", None),
    ]
    assert given.rows(db, schema.events, "source_id") == ["a", "c", "d"]
    assert given.rows(db, schema.users, "external_id") == ["1", "3"]


def test_a_refused_message_is_read_again_once_the_database_takes_it(db: Database) -> None:
    db.write(refuse_indigestible_subjects)
    given.read(db, indigestible("a", identifiers={"id": "1"}))
    assert given.rows(db, schema.inbox, "state", "reason") == [("unread", "store_refused")]
    db.write(lambda connection: connection.execute(sa.text(f"DROP {dropped(db)}")))
    db.write(inbox.mark, [inbox.Mark(1, "new", None, None)])
    assert given.read(db) == 1
    assert given.rows(db, schema.inbox, "state", "reason") == [("read", None)]
    assert db.read(events.count) == 1


def dropped(db: Database) -> str:
    return "INDEX theirs" if db.dialect == "postgresql" else "TRIGGER theirs"


def test_a_constraint_that_refuses_a_user_leaves_neither_user_nor_event(db: Database) -> None:
    def no_blocked(connection: Connection) -> None:
        if connection.dialect.name == "postgresql":
            connection.execute(sa.text("ALTER TABLE identifiers ADD CHECK (value <> 'blocked')"))
            return
        connection.execute(
            sa.text(
                """CREATE TRIGGER theirs BEFORE INSERT ON identifiers WHEN new.value = 'blocked'
                   BEGIN SELECT RAISE(ABORT, 'blocked'); END"""
            )
        )

    db.write(no_blocked)
    given.read(db, webhook("a", identifiers={"id": "blocked"}), webhook("b", identifiers={"id": "fine"}))
    assert given.rows(db, schema.users, "external_id") == ["fine"]
    assert given.rows(db, schema.events, "source_id") == ["b"]
    assert given.rows(db, schema.inbox, "state") == ["unread", "read"]


@pytest.fixture
def hampered(store_url: str) -> Iterator[Callable[[str, str], Database]]:
    """The same store, with a statement run on every new connection: one for SQLite, one for PostgreSQL."""
    opened = []

    def made(sqlite: str, postgresql: str) -> Database:
        db = Database(store_url)
        opened.append(db)
        statement = sqlite if db.dialect == "sqlite" else postgresql

        @sa.event.listens_for(db.writer, "connect")
        def hamper(connection: Any, _record: Any) -> None:
            connection.execute(statement).close()
            connection.commit()

        return db

    yield made
    for db in opened:
        db.close()


def test_a_store_that_is_locked_is_no_messages_fault(db: Database, hampered: Callable[[str, str], Database]) -> None:
    db.write(inbox.append, inbox.CUSTOMERIO, given.received(example()))
    impatient = hampered("PRAGMA busy_timeout = 20", "SET lock_timeout = 20")
    with db.transaction() as connection:
        if db.dialect == "postgresql":
            connection.execute(sa.text("LOCK TABLE events"))
        with pytest.raises(sa.exc.OperationalError):
            reader.read_batch(impatient, given.SETTINGS, NOW)
    assert given.rows(db, schema.inbox, "state") == ["new"]
    assert reader.read_batch(impatient, given.SETTINGS, NOW).total() == 1


def test_a_store_that_takes_no_writes_is_no_messages_fault(
    db: Database, hampered: Callable[[str, str], Database]
) -> None:
    db.write(inbox.append, inbox.CUSTOMERIO, given.received(example()))
    frozen = hampered("PRAGMA query_only = ON", "SET default_transaction_read_only = on")
    with pytest.raises(sa.exc.DBAPIError):
        reader.read_batch(frozen, given.SETTINGS, NOW)
    assert given.rows(db, schema.inbox, "state") == ["new"]
