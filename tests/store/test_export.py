"""Exports: every row once, in the order in which it came, in the shape that other programs rely on."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from connector.inbound import upsert
from connector.records import Event, Learnt
from connector.settings import Attribute, Everyone, Settings
from connector.store import attempts, events, export, inbox, users
from connector.store.attempts import Attempt
from connector.store.database import Database
from tests.store import given
from tests.store.given import NOW, row, webhook

SETTINGS = Settings(segments={"pro": Attribute("plan", "is", "pro"), "all": Everyone()})


def exported(db: Database, what: str) -> list[dict[str, Any]]:
    return list(export.everything(db, what, SETTINGS, given.NOW))


def event(number: int, user_id: str | None = None) -> Event:
    return Event("customerio", f"e{number}", user_id, "track", "Email Opened", {}, {}, NOW, NOW, f"ulid {number}")


def test_a_user_in_full(db: Database) -> None:
    at = datetime(2020, 2, 29, 23, 59, 59, 999999, tzinfo=UTC)
    attributes = {"plan": "pro", "nested": {"list": [1, 2.5, None, "ä", 2**70]}}
    given.have(db, given.user("U1", external_id="1", email="Ann@B.co", attributes=attributes, created_at=at))
    given.read(db, webhook("a", "customer.unsubscribed", identifiers={"id": "1", "cio_id": "c1"}))
    db.write(upsert.upsert, [row("1", anonymous_id="x2"), row("1", anonymous_id="x1")], NOW)
    assert exported(db, "users") == [
        {
            "id": "U1",
            "external_id": "1",
            "email": "Ann@B.co",
            "cio_id": "c1",
            "anonymous_ids": ["x1", "x2"],
            "attributes": attributes,
            "customerio": None,
            "segments": ["pro", "all"],
            "opted_out": True,
            "preferences": None,
            "created_at": at,
            "first_seen_at": NOW,
            "updated_at": NOW,
        }
    ]


def test_a_user_of_whom_little_is_known_has_every_key(db: Database) -> None:
    given.have(db, given.user("U1"))
    assert exported(db, "users") == [
        {
            "id": "U1",
            "external_id": None,
            "email": None,
            "cio_id": None,
            "anonymous_ids": [],
            "attributes": {},
            "customerio": None,
            "segments": ["all"],
            "opted_out": False,
            "preferences": None,
            "created_at": None,
            "first_seen_at": NOW,
            "updated_at": NOW,
        }
    ]


def test_events_in_full_with_and_without_a_user(db: Database) -> None:
    given.have(db, given.user("U1", external_id="1", email="a@b.co"))
    given.read(db, webhook("a", identifiers={"id": "1"}), webhook("b", "email.sent", at=0, big=2**70))
    first, second = exported(db, "events")
    assert first == {
        "id": 1,
        "user_id": "U1",
        "external_id": "1",
        "email": "a@b.co",
        "source": "customerio",
        "source_id": "a",
        "type": "track",
        "name": "Email Opened",
        "properties": {"identifiers": {"id": "1"}},
        "context": {"kind": "email.opened"},
        "occurred_at": datetime(2021, 2, 11, 17, 4, 49, tzinfo=UTC),
        "received_at": NOW,
        "activity_id": first["activity_id"],
        "outbound": "none",
        "reason": None,
    }
    assert list(second) == list(first)
    assert (second["user_id"], second["external_id"], second["email"]) == (None, None, None)
    assert (second["properties"], second["context"]) == (
        {"big": 2**70},
        {"kind": "email.sent", "flags": ["no_timestamp"]},
    )
    assert second["occurred_at"] == NOW


def test_people_in_full(db: Database) -> None:
    given.have(db, given.user("U1"))
    given.sent(db, given.person("U1", customer_id="c1", attributes={"plan": "pro", "gone": None}))
    assert exported(db, "people") == [
        {
            "user_id": "U1",
            "customer_id": "c1",
            "attributes": {"plan": "pro", "gone": None},
            "created_at": NOW,
            "synced_at": NOW,
            "deleted_at": None,
            "suppressed_at": None,
        }
    ]


def test_who_was_deleted_or_suppressed_there_says_since_when(db: Database) -> None:
    given.have(db, given.user("U1"), given.user("U2"))
    given.sent(db, given.person("U1", deleted_at=NOW), given.person("U2", suppressed_at=NOW))
    found = [(row["user_id"], row["deleted_at"], row["suppressed_at"]) for row in exported(db, "people")]
    assert found == [("U1", NOW, None), ("U2", None, NOW)]


def test_webhooks_in_full_whatever_became_of_them(db: Database) -> None:
    read = webhook("a", identifiers={"id": "1"})
    given.read(db, read, b"\xff no json", webhook("b", "carrier_pigeon.landed"), b'{"n": 1e999}', b"")
    new = webhook("c", "email.sent")
    db.write(inbox.append, inbox.CUSTOMERIO, given.received(new))

    def shape(event_id: str | None, kind: tuple[str | None, str | None], state: str, **more: Any) -> dict[str, Any]:
        object_type, metric = kind
        known = {"event_id": event_id, "object_type": object_type, "metric": metric, "state": state}
        return {**known, "reason": None, "received_at": NOW, **more}

    none = (None, None)
    assert exported(db, "webhooks") == [
        shape("a", ("email", "opened"), "read", body=decoded("a", "email", "opened", identifiers={"id": "1"})),
        shape(None, none, "unread", reason="not_json", body_base64="/yBubyBqc29u"),
        shape(
            "b",
            ("carrier_pigeon", "landed"),
            "read",
            body=decoded("b", "carrier_pigeon", "landed"),
        ),
        shape(None, none, "unread", reason="huge_number", body_base64="eyJuIjogMWU5OTl9"),
        shape(None, none, "unread", reason="not_json", body_base64=""),
        shape("c", none, "new", body=decoded("c", "email", "sent")),
    ]


def decoded(event_id: str, object_type: str, metric: str, **data: Any) -> dict[str, Any]:
    envelope = {"event_id": event_id, "object_type": object_type, "metric": metric, "timestamp": 1613063089}
    return {**envelope, "data": data}


def test_attempts_in_full(db: Database) -> None:
    given.have(db, given.user("U1"), given.user("U2"))
    words = 'attributes.plan: "pro\u0001" is \u00fcber 1,000 bytes'
    tried = [
        Attempt("U2", "create", 3, 400, "refused", words),
        Attempt("U1", "update", 0, None, "network", "no answer"),
    ]
    db.write(attempts.add, tried, NOW)
    assert exported(db, "attempts") == [{**each._asdict(), "at": NOW} for each in tried]


@pytest.mark.parametrize("what", ["users", "events", "people", "webhooks", "attempts"])
@pytest.mark.parametrize("number", [20, 47])
def test_an_export_of_many_pages_has_every_row_once_in_the_order_in_which_it_came(
    db: Database, monkeypatch: pytest.MonkeyPatch, what: str, number: int
) -> None:
    monkeypatch.setattr(export, "PAGE", 20)
    numbers = [f"U{each:03}" for each in range(number)]
    if what in ("users", "people") and numbers:
        given.have(db, *(given.user(each) for each in numbers))
        given.sent(db, *(given.person(each) for each in numbers))
    elif what == "events":
        db.write(events.add, [event(each) for each in range(number)])
    elif what == "attempts":
        given.have(db, given.user("U1"))
        db.write(attempts.add, [Attempt("U1", "update", 1, None, "timeout", each) for each in numbers], NOW)
    else:
        db.write(inbox.append, inbox.CUSTOMERIO, given.received(*(webhook(each) for each in numbers)))
    keys = {"users": "id", "events": "source_id", "people": "user_id", "webhooks": "event_id", "attempts": "message"}
    expected = [f"e{each}" for each in range(number)] if what == "events" else numbers
    assert [each[keys[what]] for each in exported(db, what)] == expected


def test_an_export_between_pages_sees_what_others_write_and_holds_up_nobody(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "PAGE", 2)
    given.have(db, *(given.user(f"U{number}") for number in range(4)))
    found = []
    for each in export.everything(db, "users", SETTINGS, given.NOW):
        found.append((each["id"], each["opted_out"]))
        db.write(users.remember, {"U3": Learnt(True, NOW)}, NOW)
    assert found == [("U0", False), ("U1", False), ("U2", False), ("U3", True)]


def test_messages_of_other_sources_are_no_webhooks(db: Database) -> None:
    db.write(inbox.append, "intake", given.received(webhook("a")))
    assert exported(db, "webhooks") == []


@pytest.mark.parametrize("number", [0, 1, 4, 10])
def test_customerios_events_come_in_pages_with_the_raw_webhook_that_is_kept(
    db: Database, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr(export, "PAGE", 20)  # of which these pages are a tenth
    bodies = [webhook(f"e{each}") for each in range(number)]
    db.write(events.add, [event(each) for each in range(number)])
    db.write(events.add, [replace(event(0), source="import"), replace(event(99), source_id="gone")])
    db.write(inbox.append, "intake", given.received(*bodies))
    db.write(inbox.append, inbox.CUSTOMERIO, given.received(*bodies))
    found = [(each["source_id"], body) for each, body in export.customerio_events(db)]
    assert found == [*((f"e{each}", body) for each, body in enumerate(bodies)), ("gone", None)]
