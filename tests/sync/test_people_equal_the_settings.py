"""Property: whatever becomes of users and settings, Customer.io has what the settings say, in the fewest calls.

What they should be is computed here once more, from the rows that were imported, the words that were said and the
choices that went into the settings, without any of the connector's code.
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from connector.commands import import_files
from connector.commands import sync as syncing
from connector.records import Received
from connector.sandbox.rules.people import Person
from connector.settings import Settings
from connector.store import inbox, schema
from connector.store.database import Database
from tests.places import Give, Place, Sandbox
from tests.store import given
from tests.sync.clock import Clock

SEEDS = range(int(os.environ.get("CONNECTOR_TEST_SEEDS", "5")))
ROUNDS = 5
USERS = 30
SOURCES = ("external_id", "code", "email", "code")

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
class Them:
    """A person at Customer.io: the id they are known by, what they were sent, what they were told of their opt-out
    (None: nothing), and what Customer.io has of it. `reachable` says whether a webhook has told their cio_id."""

    known_by: str
    attributes: Row
    told: bool | None = None
    unsubscribed: bool | None = None
    reachable: bool = False

    def all(self) -> Row:
        return {**self.attributes, **({} if self.unsubscribed is None else {"unsubscribed": self.unsubscribed})}


@dataclass
class Consent:
    """What is known of a user's opt-out; `unsent` when our own data said it last, and it was not sent since."""

    out: bool = False
    unsent: bool = False


@dataclass
class World:
    """What we know without asking the connector."""

    draw: random.Random
    source: str
    rows: dict[str, Row] = field(default_factory=dict)
    people: dict[str, Them] = field(default_factory=dict)
    consent: dict[str, Consent] = field(default_factory=dict)
    whitelisted: list[str] = field(default_factory=list)
    names: dict[str, str] = field(default_factory=dict)
    picked: list[str] = field(default_factory=list)
    most: int = 30
    deleting: bool = False
    email_required: bool = True
    opting_out: bool = False
    operations: int = 0

    def edit(self, place: Place, api: str) -> Settings:
        """Other settings, as an admin writes them."""
        draw = self.draw
        self.names = {key: draw.choice([key.title(), key.upper(), f"{key} é"]) for key in CONDITIONS}
        self.whitelisted = draw.sample(sorted(CONDITIONS), draw.randint(1, 2))
        self.picked = draw.sample(sorted(PICKS), draw.randint(0, len(PICKS)))
        self.most = draw.choice([1, 2, 3, 30])
        self.deleting = draw.random() < 0.6
        self.email_required = draw.random() < 0.6
        self.opting_out = draw.random() < 0.7
        people = [
            f"segments = {json.dumps([self.names[key] for key in self.whitelisted], ensure_ascii=False)}",
            f"attributes = [{', '.join(PICKS[key][0] for key in self.picked)}]",
            f'customer_id = "{self.source}"',
            f"max_attributes_per_call = {self.most}",
            f"require_email = {json.dumps(self.email_required)}",
            f"opt_out = {json.dumps('gone' if self.opting_out else '')}",
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
        given_rows = []
        for number in draw.sample(range(USERS), draw.randint(0, USERS)):
            row: Row = {"external_id": f"u{number}"}
            if draw.random() < 0.6:
                row["email"] = f"{draw.choice('abc')}{number}@example.com"
            row |= {
                "code": draw.choice([f"c{number}"] * 4 + [f"d{number}", None]),
                "gone": draw.choice([True, False, None]),
                "plan": draw.choice(["free", "pro", "team", "", None]),
                "seats": draw.choice([1, 5, 7, 7.5, None]),
                "account": draw.choice([{"name": "Acmé"}, {"size": 3}, None]),
                "tags": draw.choice([["a", "b"], ["b", "a"], [], [{"x": True}, 1], None]),
                "note": draw.choice(["é" * 500, "é" * 500 + "x", "short", None]),
                "vip/level": draw.choice([True, False, None]),
                "trial": draw.choice(["2026-01-02", "2026-01-02T03:04:05", "soon", 12, None]),
                "seen_at": draw.choice(["2025-12-31T23:59:59", "never", None]),
            }
            given_rows.append(row)
            self._take(row)
        return given_rows

    def _take(self, row: Row) -> None:
        known = self.rows.setdefault(row["external_id"], {})
        consent = self.consent.setdefault(row["external_id"], Consent())
        if self.opting_out:
            if row["gone"] is True and known.get("gone") is not True and not consent.out:
                consent.out = consent.unsent = True
            elif row["gone"] is False and known.get("gone") is True:
                consent.out, consent.unsent = False, True
        known |= {name: value for name, value in row.items() if value is not None}
        for name in [name for name, value in row.items() if value is None]:
            known.pop(name, None)

    def some(self, share: float) -> list[str]:
        return [name for name in sorted(self.rows) if self.draw.random() < share]

    def is_named(self, name: str, them: Them) -> bool:
        """Whether a webhook that names them at Customer.io names the user here: an email does while they have it."""
        return self.source != "email" or self.rows[name].get("email") == them.known_by

    def settle(self) -> None:
        """Customer.io's people as they should be now that nobody waits; counts the operations that it takes."""
        for name, row in self.rows.items():
            them = self.people.get(name)
            if not any(CONDITIONS[key][1](row) for key in self.whitelisted):
                if them is not None:
                    self._opt_out_alone(name, row, them)
                    if self.deleting:
                        del self.people[name]
                        self.operations += 1
            elif them is not None:
                self._update(name, row, them)
            elif self._id(row) is not None and ("email" in row or not self.email_required):
                self._create(name, row)

    def _id(self, row: Row) -> str | None:
        return row.get(self.source)

    def _says(self, row: Row) -> bool:
        return self.opting_out and row.get("gone") is True

    def _create(self, name: str, row: Row) -> None:
        attributes = self.wanted(row, {})
        out = self.consent[name].out or self._says(row)
        room = max(self.most - 1, 1) if out else self.most
        self.operations += -(-len(attributes) // room)
        told = True if out else None
        self.people[name] = Them(str(self._id(row)), attributes, told, told)
        self.consent[name] = Consent(out)

    def _update(self, name: str, row: Row, them: Them) -> None:
        today = self._id(row)
        renamed = today is not None and today != them.known_by
        if renamed and not them.reachable:
            self._opt_out_alone(name, row, them)
            return
        wanted = self.wanted(row, them.attributes)
        if self.source == "email":
            wanted.setdefault("email", them.attributes["email"])
        differing = sum(differs(wanted, them.attributes, key) for key in wanted.keys() | them.attributes.keys())
        differing += renamed and self.source != "email"
        if (word := self._due(name, row, them)) is not None:
            differing += 1
            self._tell(name, them, word)
        self.operations += -(-differing // self.most)
        them.attributes = wanted
        them.known_by = today or them.known_by

    def _due(self, name: str, row: Row, them: Them) -> bool | None:
        """What has to be told of their opt-out, if anything."""
        consent, says = self.consent[name], self._says(row)
        if consent.unsent:
            return consent.out or says
        if (consent.out and them.told is False) or (says and them.told is not True):
            return True
        return None

    def _opt_out_alone(self, name: str, row: Row, them: Them) -> None:
        if self._due(name, row, them):
            self._tell(name, them, True)
            self.operations += 1

    def _tell(self, name: str, them: Them, word: bool) -> None:
        them.told = them.unsubscribed = word
        self.consent[name] = Consent(word)

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

    def should(self) -> dict[str, Row]:
        """What Customer.io should have, by the id that it knows them by."""
        return {them.known_by: them.all() for them in self.people.values()}


def differs(one: Row, other: Row, key: str) -> bool:
    """As JSON, where true is not 1."""
    nothing = object()
    first, second = one.get(key, nothing), other.get(key, nothing)
    return repr(first) != repr(second)


@dataclass
class Run:
    """A world, and the connector that is held against it."""

    world: World
    db: Database
    sandbox: Sandbox
    clock: Clock
    folder: Path

    def give(self, settings: Settings, rows: list[Row]) -> None:
        """Imports them now, by the clock of the test: what a row says of an opt-out is said at that moment."""
        path = self.folder / "users.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        import_files.users(self.db, settings, path, self.clock)

    def clear_emails(self) -> None:
        """As plain SQL does it."""
        users = schema.users
        gone = [name for name in self.world.some(0.1) if self.world.rows[name].pop("email", None) is not None]
        changed = sa.update(users).where(users.c.external_id.in_(gone))
        changed = changed.values(email=None, version=users.c.version + 1)
        self.db.write(lambda connection: connection.execute(changed))

    def webhooks(self) -> None:
        """Some people are heard of, with their cio_id; some of them opt out at Customer.io, or in again."""
        world = self.world
        for name in world.some(0.3):
            them = world.people.get(name)
            if them is None or not (them.reachable or world.is_named(name, them)):
                continue
            self.clock.move(seconds=2)
            them.reachable = True
            kind = world.draw.choice(["email.opened", "customer.unsubscribed", "customer.subscribed"])
            if kind != "email.opened":
                them.unsubscribed = kind == "customer.unsubscribed"
                world.consent[name] = Consent(them.unsubscribed)
            self._webhook(kind, them)
        self.clock.move(minutes=2)

    def _webhook(self, kind: str, them: Them) -> None:
        person = next(each for each in self.sandbox.state.people if known_by(each) == them.known_by)
        if kind != "email.opened":
            self.sandbox.state.edit("cio_id", person.cio_id, unsubscribed=them.unsubscribed)
        named = {"id": person.id, "email": person.email, "cio_id": person.cio_id}
        at = int(self.clock.now.timestamp())
        body = given.webhook(
            f"{person.cio_id} {at}", kind, at=at, identifiers={key: value for key, value in named.items() if value}
        )
        self.db.write(inbox.append, inbox.CUSTOMERIO, [Received(f"{person.cio_id} {at}", self.clock.now, body)])

    def there(self) -> dict[str, Row]:
        """What Customer.io has."""
        return {
            known_by(person): {
                **person.attributes,
                **({"email": person.email} if person.email else {}),
                "hull_segments": sorted(person.attributes["hull_segments"]),
            }
            for person in self.sandbox.state.people
        }


def known_by(person: Person) -> str:
    return str(person.id or person.email)


def received(sandbox: Sandbox, since: int) -> tuple[int, int]:
    """Calls and operations that have come since so many calls."""
    calls = [call for call in sandbox.state.calls if call.number > since and call.method != "GET"]
    batched = [json.loads(call.body)["batch"] for call in calls if "/batch" in call.path]
    return len(calls), sum(map(len, batched)) if batched else len(calls)


@pytest.mark.parametrize("api", ["batch", "single"])
@pytest.mark.parametrize("seed", SEEDS)
async def test_people_are_what_the_settings_say_attribute_by_attribute_in_the_fewest_calls(
    db: Database, place: Place, sandbox: Sandbox, tmp_path: Path, seed: int, api: str
) -> None:
    draw = random.Random(seed)
    world = World(draw, SOURCES[seed % len(SOURCES)])
    run = Run(world, db, sandbox, Clock(), tmp_path)
    place.track_url = sandbox.url
    sandbox.state.email_updates_by_id = True
    for _ in range(ROUNDS):
        settings = world.edit(place, api)
        if rows := world.change():
            run.give(settings, rows)
        run.clear_emails()
        run.webhooks()
        before, since = world.operations, sandbox.state.calls_received
        leaving = world.deleting and any(
            not any(CONDITIONS[key][1](world.rows[name]) for key in world.whitelisted) for name in world.people
        )
        world.settle()
        first = await syncing.sync(db, settings, run.clock)
        run.clock.move(seconds=1)  # the grace
        second = await syncing.sync(db, settings, run.clock)
        assert first.exit_status == second.exit_status == 0
        assert run.there() == world.should()
        calls, operations = received(sandbox, since)
        assert operations == world.operations - before
        if api == "batch":
            assert first.tally.calls <= 1
            assert second.tally.calls == (1 if leaving else 0)
        assert calls == first.tally.calls + second.tally.calls
        run.clock.move(minutes=2)
        assert (await syncing.sync(db, settings, run.clock)).tally.calls == 0
        run.clock.move(hours=25)
    assert world.operations > USERS, "there was something to send"


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
