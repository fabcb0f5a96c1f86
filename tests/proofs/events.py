"""Every event that was due arrives exactly once, at its time, and each user's in the order in which they happened.

    intake -> store -> worker -> sandbox that answers 5xx, 429, 207, nothing in time, or cuts before and after applying

Rounds of messages, edits of the settings, users who leave and are deleted, workers that are stopped amid their calls.
At the end Customer.io is well again, what was parked is tried once more, and what the sandbox has is held against what
the whitelist of the moment wanted. Of users who were deleted meanwhile only that nothing arrives twice. An event that
was refused, and tried again by hand, comes after those that were not: the order is asked of all others.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import aiohttp
import sqlalchemy as sa

from connector.commands import replay_parked
from connector.outbound import delivery
from connector.outbound.client import TrackClient
from connector.outbound.tally import Tally
from connector.outbound.worker import Worker
from connector.settings import Settings
from connector.store import backlog, schema
from tests.store import told
from tests.sync.events_out import Way

_ROUNDS = 12
_LAST_ROUNDS = 60
_TIMEOUT = 1.0
_HANG = "hang:1.5"
_PEOPLE = """
segments = ["Pro"]
attributes = {picked}
require_email = false
max_attributes_per_call = {most}
[people.delete]
enabled = true
blind = true
grace = "1s"
"""
_NAMES = ('["*", "page", "screen"]', '["Kind 1", "Kind 2*", "page"]', '["*"]', '["screen", "Kind *"]', "[]")
_TRACKED = {
    '["*", "page", "screen"]': {"track", "page", "screen"},
    '["*"]': {"track"},
    '["screen", "Kind *"]': {"track", "screen"},
    "[]": set[str](),
}


@dataclass
class Outcome:
    """What was told and what came of it; from `lost` on all must be 0, and the first five must not."""

    due: int = 0
    calls: int = 0
    parked: int = 0
    deleted: int = 0
    edits: int = 0
    seconds: float = 0.0
    faults: Counter[str] = field(default_factory=Counter)
    lost: int = 0
    twice: int = 0
    not_wanted: int = 0
    wrong_time: int = 0
    inversions: int = 0
    unsettled: int = 0

    @property
    def holds(self) -> bool:
        wrong = self.lost or self.twice or self.not_wanted or self.wrong_time or self.inversions or self.unsettled
        return bool(self.due and self.calls and self.deleted and self.edits and len(self.faults) > 2) and not wrong

    def __str__(self) -> str:
        faults = ", ".join(f"{number} {word}" for word, number in sorted(self.faults.items()))
        return (
            f"{self.due:,} events due, {self.calls:,} calls ({faults}), {self.parked} events refused, "
            f"{self.deleted} users deleted, {self.edits} edits, {self.seconds:.0f} s: {self.lost} lost, "
            f"{self.twice} twice, {self.not_wanted} not wanted, {self.wrong_time} at a wrong time, "
            f"{self.inversions} out of order, {self.unsettled} unsettled"
        )


@dataclass
class _Told:
    """What was told, by message id, in the order in which it happened."""

    user: str
    at: datetime
    is_wanted: bool


async def prove(way: Way, users: int, events: int, seed: int) -> Outcome:
    """So many users, and so many events of each."""
    began = time.monotonic()
    draw, outcome, said = random.Random(seed), Outcome(), dict[str, _Told]()
    start = way.clock() - timedelta(hours=3)
    rounds = {user: sorted(draw.choices(range(_ROUNDS), k=events)) for user in range(users)}
    leavers = set(draw.sample(range(users), users // 10))
    refused: set[int] = set()
    with _impatient():
        for number in range(_ROUNDS):
            names = draw.choices(_NAMES, (5, 2, 2, 2, 1))[0] if number else _NAMES[0]
            settings = _settings(way, draw, names)
            outcome.edits += 1
            messages = [_who(way, f"u{user}", "pro") for user in range(users) if number == 0]
            leaving = {user for user in leavers if draw.random() < 0.2}
            messages += [_who(way, f"u{user}", draw.choice(["free", "pro"])) for user in leaving]
            news = [
                (user, index)
                for user, of_user in rounds.items()
                for index, its_round in enumerate(of_user)
                if its_round == number
            ]
            draw.shuffle(news)
            for user, index in news:
                at = start + timedelta(seconds=20 * index, microseconds=draw.randrange(1_000_000))
                message = _what(way, draw, f"u{user}", at)
                said[message["messageId"]] = _Told(f"u{user}", at, _wanted(names, message))
                messages.append(message)
            told.tell(way.db, *messages, settings=settings, now=way.clock())
            await _faults(way, outcome, _script(draw, way.api, users))
            await _some_work(way, settings, draw, outcome)
            refused |= _parked(way)
            way.clock.move(minutes=draw.choice([0, 1, 3]))
        await _faults(way, outcome, "")
    for _ in range(_LAST_ROUNDS):
        outcome.deleted += (await _work(way, settings)).deleted
        refused |= _parked(way)
        replay_parked.parked(way.db, way.clock(), None, None, None)
        way.clock.move(minutes=12)
        if _is_over(way):
            break
    outcome.calls = len(way.sandbox.state.calls)
    outcome.seconds = time.monotonic() - began
    _compare(way, outcome, said, refused, {f"u{user}" for user in leavers})
    return outcome


def _settings(way: Way, draw: random.Random, names: str) -> Settings:
    people = _PEOPLE.format(picked=draw.choice(['["plan"]', '["plan", "seats"]', "[]"]), most=draw.choice([1, 2, 30]))
    events = f"names = {names}\npass_reserved = {draw.choice(['true', 'false'])}"
    guard = 'max_creates = "unlimited"\nmax_delete_share = 1.0'
    return way.settings(
        events=events, people=people, guard=guard, segments='"Pro" = { attribute = "plan", in = ["pro"] }'
    )


def _who(way: Way, user: str, plan: str) -> dict[str, Any]:
    way.number += 1
    traits = {"plan": plan, "seats": way.number, "email": f"{user}@example.com"}
    return told.message("identify", f"m{way.number}", user=user, traits=traits)


def _what(way: Way, draw: random.Random, user: str, at: datetime) -> dict[str, Any]:
    way.number += 1
    kind = draw.choice(["track", "track", "track", "page", "screen"])
    named: dict[str, Any] = {"properties": {"number": way.number, "url": f"https://example.com/{way.number}"}}
    if kind != "page":
        named["event" if kind == "track" else "name"] = f"Kind {draw.randint(1, 3)}"
    return told.message(kind, f"m{way.number}", user=user, timestamp=at.isoformat(), **named)


def _wanted(names: str, message: dict[str, Any]) -> bool:
    if names == _NAMES[1]:
        return message["type"] == "page" or (message["type"] == "track" and message["event"] in {"Kind 1", "Kind 2"})
    return message["type"] in _TRACKED[names]


def _script(draw: random.Random, api: str, users: int) -> str:
    """What becomes of the next requests."""
    words = ["200"] * 5 + ["500", "cut", "apply-cut", "207"]
    script = draw.choices(words, k=30 if api == "batch" else 3 * users)
    for word in ("429:1", _HANG):
        if draw.random() < 0.4:
            script[draw.randrange(len(script) // 2)] = word
    return ", ".join(script)


async def _faults(way: Way, outcome: Outcome, script: str) -> None:
    """Puts these in place of those before, which are counted."""
    async with aiohttp.ClientSession() as session:
        async with session.get(f"{way.sandbox.url}/sandbox/faults") as response:
            outcome.faults.update((await response.json())["given"])
        async with session.put(f"{way.sandbox.url}/sandbox/faults", json={"script": script}) as response:
            assert response.status == 200, await response.text()


async def _some_work(way: Way, settings: Settings, draw: random.Random, outcome: Outcome) -> None:
    """Several workers one after the other, of whom some are stopped amid their calls."""
    for _ in range(3):
        working = asyncio.create_task(_work(way, settings))
        if draw.random() < 0.3:
            await asyncio.wait([working], timeout=draw.uniform(0.0, 0.5))
            working.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            outcome.deleted += (await working).deleted
        way.clock.move(seconds=20)


async def _work(way: Way, settings: Settings) -> Tally:
    worker = Worker(way.db, way.clock)
    await worker.gate.ask()
    return await way.work(settings, worker)


def _parked(way: Way) -> set[int]:
    query = sa.select(schema.events.c.id).where(schema.EVENT_IS_PARKED)
    return set(way.db.read(lambda c: c.execute(query).scalars().all()))


def _is_over(way: Way) -> bool:
    left = way.db.read(backlog.counts, way.clock())
    return not (left.due or left.waiting or left.parked or left.leased or _parked(way))


def _compare(way: Way, outcome: Outcome, said: dict[str, _Told], refused: set[int], leavers: set[str]) -> None:
    columns = (schema.events.c[name] for name in ("id", "source_id", "activity_id", "outbound"))
    stored = way.db.read(lambda c: c.execute(sa.select(*columns)).all())
    by_id = {row.activity_id: row for row in stored}
    got: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    for each in way.activities():
        got[str(each["customer_id"])].append(each)
    arrived = Counter(each["id"] for of_user in got.values() for each in of_user)
    outcome.parked = len(refused)
    outcome.twice = sum(number - 1 for number in arrived.values())
    for row in stored:
        what = said[row.source_id]
        if row.outbound == "due":
            outcome.unsettled += 1
        if not what.is_wanted:
            outcome.not_wanted += arrived[row.activity_id]
        elif what.user not in leavers:
            outcome.due += 1
            outcome.lost += arrived[row.activity_id] == 0
    outcome.lost += len(said) - len(stored)
    for user, of_user in got.items():
        times = []
        for each in of_user:
            row = by_id[each["id"]]
            what = said[row.source_id]
            outcome.wrong_time += each["timestamp"] != int(what.at.timestamp()) or what.user != user
            if row.id not in refused and user not in leavers:
                times.append(what.at)
        outcome.inversions += sum(later < earlier for earlier, later in pairwise(times))


@contextlib.contextmanager
def _impatient() -> Iterator[None]:
    """Calls time out within a second: the sandbox is on this machine, and nobody wants to wait for its hangs."""
    names = ("_WHOLE_SECONDS", "_HALF_SECONDS", "_LEAST_SECONDS")
    before = {name: getattr(delivery, name) for name in names}
    calls = (TrackClient.identify, TrackClient.delete, TrackClient.event)
    defaults = [dict(call.__kwdefaults__ or {}) for call in calls]
    try:
        for name in names:
            setattr(delivery, name, _TIMEOUT)
        for call, default in zip(calls, defaults, strict=True):
            call.__kwdefaults__ = {**default, "seconds": _TIMEOUT}
        yield
    finally:
        for name, value in before.items():
            setattr(delivery, name, value)
        for call, default in zip(calls, defaults, strict=True):
            call.__kwdefaults__ = default
