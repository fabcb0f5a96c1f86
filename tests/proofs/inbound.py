"""Nothing acknowledged is lost: repeated and shuffled webhooks, and a connector that keeps being killed.

    connector sandbox --(webhooks over many connections)--> connector run --(kill -9 at random moments)--> started again

Afterwards what the sandbox had answered with 200 is held against the events in the store.
"""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from connector.store import schema
from connector.store.database import Database
from tests.places import KEY, Place, Process
from tests.sandbox_process import Sandbox

_CONNECTIONS = 32
_RETRY_SECONDS = 0.05
_POLL_SECONDS = 0.02
_PAGE = 10_000
_PATIENCE_SECONDS = 600


@dataclass
class Outcome:
    """What was sent and what became of it; all but the first four numbers must be 0."""

    webhooks: int
    answers: int
    kills: int
    seconds: float
    lost: int = 0
    twice: int = 0
    wrong_time: int = 0
    never_sent: int = 0
    unread: int = 0

    @property
    def holds(self) -> bool:
        return not (self.lost or self.twice or self.wrong_time or self.never_sent or self.unread)

    def __str__(self) -> str:
        return (
            f"{self.webhooks:,} webhooks, {self.answers:,} answers 200, {self.kills} kill -9, {self.seconds:.0f} s: "
            f"{self.lost} lost, {self.twice} twice, {self.wrong_time} at a wrong time, {self.never_sent} never sent, "
            f"{self.unread} unread"
        )


def prove(place: Place, webhooks: int, kills: int, seed: int) -> Outcome:
    """Sends so many webhooks and a fifth of them again; kills the connector at moments that the seed draws."""
    place.write(server=f"port = {_free_port()}")
    began = time.monotonic()
    connector = Process(place)
    sandbox: Sandbox | None = None
    try:
        sandbox = Sandbox("--webhook-url", f"{connector.url}/webhooks/customerio", "--signing-key", KEY)
        load = {
            "count": webhooks,
            "duplicates": 0.2,
            "shuffled": True,
            "connections": _CONNECTIONS,
            "retry_seconds": _RETRY_SECONDS,
            "seed": seed,
        }
        status, answer = sandbox.call("POST", "/sandbox/webhooks", load)
        assert status == 202, answer
        moments = random.Random(seed).sample(range(webhooks // 50, webhooks), kills)
        for moment in sorted(moments):
            _wait(lambda moment=moment: _status(sandbox)["acknowledged"] >= moment, "webhooks are acknowledged")
            connector.kill()
            connector = Process(place)
        _wait(lambda: _status(sandbox)["mixes_under_way"] == 0, "all webhooks are acknowledged")
        acknowledged = list(_acknowledged(sandbox))
        outcome = _judge(place, acknowledged, kills)
    finally:
        if sandbox is not None:
            sandbox.kill()
        connector.terminate()
    outcome.seconds = time.monotonic() - began
    return outcome


def _judge(place: Place, acknowledged: list[dict[str, Any]], kills: int) -> Outcome:
    sent = {each["event_id"]: each["timestamp"] for each in acknowledged}
    outcome = Outcome(len(sent), len(acknowledged), kills, 0)
    db = Database(place.store_url)
    try:
        _wait(lambda: not db.read(_count, schema.inbox.c.state == "new"), "all webhooks are read")
        outcome.unread = db.read(_count, schema.inbox.c.state == "unread")
        found = db.read(_events)
    finally:
        db.close()
    times = dict(found)
    outcome.lost = len(sent.keys() - times.keys())
    outcome.never_sent = len(times.keys() - sent.keys())
    outcome.twice = len(found) - len(times)
    outcome.wrong_time = sum(
        times[event_id] != datetime.fromtimestamp(timestamp, UTC)
        for event_id, timestamp in sent.items()
        if event_id in times
    )
    return outcome


def _acknowledged(sandbox: Sandbox) -> Iterator[dict[str, Any]]:
    path = "/sandbox/webhooks/acknowledged"
    page = sandbox.get(f"{path}?limit={_PAGE}")
    while page:
        yield from page
        page = sandbox.get(f"{path}?limit={_PAGE}&after={page[-1]['number']}")


def _status(sandbox: Sandbox) -> dict[str, Any]:
    found: dict[str, Any] = sandbox.get("/sandbox/webhooks")
    assert not found["failures"], found["failures"]
    return found


def _count(connection: sa.Connection, condition: sa.ColumnElement[bool]) -> int:
    return connection.execute(sa.select(sa.func.count()).select_from(schema.inbox).where(condition)).scalar_one()


def _events(connection: sa.Connection) -> list[tuple[str, datetime]]:
    return [tuple(row) for row in connection.execute(sa.select(schema.events.c.source_id, schema.events.c.occurred_at))]


def _wait(until: Any, what: str) -> None:
    latest = time.monotonic() + _PATIENCE_SECONDS
    while not until():
        assert time.monotonic() < latest, f"waited {_PATIENCE_SECONDS} s until {what}"
        time.sleep(_POLL_SECONDS)


def _free_port() -> int:
    """A port that nobody has now; the connector takes it again after each kill."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])
