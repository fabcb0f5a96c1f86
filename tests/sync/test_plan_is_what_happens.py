"""Property: what `plan` says is what the next `sync` does, person by person and byte by byte.

Random users, settings and passes, words of webhooks, ids and emails that change or go; before each sync a plan is made
at the same moment, and held against the calls that Customer.io gets, the people who are there afterwards, and what the
guard holds. In every other run batches are small, so that a sync makes several; which users share one is up to the
order in which they are claimed, so there a plan may be a call or so off.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
import sqlalchemy as sa

from connector import app, errors
from connector.commands import approve as approving
from connector.commands import import_files
from connector.commands import sync as syncing
from connector.core import encode
from connector.outbound import judging, planning
from connector.settings import People, Settings
from connector.store import backlog, held, schema
from connector.store.database import Database
from tests.places import Place, Sandbox
from tests.store import given

USERS = 40
ROUNDS = 6
SMALL_BATCH = 6_000
UNLIMITED = '"unlimited"'
SEGMENTS = """
"Pro" = { attribute = "plan", in = ["pro", "team"] }
"Busy" = { attribute = "seats", gte = 5 }
"Everyone" = { everyone = true }
"Recent" = { attribute = "customerio.synced_at", within = "1d" }
"""


def some_users(draw: random.Random) -> list[dict[str, Any]]:
    """Users who come, or change; some can't be sent, and some values are too long."""
    return [
        {
            "external_id": f"u{number}" if number % 10 else f"u{number}" + "x" * 150,
            "code": draw.choice([f"c{number}"] * 6 + [f"d{number}", None]),
            **({"email": f"{draw.choice('abc')}{number}@example.com"} if draw.random() < 0.8 else {}),
            "plan": draw.choice(["free", "pro", "team", None]),
            "seats": draw.choice([1, 5, 7, None]),
            "note": draw.choice(["é" * 500, "é" * 501, "short", None]),
            "tags": draw.choice([["a", "b"], ["b", "a"], [], None]),
            "gone": draw.choice([True, False, None]),
        }
        for number in draw.sample(range(USERS), draw.randint(1, 25))
    ]


def some_settings(draw: random.Random, place: Place, api: str, usual: str) -> Settings:
    picked = draw.sample(["plan", "seats", "note", "tags", "code"], draw.randint(0, 5))
    source = draw.choice([usual] * 12 + ["code"])
    sent = draw.sample(["Pro", "Busy", "Recent", "Everyone"], draw.choice([0, 1, 1, 1, 2, 3]))
    place.write(
        customerio=place.customerio(f'api = "{api}"', "rate_per_second = 10000"),
        people="\n".join(
            [
                f"segments = {json.dumps(sent)}",
                f"attributes = {json.dumps(picked)}",
                f'customer_id = "{source}"',
                f"require_email = {json.dumps(draw.random() < 0.7)}",
                f"max_attributes_per_call = {draw.randint(1, 4)}",
                f"opt_out = {json.dumps(draw.choice(['', 'gone']))}",
                "[people.delete]",
                f"enabled = {json.dumps(draw.random() < 0.9)}",
                f'grace = "{draw.choice(["1s", "1s", "2h", "30h"])}"',
            ]
        ),
        segments=SEGMENTS,
        guard="\n".join(
            [
                f"max_creates = {draw.choice(['0', '9', UNLIMITED, UNLIMITED])}",
                f"max_delete_share = {draw.choice(['0.1', '1.0', '1.0'])}",
                f"max_deletes = {draw.choice(['4', UNLIMITED])}",
            ]
        ),
    )
    return place.settings()


def clear_emails(db: Database, draw: random.Random) -> None:
    """As plain SQL does it."""
    gone = [f"u{number}" for number in range(USERS) if draw.random() < 0.05]
    changed = sa.update(schema.users).where(schema.users.c.external_id.in_(gone))
    changed = changed.values(email=None, version=schema.users.c.version + 1)
    db.write(lambda connection: connection.execute(changed))


def webhooks(db: Database, settings: Settings, sandbox: Sandbox, draw: random.Random, now: datetime) -> None:
    """Some people are heard of, with their cio_id; some of them opt out at Customer.io, or in again."""
    bodies = []
    for person in sandbox.state.people:
        if draw.random() < 0.3:
            named = {"id": person.id, "email": person.email, "cio_id": person.cio_id}
            kind = draw.choice(["email.opened", "customer.unsubscribed", "customer.subscribed"])
            at = int(now.timestamp())
            identifiers = {name: value for name, value in named.items() if value}
            bodies.append(given.webhook(f"{person.cio_id} {at}", kind, at=at, identifiers=identifiers))
    given.read(db, *bodies, settings=settings, now=now)


def sent_since(sandbox: Sandbox, number: int) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Every operation that Customer.io got since then: what, by which id, with which attributes."""
    for call in sandbox.state.calls:
        if call.number <= number or call.method == "GET":
            continue
        if call.method == "POST":
            for operation in json.loads(call.body)["batch"]:
                ((kind, value),) = operation["identifiers"].items()
                addressed = f"cio_{value}" if kind == "cio_id" else value
                yield operation["action"], addressed, operation.get("attributes", {})
        else:
            body = json.loads(call.body) if call.body else {}
            body.pop("_timestamp", None)
            yield ("delete" if call.method == "DELETE" else "identify"), unquote(call.path.split("/")[-1]), body


@pytest.mark.parametrize("seed", range(int(os.environ.get("CONNECTOR_TEST_SEEDS", "6"))))
async def test_what_plan_says_is_what_happens(
    db: Database, place: Place, sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    if seed % 2:
        monkeypatch.setattr(encode, "MAX_BATCH_BYTES", SMALL_BATCH)
    draw = random.Random(seed)
    api = "single" if seed % 3 == 2 else "batch"
    usual = ("external_id", "code", "email", "code")[seed % 4]
    place.track_url = sandbox.url
    sandbox.state.email_updates_by_id = True
    now = app.now() + timedelta(minutes=5)
    settings = some_settings(draw, place, api, usual)
    for _ in range(ROUNDS):
        rows = tmp_path / "users.jsonl"
        rows.write_text("".join(json.dumps(row) + "\n" for row in some_users(draw)))
        import_files.users(db, settings, rows, lambda at=now: at)
        clear_emails(db, draw)
        webhooks(db, settings, sandbox, draw, now + timedelta(seconds=1))
        now += timedelta(seconds=2)
        if draw.random() < 0.5:
            settings = some_settings(draw, place, api, usual)
        if draw.random() < 0.4:
            approve(db, settings, now, draw)
        await plan_and_sync(db, settings, sandbox, now)
        now += timedelta(hours=draw.choice([1, 3, 26]))


def approve(db: Database, settings: Settings, now: datetime, draw: random.Random) -> None:
    for hold in approving.listed(db):
        with contextlib.suppress(errors.Misconfigured):  # made under other settings, or too old
            approving.approve(db, settings, hold["hash"], draw.choice([None, 3]), now)


async def plan_and_sync(db: Database, settings: Settings, sandbox: Sandbox, now: datetime) -> None:
    outlook = planning.outlook(db, settings, now)
    # By an edit of settings that send nobody, under the same guard, the same would be held.
    nobody = settings.model_copy(update={"people": People(customer_id=settings.people.customer_id)})
    judged = judging.judge(db, nobody, settings, now)
    assert judged.holds == tuple(each for each in outlook.holds if each.what != held.RENAME)
    people = list(planning.everyone(db, settings, now, outlook.holds))
    expected = [each for each in people if each.reason != "held"]
    calls_before, ids_before = sandbox.state.calls_received, live(db)
    nobody_on_their_way = not db.read(backlog.leaving)
    known_by = {f"cio_{each.cio_id}": str(each.id or each.email).lower() for each in sandbox.state.people}

    summary = await syncing.sync(db, settings, lambda: now)

    calls = [call for call in sandbox.state.calls if call.number > calls_before and call.method != "GET"]
    sent: dict[tuple[str, str], dict[str, Any]] = {}
    operations = 0
    for action, addressed, attributes in sent_since(sandbox, calls_before):
        operations += 1
        sent.setdefault((action, known_by.get(addressed, addressed)), {}).update(attributes)
    assert sent == {
        ("delete" if each.decision == "delete" else "identify", str(each.customer_id)): {
            name: new for name, (_, new) in each.changes.items()
        }
        for each in expected
    }
    sending = outlook.plan.sending
    assert sending.operations == operations
    in_small_batches = encode.MAX_BATCH_BYTES == SMALL_BATCH and settings.customerio.api == "batch"
    difference = sending.calls - len(calls)
    assert abs(difference) <= (1 if in_small_batches else 0)
    assert sending.bytes == sum(len(call.body) for call in calls) + difference * (encode.ENVELOPE_BYTES - 1)

    said = outlook.plan.decisions
    done = Counter(each.decision for each in expected)
    assert (done["create"], done["update"], done["delete"]) == (
        summary.tally.created,
        summary.tally.updated,
        summary.tally.deleted,
    )
    for verb in ("create", "update", "delete"):
        users = sum(count for reason, count in said.get(verb, {}).items() if reason != "held")
        assert users == done[verb]
    assert ids_before | {e.user_id for e in expected if e.decision == "create"} == live(db) | {
        e.user_id for e in expected if e.decision == "delete"
    }
    assert [(each.what, each.reason, each.count, each.allowed) for each in outlook.holds] == [
        (hold.what, hold.reason, hold.count, hold.allowed) for hold in summary.found.holds
    ]
    if nobody_on_their_way and "delete" not in {hold.what for hold in outlook.holds}:
        leaving = summary.found.leaving - said.get("postpone", {}).get("leaving", 0)
        assert 0 <= leaving <= said.get("update", {}).get("opted_out", 0), "their opt-out goes first"
    assert sum(sum(reasons.values()) for reasons in said.values()) == len(given.rows(db, schema.users, "id"))


def live(db: Database) -> set[str]:
    return {
        user_id for user_id, deleted_at in given.rows(db, schema.mirror, "user_id", "deleted_at") if deleted_at is None
    }
