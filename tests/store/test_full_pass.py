"""What a pass keeps, notes and holds, without anybody to send to."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from connector import errors
from connector.commands import approve as approving
from connector.outbound import full_pass, limits, preparation, recording
from connector.outbound.approving import with_the_settings
from connector.outbound.many_ids import CHUNK, ManyIds
from connector.outbound.notes import Terms
from connector.records import Claim, CustomerId, Identifier, Seen
from connector.settings import Guard, Settings
from connector.store import approvals, backlog, facts, held, leases, revisions, runs, schema, standing, users
from connector.store.database import Database
from tests.store import given
from tests.store.given import NOW
from tests.sync.clock import Clock

DAY = timedelta(days=1)
DELETE = {"enabled": True, "blind": True, "grace": "1h"}


def settings(
    max_creates: int | None = None, max_deletes: int = 0, customer_id: str = "external_id", **people: Any
) -> Settings:
    """Users whose plan is `pro` are people, known by their external id."""
    return Settings.model_validate(
        {
            "people": {"segments": ["pro"], "customer_id": customer_id, "delete": DELETE, **people},
            "segments": {"pro": {"attribute": "plan", "is": "pro"}},
            "guard": Guard(max_creates=max_creates, max_deletes=max_deletes),
        }
    )


SETTINGS = settings()


def user(user_id: str, plan: str = "pro", **more: Any) -> dict[str, Any]:
    attributes = {"plan": plan, "code": f"c{user_id}"}
    return given.user(
        user_id, **{"external_id": f"x{user_id}", "email": f"{user_id}@b.co", **more}, attributes=attributes
    )


def people(db: Database, *user_ids: str, plan: str = "pro", **more: Any) -> None:
    """They are people at Customer.io, as these settings say."""
    given.have(db, *(user(each, plan) for each in user_ids))
    state = {"segment_bits": "1" if plan == "pro" else "0", "mapping_hash": SETTINGS.mapping_hash(), **more}
    given.sent(db, *(given.person(each, customer_id=f"x{each}", **state) for each in user_ids))


def run(db: Database, wanted: Settings = SETTINGS, at: timedelta = timedelta(0)) -> full_pass.Found:
    found = full_pass.run(db, wanted, lambda: NOW + at)
    assert found is not None
    return found


def holds(found: full_pass.Found) -> list[tuple[str, str, int, int]]:
    return [(hold.what, hold.reason, hold.count, hold.allowed) for hold in found.holds]


def remove(db: Database, *user_ids: str) -> None:
    """As plain SQL does."""

    def delete(connection: Connection) -> None:
        for table in (schema.identifiers, schema.pending, schema.held, schema.mirror):
            connection.execute(sa.delete(table).where(table.c.user_id.in_(user_ids)))
        connection.execute(sa.delete(schema.users).where(schema.users.c.id.in_(user_ids)))

    db.write(delete)


def test_very_many_ids_come_back_as_they_came_and_are_told_from_others() -> None:
    ids = ManyIds()
    assert (len(ids), list(ids.chunks())) == (0, [])
    assert not ids.lookup()("u0")
    wanted = [f"u{number} \0 ä" for number in range(2 * CHUNK + 5)]
    for start in range(0, len(wanted), 700):
        ids.add(wanted[start : start + 700])
    assert len(ids) == len(wanted)
    assert [len(chunk) for chunk in ids.chunks()] == [CHUNK, CHUNK, 5]
    assert [each for chunk in ids.chunks() for each in chunk] == wanted
    is_among = ids.lookup()
    assert all(map(is_among, wanted))
    assert not any(is_among(f"u{number}") for number in range(len(wanted)))


def test_a_pass_whose_query_takes_longer_than_its_lease_is_not_taken_over(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(NOW)
    renewed = threading.Event()
    renew, differing = runs.renew, standing.differing

    def noted(*arguments: Any) -> bool:
        is_ours = renew(*arguments)
        renewed.set()
        return is_ours

    def slow(*arguments: Any) -> Iterator[standing.Differing]:
        for _ in range(4):
            clock.now += runs.LEASE * 0.9
            renewed.clear()
            assert renewed.wait(10)
        assert not db.write(runs.begin, "another", clock.now)
        yield from differing(*arguments)

    monkeypatch.setattr(full_pass, "_RENEW_SECONDS", 0.01)
    monkeypatch.setattr(runs, "renew", noted)
    monkeypatch.setattr(standing, "differing", slow)
    given.have(db, user("U1"))
    before = threading.active_count()
    found = full_pass.run(db, SETTINGS, clock)
    assert found is not None
    assert found.released == 1
    assert threading.active_count() == before, "nobody renews what is over"
    assert db.write(runs.begin, "another", clock.now)


def test_a_pass_that_was_given_up_renews_nothing_and_stops(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    def taken_over(*_arguments: Any) -> Iterator[standing.Differing]:
        assert db.write(runs.begin, "another", NOW + 2 * runs.LEASE)
        yield standing.Differing("U1", is_person=False, outside=False, left_at=None, changed=False)

    monkeypatch.setattr(full_pass, "_RENEW_SECONDS", 60)
    monkeypatch.setattr(standing, "differing", taken_over)
    with pytest.raises(errors.Failed, match="another one took over"):
        full_pass.run(db, SETTINGS, lambda: NOW)


def test_a_store_that_cannot_be_written_for_a_moment_does_not_end_the_renewing(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[bool] = []
    enough = threading.Event()
    renew = runs.renew

    def failing(*arguments: Any) -> bool:
        if threading.current_thread().name != "pass-lease":
            return renew(*arguments)
        tried.append(True)
        if len(tried) > 2:
            enough.set()
        raise sa.exc.OperationalError("UPDATE", None, Exception("locked"))

    def slow(*_arguments: Any) -> Iterator[standing.Differing]:
        assert enough.wait(10)
        yield from ()

    monkeypatch.setattr(full_pass, "_RENEW_SECONDS", 0.01)
    monkeypatch.setattr(runs, "renew", failing)
    monkeypatch.setattr(standing, "differing", slow)
    assert full_pass.run(db, SETTINGS, lambda: NOW) is not None


def test_a_store_that_shrinks_step_by_step_is_odd_when_a_fifth_is_gone(db: Database) -> None:
    given.have(db, *(user(f"U{number:02}", "free") for number in range(100)))
    run(db)
    for first in (0, 15):
        remove(db, *(f"U{number:02}" for number in range(first, first + 15)))
        run(db)
    given.have(db, user("W"))
    assert holds(run(db)) == [("create", "store_shrank", 1, 0)]


def test_what_is_odd_stays_so_though_nothing_waits_for_it(db: Database) -> None:
    given.have(db, *(user(f"U{number}", "free") for number in range(10)))
    run(db)
    remove(db, "U0", "U1", "U2", "U3")
    for _ in range(2):
        assert holds(run(db)) == []
    given.have(db, user("U0"))
    (hold,) = run(db).holds
    assert (hold.what, hold.reason) == ("create", "store_shrank")
    assert approving.approve(db, SETTINGS, hold.hash, None, NOW) == 1
    assert db.read(facts.seen) == Seen(7, ("external_id",))
    given.have(db, user("U1"))
    assert holds(run(db)) == []


def test_the_number_of_users_that_counts_grows_by_itself(db: Database) -> None:
    for number in range(3):
        given.have(db, user(f"U{number}", "free"))
        run(db)
        assert db.read(facts.seen) == Seen(number + 1, ("external_id",))
    remove(db, "U0")
    run(db)
    assert db.read(facts.seen) == Seen(3, ("external_id",)), "what is gone is missed until somebody approves it"


def test_an_approval_of_another_customer_id_says_nothing_of_users_who_are_gone(db: Database) -> None:
    given.have(db, *(user(f"U{number}", "free") for number in range(10)))
    people(db, "P1")
    run(db)
    remove(db, *(f"U{number}" for number in range(5)))
    other = settings(customer_id="code")
    (hold,) = run(db, other).holds
    assert hold.what == held.RENAME
    approving.approve(db, other, hold.hash, None, NOW)
    assert db.read(facts.seen) == Seen(11, ("code",))
    given.have(db, user("W"))
    assert holds(run(db, other)) == [("create", "store_shrank", 1, 0)]


def test_without_people_another_customer_id_is_nothing_to_ask_about(db: Database) -> None:
    given.have(db, user("U1", "free"))
    run(db)
    other = settings(customer_id="code")
    assert holds(run(db, other)) == []
    given.have(db, user("U2"))
    assert (holds(run(db, other)), db.read(facts.seen)) == ([], Seen(2, ("code",)))


def not_seen(db: Database) -> None:
    """As a store that was brought up from a version that noted nothing."""
    db.write(lambda connection: connection.execute(sa.delete(schema.facts)))


def prepared(db: Database, wanted: Settings, *user_ids: str) -> list[tuple[str, str]]:
    claims = [Claim(each, 0, None, None) for each in user_ids]
    found = preparation.prepare(db, wanted, claims, NOW)
    return [(each.decision.verb, each.decision.reason) for each in found]


def know_cio_id(db: Database, user_id: str) -> None:
    row = {"kind": "cio_id", "value": f"cio of {user_id}", "user_id": user_id}
    db.write(lambda connection: connection.execute(sa.insert(schema.identifiers).values(row)))


def test_where_no_pass_has_noted_the_customer_id_people_tell_whether_it_is_another_one(db: Database) -> None:
    people(db, "U1", "U2", "U3")
    know_cio_id(db, "U1")
    other = settings(customer_id="code")
    assert prepared(db, other, "U1") == [("skip", "customer_id_changed")]
    found = run(db, other)
    assert holds(found) == [("rename", "other_customer_id", 3, 0)]
    assert db.read(facts.seen) is None
    assert approving.approve(db, other, found.holds[0].hash, None, NOW) == 3
    assert prepared(db, other, "U1") == [("update", "customer_id_changed")]


def test_a_store_that_was_brought_up_is_held_for_nothing(db: Database) -> None:
    people(db, *(f"U{number:02}" for number in range(40)))
    know_cio_id(db, "U00")
    taken = sa.update(schema.mirror).where(schema.mirror.c.user_id.in_(["U00", "U01"]))
    db.write(
        lambda connection: connection.execute(taken.values(customer_id=sa.literal("old ") + schema.mirror.c.user_id))
    )
    assert prepared(db, SETTINGS, "U00") == [("update", "customer_id_changed")], "that one has another id by now"
    assert holds(run(db)) == []
    assert db.read(facts.seen) == Seen(40, ("external_id",))
    not_seen(db)
    gone = sa.update(schema.mirror).where(schema.mirror.c.user_id == "U02")
    db.write(lambda connection: connection.execute(gone.values(customer_id="old too")))
    assert limits.look(db, SETTINGS)[1] == "other_customer_id"


def test_an_approval_that_was_killed_halfway_is_finished_by_the_next_pass(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    people(db, "U1", "U2")
    run(db)
    other = settings(customer_id="code")
    (hold,) = run(db, other).holds
    compared = sa.update(schema.mirror).values(mapping_hash=other.mapping_hash())
    db.write(lambda connection: connection.execute(compared))

    def killed(_db: Database) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(full_pass, "look_again", killed)
        with pytest.raises(KeyboardInterrupt):
            approving.approve(db, other, hold.hash, None, NOW)
    assert approving.listed(db) != []
    found = run(db, other)
    assert (found.changed, holds(found), approving.listed(db)) == (2, [], [])
    compared_again = db.write(lambda connection: connection.execute(compared).rowcount)
    assert (compared_again, run(db, other).changed) == (2, 0)


def test_who_is_being_looked_at_while_other_ids_are_approved_gets_theirs_too(db: Database) -> None:
    people(db, "U1")
    db.write(lambda connection: users.add(connection, [], [(Identifier("cio_id", "c1"), "U1")]))
    run(db)
    other = settings(customer_id="code")
    (hold,) = run(db, other).holds
    looked_at = looked_at_by(db, other, "a")
    assert looked_at[0].decision.renamed is None
    approving.approve(db, other, hold.hash, None, NOW)
    recording.record(db, looked_at, [], Terms(other.mapping_hash(), DAY, DAY, NOW))
    assert [each.decision.renamed for each in looked_at_by(db, other, "b")] == [CustomerId("id", "cU1")]


def looked_at_by(db: Database, wanted: Settings, lease: str) -> list[preparation.Prepared]:
    """Everyone who is due."""
    return preparation.prepare(db, wanted, db.write(leases.claim, lease, NOW, NOW + DAY, 100), NOW)


def test_other_ids_that_were_approved_with_the_settings_go_once_though_that_was_killed_halfway(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    people(db, "U1", "U2")
    run(db)
    other = settings(customer_id="code")
    renames = {"holds": [{"what": held.RENAME, "count": 2}], "approved_at": NOW.isoformat()}
    db.write(revisions.add, "applied", other.sent_hash(), "", NOW, counts=renames, reason=approvals.APPROVED)
    found = run(db, other)

    def killed(_db: Database) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(full_pass, "look_again", killed)
        with pytest.raises(KeyboardInterrupt):
            with_the_settings(db, other, found, NOW)
    assert db.read(approvals.counted, other.sent_hash(), held.RENAME, NOW) == 0
    assert holds(run(db, other)) == []


def test_a_hold_says_how_many_may_go_now(db: Database) -> None:
    limited = settings(max_creates=3)
    given.have(db, *(user(f"U{number}") for number in range(5)))
    given.have(db, *(user(f"V{number}", "free") for number in range(20)))
    given.sent(db, *(given.person(f"V{number}", customer_id=f"xV{number}", release="guard") for number in range(2)))
    first = run(db, limited)
    assert holds(first) == [("create", "max_creates", 5, 1), ("delete", "max_deletes", 2, 0)]
    later = run(db, limited, timedelta(hours=23))
    assert [hold.hash for hold in later.holds] == [hold.hash for hold in first.holds]
    remove(db, "V0", "V1", "U0")
    db.write(lambda connection: connection.execute(sa.delete(schema.guarded)))
    last = run(db, limited, timedelta(hours=23))
    assert holds(last) == [("create", "max_creates", 4, 3)]
    assert last.holds[0].hash == first.holds[0].hash


def test_more_than_one_page_of_them_is_held_kept_and_taken_off(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(full_pass, "CHUNK", 3)
    none = settings(max_creates=0)
    given.have(db, *(user(f"U{number}") for number in range(8)))
    (first,) = run(db, none).holds
    assert db.read(held.listed, held.CREATE, "", 99) == [f"U{number}" for number in range(8)]
    leave = sa.update(schema.users).where(schema.users.c.id.in_(["U0", "U4", "U7"]))
    db.write(lambda connection: connection.execute(leave.values(attributes={})))
    (fewer,) = run(db, none).holds
    assert (fewer.hash, fewer.count) == (first.hash, 5)
    assert db.read(held.listed, held.CREATE, "", 99) == ["U1", "U2", "U3", "U5", "U6"]
    given.have(db, user("U9"))
    (more,) = run(db, none).holds
    assert (more.hash != first.hash, more.count) == (True, 6)


def test_who_was_let_go_before_is_not_counted_as_outside_again(db: Database) -> None:
    people(db, "U1", "U2", plan="free")
    (hold,) = run(db).holds
    assert (hold.what, hold.count) == ("delete", 2)
    assert approving.approve(db, SETTINGS, hold.hash, 1, NOW) == 1
    assert holds(run(db)) == [("delete", "max_deletes", 1, 0)]
    assert db.read(backlog.leaving) == 1


def test_a_delete_after_the_deletion_was_off_waits_the_whole_grace(db: Database) -> None:
    lenient = settings(max_deletes=100)
    off = settings(max_deletes=100, delete=DELETE | {"enabled": False})
    people(db, "U1", plan="free")
    assert run(db, lenient).leaving == 1
    assert run(db, off, timedelta(minutes=50)).leaving == 0
    found = run(db, lenient, timedelta(days=30))
    assert (found.deletes, found.leaving) == (0, 1)
    found = run(db, lenient, timedelta(days=30, hours=1))
    assert (found.deletes, found.leaving) == (1, 0)
