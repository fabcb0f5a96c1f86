"""The reader: webhooks become events of the right users, whatever the store makes of their neighbours."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from connector.inbound import reader
from connector.records import Identifier
from connector.settings import People, Settings
from connector.store import events, inbox, schema, users
from connector.store.database import Database
from tests.places import VENDOR_EXAMPLE, example
from tests.store import given
from tests.store.given import NOW, webhook

ON_EVENTS = ("source_id", "name", "user_id")


def owner(db: Database, source_id: str) -> str | None:
    """Whose the event is."""
    [user_id] = [found for each, found in given.rows(db, schema.events, "source_id", "user_id") if each == source_id]
    assert user_id is None or isinstance(user_id, str)
    return user_id


def flags(db: Database) -> list[list[str]]:
    return [context.get("flags", []) for context in given.rows(db, schema.events, "context")]


def names(db: Database, user_id: str) -> dict[str, str]:
    """The identifiers that name a user."""
    found = given.rows(db, schema.identifiers, "kind", "value", "user_id")
    return {kind: value for kind, value, owner in found if owner == user_id}


def test_the_vendors_example_becomes_the_right_event_of_the_right_user(db: Database) -> None:
    given.have(db, given.user("U42", external_id="42"), given.user("U43", external_id="43"))
    assert given.read(db, example()) == 1
    [event] = given.rows(db, schema.events)
    at = datetime(2021, 2, 11, 17, 4, 49, tzinfo=UTC)
    assert {**event, "activity_id": None, "id": None} == {
        "id": None,
        "source": "customerio",
        "source_id": "01E4C4CT6YDC7Y5M7FE1GWWPQJ",
        "user_id": "U42",
        "type": "track",
        "name": "Email Opened",
        "properties": VENDOR_EXAMPLE["data"],
        "context": {"kind": "email.opened"},
        "occurred_at": at,
        "received_at": NOW,
        "activity_id": None,
        "outbound": "none",
        "reason": None,
        "due_at": None,
        "settled_at": None,
    }
    # The time part of a ULID is its first ten characters, 48 bits of milliseconds.
    alphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
    milliseconds = 0
    for character in event["activity_id"][:10]:
        milliseconds = milliseconds * 32 + alphabet.index(character)
    assert milliseconds == at.timestamp() * 1000
    assert given.rows(db, schema.inbox, "state", "reason", "kind") == [("read", None, "email.opened")]


def test_the_same_event_twice_is_one_event(db: Database) -> None:
    given.read(db, example())
    assert given.read(db, example(), example()) == 0
    assert db.read(events.count) == 1
    assert db.read(users.count) == 1


def test_reading_twice_changes_nothing(db: Database) -> None:
    given.read(db, example(), webhook("b", "customer.unsubscribed", identifiers={"id": "42"}), b"no json")
    before = {table.name: given.rows(db, table) for table in schema.metadata.sorted_tables}
    assert given.read(db) == 0
    assert {table.name: given.rows(db, table) for table in schema.metadata.sorted_tables} == before


def test_a_message_that_was_put_back_is_read_again_without_a_second_event(db: Database) -> None:
    given.read(db, example())
    db.write(inbox.mark, [inbox.Mark(1, "new", None, None)])
    assert given.read(db) == 1
    assert (db.read(events.count), db.read(users.count)) == (1, 1)


def test_whose_event_is_told_by_the_customer_id_that_was_sent(db: Database) -> None:
    given.have(db, given.user("U1", external_id="1"))
    given.sent(db, given.person("U1", customer_id="an older id"))
    given.read(db, webhook("a", identifiers={"id": "an older id"}))
    assert owner(db, "a") == "U1"


def test_whose_event_is_told_by_external_id(db: Database) -> None:
    given.have(db, given.user("U1", external_id="1"), given.user("U2", external_id="2"))
    given.read(db, webhook("a", identifiers={"id": "2"}), webhook("b", customer_id="1"), webhook("c", customer_id=2))
    assert [owner(db, each) for each in "abc"] == ["U2", "U1", "U2"]


def test_whose_event_is_told_by_an_email_in_any_letters(db: Database) -> None:
    given.have(db, given.user("U1", email="Ann@Example.com"), given.user("U2", email="bob@example.com"))
    given.read(db, webhook("a", recipient="ann@EXAMPLE.com"), webhook("b", recipient="Bob <BOB@example.com>"))
    assert [owner(db, each) for each in "ab"] == ["U1", "U2"]


def test_a_cio_id_is_remembered_and_then_tells_whose_event_it_is(db: Database) -> None:
    given.have(db, given.user("U1", external_id="1"))
    given.read(db, webhook("a", identifiers={"id": "1", "cio_id": "d9c106000001"}))
    given.read(db, webhook("b", identifiers={"id": None, "email": None, "cio_id": "d9c106000001"}))
    assert owner(db, "b") == "U1"
    assert names(db, "U1") == {"external_id": "1", "cio_id": "d9c106000001"}


def test_a_cio_id_is_remembered_within_one_batch_too(db: Database) -> None:
    given.have(db, given.user("U1", email="a@b.co"))
    given.read(
        db, webhook("a", identifiers={"email": "a@b.co", "cio_id": "c1"}), webhook("b", identifiers={"cio_id": "c1"})
    )
    assert owner(db, "b") == "U1"


def test_nobody_known_becomes_a_user_whom_only_customerio_told_us_of(db: Database) -> None:
    given.read(db, webhook("a", identifiers={"id": "7", "email": "New@Example.com", "cio_id": "c7"}))
    [found] = given.rows(db, schema.users)
    assert found | {"id": "", "customerio": {}} == given.user(
        "", external_id="7", email="new@example.com", known_by="customerio"
    )
    assert found["customerio"] == {"opened_at": 1613063089}
    assert names(db, found["id"]) == {"external_id": "7", "email": "new@example.com", "cio_id": "c7"}
    assert owner(db, "a") == found["id"]


def test_several_events_of_one_unknown_person_make_one_user(db: Database) -> None:
    given.read(
        db,
        webhook("a", identifiers={"id": "7", "email": "a@b.co"}),
        webhook("b", identifiers={"id": "7"}),
        webhook("c", recipient="A@b.co"),
    )
    assert len({owner(db, each) for each in "abc"}) == 1
    assert db.read(users.count) == 1


def test_a_customer_id_that_is_no_external_id_is_kept_as_what_it_is(db: Database) -> None:
    settings = Settings(people=People(customer_id=("email",)))
    given.read(db, webhook("a", identifiers={"id": "7", "email": "a@b.co"}), settings=settings)
    [found] = given.rows(db, schema.users)
    assert (found["external_id"], names(db, found["id"])) == (None, {"customer_id": "7", "email": "a@b.co"})
    given.read(db, webhook("b", identifiers={"id": "7"}), settings=settings)
    assert owner(db, "b") == found["id"]


def test_when_id_and_email_name_two_users_the_id_wins_and_the_event_says_so(db: Database) -> None:
    given.have(db, given.user("U1", external_id="1"), given.user("U2", email="two@b.co"))
    given.read(db, webhook("a", identifiers={"id": "1", "email": "two@b.co", "cio_id": "c1"}))
    assert owner(db, "a") == "U1"
    assert flags(db) == [["identity_conflict"]]
    assert names(db, "U1") == {"external_id": "1", "cio_id": "c1"}
    assert names(db, "U2") == {"email": "two@b.co"}


def test_a_cio_id_that_is_another_users_stays_theirs(db: Database) -> None:
    given.have(db, given.user("U1", external_id="1"), given.user("U2", external_id="2"))
    given.read(db, webhook("a", identifiers={"id": "1", "cio_id": "c1"}))
    given.read(db, webhook("b", identifiers={"id": "2", "cio_id": "c1"}))
    assert owner(db, "b") == "U2"
    assert db.read(users.find, [Identifier("cio_id", "c1")]) == {Identifier("cio_id", "c1"): "U1"}
    assert flags(db)[1] == ["identity_conflict"]


def test_an_event_without_any_identifier_is_stored_without_a_user(db: Database) -> None:
    given.read(db, webhook("a", identifiers={"id": None}, customer_id="", subject="Hi"))
    assert given.rows(db, schema.events, *ON_EVENTS) == [("a", "Email Opened", None)]
    assert db.read(users.count) == 0


def test_what_cannot_be_read_stays_unread_and_its_neighbours_are_stored(db: Database) -> None:
    bodies = [webhook("a"), b"{", webhook("b", "carrier_pigeon.landed"), b'{"event_id": "c"}', webhook("d")]
    assert given.read(db, *bodies) == 5
    assert given.rows(db, schema.inbox, "state", "reason") == [
        ("read", None),
        ("unread", "not_json"),
        ("read", None),
        ("unread", "wrong_shape"),
        ("read", None),
    ]
    assert given.rows(db, schema.events, "source_id", "name") == [
        ("a", "Email Opened"),
        ("b", "Carrier Pigeon Landed"),
        ("d", "Email Opened"),
    ]


def test_more_messages_than_a_batch_holds_are_read_in_arrival_order(db: Database) -> None:
    bodies = [webhook(f"e{number}", identifiers={"id": str(number % 7)}) for number in range(reader.BATCH + 3)]
    db.write(inbox.append, inbox.CUSTOMERIO, given.received(*bodies))
    assert reader.read_batch(db, given.SETTINGS, NOW).total() == reader.BATCH
    assert reader.read_batch(db, given.SETTINGS, NOW).total() == 3
    assert reader.read_batch(db, given.SETTINGS, NOW).total() == 0
    assert given.rows(db, schema.events, "source_id") == [f"e{number}" for number in range(reader.BATCH + 3)]
    assert db.read(users.count) == 7


def test_numbers_of_any_size_and_odd_text_come_back_as_they_were_sent(db: Database) -> None:
    odd: dict[str, Any] = {
        "big": 2**70 + 1,
        "small": -(2**70),
        "text": "it's 😀 %s :x \\",
        "deep": [{"": [None, True]}],
    }
    given.read(db, webhook("a", **odd))
    assert given.rows(db, schema.events, "properties") == [odd]


def test_a_nul_in_text_is_replaced_and_flagged(db: Database) -> None:
    given.read(db, webhook("a", identifiers={"id": "4\x002"}, subject="a\x00b"), webhook("b", subject="c"))
    assert flags(db) == [["nul_replaced"], []]
    assert given.rows(db, schema.users, "external_id") == ["4\ufffd2"]
