"""Messages of the tracking API in the inbox: stored by the batch, and kept apart from webhooks."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta

import pytest
import sqlalchemy as sa

from connector import errors, retention
from connector.commands import check_webhooks, replay
from connector.inbound.appender import Appender
from connector.metrics import Metrics
from connector.records import Received
from connector.settings import Settings
from connector.store import export, inbox
from connector.store.database import Database
from tests.store.given import NOW

TAKES_BOTH = Settings.model_validate({"webhooks": {"signing_keys": ["key"]}, "intake": {"write_keys": ["key"]}})


def message(source_id: str, reason: str | None = None) -> Received:
    return Received(source_id, NOW, b'{"message":{}}', reason)


def stored(db: Database) -> list[tuple[str, str]]:
    """State and source_id of each row."""
    rows = db.read(
        lambda connection: connection.execute(sa.text("SELECT state, source_id FROM inbox ORDER BY id")).all()
    )
    return [(row.state, row.source_id) for row in rows]


def appender(db: Database) -> Appender:
    return Appender(db, inbox.INTAKE, lambda: None, Metrics().intake)


async def test_batches_that_wait_together_are_stored_in_their_order(db: Database) -> None:
    appending = appender(db)
    batches = [[message(f"{batch}-{number}") for number in range(5)] for batch in range(3)]
    await asyncio.gather(*(appending.append(*batch) for batch in batches))
    await appending.drain()

    assert [source_id for _, source_id in stored(db)] == [one.source_id for batch in batches for one in batch]


async def test_a_batch_goes_into_one_transaction_whatever_its_size(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    transactions: list[int] = []
    append = inbox.append

    def counted(connection: sa.Connection, source: str, rows: Sequence[Received]) -> int:
        transactions.append(len(rows))
        return append(connection, source, rows)

    monkeypatch.setattr(inbox, "append", counted)
    appending = appender(db)
    large = [message(f"large-{number}") for number in range(1200)]
    await asyncio.gather(
        appending.append(message("first")), appending.append(*large), appending.append(message("last"))
    )

    assert transactions == [1, 1200, 1]
    assert len(stored(db)) == 1202


async def test_of_a_batch_that_the_store_refuses_nothing_is_kept(db: Database) -> None:
    appending = appender(db)
    with pytest.raises(errors.Unavailable):
        await appending.append(message("good"), Received(None, NOW, b"{}"))  # type: ignore[arg-type]

    assert stored(db) == []


async def test_bad_messages_count_as_webhooks_nowhere(db: Database) -> None:
    await appender(db).append(message("bad:1", "no_type"), message("m-1"))

    assert list(export.everything(db, "webhooks", TAKES_BOTH, NOW)) == []
    told = [line.message for line in check_webhooks.from_store(db, TAKES_BOTH, NOW)]
    assert told[0].startswith("none has arrived")
    assert len(told) == 1
    assert await replay.webhooks(db, TAKES_BOTH, lambda: NOW) == replay.Summary()


async def test_messages_go_by_age_once_they_are_read_or_can_not_be(db: Database) -> None:
    await appender(db).append(message("bad:1", "no_type"), message("m-1"))
    db.write(inbox.append, inbox.CUSTOMERIO, [Received("e-1", NOW, b"{", "not_json")])
    db.write(inbox.append, inbox.INTAKE, [Received("m-2", NOW, b"{}", "reader_failed")])
    later = NOW + TAKES_BOTH.store.webhook_bodies + timedelta(days=1)
    await retention.delete_old(db, lambda: TAKES_BOTH.store, lambda: later, asyncio.Event())

    assert stored(db) == [("new", "m-1"), ("unread", "e-1"), ("unread", "m-2")]


async def test_a_message_that_we_failed_at_is_read_again_by_a_replay(db: Database) -> None:
    body = b'{"message":{"type":"track","event":"Clicked","userId":"1"}}'
    db.write(inbox.append, inbox.INTAKE, [Received("m-1", NOW, body, "reader_failed")])
    summary = await replay.webhooks(db, TAKES_BOTH, lambda: NOW)

    assert summary.as_json()["read"] == 1
    assert stored(db) == [("read", "m-1")]


def test_the_two_doors_share_no_ids(db: Database) -> None:
    for source in (inbox.CUSTOMERIO, inbox.INTAKE):
        assert db.write(inbox.append, source, [message("same")]) == 1

    assert db.read(inbox.last_received_at, inbox.INTAKE) == NOW
