"""The inbox: what is appended comes back as it was, once, in the order in which it came."""

from __future__ import annotations

import os
from datetime import datetime, timedelta, timezone
from functools import partial

from connector.records import Received
from connector.store import inbox, schema
from connector.store.database import Database
from tests.store import given, meanwhile
from tests.store.given import NOW


def received(*source_ids: str, reason: str | None = None) -> list[Received]:
    return [Received(source_id, NOW, source_id.encode(), reason) for source_id in source_ids]


def append(db: Database, rows: list[Received], source: str = inbox.CUSTOMERIO) -> int:
    return db.write(inbox.append, source, rows)


def test_append_stores_each_source_id_once_and_counts_what_was_new(db: Database) -> None:
    assert append(db, received("a", "b", "c")) == 3
    assert append(db, received("b", "d", "a")) == 1
    assert append(db, received("a", "b")) == 0
    assert given.rows(db, schema.inbox, "source_id") == ["a", "b", "c", "d"]


def test_a_repeat_within_one_group_is_one_row_and_the_first_one_stays(db: Database) -> None:
    assert append(db, [Received("a", NOW, b"first"), Received("b", NOW, b"b"), Received("a", NOW, b"second")]) == 2
    assert given.rows(db, schema.inbox, "source_id", "body") == [("a", b"first"), ("b", b"b")]


def test_the_same_source_id_of_another_source_is_another_message(db: Database) -> None:
    assert append(db, received("a")) == 1
    assert append(db, received("a"), source="intake") == 1
    assert db.read(inbox.count) == 2


def test_appending_nothing_stores_nothing(db: Database) -> None:
    assert append(db, []) == 0
    assert db.read(inbox.count) == 0


BODIES = {
    "empty": b"",
    "a NUL byte": b"\x00",
    "NULs within": b'{"a": "\x00", "b": "\\u0000"}',
    "invalid UTF-8": b"\xff\xfe{\xc3\x28}\xed\xa0\x80",
    "every byte": bytes(range(256)) * 3,
    "quotes, backslashes and percents": b"'\"\\\\x41 %s %(a)s :rows {} $1 ?\r\n",
    "1 MiB": os.urandom(1024 * 1024),
}


def test_bodies_come_back_byte_for_byte(db: Database) -> None:
    append(db, [Received(name, NOW, body) for name, body in BODIES.items()])
    assert {each.source_id: each.body for each in db.read(inbox.take, 10, 10**6)} == BODIES


def test_a_source_id_may_be_any_text(db: Database) -> None:
    ids = ["it's", 'quo"te', "back\\slash", "%s :rows ?", "ünï😀", " "]
    assert append(db, received(*ids)) == len(ids)
    assert [each.source_id for each in db.read(inbox.take, 10, 10**6)] == ids


def test_take_gives_the_oldest_new_messages_in_arrival_order(db: Database) -> None:
    append(db, received("9", "1"))
    append(db, received("5", "3"))
    append(db, [Received("0", NOW - timedelta(days=1), b"")])
    assert [each.source_id for each in db.read(inbox.take, 3, 10**6)] == ["9", "1", "5"]
    assert [each.source_id for each in db.read(inbox.take, 10, 10**6)] == ["9", "1", "5", "3", "0"]


def test_take_tells_when_a_message_arrived_in_utc_whatever_zone_was_given(db: Database) -> None:
    at = datetime(2026, 1, 1, 1, 30, 0, 123456, tzinfo=timezone(timedelta(hours=5, minutes=30)))
    append(db, [Received("a", at, b"")])
    [found] = db.read(inbox.take, 1, 10**6)
    assert (found.received_at, found.received_at.utcoffset()) == (at, timedelta(0))


def test_a_message_that_arrives_with_a_reason_is_unread_and_never_taken(db: Database) -> None:
    append(db, received("big", reason="too_large"))
    append(db, received("fine"))
    assert [each.source_id for each in db.read(inbox.take, 10, 10**6)] == ["fine"]
    assert given.rows(db, schema.inbox, "state", "reason") == [("unread", "too_large"), ("new", None)]


def test_marked_messages_are_not_taken_again_and_their_neighbours_are(db: Database) -> None:
    append(db, received("a", "b", "c", "d"))
    a, b, _, d = db.read(inbox.take, 10, 10**6)
    marks = [
        inbox.Mark(a.id, "read", None, "email.opened"),
        inbox.Mark(b.id, "unread", "not_json", None),
        inbox.Mark(d.id, "read", None, "email.opened"),
    ]
    db.write(inbox.mark, marks)
    assert [each.source_id for each in db.read(inbox.take, 10, 10**6)] == ["c"]
    assert given.rows(db, schema.inbox, "source_id", "state", "reason", "kind") == [
        ("a", "read", None, "email.opened"),
        ("b", "unread", "not_json", None),
        ("c", "new", None, None),
        ("d", "read", None, "email.opened"),
    ]
    assert db.read(inbox.counts) == {"new": 1, "unread": 1}


def test_a_repeat_of_a_message_that_was_read_stays_read(db: Database) -> None:
    append(db, received("a"))
    db.write(inbox.mark, [inbox.Mark(db.read(inbox.take, 1, 10**6)[0].id, "read", None, None)])
    assert append(db, received("a")) == 0
    assert db.read(inbox.take, 10, 10**6) == []


def test_the_newest_arrival_is_told_and_none_of_an_empty_inbox(db: Database) -> None:
    assert db.read(inbox.last_received_at) is None
    append(db, received("a"))
    assert db.read(inbox.last_received_at) == NOW


def test_large_messages_are_taken_a_few_at_a_time_and_each_in_the_end(db: Database) -> None:
    sizes = [400, 700, 50, 5000, 1, 1]
    rows = [Received(str(number), NOW, b"x" * size) for number, size in enumerate(sizes)]
    db.write(inbox.append, inbox.CUSTOMERIO, rows)
    taken = []
    while found := db.read(inbox.take, 100, 1000):
        taken.append([each.source_id for each in found])
        db.write(inbox.mark, [inbox.Mark(each.id, "read", None, None) for each in found])
    assert taken == [["0", "1"], ["2", "3"], ["4", "5"]]


@meanwhile.on_postgresql
def test_repeats_that_two_servers_append_in_another_order_are_stored_by_both(store_url: str, db: Database) -> None:
    with meanwhile.other(db, store_url) as other:
        with db.transaction() as connection:
            inbox.append(connection, inbox.CUSTOMERIO, received("2"))
            other.begin(partial(other.db._append, inbox.append, inbox.CUSTOMERIO, received("1", "2", "3")))
            other.begin(partial(db._append, inbox.append, inbox.CUSTOMERIO, received("3", "1", "4")))
            connection.rollback()
        assert sum(other.results()) == 4
    assert sorted(given.rows(db, schema.inbox, "source_id")) == ["1", "2", "3", "4"]
