"""`/metrics` of what goes out: decisions and calls of this process, and how the store stands at the moment."""

from __future__ import annotations

from datetime import timedelta

import aiohttp
import pytest
import sqlalchemy as sa

from connector import app
from connector.metrics import Lately, Metrics
from connector.store import backlog, held, leases, pending, schema
from connector.store.database import Database
from tests.places import Place
from tests.store import given

HOUR = timedelta(hours=1)
PARK = (
    sa.update(schema.pending)
    .where(schema.pending.c.user_id == sa.bindparam("who"))
    .values(parked_at=sa.bindparam("at", type_=schema.pending.c.parked_at.type), reason="refused")
)


async def scraped(connector: app.Running) -> dict[str, float]:
    """The samples of what goes out, by name and labels."""
    async with aiohttp.ClientSession() as session, session.get(f"{connector.admin_url}/metrics") as response:
        assert response.status == 200
        text = await response.text()
    lines = [line.rpartition(" ") for line in text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in lines}


def test_decisions_are_counted_by_verb_and_reason() -> None:
    metrics = Metrics()
    metrics.decided({("create", "entered"): 2, ("skip", "no_email"): 1})
    metrics.decided({("create", "entered"): 3})
    metrics.calls.inc(7)
    name, labels = "connector_decisions_total", {"verb": "create", "reason": "entered"}
    assert metrics.registry.get_sample_value(name, labels) == 5
    assert metrics.registry.get_sample_value(name, {"verb": "skip", "reason": "no_email"}) == 1
    assert metrics.registry.get_sample_value("connector_calls_total") == 7


def test_calls_a_second_are_those_of_the_last_minute_and_of_less_after_a_start() -> None:
    at = 1000.0
    lately = Lately(lambda: at)
    assert lately.per_second() == 0
    lately.add(30)
    at += 10
    assert lately.per_second() == 3
    lately.add(30)
    at += 49.5
    lately.add(60)
    assert lately.per_second() == pytest.approx(120 / 59.5)
    at += 2
    assert lately.per_second() == pytest.approx(90 / 60)
    at += 3600
    assert lately.per_second() == 0


def test_calls_are_counted_and_so_is_their_rate() -> None:
    metrics = Metrics()
    metrics.called(7)
    assert metrics.registry.get_sample_value("connector_calls_total") == 7
    assert metrics.calls_lately.per_second() > 0


async def test_the_backlog_people_and_who_is_held_are_as_the_store_has_them(db: Database, place: Place) -> None:
    now = app.now()
    ids = [f"U{number}" for number in range(7)]
    given.have(db, *(given.user(user_id) for user_id in ids))
    given.sent(db, given.person("U0"), given.person("U1"), given.person("U2", deleted_at=now))
    db.write(pending.mark, ids[:1], now - 2 * HOUR, pending.CHANGED)
    db.write(leases.claim, "a worker", now, now + HOUR, 1)
    db.write(pending.mark, ids[1:4], now - HOUR, pending.CHANGED)
    db.write(pending.mark, ids[4:5], now + HOUR, pending.CHANGED)
    db.write(pending.mark, ids[6:], now, pending.CHANGED)
    db.write(lambda connection: connection.execute(PARK, {"who": "U6", "at": now}))
    db.write(held.enter, held.CREATE, ["U5"], 1)
    reason = "max_creates"
    db.write(held.open_hold, hold_id=1, what=held.CREATE, reason=reason, count=1, allowed=0, settings_hash="", now=now)
    place.write()
    async with app.running(place.path, place.settings()) as running:
        found = await scraped(running)
    assert found["connector_people"] == 2
    states = ("due", "waiting", "leased", "parked")
    backlog = {state: found[f'connector_backlog{{state="{state}"}}'] for state in states}
    assert backlog == {"due": 3, "waiting": 1, "leased": 1, "parked": 1}
    guarded = {what: found[f'connector_held{{what="{what}"}}'] for what in ("create", "delete", "rename")}
    assert guarded == {"create": 1, "delete": 0, "rename": 0}
    assert found["connector_oldest_due_seconds"] == pytest.approx(3600, abs=60)


async def test_nobody_is_overdue_while_all_wait_for_a_later_moment(db: Database, place: Place) -> None:
    given.have(db, given.user("U1"))
    db.write(pending.mark, ["U1"], app.now() + HOUR, pending.CHANGED)
    place.write()
    async with app.running(place.path, place.settings()) as running:
        assert (await scraped(running))["connector_oldest_due_seconds"] == 0


async def test_while_the_store_cannot_be_reached_the_rest_is_still_told(
    db: Database, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.write()
    async with app.running(place.path, place.settings()) as running:
        before = await scraped(running)
        assert before["connector_people"] == 0

        def fail(*_arguments: object) -> None:
            raise sa.exc.OperationalError("SELECT", {}, Exception("gone"))

        monkeypatch.setattr(backlog, "counts", fail)
        found = await scraped(running)
        assert found["connector_connections"] >= 0
        for name in (
            "connector_people",
            'connector_backlog{state="due"}',
            'connector_held{what="delete"}',
            "connector_gate_closed_seconds",
            'connector_gate_closed_reason{reason="server_errors"}',
        ):
            assert found[name] != found[name], f"{name} is not known"
