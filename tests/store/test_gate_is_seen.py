"""A closed gate is seen in `/status`, `connector status`, `connector check` and the metrics."""

from __future__ import annotations

import typing
from datetime import timedelta
from typing import Any

import aiohttp
import msgspec
import pytest

from connector import app
from connector.admin import status
from connector.commands import check, gate_text, status_text
from connector.core import outage
from connector.store import gate
from connector.store.database import Database
from tests.places import Place
from tests.store.given import NOW, SETTINGS

AGO = NOW - timedelta(minutes=5)


def shown(db: Database) -> list[str]:
    lines = status_text.describe(db.read(status.collect, SETTINGS, NOW), NOW)
    return [line for line in lines if line.startswith("CLOSED")]


async def checked(place: Place) -> list[tuple[str, str]]:
    return [(line.level, line.message) for line in await check.check(place.write().settings()) if line.about == "gate"]


async def scraped(place: Place) -> dict[str, Any]:
    """The status, as JSON, and the metrics, but for reasons that it isn't closed for, of a running connector."""
    async with app.running(place.path, place.write().settings()) as running, aiohttp.ClientSession() as session:
        async with session.get(f"{running.admin_url}/metrics") as response:
            metrics = await response.read()
        async with session.get(f"{running.admin_url}/status") as response:
            found = msgspec.json.encode(msgspec.json.decode(await response.read())["gate"])
    lines = [line.rpartition(" ") for line in metrics.decode().splitlines() if line.startswith("connector_gate_closed")]
    assert sum("_reason{" in name for name, _, _ in lines) == len(typing.get_args(outage.Reason))
    told = {name: float(value) for name, _, value in lines if "_reason{" not in name or float(value)}
    return {"metrics": told, "status": found}


async def test_an_open_gate_is_told_in_few_words(db: Database, place: Place) -> None:
    assert db.read(status.collect, SETTINGS, NOW)["gate"] == {"state": "open", "reason": None, "since": None}
    assert shown(db) == []
    assert await checked(place) == [("ok", "open: nothing keeps calls back")]
    found = await scraped(place)
    assert found["metrics"] == {"connector_gate_closed": 0, "connector_gate_closed_seconds": 0}
    assert found["status"] == b'{"state":"open","reason":null,"since":null}'


async def test_a_closed_one_says_why_since_when_and_what_to_do(db: Database, place: Place) -> None:
    db.write(gate.close, "unauthorized", "Unauthorized request", AGO, 1.0)
    assert db.read(status.collect, SETTINGS, NOW)["gate"] == {"state": "closed", "reason": "unauthorized", "since": AGO}
    remedy = gate_text.remedy("unauthorized")
    assert shown(db) == [f"CLOSED    unauthorized, 5 min ago, nothing is sent: {remedy}"]
    message = f"closed since 2026-03-01 11:55 UTC, nothing is sent: unauthorized (Unauthorized request): {remedy}"
    assert await checked(place) == [("fault", message)]
    found = await scraped(place)
    seconds = found["metrics"].pop("connector_gate_closed_seconds")
    assert seconds == pytest.approx((app.now() - AGO).total_seconds(), abs=60)
    assert found["metrics"] == {"connector_gate_closed": 1, 'connector_gate_closed_reason{reason="unauthorized"}': 1}
    assert found["status"] == b'{"state":"closed","reason":"unauthorized","since":"2026-03-01T11:55:00Z"}'


@pytest.mark.parametrize("reason", typing.get_args(outage.Reason))
def test_every_reason_has_its_remedy(reason: str) -> None:
    assert gate_text.remedy(reason) == gate_text.REMEDIES[reason]


def test_a_reason_of_a_newer_version_has_one_too() -> None:
    assert gate_text.remedy("eclipse") == "it opens by itself once a call is taken"
