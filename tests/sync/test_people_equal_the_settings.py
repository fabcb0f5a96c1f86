"""Property: whatever becomes of users and settings, Customer.io has what the settings say, in the fewest calls.

What they should be is computed here once more, from the rows that were imported and the choices that went into the
settings, without any of the connector's code.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest

from connector.commands import sync as syncing
from connector.settings import Settings
from connector.store.database import Database
from tests.places import Give, Place, Sandbox
from tests.sync.clock import Clock

SEEDS = range(10)
ROUNDS = 5
USERS = 30

Row = dict[str, Any]

# The segments by what they ask, for the file and for us; the names they have are drawn.
CONDITIONS: dict[str, tuple[str, Callable[[Row], bool]]] = {
    "pro": ('{ attribute = "plan", in = ["pro", "team"] }', lambda row: row.get("plan") in ("pro", "team")),
    "busy": ('{ attribute = "seats", gte = 5 }', lambda row: row.get("seats", 0) >= 5),
    "named": ('{ attribute = "account.name", exists = true }', lambda row: "name" in row.get("account", {})),
    "all": ("{ everyone = true }", lambda _row: True),
}
# What can be picked: how it is written, the name at Customer.io, and the value there.
PICKS: dict[str, tuple[str, str, Callable[[Row], Any]]] = {
    "plan": ('"plan"', "plan", lambda row: row.get("plan")),
    "seats": ('{ name = "seats", as = "number of seats" }', "number of seats", lambda row: row.get("seats")),
    "company": ('"account.name"', "account_name", lambda row: row.get("account", {}).get("name")),
    "tags": ('"tags"', "tags", lambda row: row.get("tags")),
    "note": ('"note"', "note", lambda row: row.get("note")),
    "vip": ('"vip/level"', "vip-level", lambda row: row.get("vip/level")),
    "trial": ('{ name = "trial", date = true }', "trial", lambda row: seconds(row.get("trial"))),
    "seen_at": ('"seen_at"', "seen_at", lambda row: seconds(row.get("seen_at"))),
}


def seconds(value: Any) -> Any:
    try:
        return int(datetime.fromisoformat(value).replace(tzinfo=UTC).timestamp())
    except (TypeError, ValueError):
        return value


@dataclass
class World:
    """What we know without asking the connector."""

    draw: random.Random
    rows: dict[str, Row] = field(default_factory=dict)
    people: dict[str, Row] = field(default_factory=dict)
    whitelisted: list[str] = field(default_factory=list)
    names: dict[str, str] = field(default_factory=dict)
    picked: list[str] = field(default_factory=list)
    most: int = 30
    deleting: bool = False
    email_required: bool = True

    def edit(self, place: Place, api: str) -> Settings:
        """Other settings, as an admin writes them."""
        draw = self.draw
        self.names = {key: draw.choice([key.title(), key.upper(), f"{key} é"]) for key in CONDITIONS}
        self.whitelisted = draw.sample(sorted(CONDITIONS), draw.randint(1, 2))
        self.picked = draw.sample(sorted(PICKS), draw.randint(0, len(PICKS)))
        self.most = draw.choice([1, 2, 3, 30])
        self.deleting = draw.random() < 0.6
        self.email_required = draw.random() < 0.6
        people = [
            f"segments = {json.dumps([self.names[key] for key in self.whitelisted], ensure_ascii=False)}",
            f"attributes = [{', '.join(PICKS[key][0] for key in self.picked)}]",
            f"max_attributes_per_call = {self.most}",
            f"require_email = {json.dumps(self.email_required)}",
            f'[people.delete]\nenabled = {json.dumps(self.deleting)}\ngrace = "1ms"',
        ]
        place.write(
            customerio=place.customerio(f'api = "{api}"', "rate_per_second = 10000"),
            people="\n".join(people),
            segments="\n".join(f'"{self.names[key]}" = {CONDITIONS[key][0]}' for key in CONDITIONS),
            guard='max_creates = "unlimited"\nmax_delete_share = 1.0',
        )
        return place.settings()

    def change(self) -> list[Row]:
        """Some users come, others change; the rows of the import."""
        draw = self.draw
        given = []
        for number in draw.sample(range(USERS), draw.randint(0, USERS)):
            row: Row = {"external_id": f"u{number}"}
            if draw.random() < 0.8:
                row["email"] = f"{draw.choice('abc')}{number}@example.com"
            row |= {
                "plan": draw.choice(["free", "pro", "team", "", None]),
                "seats": draw.choice([1, 5, 7, 7.5, None]),
                "account": draw.choice([{"name": "Acmé"}, {"size": 3}, None]),
                "tags": draw.choice([["a", "b"], ["b", "a"], [], [{"x": True}, 1], None]),
                "note": draw.choice(["é" * 500, "é" * 500 + "x", "short", None]),
                "vip/level": draw.choice([True, False, None]),
                "trial": draw.choice(["2026-01-02", "2026-01-02T03:04:05", "soon", 12, None]),
                "seen_at": draw.choice(["2025-12-31T23:59:59", "never", None]),
            }
            given.append(row)
            known = self.rows.setdefault(row["external_id"], {})
            known |= {name: value for name, value in row.items() if value is not None}
            for name in [name for name, value in row.items() if value is None]:
                known.pop(name, None)
        return given

    def should(self) -> dict[str, Row]:
        """The people there should be, now that nobody waits."""
        after = {}
        for name, row in self.rows.items():
            before = self.people.get(name)
            if not any(CONDITIONS[key][1](row) for key in self.whitelisted):
                if before is not None and not self.deleting:
                    after[name] = before
            elif before is not None or "email" in row or not self.email_required:
                after[name] = self.wanted(row, before or {})
        return after

    def wanted(self, row: Row, before: Row) -> Row:
        found = {"email": row["email"]} if "email" in row else {}
        found["hull_segments"] = sorted(self.names[key] for key, (_, holds) in CONDITIONS.items() if holds(row))
        for key in self.picked:
            _, name, value_of = PICKS[key]
            value = value_of(row)
            if isinstance(value, str) and len(value.encode()) > 1000:
                value = before.get(name)
            if value is not None and value != "":
                found[name] = value
        return found

    def operations(self, after: dict[str, Row]) -> int:
        """How many it takes to get there: one for a delete, one for every so many attributes that differ."""
        count = len(self.people.keys() - after.keys())
        for name, person in after.items():
            before = self.people.get(name)
            if before is None:
                count += -(-len(person) // self.most)
            else:
                differing = [key for key in person.keys() | before.keys() if differs(person, before, key)]
                count += -(-len(differing) // self.most)
        return count


def differs(one: Row, other: Row, key: str) -> bool:
    """As JSON, where true is not 1."""
    nothing = object()
    first, second = one.get(key, nothing), other.get(key, nothing)
    return repr(first) != repr(second)


def there(sandbox: Sandbox) -> dict[str, Row]:
    return {
        name: {**person, "hull_segments": sorted(person["hull_segments"])} for name, person in sandbox.people().items()
    }


def received(sandbox: Sandbox, since: int) -> tuple[int, int]:
    """Calls and operations that have come since so many calls."""
    calls = [call for call in sandbox.state.calls if call.number > since and call.method != "GET"]
    batched = [json.loads(call.body)["batch"] for call in calls if "/batch" in call.path]
    return len(calls), sum(map(len, batched)) if batched else len(calls)


@pytest.mark.parametrize("api", ["batch", "single"])
@pytest.mark.parametrize("seed", SEEDS)
async def test_people_are_what_the_settings_say_attribute_by_attribute_in_the_fewest_calls(
    db: Database, place: Place, sandbox: Sandbox, give: Give, seed: int, api: str
) -> None:
    world, clock = World(random.Random(seed)), Clock()
    place.track_url = sandbox.url
    sandbox.state.email_updates_by_id = True
    total = 0
    for _ in range(ROUNDS):
        settings = world.edit(place, api)
        if rows := world.change():
            give(settings, *rows)
        after, since = world.should(), sandbox.state.calls_received
        first = await syncing.sync(db, settings, clock)
        clock.move(seconds=1)  # the grace
        second = await syncing.sync(db, settings, clock)
        assert first.exit_status == second.exit_status == 0
        assert there(sandbox) == after
        calls, operations = received(sandbox, since)
        assert operations == world.operations(after)
        total += operations
        if api == "batch":
            assert first.tally.calls <= 1
            assert second.tally.calls == (1 if world.deleting and world.people.keys() - after.keys() else 0)
        assert calls == first.tally.calls + second.tally.calls
        clock.move(minutes=2)
        assert (await syncing.sync(db, settings, clock)).tally.calls == 0
        world.people = after
        clock.move(hours=25)
    assert total > USERS, "there was something to send"


async def test_the_calls_are_as_few_as_their_bytes_allow(
    db: Database, place: Place, sandbox: Sandbox, give: Give
) -> None:
    names = [f"a{number}" for number in range(20)]
    place.track_url = sandbox.url
    people = f'segments = ["All"]\nattributes = {json.dumps(names)}'
    settings = place.write(people=people, segments='"All" = { everyone = true }').settings()
    rows = [
        {"external_id": f"u{number:03}", "email": f"u{number}@b.co", **dict.fromkeys(names, "é" * 450)}
        for number in range(150)
    ]
    give(settings, *rows)
    summary = await syncing.sync(db, settings, Clock())
    sizes = [len(call.body) for call in sandbox.state.calls if "/batch" in call.path]
    assert summary.tally.created == 150
    assert max(sizes) < 500_000
    assert len(sizes) == -(-sum(sizes) // 500_000)
