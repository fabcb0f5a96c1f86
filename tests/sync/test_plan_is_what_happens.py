"""Property: what `plan` says is what the next `sync` does, person by person and byte by byte.

Random users, settings and passes; before each sync a plan is made at the same moment, and held against the calls that
Customer.io gets, the people who are there afterwards, and what the guard holds.
"""

from __future__ import annotations

import contextlib
import json
import random
from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import unquote

import pytest

from connector import app, errors
from connector.commands import approve as approving
from connector.commands import sync as syncing
from connector.outbound import planning
from connector.settings import Settings
from connector.store import pending, schema
from connector.store.database import Database
from tests.places import Give, Place, Sandbox
from tests.store import given

USERS = 40
ROUNDS = 6
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
            "code": f"c{number}",
            **({"email": f"{draw.choice('abc')}{number}@example.com"} if draw.random() < 0.8 else {}),
            "plan": draw.choice(["free", "pro", "team", None]),
            "seats": draw.choice([1, 5, 7, None]),
            "note": draw.choice(["é" * 500, "é" * 501, "short", None]),
            "tags": draw.choice([["a", "b"], ["b", "a"], [], None]),
            "gone": draw.choice([True, False, None]),
        }
        for number in draw.sample(range(USERS), draw.randint(1, 25))
    ]


def some_settings(draw: random.Random, place: Place, api: str) -> Settings:
    picked = draw.sample(["plan", "seats", "note", "tags", "code"], draw.randint(0, 5))
    source = draw.choice(["external_id"] * 12 + ["code"])
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


def sent_since(sandbox: Sandbox, number: int) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Every operation that Customer.io got since then: what, of whom, with which attributes."""
    for call in sandbox.state.calls:
        if call.number <= number or call.method == "GET":
            continue
        if call.method == "POST":
            for operation in json.loads(call.body)["batch"]:
                yield operation["action"], operation["identifiers"]["id"], operation.get("attributes", {})
        else:
            body = json.loads(call.body) if call.body else {}
            body.pop("_timestamp", None)
            yield ("delete" if call.method == "DELETE" else "identify"), unquote(call.path.split("/")[-1]), body


@pytest.mark.parametrize("seed", range(8))
async def test_what_plan_says_is_what_happens(
    db: Database, place: Place, sandbox: Sandbox, give: Give, seed: int
) -> None:
    draw = random.Random(seed)
    api = "single" if seed % 3 == 2 else "batch"
    place.track_url = sandbox.url
    now = app.now() + timedelta(minutes=5)
    settings = some_settings(draw, place, api)
    for _ in range(ROUNDS):
        give(settings, *some_users(draw))
        if draw.random() < 0.5:
            settings = some_settings(draw, place, api)
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
    people = list(planning.everyone(db, settings, now, outlook.holds))
    expected = [each for each in people if each.reason != "held"]
    calls_before, ids_before = sandbox.state.calls_received, live(db)
    nobody_on_their_way = not db.read(pending.leaving)

    summary = await syncing.sync(db, settings, lambda: now)

    calls = [call for call in sandbox.state.calls if call.number > calls_before and call.method != "GET"]
    sent: dict[tuple[str, str], dict[str, Any]] = {}
    operations = 0
    for action, customer_id, attributes in sent_since(sandbox, calls_before):
        operations += 1
        sent.setdefault((action, customer_id), {}).update(attributes)
    assert sent == {
        ("delete" if each.decision == "delete" else "identify", str(each.customer_id)): {
            name: new for name, (_, new) in each.changes.items()
        }
        for each in expected
    }
    sending = outlook.plan.sending
    assert (sending.operations, sending.calls) == (operations, len(calls))
    assert sending.bytes == sum(len(call.body) for call in calls)

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
        assert said.get("postpone", {}).get("leaving", 0) == summary.found.leaving
    assert sum(sum(reasons.values()) for reasons in said.values()) == len(given.rows(db, schema.users, "id"))


def live(db: Database) -> set[str]:
    return {
        user_id for user_id, deleted_at in given.rows(db, schema.mirror, "user_id", "deleted_at") if deleted_at is None
    }
