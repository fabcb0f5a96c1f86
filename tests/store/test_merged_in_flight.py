"""Users who are merged, or become somebody, while a worker has them in hand.

No person is left nobody's, and whatever may have been sent of the one is sent anew of the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import pytest
import sqlalchemy as sa
from msgspec.structs import replace

from connector.core.outcome import Delivered, Later, Refused, Stopped
from connector.outbound import preparation, recording, results
from connector.outbound.notes import Terms
from connector.outbound.preparation import Prepared
from connector.records import CustomerId, Identifier, IdentifierKind
from connector.settings import Settings
from connector.store import database, leases, merging, mirror, pending, schema, standing, users
from connector.store.database import Database
from tests.store import given, told
from tests.store.given import NOW
from tests.store.told import message

LEASE = timedelta(seconds=60)
PEOPLE = {
    "segments": ["All"],
    "customer_id": ["external_id", "email"],
    "require_email": False,
    "attributes": ["plan"],
    "delete": {"enabled": True, "grace": "1h", "blind": True},
}
SETTINGS = Settings.model_validate({"people": PEOPLE, "segments": {"All": {"attribute": "plan", "exists": True}}})
TERMS = Terms(SETTINGS.mapping_hash(), timedelta(days=7), timedelta(minutes=10), NOW)


def claimed(db: Database, lease: str, at: datetime = NOW) -> list[Prepared]:
    return preparation.prepare(db, SETTINGS, db.write(leases.claim, lease, at, at + LEASE, 100), at)


def merge(db: Database) -> None:
    """L turns out to be S."""
    with db.transaction() as connection:
        database.lock_identities(connection)
        merging.merge(connection, {"L": "S"}, NOW)
        pending.mark(connection, ["S"], NOW, pending.CHANGED)


def mirrors(db: Database, *names: str) -> list[tuple[object, ...]]:
    return given.rows(db, schema.mirror, "user_id", "customer_id", *names)


def decisions(prepared: Sequence[Prepared]) -> dict[str, tuple[str, str]]:
    return {each.user_id: (each.decision.verb, each.decision.reason) for each in prepared}


@pytest.fixture
def two(db: Database) -> None:
    """L, who is a person, and S, who is nobody there, and is L as it turns out."""
    given.have(
        db,
        given.user("L", email="l@x.co", attributes={"plan": "pro"}),
        given.user("S", external_id="42", attributes={"plan": "free"}),
    )
    sent = {"email": "l@x.co", "plan": "free", "hull_segments": ["All"]}
    given.sent(db, given.person("L", customer_id="l@x.co", id_kind="email", attributes=sent))


@pytest.mark.parametrize("how", ["delivered", "not heard of", "killed"])
def test_what_was_sent_of_a_user_who_was_merged_meanwhile_is_sent_anew_of_the_survivor(
    db: Database, two: None, how: str
) -> None:
    given.have(db, given.user("Z", external_id="z", attributes={"plan": "b"}))
    given.sent(db, given.person("Z", customer_id="z", attributes={"plan": "a"}))
    db.write(pending.mark, ["L", "Z"], NOW, pending.CHANGED)
    prepared = claimed(db, "w1")
    merge(db)
    outcome = Delivered() if how == "delivered" else Later("timeout", "")
    if how != "killed":
        came = [
            results.of_parts(each, (outcome,) * len(each.parts), 1, unheard=how != "delivered") for each in prepared
        ]
        recording.record(db, [], came, TERMS)
        assert ("Z", "w1") not in given.rows(db, schema.pending, "user_id", "lease"), "who was in the call with them"
    found = claimed(db, "w2", NOW + 2 * LEASE)
    assert mirrors(db)[0] == ("S", "l@x.co")
    (of_survivor,) = [each.subject.mirror for each in found if each.user_id == "S"]
    assert of_survivor is not None
    assert of_survivor.unsure == "*"


@pytest.mark.parametrize("how", ["delivered", "not heard of", "killed"])
def test_who_was_deleted_while_they_were_merged_comes_back_whole(db: Database, how: str) -> None:
    out = {"opted_out": True, "opt_changed_at": NOW - timedelta(days=9)}
    given.have(db, given.user("L", email="l@x.co", **out), given.user("S", attributes={"plan": "p"}))
    gone = {"left_at": NOW - timedelta(days=1), "created_at": NOW - timedelta(days=8)}
    given.sent(db, given.person("L", customer_id="l@x.co", id_kind="email", attributes={"email": "l@x.co"}, **gone))
    db.write(pending.release, ["L"], "delete", NOW)
    prepared = claimed(db, "w1")
    assert decisions(prepared) == {"L": ("delete", "left")}
    merge(db)
    with db.transaction() as connection:
        connection.execute(sa.update(schema.users).where(schema.users.c.id == "S").values(email="l@x.co", **out))
    if how != "killed":
        outcome = Delivered() if how == "delivered" else Later("timeout", "")
        recording.record(db, [], [results.of_parts(prepared[0], (outcome,), 1, unheard=True)], TERMS)
    db.write(pending.mark, ["S"], NOW, pending.CHANGED)
    (found,) = [each for each in claimed(db, "w2", NOW + 2 * LEASE) if each.user_id == "S"]
    assert (found.decision.verb, found.decision.reason) == ("update", "unsure")
    assert found.decision.changes["email"] == "l@x.co"
    assert found.decision.changes["unsubscribed"] is True


@pytest.mark.parametrize("outcome", [Stopped("rate_limited", ""), Refused("refused", "", 400)])
def test_whose_person_was_only_begun_before_the_merge_is_made_under_that_id(
    db: Database, outcome: Stopped | Refused
) -> None:
    given.have(db, given.user("L", email="l@x.co", attributes={"plan": "a"}))
    given.have(db, given.user("S", external_id="42", attributes={"plan": "a"}))
    db.write(pending.arrived, ["L"], NOW)
    prepared = claimed(db, "w1")
    assert db.write(recording.begin, prepared, TERMS) == {"L"}
    merge(db)
    assert mirrors(db) == [("S", "l@x.co")]
    recording.record(db, [], [results.of_parts(prepared[0], (outcome,), 0)], TERMS)
    (found,) = [each for each in claimed(db, "w2") if each.user_id == "S"]
    assert (found.decision.verb, found.decision.reason) == ("update", "unsure")
    assert found.decision.customer_id == CustomerId("email", "l@x.co")
    recording.record(db, [], [results.of_parts(found, (Delivered(),), 1)], TERMS)
    assert mirrors(db, "unsure") == [("S", "l@x.co", "")]


def test_a_create_that_was_taken_is_the_survivors_person(db: Database) -> None:
    given.have(db, given.user("L", email="l@x.co", attributes={"plan": "a"}), given.user("S", external_id="42"))
    db.write(pending.arrived, ["L"], NOW)
    prepared = claimed(db, "w1")
    db.write(recording.begin, prepared, TERMS)
    merge(db)
    came = results.of_parts(prepared[0], (Delivered(),), 1)
    tally = recording.record(db, [], [came], TERMS)
    assert (tally.created, dict(tally.skipped)) == (1, {})
    assert mirrors(db, "unsure") == [("S", "l@x.co", "*")]


@pytest.mark.parametrize("after", ["merge", "doubt"])
def test_a_create_that_is_recorded_as_doubtful_counts_for_the_guard(db: Database, after: str) -> None:
    given.have(db, given.user("L", email="l@x.co", attributes={"plan": "a"}), given.user("S", external_id="42"))
    db.write(pending.release, ["L"], "guard", NOW)
    prepared = claimed(db, "w1")
    db.write(recording.begin, prepared, TERMS)
    if after == "merge":
        merge(db)
    else:
        db.write(mirror.doubt, ["L"])
    recording.record(db, [], [results.of_parts(prepared[0], (Delivered(),), 1)], TERMS)
    assert given.rows(db, schema.mirror, "unsure") == ["*"]
    assert given.rows(db, schema.guarded, "what", "count") == [("create", 1)]


@pytest.mark.parametrize("calls", [1, 2])
def test_who_has_the_survivor_in_flight_does_not_forget_what_was_sent_of_the_loser(
    db: Database, two: None, calls: int
) -> None:
    db.write(pending.mark, ["L"], NOW, pending.CHANGED)
    of_loser = claimed(db, "w1")
    merge(db)
    is_known_so = {"external_id": None, "email": "l@x.co", "attributes": {"plan": "team"}}
    with db.transaction() as connection:
        connection.execute(sa.update(schema.users).where(schema.users.c.id == "S").values(**is_known_so))
    of_survivor = claimed(db, "w2")
    assert decisions(of_survivor) == {"S": ("update", "changed")}
    came = [results.of_parts(each, (Delivered(),) * len(each.parts), 1) for each in (*of_loser, *of_survivor)]
    for some in [came] if calls == 1 else [came[:1], came[1:]]:
        recording.record(db, [], some, TERMS)
    assert mirrors(db, "unsure") == [("S", "l@x.co", "*")]


def test_a_user_who_was_merged_before_their_create_is_not_created(db: Database) -> None:
    both = (
        given.user("L", email="l@x.co", attributes={"plan": "a"}),
        given.user("S", external_id="42", attributes={"plan": "a"}),
    )
    given.have(db, *both)
    db.write(pending.arrived, ["L", "S"], NOW)
    prepared = claimed(db, "w1")
    merge(db)
    assert db.write(recording.begin, prepared, TERMS) == {"S"}


def test_who_became_somebody_by_a_merge_is_not_created_over_that_person(db: Database, two: None) -> None:
    db.write(pending.arrived, ["S"], NOW)
    prepared = claimed(db, "w1")
    assert decisions(prepared) == {"S": ("create", "entered")}
    merge(db)
    assert db.write(recording.begin, prepared, TERMS) == set()
    assert mirrors(db, "unsure") == [("S", "l@x.co", "")]


def test_a_worker_that_lost_its_lease_begins_nobody(db: Database) -> None:
    given.have(db, given.user("U", external_id="a", attributes={"plan": "p"}))
    db.write(pending.arrived, ["U"], NOW)
    old = claimed(db, "w1")
    later = NOW + LEASE
    with db.transaction() as connection:
        connection.execute(sa.update(schema.users).values(external_id="b", version=2))
    new = claimed(db, "w2", later)
    assert db.write(recording.begin, new, TERMS) == {"U"}
    recording.record(db, [], [results.of_parts(new[0], (Delivered(),), 1)], TERMS)
    assert db.write(recording.begin, old, TERMS) == set()
    assert mirrors(db, "unsure") == [("U", "b", "")]


def test_a_doubt_about_somebody_in_flight_outlives_their_record(db: Database, two: None) -> None:
    db.write(pending.mark, ["L"], NOW, pending.CHANGED)
    prepared = claimed(db, "w1")
    assert decisions(prepared) == {"L": ("update", "changed")}
    db.write(mirror.doubt, ["L"])
    recording.record(db, [], [results.of_parts(prepared[0], (Delivered(),), 1)], TERMS)
    assert mirrors(db, "unsure") == [("L", "l@x.co", "*")]
    db.write(pending.mark, ["L"], NOW, pending.CHANGED)
    again = claimed(db, "w2")
    assert decisions(again) == {"L": ("update", "unsure")}
    db.write(mirror.doubt, ["L"])
    recording.record(db, [], [results.of_parts(again[0], (Delivered(),), 1)], TERMS)
    assert mirrors(db, "unsure") == [("L", "l@x.co", "*")], "doubted once more meanwhile"
    db.write(pending.mark, ["L"], NOW, pending.CHANGED)
    at_last = claimed(db, "w3")
    recording.record(db, [], [results.of_parts(at_last[0], (Delivered(),), 1)], TERMS)
    assert mirrors(db, "unsure", "version") == [("L", "l@x.co", "", 1)]


def test_a_doubt_about_somebody_who_is_looked_at_is_found_by_the_next_pass(db: Database, two: None) -> None:
    with db.transaction() as connection:
        connection.execute(sa.update(schema.users).where(schema.users.c.id == "L").values(attributes={"plan": "free"}))
    db.write(pending.mark, ["L"], NOW, pending.CHANGED)
    prepared = claimed(db, "w1")
    assert decisions(prepared) == {"L": ("skip", "unchanged")}
    db.write(mirror.doubt, ["L"])
    recording.record(db, prepared, [], TERMS)
    found = db.read(lambda connection: [each.user_id for each in standing.differing(connection, SETTINGS, NOW)])
    assert "L" in found


WITH_EVENTS = Settings.model_validate(
    {
        "people": {"segments": ["all"], "customer_id": ["external_id", "email"]},
        "segments": {"all": {"everyone": True}},
        "events": {"names": ["Clicked"]},
    }
)


def prepared_with_events(db: Database) -> list[Prepared]:
    return preparation.prepare(db, WITH_EVENTS, db.write(leases.claim, "w1", NOW, NOW + LEASE, 10), NOW)


def user_of(db: Database, kind: IdentifierKind, value: str) -> str:
    name = Identifier(kind, value)
    return db.read(users.find, [name])[name]


def test_the_events_of_who_was_created_and_merged_meanwhile_were_sent(db: Database) -> None:
    told.tell(
        db,
        message("identify", "i1", anonymous="a", traits={"email": "ann@b.co"}),
        message("track", "t1", anonymous="a", timestamp=NOW.isoformat()),
        message("identify", "i2", user="1"),
        settings=WITH_EVENTS,
    )
    (created,) = [each for each in prepared_with_events(db) if each.parts]
    db.write(recording.begin, [created], TERMS)
    told.tell(db, message("identify", "i3", user="1", traits={"email": "ann@b.co"}), settings=WITH_EVENTS)
    came = results.of_parts(created, (Delivered(),), 1)
    went = results.OfEvents(sent=tuple(each.event_id for each in created.agenda.outgoing))
    recording.record(db, [], [replace(came, events=went)], TERMS)
    assert given.rows(db, schema.events, "outbound", "reason") == [("sent", None)]
    assert mirrors(db) == [(user_of(db, "external_id", "1"), "ann@b.co")]


def test_events_that_a_merge_brought_in_flight_are_not_skipped_for_what_was_missing_before(db: Database) -> None:
    earlier = NOW - timedelta(hours=1)
    track = message("track", "t1", anonymous="a", timestamp=earlier.isoformat())
    identify = message("identify", "i1", anonymous="a", traits={"email": "ann@b.co"})
    told.tell(db, identify, track, settings=WITH_EVENTS, now=earlier)
    loser = user_of(db, "email", "ann@b.co")
    given.sent(db, given.person(loser, customer_id="ann@b.co", id_kind="email"))
    tracked = message("track", "t2", user="1", timestamp=NOW.isoformat())
    told.tell(db, message("identify", "i2", user="1"), tracked, settings=WITH_EVENTS)
    fails = {"attempts": 5, "failing_since": earlier, "due_at": NOW + timedelta(minutes=10)}
    with db.transaction() as connection:
        connection.execute(sa.update(schema.pending).where(schema.pending.c.user_id == loser).values(**fails))
    prepared = prepared_with_events(db)
    assert [each.decision.reason for each in prepared] == ["no_email"]
    told.tell(db, message("identify", "i3", user="1", traits={"email": "ann@b.co"}), settings=WITH_EVENTS)
    recording.record(db, prepared, [], TERMS)
    assert given.rows(db, schema.events, "outbound", "reason") == [("due", None), ("due", None)]
