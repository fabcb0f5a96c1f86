"""What an older version could not read becomes an event by one command, also beside a running connector."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from connector.store import inbox
from connector.store.database import Database
from tests.places import Place, Process
from tests.store import given
from tests.store.given import webhook


def left_unread(db: Database, *bodies: bytes) -> None:
    rows = [replace(row, unread_reason="unknown_kind") for row in given.received(*bodies)]
    db.write(inbox.append, inbox.CUSTOMERIO, rows)


def test_replay_reads_again_and_says_what_became_of_it(db: Database, place: Place) -> None:
    place.write()
    left_unread(db, webhook("a", "sms.sent", identifiers={"id": "1"}), b"not json")
    assert "2 could not be read (2 unknown_kind)" in place.run("check")
    assert place.run("replay", "webhooks", "--reason", "not_json") == "0 put back, 0 read\n"
    assert place.run("replay", "webhooks", "--since", "1d") == "0 put back, 0 read\n"
    shown = place.run("replay", "webhooks")
    assert shown == "2 put back, 1 read\nstill unread: 1 not_json\n"
    assert [each["name"] for each in place.export("events")] == ["SMS Sent"]
    again = json.loads(place.run("replay", "webhooks", "--json"))
    assert again == {"put_back": 1, "read": 0, "ignored": 0, "unread": {"not_json": 1}}


def test_replay_beside_a_running_connector_makes_each_event_once(db: Database, place: Place) -> None:
    place.write()
    process = Process(place)
    try:
        left_unread(db, *(webhook(f"e{number}", identifiers={"id": str(number % 7)}) for number in range(100)))
        assert place.run("replay", "webhooks") == "100 put back, 100 read\n"
    finally:
        assert process.terminate() == 0
    assert len(place.export("events")) == 100


@pytest.mark.parametrize("since", ["yesterday", "24"])
def test_a_since_that_is_no_time_is_refused_with_an_example(place: Place, since: str) -> None:
    place.write()
    assert "--since must be a time such as" in place.run("replay", "webhooks", "--since", since, exit_status=2)
