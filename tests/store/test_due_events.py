"""Which events are due once they are read, in which order they go, and what becomes of them."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import hypothesis
import pytest
import sqlalchemy as sa
from hypothesis import strategies as st
from sqlalchemy.engine import Connection

from connector import errors
from connector.admin import status
from connector.commands import person, person_text, replay_parked, resend, status_text
from connector.core import ulid
from connector.inbound import adopting, due, upsert
from connector.records import DueEvent, Event, EventRow
from connector.settings import Events, Guard, Log, Settings
from connector.store import attempts, due_events, event_counts, events, events_again, inbox, leases, pending, schema
from connector.store.attempts import Attempt
from connector.store.database import Database
from tests.store import given, told
from tests.store.given import NOW, webhook
from tests.store.told import message

WANTED = Settings(events=Events(names=("Clicked", "page")))
LATER = NOW + timedelta(hours=1)
NAMES = ("U1", "U2", "U3")


def fates(db: Database) -> list[Any]:
    return given.rows(db, schema.events, "source_id", "outbound", "reason")


def waiting(db: Database) -> list[str]:
    return given.rows(db, schema.pending, "user_id")


def event(number: int | str, user_id: str | None = "U1", at: datetime = NOW, **more: Any) -> Event:
    values: dict[str, Any] = {
        "source": "intake",
        "source_id": str(number),
        "type": "track",
        "name": "Clicked",
        "properties": {"n": number},
        "context": {},
        "received_at": NOW,
        "outbound": "due",
        "due_at": NOW,
    }
    values |= {"activity_id": ulid.activity_id("intake", str(number), at)} | more
    return Event(user_id=user_id, occurred_at=at, **values)


def store(db: Database, *wanted: Event) -> dict[str, int]:
    """The events are stored; their numbers by the id that their source gave them."""
    db.write(events.add, wanted)
    return {row.source_id: row.id for row in db.read(lambda c: c.execute(sa.select(schema.events)).all())}


def first(db: Database, *user_ids: str, limit: int = 50) -> tuple[dict[str, list[str]], set[str]]:
    """What is due, as ids that their source gave them."""
    found = db.read(due_events.of_users, user_ids, limit)
    named = {user_id: [str(each.properties["n"]) for each in theirs] for user_id, theirs in found.events.items()}
    return named, set(found.more)


@pytest.fixture
def users(db: Database) -> None:
    given.have(db, *(given.user(each, external_id=each, email=f"{each.lower()}@b.co") for each in NAMES))


# Reading


def test_a_whitelisted_event_is_due_from_when_it_was_read_and_its_user_is_pending(db: Database) -> None:
    told.tell(db, message("track", "m1", user="1"), settings=WANTED, now=NOW)
    (stored,) = given.rows(db, schema.events)
    assert (stored["outbound"], stored["reason"], stored["due_at"], stored["settled_at"]) == ("due", None, NOW, None)
    (row,) = given.rows(db, schema.pending)
    assert (row["user_id"], row["due_at"], row["priority"]) == (stored["user_id"], NOW, pending.CHANGED)
    (found,) = db.read(due_events.of_users, [stored["user_id"]]).events[stored["user_id"]]
    assert isinstance(found, DueEvent)
    assert (found.activity_id, found.name, found.due_at) == (stored["activity_id"], "Clicked", NOW)


def test_what_is_not_whitelisted_is_history_and_nobody_is_pending_for_it(db: Database) -> None:
    told.tell(db, message("track", "m1", user="1", event="Opened"), message("screen", "m2", user="1"), settings=WANTED)
    told.tell(db, message("track", "m3", user="1"))
    assert fates(db) == [("m1", "none", None), ("m2", "none", None), ("m3", "none", None)]
    assert waiting(db) == []


def test_the_whitelist_of_the_moment_of_reading_decides_and_a_later_one_changes_nothing(db: Database) -> None:
    before, after = Settings(events=Events(names=("A *",))), Settings(events=Events(names=("B *",)))
    said = [message("track", f"{name} {number}", user="1", event=f"{name} x") for name in "AB" for number in (1, 2)]
    told.tell(db, said[0], said[2], settings=before)
    told.tell(db, said[1], said[3], settings=after)
    assert fates(db) == [("A 1", "due", None), ("B 1", "none", None), ("A 2", "none", None), ("B 2", "due", None)]
    adopting.everything(db, after, lambda: LATER)
    assert [outbound for _, outbound, _ in fates(db)] == ["due", "none", "none", "due"]


def test_page_views_are_chosen_by_their_url_wherever_it_stands(db: Database) -> None:
    settings = Settings(events=Events(names=("page",), pages=("https://x.co/pricing*",)))
    url = "https://x.co/pricing?a=1"
    told.tell(
        db,
        message("page", "m1", user="1", properties={"url": url}),
        message("page", "m2", user="1", context={"page": {"url": url}}),
        message("page", "m3", user="1", properties={"url": "https://x.co/about"}),
        message("page", "m4", user="1"),
        settings=settings,
    )
    assert [outbound for _, outbound, _ in fates(db)] == ["due", "due", "none", "none"]


def test_what_customerio_reported_is_never_sent_back(db: Database) -> None:
    given.read(db, webhook("w1", identifiers={"id": "1"}), settings=Settings(events=Events(names=("*",))))
    ((_, outbound, _),) = fates(db)
    assert outbound == "none"
    assert waiting(db) == []


def test_an_imported_message_is_history(db: Database) -> None:
    told.tell(db, message("track", "m1", user="1"), settings=WANTED, imported=True)
    assert fates(db) == [("m1", "none", None)]


@pytest.mark.parametrize(("age", "outbound"), [(timedelta(days=7), "due"), (timedelta(days=7, seconds=1), "skipped")])
def test_what_was_too_old_when_it_was_stored_is_skipped(db: Database, age: timedelta, outbound: str) -> None:
    at = (NOW - age).isoformat()
    told.tell(db, message("track", "m1", user="1", timestamp=at), settings=WANTED, now=NOW)
    (stored,) = given.rows(db, schema.events)
    reason = "too_old" if outbound == "skipped" else None
    assert (stored["outbound"], stored["reason"]) == (outbound, reason)
    assert (stored["due_at"], stored["settled_at"]) == ((NOW, None) if reason is None else (None, NOW))
    assert len(waiting(db)) == (reason is None)


def test_our_own_delay_makes_nothing_too_old(db: Database) -> None:
    late = NOW + timedelta(days=30)
    db.write(inbox.append, inbox.INTAKE, told.received(message("track", "m1", user="1"), at=NOW))
    given.read(db, settings=WANTED, now=late)
    ((outbound, due_at),) = given.rows(db, schema.events, "outbound", "due_at")
    assert (outbound, due_at) == ("due", late)
    given.read(db, settings=WANTED, now=late + timedelta(days=30))
    assert fates(db) == [("m1", "due", None)]


def test_an_event_that_comes_while_its_user_is_in_flight_is_looked_at_afterwards(db: Database) -> None:
    told.tell(db, message("track", "m1", user="1"), settings=WANTED)
    (claim,) = db.write(leases.claim, "lease", NOW, LATER, 9)
    told.tell(db, message("track", "m2", user="1"), settings=WANTED)
    db.write(leases.finish, "lease", [claim.user_id], NOW)
    assert waiting(db) == [claim.user_id]


# Merges


def test_events_of_a_visitor_who_turns_out_to_be_a_user_stay_due_and_the_user_is_pending(db: Database) -> None:
    given.have(db, given.user("U1", external_id="1"))
    told.tell(db, message("track", "m1", anonymous="a"), settings=WANTED)
    told.tell(db, message("identify", "m2", user="1", anonymous="a"), settings=WANTED, now=LATER)
    assert given.rows(db, schema.events, "user_id", "outbound", "due_at") == [("U1", "due", NOW)]
    assert waiting(db) == ["U1"]


def test_a_merge_without_due_events_makes_nobody_pending(db: Database) -> None:
    given.have(db, given.user("U1", external_id="1"))
    told.tell(db, message("track", "m1", anonymous="a"))
    told.tell(db, message("identify", "m2", user="1", anonymous="a"), now=LATER)
    assert given.rows(db, schema.events, "user_id") == ["U1"]
    assert waiting(db) == []


def test_an_event_and_the_merge_of_its_user_in_one_batch(db: Database) -> None:
    given.have(db, given.user("U1", external_id="1"))
    told.tell(
        db,
        message("track", "m1", anonymous="a"),
        message("identify", "m2", user="1", anonymous="a"),
        settings=WANTED,
    )
    assert given.rows(db, schema.events, "user_id", "outbound") == [("U1", "due")]
    assert waiting(db) == ["U1"]


# SQL


def ask(db: Database, source_id: str, user_id: str | None = "U1", **values: Any) -> None:
    """As SQL writes an event."""
    row = {"source_id": source_id, "user_id": user_id, "name": "Clicked", "outbound": "due"} | values
    db.write(lambda connection: connection.execute(sa.insert(schema.events).values(row)))


@pytest.mark.usefixtures("users")
def test_what_sql_asks_for_is_read_before_a_pass(db: Database) -> None:
    ask(db, "asked", occurred_at=NOW, received_at=NOW)
    ask(db, "history", "U2", outbound="none")
    ask(db, "else", "U2", name="Opened")
    ask(db, "old", "U2", occurred_at=NOW - timedelta(days=8), received_at=NOW)
    ask(db, "nobody's", None)
    ask(db, "reported", "U2", source=inbox.CUSTOMERIO)
    assert first(db, *NAMES) == ({}, set())
    adopting.everything(db, WANTED, lambda: LATER)
    assert fates(db) == [
        ("asked", "due", None),
        ("history", "none", None),
        ("else", "none", None),
        ("old", "skipped", "too_old"),
        ("nobody's", "none", None),
        ("reported", "none", None),
    ]
    assert waiting(db) == ["U1"]
    (found,) = db.read(due_events.of_users, ["U1"]).events["U1"]
    assert (found.due_at, found.activity_id) == (LATER, ulid.activity_id("sql", "asked", NOW))
    adopting.everything(db, Settings(), lambda: LATER + timedelta(days=30))
    assert fates(db)[0] == ("asked", "due", None)


@pytest.mark.usefixtures("users")
def test_an_event_that_sql_wrote_for_somebody_who_was_merged_is_the_survivors(db: Database) -> None:
    merged = schema.users.update().where(schema.users.c.id == sa.bindparam("loser"))
    pairs = [{"loser": "U1", "into": "U2"}, {"loser": "U2", "into": "U3"}]
    db.write(lambda connection: connection.execute(merged.values(merged_into=sa.bindparam("into")), pairs))
    for user_id in NAMES:
        ask(db, user_id, user_id)
    assert due.read_asked(db, WANTED, lambda: NOW) == 3
    assert set(given.rows(db, schema.events, "user_id")) == {"U3"}
    assert waiting(db) == ["U3"]


@pytest.mark.usefixtures("users")
def test_many_are_read_in_small_transactions_once(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(due, "_CHUNK", 3)
    for number in range(8):
        ask(db, str(number))
    assert due.read_asked(db, WANTED, lambda: NOW) == 8
    assert due.read_asked(db, WANTED, lambda: NOW) == 0


# Order and limits


@pytest.mark.usefixtures("users")
def test_events_go_by_when_they_happened_and_then_as_they_came(db: Database) -> None:
    early = NOW - timedelta(days=1)
    store(db, event("a"), event("b", at=early), event("c"), event("d", at=early), event("e", "U2"))
    store(db, event("f", outbound="none", due_at=None), event("g", due_at=None), event("h", None))
    assert first(db, "U1", "U2", "U3") == ({"U1": ["b", "d", "a", "c"], "U2": ["e"]}, set())
    assert first(db, "U1", "U2", limit=3) == ({"U1": ["b", "d", "a"], "U2": ["e"]}, {"U1"})
    assert first(db) == ({}, set())


@hypothesis.given(
    st.lists(
        st.tuples(st.sampled_from(NAMES), st.integers(0, 3), st.sampled_from(["due", "due", "sent", "none", "parked"])),
        max_size=30,
    ),
    st.sets(st.sampled_from(NAMES)),
    st.integers(1, 6),
)
@hypothesis.settings(
    max_examples=40, deadline=None, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture]
)
@pytest.mark.usefixtures("users")
def test_of_each_user_the_first_ones_are_found_in_order(
    db: Database, history: Sequence[tuple[str, int, str]], asked: set[str], limit: int
) -> None:
    db.write(lambda connection: connection.execute(sa.delete(schema.events)))
    made = [
        event(number, user_id, NOW + timedelta(minutes=minute), outbound=outbound)
        for number, (user_id, minute, outbound) in enumerate(history)
    ]
    store(db, *made)
    wanted = {
        user_id: sorted(
            (each for each in made if each.user_id == user_id and each.outbound == "due"),
            key=lambda each: (each.occurred_at, int(each.source_id)),
        )
        for user_id in asked
    }
    assert first(db, *asked, limit=limit) == (
        {user_id: [each.source_id for each in theirs[:limit]] for user_id, theirs in wanted.items() if theirs},
        {user_id for user_id, theirs in wanted.items() if len(theirs) > limit},
    )


# What becomes of them


@pytest.mark.usefixtures("users")
def test_only_what_is_still_due_is_sent_skipped_or_parked(db: Database) -> None:
    ids = store(db, *(event(each) for each in "abcd"))
    db.write(due_events.sent, [ids["a"]], LATER)
    db.write(due_events.skipped, [ids["b"]], "left_kept", LATER)
    db.write(due_events.parked, {ids["c"]: "name_too_long"}, LATER)
    after = [("a", "sent", None), ("b", "skipped", "left_kept"), ("c", "parked", "name_too_long"), ("d", "due", None)]
    assert fates(db) == after
    assert given.rows(db, schema.events, "settled_at") == [LATER, LATER, LATER, None]
    for number in "abc":
        db.write(due_events.sent, [ids[number]], NOW)
        db.write(due_events.skipped, [ids[number]], "x", NOW)
        db.write(due_events.parked, {ids[number]: "x"}, NOW)
    db.write(due_events.sent, [], NOW)
    assert fates(db) == after
    assert first(db, "U1") == ({"U1": ["d"]}, set())


@pytest.mark.usefixtures("users")
def test_what_has_waited_is_skipped_with_its_users_reason(db: Database) -> None:
    store(db, event("a"), event("b", due_at=LATER), event("c", "U2"), event("d", "U3"), event("e", "U2", due_at=None))
    assert db.read(due_events.oldest, [*NAMES, "nobody"]) == dict.fromkeys(NAMES, NOW)
    assert db.write(due_events.skip_waited, {"U1": "no_email", "U2": "erased"}, NOW, LATER) == 2
    assert fates(db) == [
        ("a", "skipped", "no_email"),
        ("b", "due", None),
        ("c", "skipped", "erased"),
        ("d", "due", None),
        ("e", "due", None),
    ]
    assert db.read(due_events.oldest, NAMES) == {"U1": LATER, "U3": NOW}


@pytest.mark.usefixtures("users")
def test_what_was_sent_to_a_user_lately_is_counted(db: Database) -> None:
    ids = store(db, *(event(each) for each in "abc"), event("d", "U2"), event("e", "U3"), event("f"))
    for number, hours in (("a", 0), ("b", 1), ("c", 2), ("d", 0)):
        db.write(due_events.sent, [ids[number]], NOW + timedelta(hours=hours))
    db.write(due_events.skipped, [ids["e"]], "x", LATER)
    lately = db.read(due_events.sent_lately, NAMES, NOW)
    assert lately == {"U1": due_events.Lately(2, LATER)}
    day_later = NOW + timedelta(days=1)
    assert db.read(event_counts.held, 2, day_later) == event_counts.HeldEvents(1, 1)
    assert db.read(event_counts.held, 3, day_later) == event_counts.HeldEvents(0, 0)
    assert db.read(event_counts.held, 0, day_later) == event_counts.HeldEvents(1, 1)


@pytest.mark.usefixtures("users")
def test_all_are_counted_by_what_became_of_them(db: Database) -> None:
    ids = store(db, *(event(each) for each in "abcdefg"), event("h", outbound="none"), event("i", due_at=None))
    db.write(due_events.sent, [ids["a"]], NOW)
    db.write(due_events.parked, {ids["b"]: "large", ids["c"]: "no_name", ids["d"]: "large"}, NOW)
    db.write(due_events.skipped, [ids["e"]], "too_old", NOW)
    counts = db.read(event_counts.counts)
    fates = {"skipped": {"too_old": 1}, "parked": {"large": 2, "no_name": 1}}
    assert counts == {"due": 3, "user_parked": 0, "sent": 1} | fates
    assert list(counts["parked"]) == ["large", "no_name"]


@pytest.mark.usefixtures("users")
def test_status_tells_what_became_of_events(db: Database) -> None:
    def shown(settings: Settings) -> tuple[Any, list[str]]:
        found = db.read(status.collect, settings, LATER)
        lines = [line for line in status_text.describe(found, LATER) if "vents" in line.partition("stored")[0]]
        return found["events"], lines

    limited = Settings(guard=Guard(max_events_per_user=1))
    told_of, lines = shown(limited)
    assert (told_of, lines) == (
        {"due": 0, "user_parked": 0, "sent": 0, "skipped": {}, "parked": {}, "parked_newest": {}, "held": None},
        ["events    0 due, 0 sent"],
    )
    ids = store(db, *(event(each) for each in "abcdef"), event("g", "U2"))
    db.write(due_events.sent, [ids["a"]], NOW)
    db.write(due_events.parked, {ids["b"]: "no_name"}, NOW)
    db.write(due_events.skipped, [ids["c"]], "too_old", NOW)
    told_of, lines = shown(limited)
    assert told_of["held"] == {"reason": "max_events_per_user", "users": 1, "events": 3}
    assert lines[0] == "events    4 due, 1 sent, skipped 1 too_old"
    assert lines[1].startswith("PARKED    events: 1 no_name: ")
    assert lines[2:] == [
        "HELD      3 events of 1 user, more than may go in 24 h: until a day has room (max_events_per_user)"
    ]
    assert shown(Settings())[0]["held"] is None


@pytest.mark.usefixtures("users")
def test_status_tells_the_newest_attempt_of_parked_events_by_reason(db: Database) -> None:
    ids = store(db, event("a", "U2"), event("b"), event("c"))
    db.write(due_events.parked, {ids["a"]: "refused", ids["c"]: "no_name"}, LATER)
    db.write(due_events.parked, {ids["b"]: "refused"}, NOW)
    tried = [
        Attempt("U1", "event", 1, 400, "refused", "before"),
        Attempt("U2", "event", 1, 422, "refused", "mail a@b.co"),
    ]
    db.write(attempts.add, tried, LATER)
    db.write(attempts.add, [Attempt("U2", "update", 1, 400, "refused", "of the person")], LATER)
    found = db.read(status.collect, Settings(log=Log(personal_data=True)), LATER)["events"]
    assert found["parked"] == {"refused": 2, "no_name": 1}
    newest = {"what": "event", "status": 422, "message": "mail a@b.co", "at": LATER}
    assert found["parked_newest"] == {"refused": newest}
    told = db.read(status.collect, Settings(), LATER)
    assert told["events"]["parked_newest"]["refused"]["message"] == "…"
    assert '          refused, newest 0 s ago: event: 422 "…"' in status_text.describe(told, LATER)


@pytest.mark.usefixtures("users")
def test_what_is_due_is_told_by_name_and_how_much_of_it_triggers_campaigns(db: Database) -> None:
    old = NOW - timedelta(hours=72)
    store(db, event("a"), event("b", at=old), event("c", name="Opened"), event("d", type="page", name="Home"))
    assert db.read(event_counts.outlook, NOW) == event_counts.Outlook({"Clicked": 2, "Opened": 1, "page": 1}, 3)


# Once more


@pytest.mark.usefixtures("users")
def test_parked_events_are_tried_again_by_reason_user_and_time(db: Database) -> None:
    ids = store(db, *(event(each) for each in "abc"), event("d", "U2"), event("e", "U3"))
    db.write(due_events.parked, {ids["a"]: "x", ids["b"]: "y", ids["d"]: "x"}, NOW)
    db.write(due_events.parked, {ids["c"]: "x"}, LATER)
    db.write(due_events.skipped, [ids["e"]], "x", LATER)
    at = LATER + timedelta(hours=1)
    found = replay_parked.parked(db, at, LATER, "x", ["U1"])
    assert (found.events, found.parked_events) == (1, {"x": 2, "y": 1})
    assert (waiting(db), first(db, *NAMES)[0]) == (["U1"], {"U1": ["c"]})
    found = replay_parked.parked(db, at, None, "x", None)
    assert (found.events, found.parked_events) == (2, {"y": 1})
    lines = list(replay_parked.describe(found))
    then = "under the same ids: a running connector sends them now, else connector sync"
    assert lines[0] == "0 parked users are tried again"
    assert f"2 parked events are due again, {then}" in lines
    assert "events still parked: 1 y" in lines
    assert waiting(db) == ["U1", "U2"]
    found = replay_parked.parked(db, at, None, None, None)
    assert (found.events, found.parked_events) == (1, {})
    assert f"1 parked event is due again, {then}" in list(replay_parked.describe(found))
    assert fates(db)[-1] == ("e", "skipped", "x")
    assert db.read(due_events.oldest, NAMES) == {"U1": at, "U2": at}


@pytest.mark.usefixtures("users")
def test_events_are_sent_again_whatever_became_of_them_under_the_same_ids(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events_again, "_CHUNK", 2)
    monkeypatch.setattr(events_again, "_STRETCH", 3)
    hours = [NOW + timedelta(hours=each) for each in range(5)]
    ids = store(
        db,
        *(event(number, at=at) for number, at in enumerate(hours)),
        event("else", name="Opened", at=hours[2]),
        event("view", type="page", at=hours[2]),
        event("reported", source="customerio", outbound="none", due_at=None, at=hours[2]),
        event("nobody's", None, outbound="none", due_at=None, at=hours[2]),
        event("history", "U2", outbound="none", due_at=None, at=hours[2]),
    )
    ask(db, "by sql", "U3", outbound="none", occurred_at=hours[2])
    before = dict(given.rows(db, schema.events, "source_id", "activity_id"))
    for number in range(5):
        if number % 2:
            db.write(due_events.sent, [ids[str(number)]], LATER)
        else:
            db.write(due_events.skipped, [ids[str(number)]], "x", LATER)
    db.write(due_events.parked, {ids["else"]: "x", ids["view"]: "x"}, LATER)
    at = LATER + timedelta(days=1)
    assert resend.resend(db, at, "Clicked", hours[1], hours[4], None) == {"resent": 5, "triggering": 5}
    again = [source_id for source_id, outbound, _ in fates(db) if outbound == "due"]
    assert again == ["1", "2", "3", "history", "by sql"]
    assert waiting(db) == ["U1", "U2", "U3"]
    after = dict(given.rows(db, schema.events, "source_id", "activity_id"))
    assert after == before | {"by sql": ulid.activity_id("sql", "by sql", hours[2])}
    assert set(db.read(due_events.oldest, NAMES).values()) == {at}
    assert given.rows(db, schema.events, "settled_at")[1:4] == [None] * 3
    nothing = {"resent": 0, "triggering": 0}
    assert resend.resend(db, at, "Clicked", hours[1], hours[4], None) == nothing
    assert resend.resend(db, at, "Clicked", hours[0], None, ["u2@B.co"]) == nothing
    late = hours[4] + due_events.TRIGGERS
    assert resend.resend(db, late, "Clicked", hours[0], None, ["U1"]) == {"resent": 2, "triggering": 0}
    assert resend.resend(db, at, "page", hours[0], None, ["U1"]) == {"resent": 1, "triggering": 1}
    assert resend.resend(db, at, "Clicked" * 100, hours[0], None, ["U1"]) == nothing
    with pytest.raises(errors.Failed, match="nobody is known as 9"):
        resend.resend(db, at, "Opened", hours[0], None, ["U1", "9"])
    assert ("else", "parked", "x") in fates(db)


@pytest.mark.usefixtures("users")
def test_an_event_of_a_user_who_is_parked_is_no_new_try(db: Database) -> None:
    db.write(pending.mark, ["U1"], NOW, pending.CHANGED)
    db.write(leases.claim, "lease", NOW, LATER, 9)
    db.write(leases.park, "lease", [leases.Parked("U1", "refused", 1)], "hash", NOW)
    told.tell(db, message("track", "m1", user="U1"), settings=WANTED, now=LATER)
    ask(db, "by sql")
    adopting.everything(db, WANTED, lambda: LATER)
    db.write(upsert.events, [EventRow("i1", "U1", None, None, "track", "Clicked", LATER)], LATER, WANTED.events)
    resend.resend(db, LATER, "Clicked", NOW, None, None)
    (row,) = given.rows(db, schema.pending)
    assert (row["parked_at"], row["reason"]) == (NOW, "refused")
    assert db.read(event_counts.counts)["user_parked"] == 3


@pytest.mark.usefixtures("users")
def test_where_the_settings_keep_no_events_waiting_any_more_their_users_are_due(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(due, "_CHUNK", 2)
    limited = WANTED.model_copy(update={"guard": Guard(max_events_per_user=1)})
    store(db, *(event(f"{user} {number}", user) for user in NAMES for number in range(2)))
    for at in (NOW, NOW + timedelta(minutes=2)):  # by then every process has noticed
        adopting.everything(db, limited, lambda at=at: at)
    db.write(leases.claim, "lease", NOW, LATER, 9)
    db.write(leases.wait, "lease", [leases.Wait(user, LATER) for user in NAMES], NOW)
    adopting.everything(db, limited, lambda: NOW)
    assert set(given.rows(db, schema.pending, "due_at")) == {LATER}
    adopting.everything(db, WANTED, lambda: NOW)
    assert given.rows(db, schema.pending, "due_at") == [NOW] * 3


def test_an_event_that_sql_wrote_for_nobody_who_is_there_is_skipped_and_stops_no_other(db: Database) -> None:
    if db.dialect == "postgresql":
        return  # it takes none
    given.have(db, given.user("U1"))
    with sqlite3.connect(str(db.url.database)) as connection:
        connection.executemany(
            "INSERT INTO events (source_id, user_id, name, outbound) VALUES (?, ?, ?, 'due')",
            [("orphan", "gone", "Clicked"), ("fine", "U1", "Clicked")],
        )
        connection.execute(
            "INSERT INTO events (source_id, user_id, name, outbound) VALUES ('odd', 'U1', CAST(X'ff41' AS TEXT), 'due')"
        )
    connection.close()
    assert due.outlook(db, WANTED.events, LATER).by_name == {"Clicked": 1}
    assert due.read_asked(db, WANTED, lambda: LATER) == 3
    assert fates(db) == [("orphan", "skipped", "no_user"), ("fine", "due", None), ("odd", "skipped", "unreadable")]
    assert waiting(db) == ["U1"]


def test_what_is_wrong_with_the_database_makes_no_event_unreadable(db: Database) -> None:
    given.have(db, given.user("U1"))
    asked = {"user_id": "U1", "name": "Clicked", "outbound": "due", "occurred_at": NOW, "received_at": NOW}
    db.write(lambda connection: connection.execute(sa.insert(schema.events).values(asked)))
    db.write(lambda connection: connection.execute(sa.text("ALTER TABLE pending RENAME TO away")))
    with pytest.raises(sa.exc.DBAPIError):
        due.read_asked(db, WANTED, lambda: LATER)
    db.write(lambda connection: connection.execute(sa.text("ALTER TABLE away RENAME TO pending")))
    assert given.rows(db, schema.events, "outbound", "reason") == [("due", None)]
    assert due.read_asked(db, WANTED, lambda: LATER) == 1


@pytest.mark.usefixtures("users")
def test_a_plan_counts_what_sql_asks_for_by_the_settings_that_it_is_made_under(db: Database) -> None:
    store(db, event("due", name="Opened"))
    at = NOW - timedelta(days=4)
    for source_id, values in (("a", {}), ("b", {"occurred_at": at}), ("c", {"type": "page"}), ("d", {"name": "Else"})):
        ask(db, source_id, **{"occurred_at": NOW, "received_at": NOW} | values)
    found = due.outlook(db, WANTED.events, NOW)
    assert found == event_counts.Outlook({"Clicked": 2, "Opened": 1, "page": 1}, 3)
    assert [outbound for _, outbound, _ in fates(db)] == ["due"] * 5
    assert waiting(db) == []


@pytest.mark.usefixtures("users")
def test_a_persons_story_says_what_became_of_an_event(db: Database) -> None:
    ids = store(db, event("a"), event("b"))
    db.write(due_events.skipped, [ids["a"]], "no_email", LATER)
    story = person.tell(db, WANTED, "U1", 20, LATER)
    assert [(each["outbound"], each["reason"]) for each in story["events"]] == [("due", None), ("skipped", "no_email")]
    shown = "\n".join(person_text.describe(story))
    assert 'track "Clicked" by intake: due' in shown
    assert 'track "Clicked" by intake: skipped (no_email)' in shown


# With workers beside


@pytest.mark.usefixtures("users")
def test_reading_and_a_worker_never_wait_for_each_other_in_a_circle(db: Database, store_kind: str) -> None:
    """A worker holds the first of two users and wants the second; what is read touches both, the second one first."""
    if store_kind == "sqlite":
        return  # it has one writer
    db.write(pending.mark, ["U1", "U2"], NOW, pending.CHANGED)
    given.sent(db, given.person("U2"))
    db.write(leases.claim, "lease", NOW, LATER, 9)
    has_first, failed = threading.Event(), []

    def record(connection: Connection) -> None:
        rows = sa.select(schema.pending.c.user_id).with_for_update()
        connection.execute(rows.where(schema.pending.c.user_id == "U1"))
        has_first.set()
        connection.execute(sa.text("SELECT pg_sleep(0.3)"))
        connection.execute(rows.where(schema.pending.c.user_id == "U2"))

    def work() -> None:
        try:
            db.write(record)
        except sa.exc.DBAPIError as error:
            failed.append(error)

    worker = threading.Thread(target=work)
    worker.start()
    assert has_first.wait(10)
    # The identify marks U2, who is a person; the event then marks U1.
    told.tell(
        db, message("identify", "m1", user="U2", traits={"a": 1}), message("track", "m2", user="U1"), settings=WANTED
    )
    worker.join(10)
    assert failed == []


# Import


@pytest.mark.usefixtures("users")
def test_rows_to_be_sent_of_somebody_who_is_made_one_with_another_make_the_survivor_pending(db: Database) -> None:
    given.have(db, given.user("A"))
    row = EventRow("e1", "U1", None, "a", "track", "Clicked", NOW)
    rows = [EventRow("e0", None, None, "a", "track", "Clicked", NOW), row]
    assert db.write(upsert.events, rows, NOW, WANTED.events) == ["triggering", "triggering"]
    assert given.rows(db, schema.events, "user_id", "outbound", "due_at") == [("U1", "due", NOW)] * 2
    assert waiting(db) == ["U1"]
