"""Several readers and an import on one store at once: one user for each person, and nobody waits for ever."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest
import sqlalchemy as sa

from connector.commands import replay
from connector.inbound import adopting, reader, upsert
from connector.settings import Settings
from connector.store import events, inbox, leases, mirror, pending, schema, users
from connector.store.database import Database
from tests.store import given, meanwhile, told
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


def sql(db: Database, statement: str) -> None:
    db.write(lambda connection: connection.execute(sa.text(statement)))


# As the README says it.
CHANGES = """UPDATE users SET attributes = '{"plan": "team"}', version = version + 1 WHERE id = 'U1'"""


def tell(db: Database) -> None:
    told.tell(db, told.message("identify", "m1", user="1", traits={"seen": 1}))


def bring(db: Database) -> None:
    db.write(upsert.upsert, [row("1", seen=1)], NOW)


@meanwhile.on_postgresql
@pytest.mark.parametrize("change", [tell, bring], ids=["message", "import"])
def test_what_sql_changes_while_a_user_is_read_stays(
    store_url: str, db: Database, change: Callable[[Database], None]
) -> None:
    given.have(db, given.user("U1", external_id="1", attributes={"plan": "free"}))
    with meanwhile.other(db, store_url) as other:
        with meanwhile.before(db, "UPDATE users SET external_id", lambda: other.begin(lambda: sql(other.db, CHANGES))):
            change(db)
        other.results()
    # SQL sets them all.
    assert given.rows(db, schema.users, "attributes", "version") == [({"plan": "team"}, 3)]


@meanwhile.on_postgresql
def test_what_sql_changes_while_it_is_adopted_stays(store_url: str, db: Database) -> None:
    given.have(db, given.user("U0", email="one@b.co"))
    # Of one person, whom we had met before the row was written.
    sql(db, "INSERT INTO users (id, external_id, email) VALUES ('U1', '1', 'one@b.co')")
    with meanwhile.other(db, store_url) as other:
        with meanwhile.before(db, "SELECT pending.user_id", lambda: other.begin(lambda: sql(other.db, CHANGES))):
            adopting.adopt(db, lambda: NOW)
        other.results()
    assert given.rows(db, schema.users, "id", "attributes") == [("U1", {"plan": "team"})]


def tell_of_both(db: Database) -> None:
    """What a message says of U5, and then what a webhook says of U1."""
    out = webhook("w1", "customer.unsubscribed", at=int(NOW.timestamp()), identifiers={"id": "1"})
    db.write(inbox.append, inbox.INTAKE, told.received(told.message("identify", "m1", user="5", traits={"x": 1})))
    given.read(db, out)


def import_both(db: Database) -> None:
    """U6 is merged into U5, and then U1 has changed."""
    db.write(upsert.upsert, [row("5", "six@b.co"), row("1", x=1)], NOW)


@meanwhile.on_postgresql
@pytest.mark.parametrize(("change", "mark"), [(tell_of_both, 2), (import_both, 1)], ids=["messages", "import"])
def test_what_a_reader_and_a_worker_write_of_the_same_people_lets_both_end(
    store_url: str, db: Database, change: Callable[[Database], None], mark: int
) -> None:
    given.have(
        db,
        given.user("U1", external_id="1"),
        given.user("U5", external_id="5"),
        given.user("U6", email="six@b.co"),
    )
    given.sent(db, *(given.person(each) for each in ("U1", "U5", "U6")))
    db.write(pending.mark, ["U1", "U5", "U6"], NOW, pending.CHANGED)
    claims = {each.user_id: "a" for each in db.write(leases.claim, "a", NOW, NOW + timedelta(minutes=1), 10)}
    with meanwhile.other(db, store_url) as worker:
        locks = partial(worker.db.write, leases.still_ours, claims)
        with meanwhile.before(db, "INSERT INTO pending", lambda: worker.begin(locks), number=mark):
            change(db)
        assert worker.results() == [claims.keys()]


@meanwhile.on_postgresql
def test_sql_that_changes_a_user_and_then_makes_them_due_waits_for_no_reader_that_waits_for_it(
    store_url: str, db: Database
) -> None:
    given.have(db, given.user("U1", external_id="1"))
    given.sent(db, given.person("U1"))
    db.write(pending.mark, ["U1"], NOW, pending.CHANGED)
    sends = Settings.model_validate({"events": {"names": ["Clicked"]}})
    told_of_one = [
        told.message("track", "m1", user="1", timestamp=NOW.isoformat()),
        told.message("identify", "m2", user="1", traits={"seen": 1}),
    ]
    due = "INSERT INTO pending (user_id) VALUES ('U1') ON CONFLICT (user_id) DO UPDATE SET changed = true"
    with meanwhile.other(db, store_url) as other:
        with db.transaction() as connection:
            connection.execute(sa.text("UPDATE users SET version = version + 1"))
            other.begin(partial(told.tell, other.db, *told_of_one, settings=sends))
            connection.execute(sa.text(due))
        other.results()
    assert given.rows(db, schema.users, "attributes", "version") == [({"seen": 1}, 3)]
