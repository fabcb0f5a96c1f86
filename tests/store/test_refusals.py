"""Webhooks that were refused are counted by reason, with the first and the last time."""

from __future__ import annotations

from datetime import timedelta

from connector.store import refusals
from connector.store.database import Database
from connector.store.refusals import Refusal
from tests.store import given
from tests.store.given import NOW

LATER = NOW + timedelta(hours=1)


def test_none_were_refused_so_far(db: Database) -> None:
    assert db.read(refusals.load) == []


def test_the_count_grows_the_first_time_stays_and_the_last_one_moves(db: Database) -> None:
    db.write(refusals.add, "bad_signature", 1, NOW)
    db.write(refusals.add, "no_key", 2, NOW)
    db.write(refusals.add, "bad_signature", 40, LATER)
    assert db.read(refusals.load) == [Refusal("bad_signature", 41, NOW, LATER), Refusal("no_key", 2, NOW, NOW)]


def test_after_a_day_of_quiet_they_count_afresh(db: Database) -> None:
    db.write(refusals.add, "bad_signature", 5, NOW)
    db.write(refusals.add, "bad_signature", 1, NOW + refusals.QUIET)
    still = Refusal("bad_signature", 6, NOW, NOW + refusals.QUIET)
    assert db.read(refusals.load) == [still]
    later = NOW + 2 * refusals.QUIET + timedelta(seconds=1)
    db.write(refusals.add, "bad_signature", 2, later)
    assert db.read(refusals.load) == [Refusal("bad_signature", 2, later, later)]


def test_refusals_of_several_servers_add_up(db: Database) -> None:
    given.at_once([lambda: db.write(refusals.add, "bad_signature", 3, NOW)] * 8)
    assert db.read(refusals.load) == [Refusal("bad_signature", 24, NOW, NOW)]
