"""`export events --format segment` prints Customer.io's events as Segment-spec track messages."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest

from connector.records import Event
from connector.store import events, inbox, retention
from connector.store.database import Database
from tests.places import Place
from tests.store import given
from tests.store.given import NOW, webhook


def test_each_event_of_customerio_is_a_message_on_a_line(db: Database, place: Place) -> None:
    place.write()
    known = {"id": "42", "email": "ada@b.co", "cio_id": "d9"}
    db.write(events.add, [Event("import", "i1", None, "track", "Order Placed", {}, {}, NOW, NOW, "ulid")])
    sent = webhook("a", "email.sent", identifiers=known, recipient="ada@b.co", subject="Hi", content="<p>Hi</p>")
    db.write(inbox.append, inbox.CUSTOMERIO, given.received(sent, webhook("b", "email.opened", recipient="bob@b.co")))
    first, second = (json.loads(line) for line in place.run("export", "events", "--format", "segment").splitlines())
    assert first == {
        "type": "track",
        "event": "Email Sent",
        "userId": "42",
        "messageId": "a",
        "originalTimestamp": "2021-02-11T17:04:49Z",
        "timestamp": "2021-02-11T17:04:49Z",
        "context": {"traits": {"email": "ada@b.co", "cioId": "d9"}, "integration": {"name": "Customer.io"}},
        "properties": {"eventId": "a", "recipient": "ada@b.co", "emailSubject": "Hi", "content": "<p>Hi</p>"},
    }
    assert (second["event"], second["anonymousId"]) == ("Email Opened", "bob@b.co")

    assert db.write(retention.delete_webhooks, NOW + timedelta(1), retention.Page(0, 10, 2)) == 2
    shown = place.run("export", "events", "--format", "segment").splitlines()
    del first["properties"]["content"]
    assert [json.loads(line) for line in shown] == [first, second]


@pytest.mark.parametrize("arguments", ["users --format segment", "events --format csv", "events --format="])
def test_any_other_format_is_refused_with_the_one_that_there_is(place: Place, arguments: str) -> None:
    place.write()
    shown = place.run("export", *arguments.split(), exit_status=2)
    assert "`connector export events --format segment`" in shown
