"""Whom Customer.io refuses for good is kept, shown with what it answered, and sent by one command once it is mended."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.places import API_KEY, SITE_ID, Place, Process
from tests.sandbox_process import Sandbox

USERS = ({"external_id": "42", "email": "ann@example.com", "plan": "pro"},)


@pytest.fixture
def customerio() -> Iterator[Sandbox]:
    running = Sandbox("--site-id", SITE_ID, "--api-key", API_KEY)
    try:
        yield running
    finally:
        running.kill()


@pytest.fixture
def refused(place: Place, customerio: Sandbox) -> Place:
    """A store whose only user was just refused."""
    place.track_url = customerio.url
    place.more = {
        "people": 'segments = ["All"]\nattributes = ["plan"]',
        "segments": '"All" = { everyone = true }',
        "sync": 'latency = "100ms"\nevery = "1h"',
    }
    place.write()
    path = place.folder / "users.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in USERS))
    place.run("import", "users", str(path))
    customerio.call("PUT", "/sandbox/faults", {"script": "100x207"})
    assert "1 parked (now: 1 refused): connector replay parked" in place.run("sync", exit_status=1)
    return place


def people(customerio: Sandbox) -> list[Any]:
    found: list[Any] = customerio.get("/sandbox/people")
    return [each["id"] for each in found]


def test_who_is_refused_is_kept_shown_and_sent_once_it_is_mended(refused: Place, customerio: Sandbox) -> None:
    shown = refused.run("status")
    assert "backlog   0 due, 0 waiting, 1 parked" in shown
    assert "PARKED    1 refused: connector export attempts says what was answered, connector replay parked" in shown
    found = json.loads(refused.run("status", "--json"))
    assert (found["backlog"]["parked"], found["parked"]) == (1, {"refused": 1})
    newest = found["parked_newest"]["refused"]
    assert (newest["what"], newest["status"], newest["message"]) == ("create", 207, "…")

    (attempt,) = refused.export("attempts")
    assert list(attempt) == ["user_id", "what", "calls", "status", "reason", "message", "at"]
    assert (attempt["what"], attempt["calls"], attempt["status"], attempt["reason"]) == ("create", 1, 207, "refused")
    assert attempt["message"]

    story = refused.run("person", "42")
    assert "parked      " in story
    assert f"  answer    create: 207 {json.dumps(attempt['message'])}" in story
    assert f"connector replay parked --user {attempt['user_id']}" in story
    assert '  change    "plan": null -> "pro"' in story
    told = json.loads(refused.run("person", "ann@example.com", "--json"))
    assert (told["parked"]["status"], told["parked"]["message"]) == (207, attempt["message"])

    refused.run("sync")  # leaves them alone
    assert len(refused.export("attempts")) == 1
    customerio.call("DELETE", "/sandbox/faults")
    assert people(customerio) == []
    assert "1 parked user is tried again" in refused.run("replay", "parked", "--user", "ANN@example.com")
    assert "1 created" in refused.run("sync")
    assert people(customerio) == ["42"]
    assert "PARKED" not in refused.run("status")
    assert json.loads(refused.run("person", "42", "--json"))["parked"] is None
    left = json.loads(refused.run("replay", "parked", "--json"))
    assert left == {"replayed": 0, "passed_over": 0, "parked": {}, "events": 0, "parked_events": {}}


def test_a_running_connector_takes_up_who_is_tried_again(refused: Place, customerio: Sandbox) -> None:
    with Process(refused) as process:
        refused.run("replay", "parked", "--reason", "timeout")
        shown = refused.run("replay", "parked", "--since", "1h", "--reason", "refused")
        assert "1 parked user is tried again" in shown
        assert process.wait_for("parked")["refused"] == 1
        customerio.call("DELETE", "/sandbox/faults")
        refused.run("replay", "parked")
        until = time.monotonic() + 30
        while not people(customerio):
            assert time.monotonic() < until
        assert process.terminate() == 0
    assert people(customerio) == ["42"]
    assert not any("ann@example.com" in str(line) for line in process.lines)


def test_options_that_don_t_apply_and_ids_of_nobody_are_refused_with_a_sentence(place: Place) -> None:
    place.write()
    assert "--kind is for `connector replay webhooks`" in place.run("replay", "parked", "--kind", "x", exit_status=2)
    assert "--user is for `connector replay parked`" in place.run("replay", "webhooks", "--user", "x", exit_status=2)
    assert "--since must be a time such as" in place.run("replay", "parked", "--since", "yesterday", exit_status=2)
    shown = place.run("replay", "parked", "--user", "nobody@example.com", exit_status=1)
    assert "nobody is known as nobody@example.com; tried as user_id" in shown
