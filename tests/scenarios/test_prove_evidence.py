"""What the crash test takes as evidence: the logs, the store, the sandbox; and that its waiting has an end."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
import pytest
import sqlalchemy as sa

from connector.commands.prove import comparing, evidence, patience
from connector.commands.prove.cases import Case
from connector.commands.prove.comparing_webhooks import Filed, Said
from connector.commands.prove.load import Load
from connector.commands.prove.options import Wanted
from connector.commands.prove.processes import Child
from connector.sandbox.operations import Identifier, identify
from connector.sandbox.state_file import StateFile
from connector.store.database import Database
from connector.store.schema import events, users
from tests.track_client import EVENT, Client, sandbox

ASKED = Wanted(kills=1, events=1, seed=1, servers=1, workers=1, store=None, restart_command=None, patience_seconds=0)
AT = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    async with sandbox() as running:
        yield running


def logging(folder: Path, *lines: str) -> Child:
    (folder / "run-1.log").write_text("\n".join(lines))
    return Child("run-1", [], folder)


def test_a_task_that_failed_is_found_also_where_a_kill_cut_its_line(tmp_path: Path) -> None:
    whole = json.dumps({"event": "task_failed", "task": "reader", "exception": "ValueError: 1"})
    cut = '{"event": "task_failed", "task": "worker", "exception": "Trace'
    assert list(evidence.failed_tasks([logging(tmp_path, whole, cut)], tmp_path)) == [
        Case("crashed", "task_failed", "run-1", "reader: ValueError: 1"),
        Case("crashed", "task_failed", "run-1", cut),
    ]


def test_lines_of_the_logs_that_are_worth_a_look_are_counted(tmp_path: Path) -> None:
    lines = ['{"event": "lease_lost"}', '{"event":"lease_lost"}', '{"event": "not_renewed"}', '{"event": "listening"}']
    assert evidence.noticed([logging(tmp_path, *lines)], tmp_path) == {"lease_lost": 2, "not_renewed": 1}


async def test_a_call_that_leaves_the_order_to_chance_is_a_case(client: Client) -> None:
    await client.batch({**EVENT, "id": "one"}, {**EVENT, "id": "two"})
    async with aiohttp.ClientSession() as session:
        [case] = await evidence.unordered(session, client.url)
    assert case[:3] == ("out_of_order", "twice_in_a_call", "42")
    assert case.detail.endswith(": event one, event two")


def test_webhooks_and_opt_outs_are_read_from_the_store_and_the_journal(db: Database, tmp_path: Path) -> None:
    with db.transaction() as connection:
        ann = {"id": "a", "external_id": "ann", "attributes": {"seq": 3}, "opted_out": True, "opt_changed_at": AT}
        connection.execute(sa.insert(users), ann)
        said = {"source": "customerio", "source_id": "one", "user_id": "a", "context": {"kind": "email.sent"}}
        connection.execute(sa.insert(events), {**said, "name": "Email Sent", "occurred_at": AT})
    journal = StateFile(tmp_path / "sandbox.db")
    at = AT.timestamp() + 60
    said_of_it: list[dict[str, object]] = [{"unsubscribed": True}, {}, {"unsubscribed": None}]
    for number, out in enumerate(said_of_it):
        operation = identify(Identifier("id", "ann"), {"seq": number, **out}, update_only=False, timestamp=None)
        journal.add(at + number, operation)
    journal.close()
    found = evidence.gather(db, tmp_path / "sandbox.db", Load(ASKED, "", "", db), {}, set(), [])
    assert found.filed == [Filed("one", "ann", "email.sent", "Email Sent", AT.timestamp())]
    assert found.users == [comparing.Known("ann", 3, None, True)]
    assert [each.opts_out for each in found.applied] == [True, None, False]
    assert [each.created for each in found.people] == [int(at)]
    lost = comparing.compare(replace(found, stories={}, users=[found.users[0]._replace(opted_out=False)], sent=SAID))
    assert ("lost", "opt_out_lost", "ann") in [case[:3] for case in lost]


SAID = {"two": Said("customer.unsubscribed", "ann", int(AT.timestamp()))}


# Waiting


def looking(*seen: object) -> Callable[[], Awaitable[tuple[bool, object]]]:
    """Sees one after the other; the last one is all there is to see."""
    left = iter(seen)

    async def look() -> tuple[bool, object]:
        found = next(left)
        return found == seen[-1], found

    return look


async def test_who_ends_by_itself_while_it_is_waited_for_is_named_and_started_again(tmp_path: Path) -> None:
    child = Child("run-1", ["--version"], tmp_path)
    child.start()
    child.kill()
    try:
        cases = await patience.acknowledged("webhooks", [child], ASKED, 60, looking("all"))
        assert [case[:3] for case in cases] == [("crashed", "ended_by_itself", "run-1")]
        assert not child.has_ended
    finally:
        child.kill()


async def test_what_goes_on_is_waited_for_and_what_stands_still_is_given_up() -> None:
    assert await patience.acknowledged("webhooks", [], ASKED, 0, looking(1, 2, 3)) == []
    assert await patience.acknowledged("webhooks", [], ASKED, 0, looking(1, 1, 3)) == [
        Case("lost", "not_acknowledged", "", "webhooks: no further than 1")
    ]
