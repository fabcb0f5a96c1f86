"""What the README says of writing from SQL is run as it stands there, with the stores' plain drivers."""

from __future__ import annotations

import asyncio
import re
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import psycopg

from connector import app
from connector.commands import export_events, person, sync
from connector.core import ulid
from connector.store import backlog, export
from connector.store.database import Database
from tests.places import Place, Process, Sandbox

README = Path(__file__).parents[2] / "README.md"
STORES = {"sqlite": "-- SQLite\n", "postgresql": "-- PostgreSQL\n"}


def blocks(store_kind: str) -> list[str]:
    """The SQL of the section, as far as it is this store's."""
    section = README.read_text().partition("\n## Writing from SQL\n")[2].partition("\n## ")[0]
    found = re.findall(r"^```sql\n(.*?)^```$", section, re.DOTALL | re.MULTILINE)
    assert len(found) == 7
    return [each for each in found if each.startswith(STORES[store_kind]) or not each.startswith("-- ")]


def execute(url: str, statements: Iterable[str]) -> None:
    if url.startswith("sqlite:///"):
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection:
            connection.executescript("".join(statements))
        return
    with psycopg.connect(url) as connection:
        connection.execute("SELECT pg_advisory_xact_lock(6515055)")
        connection.execute("".join(statements).encode())


async def test_what_the_readme_writes_with_sql_becomes_people_at_customerio(
    place: Place, db: Database, store_kind: str, sandbox: Sandbox
) -> None:
    place.track_url = sandbox.url
    settings = place.write(
        people='segments = ["buyers", "everyone"]\nattributes = ["plan", "seats"]\nsegments_attribute = "segments"',
        segments='everyone = { everyone = true }\nbuyers = { event = "Order Completed", at_least = 1 }',
        events='names = ["Order Completed", "page"]',
    ).settings()
    users, names, event, change, mark, times = blocks(store_kind)

    # Without their names: the pass gives them some.
    execute(place.store_url, [users])
    summary = await sync.sync(db, settings, app.now)
    assert (summary.tally.created, summary.waiting) == (2, 0)
    ann = {"email": "Ann@example.com", "plan": "pro", "seats": 3, "segments": ["everyone"]}
    assert sandbox.people() == {"1042": ann, "1043": {"email": "ben@example.com", "plan": "free", **everyone()}}
    assert person.tell(db, settings, "ann@EXAMPLE.com", 20, app.now())["user"]["external_id"] == "1042"

    # With them nothing changes, nor by saying it again.
    execute(place.store_url, [names, names, event, event, change, mark, mark])
    assert db.read(backlog.counts, app.now()).due == 1
    summary = await sync.sync(db, settings, app.now)
    assert (summary.tally.created, summary.tally.updated) == (0, 1)
    assert sandbox.people()["1042"] == {**ann, "plan": "team", "seats": 5, "segments": ["everyone", "buyers"]}

    # The pass finds by itself whose version was raised.
    execute(place.store_url, [times])
    summary = await sync.sync(db, settings, app.now)
    assert (summary.tally.created, summary.tally.updated) == (0, 1)
    assert sandbox.people()["1043"]["created_at"] == datetime(2024, 5, 17, 9, 30, tzinfo=UTC).timestamp()

    order, view = export_events.complete(export.everything(db, "events", settings, app.now()))
    assert (order["source"], order["source_id"]) == ("sql", "order 7001")
    assert order["outbound"] in ("due", "sent")
    assert (order["external_id"], order["properties"]) == ("1042", {"total": 42.5})
    assert order["activity_id"] == ulid.activity_id("sql", "order 7001", order["occurred_at"])
    assert (view["type"], view["outbound"]) == ("page", "none")
    assert 290 < (app.now() - view["occurred_at"]).total_seconds() < 420
    assert len(list(export.everything(db, "users", settings, app.now()))) == 2


def everyone() -> dict[str, list[str]]:
    return {"segments": ["everyone"]}


async def test_a_running_connector_names_and_sends_who_was_written_by_itself(
    place: Place, store_kind: str, sandbox: Sandbox
) -> None:
    place.track_url = sandbox.url
    place.write(people='segments = ["everyone"]', segments="everyone = { everyone = true }")
    execute(place.store_url, blocks(store_kind)[:1])
    with Process(place) as process:
        async with asyncio.timeout(30):
            while len(sandbox.people()) < 2:
                await asyncio.sleep(0.05)
        assert process.terminate() == 0
    assert "found by external_id" in place.run("person", "1043")
