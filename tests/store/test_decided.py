"""What was decided is counted by the hour, whoever counts, and forgotten when it is no news any more."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from functools import partial

from connector import retention
from connector.store import decided, schema
from connector.store.database import Database
from tests.store import given
from tests.store.given import NOW, SETTINGS

HOUR = timedelta(hours=1)


def test_what_is_counted_adds_up_by_verb_and_reason(db: Database) -> None:
    db.write(decided.count, {("create", "entered"): 2, ("skip", "no_email"): 1, ("skip", "unchanged"): 5}, NOW)
    db.write(decided.count, {("skip", "no_email"): 3, ("update", "changed"): 0}, NOW + HOUR)
    db.write(decided.count, {}, NOW)
    found = db.read(decided.since, NOW)
    assert found == {"create": {"entered": 2}, "skip": {"unchanged": 5, "no_email": 4}}
    assert list(found["skip"]) == ["unchanged", "no_email"], "the most first"


def test_an_hour_has_one_row_of_a_kind(db: Database) -> None:
    for minutes in (0, 20, 59):
        db.write(decided.count, {("create", "entered"): 1}, NOW + timedelta(minutes=minutes))
    assert given.rows(db, schema.decided, "hour", "count") == [(NOW, 3)]


def test_what_was_before_is_not_told(db: Database) -> None:
    db.write(decided.count, {("create", "entered"): 1}, NOW - HOUR)
    db.write(decided.count, {("create", "entered"): 2}, NOW)
    assert db.read(decided.since, NOW + timedelta(minutes=59)) == {"create": {"entered": 2}}
    assert db.read(decided.since, NOW - HOUR) == {"create": {"entered": 3}}
    assert db.read(decided.since, NOW + HOUR) == {}


async def test_retention_forgets_hours_that_are_over_for_two_days(db: Database) -> None:
    for hours in (0, 48, 49, 500):
        db.write(decided.count, {("create", "entered"): 1}, NOW - hours * HOUR)
    await retention.delete_old(db, lambda: SETTINGS.store, lambda: NOW, asyncio.Event())
    assert given.rows(db, schema.decided, "hour") == [NOW - 48 * HOUR, NOW]


def test_workers_that_count_at_once_in_any_order_lose_nothing_and_do_not_lock_each_other_out(
    store_url: str, db: Database
) -> None:
    reasons = [f"reason {number}" for number in range(40)]
    orders = [reasons, reasons[::-1], reasons[20:] + reasons[:20], sorted(reasons, reverse=True)]
    stores = [Database(store_url) for _ in orders]

    def work(store: Database, order: list[str]) -> None:
        for _ in range(20):
            store.write(decided.count, {("skip", reason): 1 for reason in order}, NOW)

    given.at_once([partial(work, store, order) for store, order in zip(stores, orders, strict=True)])
    for store in stores:
        store.close()
    assert db.read(decided.since, NOW) == {"skip": dict.fromkeys(sorted(reasons), 80)}
