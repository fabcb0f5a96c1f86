"""The task of retention: walks through the tables now and then, rests between pages, follows the settings."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta

import pytest
from structlog.testing import capture_logs

from connector import retention
from connector.settings import Settings, Store
from connector.store import attempts, events, inbox, schema
from connector.store.database import Database
from connector.watching.current import Current
from tests.store import given
from tests.store.given import NOW, webhook

WEEK, MONTH = timedelta(days=7), timedelta(days=30)


def clock() -> datetime:
    return NOW


def keeping(webhooks: timedelta = MONTH, attempts: timedelta = MONTH, events: timedelta | None = None) -> Store:
    return Store(webhook_bodies=webhooks, attempts=attempts, events=events)


def have(db: Database, webhooks: int, tried: int, at: datetime) -> None:
    """The store holds read webhooks, and attempts, of that time."""
    given.read(db, *(webhook(f"{at:%m%d}-{number}", "email.sent") for number in range(webhooks)), now=at)
    db.write(attempts.add, [attempts.Attempt("U1", "update", 1, 400, "refused", "secret@b.co")] * tried, at)


@pytest.fixture(autouse=True)
def _a_user(db: Database) -> None:
    given.have(db, given.user("U1"))


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long the task would have rested, each time; it goes on at once."""
    seconds: list[float] = []

    async def pause(_stopping: asyncio.Event, for_: float) -> None:
        seconds.append(for_)

    monkeypatch.setattr(retention, "_pause", pause)
    return seconds


async def test_each_table_is_kept_as_long_as_the_settings_say(db: Database, pauses: list[float]) -> None:
    have(db, 3, 2, NOW - WEEK - timedelta(hours=1))
    have(db, 1, 1, NOW)
    with capture_logs() as logs:
        deleted = await retention.delete_old(db, lambda: keeping(webhooks=WEEK), clock, asyncio.Event())
    assert deleted == {"webhooks": 3, "attempts": 0, "events": 0}
    [line] = [each for each in logs if each["event"] == "retention_deleted"]
    assert (line["webhooks"], line["attempts"], line["events"], line["log_level"]) == (3, 0, 0, "info")
    deleted = await retention.delete_old(db, lambda: keeping(attempts=WEEK), clock, asyncio.Event())
    assert deleted == {"webhooks": 0, "attempts": 2, "events": 0}
    assert db.read(inbox.count) == 1
    assert len(given.rows(db, schema.attempts)) == 1


async def test_nothing_to_delete_is_nothing_to_tell(db: Database, pauses: list[float]) -> None:
    have(db, 1, 1, NOW)
    with capture_logs() as logs:
        deleted = await retention.delete_old(db, keeping, clock, asyncio.Event())
    assert deleted == {"webhooks": 0, "attempts": 0, "events": 0}
    assert logs == []


async def test_it_rests_after_each_page_many_times_as_long_as_the_page_took(
    db: Database, pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("connector.store.retention.PAGE", 10)
    have(db, 25, 0, NOW - 2 * MONTH)
    loop = asyncio.get_running_loop()
    began = loop.time()
    assert (await retention.delete_old(db, keeping, clock, asyncio.Event()))["webhooks"] == 25
    took = loop.time() - began
    assert len(pauses) == 3
    assert 0 < sum(pauses) <= 20 * took


async def test_an_edit_of_the_settings_counts_from_the_next_page_on(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("connector.store.retention.PAGE", 10)
    have(db, 25, 0, NOW - 2 * MONTH)
    settings = [keeping()]

    async def edit(_stopping: asyncio.Event, _seconds: float) -> None:
        settings[0] = keeping(webhooks=3 * MONTH)

    monkeypatch.setattr(retention, "_pause", edit)
    deleted = await retention.delete_old(db, lambda: settings[0], clock, asyncio.Event())
    assert deleted == {"webhooks": 10, "attempts": 0, "events": 0}


async def test_events_are_kept_forever_unless_the_settings_say_how_long(db: Database, pauses: list[float]) -> None:
    have(db, 3, 0, NOW - 20 * MONTH)
    have(db, 1, 0, NOW)
    deleted = await retention.delete_old(db, keeping, clock, asyncio.Event())
    assert deleted == {"webhooks": 3, "attempts": 0, "events": 0}
    deleted = await retention.delete_old(db, lambda: keeping(events=2 * MONTH), clock, asyncio.Event())
    assert deleted == {"webhooks": 0, "attempts": 0, "events": 3}
    assert db.read(events.count) == 1


async def test_a_walk_through_events_ends_once_they_are_kept_forever(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    have(db, 25, 0, NOW - 20 * MONTH)
    await retention.delete_old(db, keeping, clock, asyncio.Event())
    monkeypatch.setattr("connector.store.retention.PAGE", 10)
    settings = [keeping(events=2 * MONTH)]

    async def edit(_stopping: asyncio.Event, _seconds: float) -> None:
        settings[0] = keeping()

    monkeypatch.setattr(retention, "_pause", edit)
    deleted = await retention.delete_old(db, lambda: settings[0], clock, asyncio.Event())
    assert deleted == {"webhooks": 0, "attempts": 0, "events": 10}


async def test_it_comes_back_every_ten_minutes_until_it_is_stopped(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []

    async def pause(stopping: asyncio.Event, seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 3:
            stopping.set()

    monkeypatch.setattr(retention, "_pause", pause)
    async with asyncio.timeout(30):
        await retention.run(db, keeping, clock, asyncio.Event())
    assert waits == [600, 600, 600]


async def test_a_stop_ends_a_rest_at_once(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    resting, stopping = asyncio.Event(), asyncio.Event()
    pause = retention._pause

    async def told(stopping: asyncio.Event, seconds: float) -> None:
        resting.set()
        await pause(stopping, seconds)

    monkeypatch.setattr(retention, "_pause", told)
    task = asyncio.create_task(retention.run(db, keeping, clock, stopping))
    async with asyncio.timeout(30):
        await resting.wait()
        stopping.set()
        await task


async def test_settings_that_are_superseded_delete_no_events(db: Database, pauses: list[float]) -> None:
    have(db, 3, 0, NOW - 20 * MONTH)
    current = Current(Settings(store=Store(events=2 * MONTH)), waits_for=2)
    assert (await retention.delete_old(db, current.kept, clock, asyncio.Event()))["events"] == 0
    current.waits_for = None
    assert (await retention.delete_old(db, current.kept, clock, asyncio.Event()))["events"] == 3
