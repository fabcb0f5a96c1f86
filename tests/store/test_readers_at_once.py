"""Several readers and an import on one store at once: one user for each person, and nobody waits for ever."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from connector.commands import replay
from connector.inbound import reader, upsert
from connector.store import events, inbox, mirror, pending, schema, users
from connector.store.database import Database
from tests.store import given, told
from tests.store.given import NOW, row, webhook

PEOPLE = 120
ROOT = Path(__file__).parents[2]


def bodies(shift: int) -> list[bytes]:
    """Three events of each person, known by id, by email and by cio_id, in an order of its own."""
    found = []
    for step in range(PEOPLE):
        number = (step * 7 + shift) % PEOPLE
        named = {"id": f"u{number}", "email": f"u{number}@b.co", "cio_id": f"c{number}"}
        found.append(webhook(f"{shift}-{number}-all", identifiers=named))
        found.append(webhook(f"{shift}-{number}-out", "customer.unsubscribed", identifiers={"cio_id": f"c{number}"}))
        found.append(webhook(f"{shift}-{number}-mail", recipient=f"U{number}@b.co"))
    return found


def read_all(url: str, batch: int) -> int:
    """A reader with its own connections, until nothing is new."""
    db = Database(url)
    total = 0
    while count := db.write(reader._read, given.SETTINGS, NOW, batch):
        total += count.total()
    db.close()
    return total


def import_all(url: str) -> Counter[str]:
    """An import of the same people, backwards and in small chunks."""
    db = Database(url)
    results: Counter[str] = Counter()
    for start in range(PEOPLE, 0, -10):
        chunk = [row(f"u{number}", f"U{number}@b.co", plan="pro") for number in range(start - 10, start)]
        results.update(db.write(upsert.upsert, chunk, NOW))
    db.close()
    return results


def test_two_readers_and_an_import_make_one_user_of_each_person(store_url: str, db: Database) -> None:
    for shift in (0, 11, 23):
        db.write(inbox.append, inbox.CUSTOMERIO, given.received(*bodies(shift)))
    one, other, imported = given.at_once(
        [partial(read_all, store_url, 40), partial(read_all, store_url, 55), partial(import_all, store_url)]
    )
    assert one + other == db.read(events.count) == 9 * PEOPLE
    assert imported.total() == PEOPLE
    assert set(imported) <= {"created", "updated"}
    assert_one_user_of_each_person(db)


def test_readers_in_processes_of_their_own_make_one_user_of_each_person(store_url: str, db: Database) -> None:
    for shift in (0, 11):
        db.write(inbox.append, inbox.CUSTOMERIO, given.received(*bodies(shift)))
    program = "import sys; from tests.store import test_readers_at_once as here; print({}(sys.argv[1]{}))"
    calls = [
        program.format("here.read_all", ", 40"),
        program.format("here.read_all", ", 55"),
        program.format("here.import_all", ""),
    ]
    run_all(calls, store_url)
    assert db.read(events.count) == 6 * PEOPLE
    assert_one_user_of_each_person(db)


def stories(shift: int) -> list[dict[str, object]]:
    """Each person on a device of their own: looks around, says who they are, and goes on."""
    found = []
    for step in range(PEOPLE):
        number = (step * 7 + shift) % PEOPLE
        device = f"device-{shift}-{number}"
        traits = {"email": f"u{number}@b.co"} if shift % 2 else {}
        found += [
            told.message("page", f"{device}-1", anonymous=device),
            told.message("identify", f"{device}-2", user=f"u{number}", anonymous=device, traits=traits),
            told.message("track", f"{device}-3", anonymous=device),
        ]
    return found


def test_messages_webhooks_and_an_import_in_processes_make_one_user_of_each_person(
    store_url: str, db: Database
) -> None:
    for shift in (0, 11, 24):
        db.write(inbox.append, inbox.INTAKE, told.received(*stories(shift)))
        db.write(inbox.append, inbox.CUSTOMERIO, given.received(*bodies(shift)))
    program = "import sys; from tests.store import test_readers_at_once as here; print({}(sys.argv[1]{}))"
    calls = [
        program.format("here.read_all", ", 40"),
        program.format("here.read_all", ", 55"),
        program.format("here.import_all", ""),
    ]
    run_all(calls, store_url)
    found = given.rows(db, schema.users, "external_id", "email", "known_by", "opted_out", "attributes")
    by_id = {each[0]: each for each in found}
    assert len(found) == len(by_id) == PEOPLE
    for number in range(PEOPLE):
        _, email, known_by, opted_out, attributes = by_id[f"u{number}"]
        assert (email.lower(), known_by, opted_out) == (f"u{number}@b.co", "own", True)
        assert attributes == {"plan": "pro"}
    # Three webhooks and two events on each of three devices.
    counts = Counter(given.rows(db, schema.events, "user_id"))
    assert set(counts.values()) == {15}
    assert given.rows(db, schema.inbox, "state") == ["read"] * db.read(inbox.count)


def run_all(calls: list[str], store_url: str) -> None:
    """Each in a process of its own, all at once; none may fail."""
    running = [
        subprocess.Popen(
            [sys.executable, "-c", call, store_url], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        for call in calls
    ]
    for process in running:
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, (out, err)


def assert_one_user_of_each_person(db: Database) -> None:
    assert db.read(users.count) == PEOPLE
    found = given.rows(db, schema.users, "external_id", "known_by", "opted_out", "attributes")
    assert sorted(found) == sorted((f"u{number}", "own", True, {"plan": "pro"}) for number in range(PEOPLE))
    assert not [context for context in given.rows(db, schema.events, "context") if "flags" in context]
    assert given.rows(db, schema.inbox, "state") == ["read"] * db.read(inbox.count)


@pytest.mark.parametrize("is_unread", [False, True], ids=["new", "put back by a replay"])
def test_a_command_that_reads_a_backlog_lets_a_server_append_meanwhile(
    store_url: str, db: Database, monkeypatch: pytest.MonkeyPatch, is_unread: bool
) -> None:
    monkeypatch.setattr(reader, "BATCH", 2)
    monkeypatch.setattr(reader, "_WITHOUT_A_GAP", 0.1)
    monkeypatch.setattr(replay, "PAGE", 10)
    rows = given.received(*(webhook(f"e{number}") for number in range(800)))
    db.write(inbox.append, inbox.CUSTOMERIO, [replace(each, unread_reason="x" if is_unread else None) for each in rows])
    waits: list[float] = []
    over = threading.Event()

    def command() -> float:
        own = Database(store_url)
        began = time.monotonic()
        try:
            if is_unread:
                asyncio.run(replay.webhooks(own, given.SETTINGS, lambda: NOW))
            else:
                asyncio.run(reader.Reader(own, lambda: given.SETTINGS, lambda: NOW).read_outstanding())
        finally:
            over.set()
            own.close()
        return time.monotonic() - began

    def server() -> None:
        while not over.is_set() and len(waits) < 300:  # not for ever: what arrives belongs to the backlog too
            began = time.monotonic()
            db.write(inbox.append, inbox.CUSTOMERIO, given.received(webhook(f"new {len(waits)}")))
            waits.append(time.monotonic() - began)
            time.sleep(0.01)

    took, _ = given.at_once([command, server])
    assert max(waits) < took / 2
    assert db.read(inbox.counts)["unread"] == 0


def test_readers_and_full_passes_that_mark_the_same_people_never_wait_for_each_other(
    store_url: str, db: Database
) -> None:
    numbers = [f"U{number:03}" for number in range(200)]
    given.have(db, *(given.user(each, external_id=each) for each in numbers))
    given.sent(db, *(given.person(each) for each in numbers))

    def many(order: list[str], how: str) -> None:
        own = Database(store_url)
        for _ in range(10):
            if how == "mark":
                own.write(pending.mark, order, NOW, pending.FULL_PASS)
            elif how == "mirrored":
                own.write(pending.mark_mirrored, order, NOW)
            else:
                own.write(pending.release, order, "guard", NOW)
        own.close()

    backwards = numbers[::-1]
    given.at_once(
        [
            partial(many, numbers, "mark"),
            partial(many, backwards, "mark"),
            partial(many, backwards, "mirrored"),
            partial(many, backwards, "release"),
        ]
    )
    assert given.rows(db, schema.pending, "user_id") == numbers
    assert db.read(mirror.count) == 200
