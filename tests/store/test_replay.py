"""Replay: unread webhooks that match are read again, and nothing else is touched."""

from __future__ import annotations

import asyncio
import functools
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from connector import errors
from connector.commands import replay
from connector.core import normalize
from connector.inbound.reader import Reader
from connector.records import Received
from connector.settings import Settings
from connector.settings import Webhooks as WebhookSettings
from connector.store import events, inbox, retention, schema
from connector.store.database import Database
from tests.store import given
from tests.store.given import NOW, SETTINGS, webhook

NOT_JSON = b"\xff certainly no json"


def clock() -> datetime:
    return NOW


def unread(
    db: Database, body: bytes, kind: str | None = None, reason: str = "unknown_kind", at: datetime = NOW
) -> None:
    """The inbox holds a message that an older version could not read."""
    source_id = normalize.glance(body).source_id
    db.write(inbox.append, inbox.CUSTOMERIO, [Received(source_id, at, body, reason)])
    [row] = [each for each in given.rows(db, schema.inbox) if each["source_id"] == source_id]
    db.write(inbox.mark, [inbox.Mark(row["id"], "unread", reason, kind)])


async def replayed(db: Database, settings: Settings = SETTINGS, **wanted: Any) -> dict[str, Any]:
    return (await replay.webhooks(db, settings, clock, **wanted)).as_json()


def states(db: Database) -> dict[str, str]:
    return dict(given.rows(db, schema.inbox, "source_id", "state"))


async def test_what_this_version_can_read_becomes_events_and_the_rest_stays_unread_with_its_reason(
    db: Database,
) -> None:
    unread(db, webhook("a", "email.sent", identifiers={"id": "1"}), "email.sent")
    unread(db, NOT_JSON, reason="not_json")
    unread(db, b"[]", reason="not_json")
    unread(db, webhook("b", "sms.sent"), "sms.sent")
    assert await replayed(db) == {
        "put_back": 4,
        "read": 2,
        "ignored": 0,
        "unread": {"not_json": 1, "wrong_shape": 1},
    }
    assert given.rows(db, schema.events, "source_id", "name") == [("a", "Email Sent"), ("b", "SMS Sent")]
    assert db.read(inbox.unread_reasons) == {"not_json": 1, "wrong_shape": 1}


async def test_an_empty_inbox_has_nothing_to_put_back(db: Database) -> None:
    assert await replayed(db) == {"put_back": 0, "read": 0, "ignored": 0, "unread": {}}


async def test_messages_that_were_read_are_left_alone(db: Database) -> None:
    given.read(db, webhook("a"))
    assert (await replayed(db))["put_back"] == 0
    assert db.read(events.count) == 1


async def test_a_time_a_kind_and_a_reason_choose_what_is_put_back(db: Database) -> None:
    hour = timedelta(hours=1)
    unread(db, webhook("old", "email.sent"), "email.sent", at=NOW - 2 * hour)
    unread(db, webhook("sms", "sms.sent"), "sms.sent", at=NOW - hour)
    unread(db, webhook("other", "email.sent"), "email.sent", reason="reader_failed")
    unread(db, webhook("none", "email.sent"), None)
    unread(db, webhook("it", "email.sent"), "email.sent", at=NOW - hour)
    found = await replayed(db, since=NOW - hour, kind="email.*", reason="unknown_kind")
    assert found["put_back"] == found["read"] == 1
    assert states(db) == dict.fromkeys(["old", "sms", "other", "none"], "unread") | {"it": "read"}
    assert (await replayed(db, kind="*"))["put_back"] == 3
    assert states(db)["none"] == "unread"
    assert (await replayed(db, since=NOW))["put_back"] == 1


async def test_a_kind_that_is_ignored_by_now_is_counted_and_makes_no_event(db: Database) -> None:
    unread(db, webhook("a", "email.drafted"), "email.drafted")
    settings = Settings(webhooks=WebhookSettings(ignore=("*.drafted",)))
    assert await replayed(db, settings) == {"put_back": 1, "read": 0, "ignored": 1, "unread": {}}
    assert (states(db), db.read(events.count)) == ({"a": "ignored"}, 0)


async def test_many_are_put_back_in_pages_and_each_once(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay, "PAGE", 10)
    for number in range(25):
        unread(db, webhook(f"e{number}") if number % 5 else NOT_JSON + bytes([number]), reason="not_json")
    assert await replayed(db) == {"put_back": 25, "read": 20, "ignored": 0, "unread": {"not_json": 5}}


async def test_what_is_too_large_to_be_read_stays_where_it_is_and_is_told(db: Database) -> None:
    unread(db, webhook("a", text="x" * normalize.MAX_READ_BYTES), reason="too_large")
    assert await replayed(db) == {"put_back": 0, "read": 0, "ignored": 0, "unread": {"too_large": 1}}
    assert db.read(inbox.counts) == {"new": 0, "unread": 1}


async def test_replays_beside_a_reader_make_one_event_of_each(db: Database) -> None:
    for number in range(60):
        unread(db, webhook(f"e{number}"))
    reader = Reader(db, lambda: SETTINGS, clock)
    running = asyncio.create_task(reader.run())
    try:
        summaries = await asyncio.gather(*(replayed(db) for _ in range(3)))
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert sum(each["put_back"] for each in summaries) == sum(each["read"] for each in summaries) == 60
    assert db.read(events.count) == 60


async def test_old_ones_that_were_read_and_are_deleted_at_once_count_as_read(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    unread(db, webhook("a"), at=NOW - timedelta(days=90))
    read_all = Reader.read_outstanding

    @functools.wraps(read_all)
    async def read_and_delete(self: Reader) -> int:
        count = await read_all(self)
        page = db.read(retention.old_webhooks, NOW, 0)
        assert page is not None
        assert db.write(retention.delete_webhooks, NOW, page) == 1
        return count

    monkeypatch.setattr(Reader, "read_outstanding", read_and_delete)
    assert await replayed(db) == {"put_back": 1, "read": 1, "ignored": 0, "unread": {}}


@pytest.mark.parametrize(
    ("given_since", "at"),
    [
        ("2026-02-28T12:00:00Z", datetime(2026, 2, 28, 12, tzinfo=UTC)),
        ("2026-02-28T12:00:00+02:00", datetime(2026, 2, 28, 10, tzinfo=UTC)),
        ("2026-02-28", datetime(2026, 2, 27, 23, tzinfo=UTC)),
        ("24h", NOW - timedelta(days=1)),
        ("7d", NOW - timedelta(days=7)),
    ],
)
def test_since_is_a_time_or_how_long_ago(given_since: str, at: datetime) -> None:
    assert replay.since(given_since, "Europe/Paris", NOW) == at


@pytest.mark.parametrize("text", ["", "yesterday", "0h", "-1h", "2026-13-01", "24"])
def test_any_other_since_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(errors.Misconfigured, match="--since must be a time such as"):
        replay.since(text, "UTC", NOW)


def test_the_summary_in_words() -> None:
    summary = replay.Summary(put_back=1200, read=1000, ignored=1)
    assert list(replay.describe(summary)) == ["1,200 put back, 1,000 read, 1 ignored"]
    summary.unread.update({"not_json": 1, "unknown_kind": 198})
    assert list(replay.describe(summary))[1:] == ["still unread: 198 unknown_kind, 1 not_json"]
