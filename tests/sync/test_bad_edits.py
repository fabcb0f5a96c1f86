"""A hundred edits that nobody should have made, and stores that lost half of what they knew: nobody is deleted for it.

Deletion is on, each edit stays for two days, the passes go on, and no one approves anything.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa

from connector.commands import sync as syncing
from connector.settings import Settings
from connector.store import schema
from connector.store.database import Database
from tests.places import Give, Place, Sandbox
from tests.sync.clock import Clock

SEEDS = range(10)
EDITS = 10

Edit = dict[str, Any]
GOOD: Edit = {
    "segments": ["Paying"],
    "attributes": ["plan", "seats"],
    "customer_id": "external_id",
    "grace": "24h",
    "paying": '{ attribute = "plan", in = ["pro", "team"] }',
}
CONDITIONS = [
    '{ attribute = "Plan", in = ["pro", "team"] }',
    '{ attribute = "plan", in = ["Pro", "Team"] }',
    '{ attribute = "plan.name", in = ["pro", "team"] }',
    '{ none = [{ attribute = "plan", in = ["pro", "team"] }] }',
    '{ all = [{ attribute = "plan", is = "pro" }, { attribute = "plan", is = "team" }] }',
    '{ attribute = "created_at", within = "1s" }',
    '{ event = "Order Completed" }',
]


def rename(draw: random.Random, edit: Edit) -> None:
    """In both places: the same people under another name."""
    edit["name"] = draw.choice(["paying", "Paying customers", "Payíng"])
    edit["segments"] = [edit["name"]]


def misspell(draw: random.Random, edit: Edit) -> None:
    edit["paying"] = draw.choice(CONDITIONS)


MISTAKES: list[Callable[[random.Random, Edit], None]] = [
    lambda _draw, edit: edit.update(segments=[]),
    lambda _draw, edit: edit.update(segments=["Hardly anybody"]),
    rename,
    misspell,
    lambda draw, edit: edit.update(customer_id=draw.choice(["code", "email", "id", "no such attribute"])),
    lambda _draw, edit: edit.update(attributes=[]),
    lambda draw, edit: edit.update(grace=draw.choice(["1ms", "1h"]), paying=draw.choice(CONDITIONS)),
]


def write(place: Place, edit: Edit) -> Settings:
    people = [
        f"segments = {json.dumps(edit['segments'], ensure_ascii=False)}",
        f"attributes = {json.dumps(edit['attributes'])}",
        f"customer_id = {json.dumps(edit['customer_id'])}",
        f'[people.delete]\nenabled = true\ngrace = "{edit["grace"]}"',
    ]
    segments = [
        f'"{edit.get("name", "Paying")}" = {edit["paying"]}',
        '"Hardly anybody" = { attribute = "seats", gte = 99 }',
    ]
    return place.write(people="\n".join(people), segments="\n".join(segments)).settings()


def lose_half(db: Database, draw: random.Random) -> None:
    """An older copy was restored: half of the users are not there yet, or as they were before they paid."""
    users = schema.users
    ids = db.read(lambda connection: connection.execute(sa.select(users.c.id)).scalars().all())
    lost = draw.sample(sorted(ids), len(ids) // 2)
    if draw.random() < 0.5:
        older = sa.update(users).where(users.c.id.in_(lost)).values(attributes={}, version=users.c.version + 1)
        db.write(lambda connection: connection.execute(older))
        return
    for table in (schema.pending, schema.held, schema.mirror, schema.identifiers):
        forgotten = sa.delete(table).where(table.c.user_id.in_(lost))
        db.write(lambda connection, statement=forgotten: connection.execute(statement))
    db.write(lambda connection: connection.execute(sa.delete(users).where(users.c.id.in_(lost))))


@pytest.mark.parametrize("seed", SEEDS)
async def test_of_a_hundred_bad_edits_none_deletes_anybody(
    db: Database, place: Place, sandbox: Sandbox, give: Give, seed: int
) -> None:
    draw, clock = random.Random(seed), Clock()
    place.track_url = sandbox.url
    rows = [
        {"external_id": f"u{number}", "email": f"u{number}@b.co", "code": f"c{number}", "plan": "pro", "seats": number}
        for number in range(draw.randint(20, 60))  # half of them are more than the ten that any share lets go
    ]
    give(write(place, GOOD), *rows)
    await syncing.sync(db, write(place, GOOD), clock)
    people = {name: person["email"] for name, person in sandbox.people().items()}
    assert len(people) == len(rows)
    asked = 0
    for number in range(EDITS):
        edit = dict(GOOD)
        if number == EDITS - 1:
            lose_half(db, draw)
        else:
            for mistake in draw.sample(MISTAKES, draw.choice([1, 1, 2])):
                mistake(draw, edit)
        settings = write(place, edit)
        for hours in (0, 1, 23, 24.5):
            clock.move(hours=hours)
            asked += (await syncing.sync(db, settings, clock)).exit_status == 3
        assert sandbox.state.applied["deleted"] == 0, edit
        give(settings, *rows)
        assert (await syncing.sync(db, write(place, GOOD), clock)).exit_status == 0
        assert {name: person["email"] for name, person in sandbox.people().items()} == people
    assert asked >= EDITS, "that the guard was asked is what is tested"
