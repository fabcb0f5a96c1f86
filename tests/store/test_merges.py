"""Users who turn out to be one while something else goes on: a worker, a pass, words of Customer.io."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

import pytest

from connector.outbound import full_pass
from connector.records import Identifier, Learnt
from connector.settings import Settings
from connector.store import due_events, guarded, inbox, leases, merging, mirror, pending, schema, users
from connector.store.database import Database
from tests.store import given, told
from tests.store.given import NOW
from tests.store.told import message


def user_of(db: Database, kind: str, value: str) -> str:
    identifier = Identifier(kind, value)  # type: ignore[arg-type]
    return db.read(users.find, [identifier])[identifier]


@pytest.mark.parametrize("singly", [True, False])
def test_who_shares_an_address_opts_nobody_in_however_the_messages_are_read(db: Database, singly: bool) -> None:
    other = Settings.model_validate({"people": {"customer_id": "key"}})
    told.tell(db, message("identify", "i1", user="1"), settings=other)
    opted_out = Learnt(opted_out=True, opt_changed_at=NOW - timedelta(days=1))
    db.write(users.remember, {user_of(db, "external_id", "1"): opted_out}, NOW)
    subscribed = given.webhook(
        "w", "customer.subscribed", at=int(NOW.timestamp()), identifiers={"id": "K2", "email": "ann@b.co"}
    )
    db.write(inbox.append, inbox.CUSTOMERIO, given.received(subscribed))
    if singly:
        given.read(db, settings=other)
    told.tell(db, message("identify", "i2", user="1", traits={"email": "ann@b.co"}), settings=other)
    assert given.rows(db, schema.users, "external_id", "opted_out") == [("1", True)]


def test_an_opt_out_of_unknown_time_survives_a_merge(db: Database) -> None:
    told.tell(
        db, message("identify", "i1", anonymous="a", traits={"email": "ann@b.co"}), message("identify", "i2", user="1")
    )
    loser = user_of(db, "email", "ann@b.co")
    db.write(
        lambda connection: connection.execute(
            schema.users.update().where(schema.users.c.id == loser).values(opted_out=True)
        )
    )
    told.tell(db, message("identify", "i3", user="1", traits={"email": "ann@b.co"}))
    assert given.rows(db, schema.users, "external_id", "opted_out") == [("1", True)]


def test_by_an_alias_a_browsers_key_gives_nobody_an_address_who_has_an_id(db: Database) -> None:
    told.tell(db, message("identify", "i1", user="1"))
    told.tell_singly(
        db,
        message("identify", "i2", anonymous="evil", traits={"email": "evil@b.co"}),
        message("alias", "l1", user="1", previous="evil"),
        message("alias", "l2", user="1", previous="evil@b.co"),
        public=True,
    )
    assert sorted(given.rows(db, schema.users, "external_id", "email"), key=str) == [("1", None), (None, "evil@b.co")]


def test_a_browsers_key_puts_no_earlier_address_in_place_of_the_present_one(db: Database) -> None:
    told.tell_singly(
        db,
        message("identify", "i1", anonymous="a", traits={"email": "old@b.co"}),
        message("identify", "i2", user="1", traits={"email": "ann@b.co"}),
        message("alias", "l1", user="1", previous="a"),
    )
    told.tell_singly(
        db,
        message("identify", "i3", user="1", traits={"email": "old@b.co"}),
        message("identify", "i4", user="1", traits={"email": "ANN@b.co"}),
        public=True,
    )
    assert given.rows(db, schema.users, "external_id", "email") == [("1", "ann@b.co")]


def test_who_was_merged_in_flight_is_still_the_survivors_after_another_merge(db: Database) -> None:
    told.tell(
        db,
        message("track", "t1", anonymous="a"),
        message("identify", "i1", anonymous="b", traits={"email": "e@b.co"}),
        message("identify", "i0", user="1"),
    )
    loser, between = user_of(db, "anonymous_id", "a"), user_of(db, "anonymous_id", "b")
    db.write(pending.mark, [loser], NOW, pending.CHANGED)
    db.write(leases.claim, "lease", NOW, NOW + timedelta(minutes=1), 10)
    told.tell(db, message("alias", "l1", anonymous="b", previous="a"))
    assert db.read(users.load, [loser])[loser].merged_into == between
    told.tell(db, message("identify", "i2", user="1", traits={"email": "e@b.co"}))
    survivor = user_of(db, "external_id", "1")
    db.write(mirror.record, [given.person(loser, customer_id="a-1", id_kind="id")])
    assert db.read(users.load, [loser])[loser].merged_into == survivor
    assert user_of(db, "customer_id", "a-1") == survivor


class Meanwhile:
    """A clock; something happens when it is looked at for the n-th time."""

    def __init__(self, number: int, happens: Callable[[], object]) -> None:
        self._left = number
        self._happens = happens

    def __call__(self) -> datetime:
        self._left -= 1
        if self._left == 0:
            self._happens()
        return NOW


@pytest.mark.parametrize("at", range(3, 9))
@pytest.mark.parametrize("limit", [0, 100])
@pytest.mark.parametrize("is_mirrored", [True, False])
def test_a_pass_goes_on_when_a_merge_takes_away_whom_it_found(
    db: Database, at: int, limit: int, is_mirrored: bool
) -> None:
    settings = Settings.model_validate(
        {
            "people": {"customer_id": "email", "segments": ["all"]},
            "segments": {"all": {"everyone": True}},
            "guard": {"max_creates": limit},
        }
    )
    told.tell(db, message("identify", "i1", anonymous="a", traits={"email": "ann@b.co"}))
    told.tell(db, message("identify", "i2", user="1"))
    loser = user_of(db, "email", "ann@b.co")
    if is_mirrored:
        given.sent(db, given.person(loser, customer_id="ann@b.co", id_kind="email"))
    merge = message("identify", "i3", user="1", traits={"email": "ann@b.co"})
    assert full_pass.run(db, settings, Meanwhile(at, lambda: told.tell(db, merge))) is not None
    told.tell(db, merge)
    assert given.rows(db, schema.users, "external_id", "email") == [("1", "ann@b.co")]
    survivor = user_of(db, "external_id", "1")
    assert {*given.rows(db, schema.pending, "user_id"), *given.rows(db, schema.held, "user_id")} <= {survivor}


@pytest.mark.parametrize("singly", [True, False])
def test_what_two_disagreed_on_is_no_conflict_once_they_are_one(db: Database, singly: bool) -> None:
    told.tell(db, message("identify", "i1", user="1", traits={"email": "ann@b.co"}))
    two = (
        message("identify", "i2", user="2", traits={"email": "ann@b.co"}),
        message("alias", "l1", user="1", previous="2"),
    )
    (told.tell_singly if singly else told.tell)(db, *two)
    assert given.rows(db, schema.conflicts) == []


def test_events_of_who_is_in_flight_are_under_way_for_whoever_they_are_merged_into_at_last(db: Database) -> None:
    given.have(db, *map(given.user, ("flies", "between", "last")))
    given.sent(db, given.person("between"), given.person("last"))
    db.write(pending.mark, ["flies"], NOW, pending.CHANGED)
    db.write(leases.claim, "lease", NOW, NOW + timedelta(minutes=1), 10)
    for loser, survivor in (("flies", "between"), ("between", "last")):
        db.write(merging.merge, {loser: survivor}, NOW)
    assert db.read(due_events.under_way, ["last"]) == {"last"}


def test_who_is_created_while_being_merged_is_the_survivors_person(db: Database) -> None:
    told.tell(
        db, message("identify", "i1", anonymous="a", traits={"email": "ann@b.co"}), message("identify", "i2", user="1")
    )
    loser, survivor = user_of(db, "email", "ann@b.co"), user_of(db, "external_id", "1")
    db.write(pending.mark, [loser], NOW, pending.CHANGED)
    db.write(leases.claim, "lease", NOW, NOW + timedelta(minutes=1), 10)
    told.tell(db, message("identify", "i3", user="1", traits={"email": "ann@b.co"}))
    db.write(mirror.record, [given.person(loser, customer_id="ann@b.co", id_kind="email")])
    assert given.rows(db, schema.mirror, "user_id", "customer_id") == [(survivor, "ann@b.co")]
    assert sorted(given.rows(db, schema.pending, "user_id")) == sorted([loser, survivor])


def test_who_was_merged_twice_while_being_created_names_who_is_left(db: Database) -> None:

    given.have(db, *(given.user(each) for each in ("U1", "U2", "U3")))
    given.sent(db, given.person("U2"), given.person("U3"))
    db.write(pending.mark, ["U1"], NOW, pending.CHANGED)
    db.write(leases.claim, "lease", NOW, NOW + timedelta(minutes=1), 10)
    db.write(merging.merge, {"U1": "U2"}, NOW)
    db.write(merging.merge, {"U2": "U3"}, NOW)
    db.write(mirror.record, [given.person("U1", customer_id="c-1")])
    assert user_of(db, "customer_id", "c-1") == "U3"
    assert sorted(given.rows(db, schema.mirror, "user_id")) == ["U1", "U2", "U3"]


def two_users(db: Database) -> tuple[str, str]:
    """Who is about to be merged, and into whom."""
    given.have(db, given.user("L"), given.user("K"))
    return "L", "K"


def test_who_was_deleted_gets_the_person_of_who_turns_out_to_be_them(db: Database) -> None:
    loser, survivor = two_users(db)
    given.sent(db, given.person(survivor, customer_id="k", deleted_at=NOW), given.person(loser, customer_id="l"))
    db.write(merging.merge, {loser: survivor}, NOW)
    assert given.rows(db, schema.mirror, "user_id", "customer_id", "deleted_at") == [(survivor, "l", None)]
    assert given.rows(db, schema.users, "id") == [survivor]
    assert db.read(guarded.since, "delete", NOW - timedelta(seconds=1)) == 1


def test_a_person_is_not_given_up_for_one_who_was_deleted(db: Database) -> None:
    loser, survivor = two_users(db)
    given.sent(db, given.person(survivor, customer_id="k"), given.person(loser, customer_id="l", deleted_at=NOW))
    db.write(merging.merge, {loser: survivor}, NOW)
    assert ("K", "k", None) in given.rows(db, schema.mirror, "user_id", "customer_id", "deleted_at")
    assert db.read(mirror.deleted, ["l"], NOW - timedelta(seconds=1)) == {"l": NOW}


@pytest.mark.parametrize("is_alone", [True, False])
def test_that_somebody_was_deleted_a_moment_ago_outlives_a_merge(db: Database, is_alone: bool) -> None:
    loser, survivor = two_users(db)
    given.sent(db, given.person(loser, customer_id="l", deleted_at=NOW))
    if not is_alone:
        given.sent(db, given.person(survivor, customer_id="k", deleted_at=NOW))
    db.write(merging.merge, {loser: survivor}, NOW)
    wanted = {"l": NOW} if is_alone else {"l": NOW, "k": NOW}
    assert db.read(mirror.deleted, ["l", "k"], NOW - timedelta(seconds=1)) == wanted


def test_who_was_created_while_being_merged_into_somebody_deleted_is_theirs(db: Database) -> None:
    loser, survivor = two_users(db)
    given.sent(db, given.person(survivor, customer_id="k", deleted_at=NOW))
    db.write(pending.mark, [loser], NOW, pending.CHANGED)
    db.write(leases.claim, "lease", NOW, NOW + timedelta(minutes=1), 10)
    db.write(merging.merge, {loser: survivor}, NOW)
    db.write(mirror.record, [given.person(loser, customer_id="l")])
    assert given.rows(db, schema.mirror, "user_id", "customer_id", "deleted_at") == [(survivor, "l", None)]
    assert sorted(given.rows(db, schema.pending, "user_id")) == sorted([loser, survivor])
