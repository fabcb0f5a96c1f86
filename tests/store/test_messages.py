"""Messages become users and events: whose they are, what they change, and who turns out to be whom."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from connector.records import Identifier, Learnt
from connector.settings import Settings
from connector.store import inbox, leases, pending, schema, users
from connector.store.database import Database
from tests.store import given, told
from tests.store.given import NOW
from tests.store.told import message

LATER = NOW + timedelta(days=2)


def stored(db: Database) -> list[tuple[Any, ...]]:
    """(external_id, email, attributes) of every user, by external_id."""
    rows = given.rows(db, schema.users, "external_id", "email", "attributes")
    return sorted(rows, key=lambda each: (each[0] or "", each[1] or ""))


def events_of(db: Database) -> dict[str, list[str]]:
    """The source ids of events by the user's external_id, or email, or "anonymous"."""
    names = {
        user_id: external_id or email or "anonymous"
        for user_id, external_id, email in given.rows(db, schema.users, "id", "external_id", "email")
    }
    found: dict[str, list[str]] = {}
    for user_id, source_id in given.rows(db, schema.events, "user_id", "source_id"):
        found.setdefault(names[user_id], []).append(source_id)
    return found


def conflicts(db: Database) -> list[tuple[str, str]]:
    return sorted(given.rows(db, schema.conflicts, "kind", "value"))


def user_of(db: Database, kind: str, value: str) -> str:
    identifier = Identifier(kind, value)  # type: ignore[arg-type]
    return db.read(users.find, [identifier])[identifier]


def test_an_identify_makes_a_user_with_attributes_and_a_second_one_merges_into_them(db: Database) -> None:
    told.tell(db, message("identify", "m1", user="1", traits={"email": "Ann@b.co", "plan": "free", "seats": 1}))
    told.tell(db, message("identify", "m2", user="1", traits={"plan": "pro", "seats": None}))
    assert stored(db) == [("1", "Ann@b.co", {"plan": "pro"})]
    assert given.rows(db, schema.users, "known_by", "version") == [("own", 2)]
    assert given.rows(db, schema.events) == []


def test_a_message_that_says_nothing_new_changes_nothing(db: Database) -> None:
    told.tell(db, message("identify", "m1", user="1", anonymous="a", traits={"plan": "pro"}))
    before = given.rows(db, schema.users), given.rows(db, schema.identifiers)
    told.tell(db, message("identify", "m2", user="1", anonymous="a", traits={"plan": "pro"}), now=LATER)
    assert (given.rows(db, schema.users), given.rows(db, schema.identifiers)) == before


def test_track_page_and_screen_are_events_with_their_own_time_and_id(db: Database) -> None:
    at = "2026-03-01T10:00:00Z"
    told.tell(
        db,
        message("track", "t", user="1", properties={"total": 5}, timestamp=at),
        message("page", "p", user="1", timestamp=at),
        message("screen", "s", user="1", name="Start"),
    )
    found = given.rows(db, schema.events, "source", "type", "name", "properties", "outbound", "occurred_at")
    assert found == [
        ("intake", "track", "Clicked", {"total": 5}, "none", NOW - timedelta(hours=2)),
        ("intake", "page", "Home", {}, "none", NOW - timedelta(hours=2)),
        ("intake", "screen", "Start", {}, "none", NOW),
    ]


def test_a_repeated_message_is_one_event_whatever_clock_it_was_sent_by(db: Database) -> None:
    first = message("track", "t", user="1", timestamp="2026-03-01T10:00:00Z")
    told.tell(db, first, sentAt="2026-03-01T10:00:01Z")
    assert told.tell(db, first, now=LATER, sentAt="2026-03-03T10:00:01Z") == 0
    assert len(given.rows(db, schema.events)) == 1


def test_an_anonymous_visitor_who_identifies_is_that_user_with_all_they_did(db: Database) -> None:
    told.tell_singly(
        db,
        message("page", "p1", anonymous="a"),
        message("identify", "i1", user="1", anonymous="a", traits={"email": "ann@b.co"}),
        message("page", "p2", anonymous="a"),
        message("page", "p3", anonymous="phone"),
        message("identify", "i2", user="1", anonymous="phone"),
    )
    assert stored(db) == [("1", "ann@b.co", {})]
    assert events_of(db) == {"1": ["p1", "p2", "p3"]}
    assert conflicts(db) == []


def test_in_a_merge_the_known_users_attributes_win_and_the_earliest_time_stays(db: Database) -> None:
    told.tell(db, message("identify", "i1", anonymous="a", traits={"plan": "trial", "source": "ad"}))
    told.tell(db, message("identify", "i2", user="1", traits={"plan": "pro"}), now=LATER)
    told.tell(db, message("identify", "i3", user="1", anonymous="a"), now=LATER)
    assert stored(db) == [("1", None, {"plan": "pro", "source": "ad"})]
    assert given.rows(db, schema.users, "first_seen_at") == [NOW]


@pytest.mark.parametrize("singly", [True, False], ids=["one by one", "in one batch"])
def test_two_known_users_are_never_merged_by_what_they_share(db: Database, singly: bool) -> None:
    messages = [
        message("identify", "i1", user="1", anonymous="a", traits={"email": "shared@b.co"}),
        message("track", "t2", user="2", anonymous="a", context={"traits": {"email": "SHARED@b.co"}}),
        message("track", "t3", anonymous="a"),
    ]
    if singly:
        told.tell_singly(db, *messages)
    else:
        told.tell(db, *messages)
    assert stored(db) == [("1", "shared@b.co", {}), ("2", None, {})]
    assert events_of(db) == {"2": ["t2"], "1": ["t3"]}
    assert conflicts(db) == [("anonymous_id", "a"), ("email", "shared@b.co")]
    assert given.rows(db, schema.events, "context")[0]["flags"] == ["identity_conflict"]


def test_who_had_left_no_more_than_an_address_is_the_user_who_comes_with_it(db: Database) -> None:
    told.tell_singly(
        db,
        message("track", "lead", anonymous="x", context={"traits": {"email": "ann@b.co"}}),
        message("track", "t1", user="1"),
        message("identify", "i1", user="1", traits={"email": "Ann@b.co"}),
    )
    assert stored(db) == [("1", "Ann@b.co", {})]
    assert events_of(db) == {"1": ["lead", "t1"]}


def test_a_visitor_with_another_address_is_somebody_else(db: Database) -> None:
    told.tell_singly(
        db,
        message("identify", "i1", anonymous="a", traits={"email": "old@b.co"}),
        message("identify", "i2", anonymous="a", traits={"email": "new@b.co"}),
    )
    assert stored(db) == [(None, "new@b.co", {}), (None, "old@b.co", {})]
    assert conflicts(db) == [("anonymous_id", "a")]


def test_an_alias_merges_the_previous_id_whatever_kind_it_is(db: Database) -> None:
    told.tell_singly(
        db,
        message("track", "t1", anonymous="a"),
        message("track", "t2", user="old"),
        message("identify", "i1", anonymous="z", traits={"email": "ann@b.co"}),
        message("alias", "l1", user="1", previous="a"),
        message("alias", "l2", user="1", previous="old"),
        message("alias", "l3", user="1", previous="ann@b.co"),
        message("alias", "l4", user="1", previous="unheard-of"),
        message("track", "t3", user="old"),
        message("track", "t4", anonymous="unheard-of"),
    )
    assert stored(db) == [("1", "ann@b.co", {})]
    assert events_of(db) == {"1": ["t1", "t2", "t3", "t4"]}


def test_an_account_gathers_the_traits_of_its_group_and_another_takes_its_place(db: Database) -> None:
    told.tell_singly(
        db,
        message("group", "g1", user="1", groupId="G", traits={"name": "Acme", "size": 5}),
        message("group", "g2", user="1", groupId="G", traits={"size": None, "plan": "pro"}),
    )
    assert stored(db) == [("1", None, {"account": {"id": "G", "name": "Acme", "plan": "pro"}})]
    told.tell(db, message("group", "g3", user="1", groupId="H"))
    assert stored(db) == [("1", None, {"account": {"id": "H"}})]


def test_created_at_is_the_users_own_and_never_that_of_a_message(db: Database) -> None:
    told.tell(db, message("identify", "i1", user="1"))
    assert given.rows(db, schema.users, "created_at", "first_seen_at") == [(None, NOW)]
    told.tell(db, message("identify", "i2", user="1", traits={"createdAt": "2020-01-01T00:00:00Z"}))
    assert given.rows(db, schema.users, "created_at") == [NOW.replace(year=2020, month=1, hour=0)]
    assert stored(db)[0][2] == {}


def test_a_browsers_key_changes_no_email_of_who_has_an_id_and_reaches_nobody_by_email(db: Database) -> None:
    told.tell(db, message("identify", "i1", user="1", traits={"email": "ann@b.co", "plan": "pro"}))
    told.tell_singly(
        db,
        message("identify", "i2", user="1", traits={"email": "evil@b.co", "seats": 2}),
        message("identify", "i3", anonymous="evil", traits={"email": "ann@b.co", "plan": "stolen"}),
        message("alias", "l1", user="evil", previous="1"),
        public=True,
    )
    assert stored(db) == [
        (None, None, {"plan": "stolen"}),
        ("1", "ann@b.co", {"plan": "pro", "seats": 2}),
        ("evil", None, {}),
    ]
    assert conflicts(db) == [("email", "ann@b.co"), ("email", "evil@b.co"), ("external_id", "1")]


def test_with_a_browsers_key_a_visitor_signs_up_and_signs_in(db: Database) -> None:
    told.tell(db, message("identify", "i0", user="2", traits={"email": "bob@b.co"}))
    told.tell_singly(
        db,
        message("page", "p1", anonymous="a"),
        message("identify", "i1", user="1", anonymous="a", traits={"email": "ann@b.co"}),
        message("page", "p2", anonymous="b"),
        message("identify", "i2", user="2", anonymous="b", traits={"email": "bob@b.co"}),
        public=True,
    )
    assert stored(db) == [("1", "ann@b.co", {}), ("2", "bob@b.co", {})]
    assert events_of(db) == {"1": ["p1"], "2": ["p2"]}
    assert conflicts(db) == []


def test_whom_customerio_told_us_of_becomes_our_own_and_keeps_what_was_learnt(db: Database) -> None:
    by_email = given.webhook("w1", "email.unsubscribed", identifiers={"email": "ann@b.co", "cio_id": "c1"})
    by_id = given.webhook("w2", "email.opened", identifiers={"id": "1"})
    given.read(db, by_email, by_id)
    told.tell(db, message("identify", "i1", user="1", traits={"email": "ann@b.co"}))
    assert given.rows(db, schema.users, "external_id", "email", "known_by", "opted_out") == [
        ("1", "ann@b.co", "own", True)
    ]
    assert events_of(db) == {"1": ["w1", "w2"]}
    assert db.read(users.find, [Identifier("cio_id", "c1")]) != {}


def test_who_only_shares_an_address_with_an_id_of_customerios_is_opted_in_by_nobody(db: Database) -> None:
    other = Settings.model_validate({"people": {"customer_id": "key"}})
    told.tell(db, message("identify", "i1", user="1"), settings=other)
    opted_out = Learnt(opted_out=True, opt_changed_at=NOW - timedelta(days=1))
    db.write(users.remember, {user_of(db, "external_id", "1"): opted_out}, NOW)
    start = {"at": int(NOW.timestamp()), "identifiers": {"id": "K2", "email": "ann@b.co"}}
    given.read(db, given.webhook("w2", "customer.subscribed", **start), settings=other)
    told.tell(db, message("identify", "i2", user="1", traits={"email": "ann@b.co"}), settings=other)
    assert given.rows(db, schema.users, "external_id", "email", "opted_out") == [("1", "ann@b.co", True)]


SENT = Settings.model_validate({"people": {"segments": ["all"]}, "segments": {"all": {"everyone": True}}})


def releases(db: Database) -> list[tuple[str, str | None]]:
    names = dict(given.rows(db, schema.users, "id", "external_id"))
    return [(names[user_id], how) for user_id, how in given.rows(db, schema.pending, "user_id", "release")]


def test_fresh_arrivals_may_be_created_at_once_and_others_wait_for_the_pass(db: Database) -> None:
    told.tell(db, message("identify", "i1", user="new", traits={"email": "new@b.co"}), settings=SENT)
    told.tell(db, message("identify", "i2", user="history", traits={"email": "h@b.co"}), settings=SENT, imported=True)
    told.tell(db, message("identify", "i3", user="no-email"), settings=SENT)
    assert releases(db) == [("new", "fresh")]


def test_who_comes_back_after_an_hour_waits_for_the_pass(db: Database) -> None:
    told.tell(db, message("identify", "i1", user="1"), settings=SENT)
    soon = message("identify", "i2", user="1", traits={"email": "ann@b.co"})
    told.tell(db, soon, settings=SENT, now=NOW + timedelta(minutes=61))
    assert releases(db) == []


def test_a_visitor_arrives_when_they_say_who_they_are(db: Database) -> None:
    told.tell(db, message("page", "p1", anonymous="a"), settings=SENT)
    assert releases(db) == []
    known = message("identify", "i1", user="1", anonymous="a", traits={"email": "ann@b.co"})
    told.tell(db, known, settings=SENT, now=LATER)
    assert releases(db) == [("1", "fresh")]


def test_a_change_of_who_is_a_person_at_customerio_makes_them_due(db: Database) -> None:
    told.tell(db, message("identify", "i1", user="1", traits={"plan": "free"}), message("identify", "i2", user="2"))
    ids = {external_id: user_id for user_id, external_id in given.rows(db, schema.users, "id", "external_id")}
    given.sent(db, given.person(ids["1"]), given.person(ids["2"]))
    told.tell(db, message("identify", "i3", user="1", traits={"plan": "pro"}), message("identify", "i4", user="2"))
    assert given.rows(db, schema.pending, "user_id", "priority", "release") == [(ids["1"], pending.CHANGED, None)]


def test_what_was_sent_of_the_one_who_is_merged_is_the_survivors(db: Database) -> None:
    told.tell_singly(
        db,
        message("identify", "i1", anonymous="a", traits={"email": "ann@b.co"}),
        message("identify", "i2", user="1"),
    )
    given.sent(db, given.person(user_of(db, "email", "ann@b.co"), customer_id="ann@b.co", id_kind="email"))
    told.tell(db, message("identify", "i3", user="1", traits={"email": "ann@b.co"}))
    survivor = user_of(db, "external_id", "1")
    assert given.rows(db, schema.mirror, "user_id", "customer_id") == [(survivor, "ann@b.co")]
    assert given.rows(db, schema.pending, "user_id") == [survivor]
    assert given.rows(db, schema.users, "id") == [survivor]


def test_when_both_are_people_at_customerio_the_merged_one_stays_behind_bare(db: Database) -> None:
    told.tell_singly(
        db,
        message("track", "t1", anonymous="a", context={"traits": {"email": "ann@b.co", "plan": "pro"}}),
        message("identify", "i2", user="1"),
    )
    loser, survivor = user_of(db, "email", "ann@b.co"), user_of(db, "external_id", "1")
    given.sent(db, given.person(loser, customer_id="ann@b.co", id_kind="email"), given.person(survivor))
    told.tell(db, message("identify", "i3", user="1", traits={"email": "ann@b.co"}))
    assert sorted(given.rows(db, schema.mirror, "user_id")) == sorted([loser, survivor])
    bare = db.read(users.load, [loser])[loser]
    assert (bare.merged_into, bare.external_id, bare.email, bare.attributes) == (survivor, None, None, {})
    assert events_of(db) == {"1": ["t1"]}
    assert given.rows(db, schema.pending, "user_id") == [survivor]


def test_who_is_in_flight_while_being_merged_stays_behind_until_that_is_recorded(db: Database) -> None:
    told.tell(db, message("track", "t1", anonymous="a"), message("identify", "i1", user="1"))
    loser = user_of(db, "anonymous_id", "a")
    db.write(pending.mark, [loser], NOW, pending.CHANGED)
    [claim] = db.write(leases.claim, "lease", NOW, NOW + timedelta(minutes=1), 10)
    assert claim.user_id == loser
    told.tell(db, message("identify", "i2", user="1", anonymous="a"))
    assert db.read(users.load, [loser])[loser].merged_into == user_of(db, "external_id", "1")
    assert db.write(leases.still_ours, {loser: "lease"}) == {loser}


def test_webhooks_and_messages_are_read_in_the_order_in_which_they_came(db: Database) -> None:
    db.write(inbox.append, inbox.CUSTOMERIO, given.received(given.webhook("w1", identifiers={"email": "ann@b.co"})))
    told_of_ann = message("identify", "i1", user="1", traits={"email": "ann@b.co"}), message("track", "t1", user="1")
    db.write(inbox.append, inbox.INTAKE, told.received(*told_of_ann))
    db.write(inbox.append, inbox.CUSTOMERIO, given.received(given.webhook("w2", identifiers={"email": "ann@b.co"})))
    given.read(db)
    assert events_of(db) == {"1": ["w1", "t1", "w2"]}
