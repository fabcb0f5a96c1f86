"""What webhooks say about consent: the newest word counts, however late it arrives, and on a tie the opt-out."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from connector.core import learnt
from connector.records import Learnt, Word
from connector.store import leases, pending, schema, users
from connector.store.database import Database
from tests.store import given
from tests.store.given import NOW, webhook

OUT, IN = "customer.unsubscribed", "customer.subscribed"
EARLY, LATE = 1_700_000_000, 1_700_000_001


@pytest.fixture
def ann(db: Database) -> str:
    """A user of our own."""
    given.have(db, given.user("U1", external_id="1"))
    return "U1"


def consent(db: Database) -> list[tuple[bool, datetime | None]]:
    return given.rows(db, schema.users, "opted_out", "opt_changed_at")


def said(event_id: str, kind: str, at: int) -> bytes:
    return webhook(event_id, kind, at=at, identifiers={"id": "1"})


def when(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


@pytest.mark.parametrize("kind", ["customer.unsubscribed", "email.unsubscribed", "email.spammed"])
def test_an_unsubscribe_or_a_complaint_opts_out(db: Database, ann: str, kind: str) -> None:
    given.read(db, said("a", kind, EARLY))
    assert consent(db) == [(True, when(EARLY))]


def test_a_bounce_says_nothing_about_consent(db: Database, ann: str) -> None:
    given.read(db, said("a", "email.bounced", EARLY))
    assert (consent(db), given.rows(db, schema.users, "version")) == ([(False, None)], [1])


@pytest.mark.parametrize("apart", [True, False], ids=["in batches of their own", "in one batch"])
def test_the_newest_word_wins_in_both_directions_however_late_it_arrives(db: Database, apart: bool) -> None:
    def said_of(name: str, kind: str, at: int) -> bytes:
        return webhook(f"{name} {at}", kind, at=at, identifiers={"id": name})

    people = {
        "out, in": [(OUT, EARLY), (IN, LATE)],
        "in, out": [(IN, EARLY), (OUT, LATE)],
        "in, late out": [(IN, LATE), (OUT, EARLY)],
        "out, late in": [(OUT, LATE), (IN, EARLY)],
    }
    words = [said_of(name, *said[turn]) for turn in (0, 1) for name, said in people.items()]
    for each in (words[:4], words[4:]) if apart else (words,):
        given.read(db, *each)
    found = given.rows(db, schema.users, "external_id", "opted_out", "opt_changed_at")
    assert {name: (opted_out, at) for name, opted_out, at in found} == {
        "out, in": (False, when(LATE)),
        "in, out": (True, when(LATE)),
        "in, late out": (False, when(LATE)),
        "out, late in": (True, when(LATE)),
    }


@pytest.mark.parametrize("kinds", [(OUT, IN), (IN, OUT)])
def test_on_a_tie_the_opt_out_wins(db: Database, ann: str, kinds: tuple[str, str]) -> None:
    given.read(db, said("a", kinds[0], EARLY))
    given.read(db, said("b", kinds[1], EARLY))
    assert consent(db) == [(True, when(EARLY))]


def test_the_version_grows_with_a_word_that_counts_and_with_no_other(db: Database, ann: str) -> None:
    versions = []
    for number, (kind, at) in enumerate([(OUT, LATE), (OUT, LATE), (IN, EARLY), (IN, LATE), (OUT, LATE + 1)]):
        given.read(db, said(str(number), kind, at))
        versions += given.rows(db, schema.users, "version")
    assert versions == [2, 2, 2, 2, 3]


def test_words_in_one_second_are_told_apart_to_the_microsecond(db: Database, ann: str) -> None:
    at, known = when(EARLY), Learnt()
    for micro, opted_out in ((500_000, True), (400_000, False), (500_001, False), (90_000, True)):
        known = learnt.learn(known, [Word(at + timedelta(microseconds=micro), opted_out)])
        db.write(users.remember, {ann: known}, NOW)
        assert db.read(users.learnt, [ann]) == {ann: known}
    assert consent(db) == [(False, at + timedelta(microseconds=500_001))]


def test_a_person_at_customerio_whose_consent_changed_becomes_pending(db: Database, ann: str) -> None:
    given.have(db, given.user("U2", external_id="2"))
    given.sent(db, given.person("U1", customer_id="1"), given.person("U2", customer_id="2"))
    given.read(db, said("a", OUT, LATE), said("b", "email.opened", LATE))
    assert given.rows(db, schema.pending, "user_id", "priority", "due_at") == [("U1", pending.AT_ONCE, NOW)]


def test_an_old_word_makes_nobody_pending(db: Database, ann: str) -> None:
    given.sent(db, given.person("U1", customer_id="1"))
    db.write(users.remember, {ann: Learnt(True, when(LATE))}, NOW)
    given.read(db, said("a", IN, EARLY))
    assert given.rows(db, schema.pending) == []


def test_an_opt_out_of_someone_who_is_nobody_at_customerio_makes_nobody_pending(db: Database, ann: str) -> None:
    given.read(db, said("a", OUT, LATE))
    assert given.rows(db, schema.pending) == []


def test_an_opt_out_of_someone_unknown_is_kept_with_the_user_whom_it_makes(db: Database) -> None:
    given.read(db, webhook("a", OUT, at=LATE, identifiers={"email": "a@b.co"}))
    assert given.rows(db, schema.users, "email", "known_by", "opted_out", "opt_changed_at") == [
        ("a@b.co", "customerio", True, when(LATE))
    ]


def test_an_opt_out_of_nobody_is_an_event_and_nothing_more(db: Database) -> None:
    given.read(db, webhook("a", OUT, at=LATE))
    assert given.rows(db, schema.events, "name", "user_id") == [("Customer Unsubscribed", None)]


def test_who_opts_out_while_they_are_just_being_created_is_looked_at_afresh(db: Database, ann: str) -> None:
    db.write(pending.release, [ann], "guard", NOW)
    db.write(leases.claim, "a lease", NOW, NOW + timedelta(minutes=1), 1)
    given.read(db, said("e1", OUT, EARLY))
    assert given.rows(db, schema.pending, "user_id", "changed") == [(ann, True)]


def test_who_opts_out_and_is_nobody_there_is_left_to_the_pass(db: Database, ann: str) -> None:
    given.read(db, said("e1", OUT, EARLY))
    assert given.rows(db, schema.pending) == []
