"""`connector tail` beside a running connector: what happens is told as it happens, and Ctrl-C ends it."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import sqlalchemy as sa

from connector.store.database import Database
from tests import places
from tests.places import Place, Process, Sandbox

EVERYBODY = {"people": 'segments = ["All"]', "segments": '"All" = { everyone = true }'}


def watching(place: Place, *options: str) -> subprocess.Popen[str]:
    """Returns once it watches."""
    command = [sys.executable, "-m", "connector", "--settings", str(place.path), "tail", "--every", "0.1", *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    assert "watching" in process.stderr.readline()
    return process


def until(process: subprocess.Popen[str], *wanted: Callable[[dict[str, Any]], bool]) -> list[dict[str, Any]]:
    """The lines until all that was wanted was there."""
    assert process.stdout is not None
    lines: list[dict[str, Any]] = []
    left = list(wanted)
    while left:
        line = process.stdout.readline()
        assert line, process.stderr.read() if process.stderr is not None else ""
        lines.append(json.loads(line))
        left = [each for each in left if not each(lines[-1])]
    return lines


def end(process: subprocess.Popen[str]) -> tuple[str, str]:
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    assert "Traceback" not in err
    return out, err


async def test_a_webhook_and_a_person_are_told_as_they_come_and_go(
    place: Place, sandbox: Sandbox, tmp_path: Path
) -> None:
    place.track_url = sandbox.url
    place.more = EVERYBODY
    place.write(log='format = "json"\npersonal_data = true')
    with Process(place) as connector:
        process = await asyncio.to_thread(watching, place, "--json")
        rows = tmp_path / "rows.jsonl"
        rows.write_text('{"external_id": "42", "email": "ann@example.com"}\n')
        await asyncio.to_thread(place.run, "import", "users", str(rows))
        async with aiohttp.ClientSession() as session:
            assert (await places.post(session, connector.url, places.example()))[0] == 200
        lines = await asyncio.to_thread(
            until,
            process,
            lambda line: line["what"] == "webhook" and line["kind"] == "email.opened",
            lambda line: line["what"] == "event" and line["name"] == "Email Opened",
            lambda line: line["what"] == "create" and line["customer_id"] == "42",
            lambda line: line["what"] == "decided" and line["decision"] == "create",
        )
        assert len([line for line in lines if line["what"] == "webhook"]) == 1
        await asyncio.to_thread(end, process)
        assert await asyncio.to_thread(connector.terminate) == 0


def test_without_personal_data_in_logs_it_shows_none(place: Place, sandbox: Sandbox) -> None:
    place.write().run("migrate")
    process = watching(place)
    rows = place.folder / "rows.jsonl"
    rows.write_text('{"external_id": "canary-42", "name": "Bought\\u001b[2J", "occurred_at": "2026-01-01T00:00:00Z"}\n')
    place.run("import", "events", str(rows))
    assert process.stdout is not None
    line = process.stdout.readline()
    assert " event " in line
    assert 'name="Bought\\u001b[2J"' in line
    out, err = end(process)
    assert "canary" not in line + out + err


@pytest.mark.parametrize("store_kind", ["postgresql"])
def test_it_goes_on_while_the_file_is_broken_and_after_the_store_was_away(place: Place, db: Database) -> None:
    place.path.write_text(f'[store]\nurl = "{place.store_url}"\n[people\n')
    assert "stored    0 users" in place.run("status")
    command = [sys.executable, "-m", "connector", "--settings", str(place.path), "tail", "--every", "0.05"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    told = iter(process.stderr.readline, "")
    assert "can't be used, 1 fault" in next(told)
    assert any("watching" in line for line in told)
    db.write(lambda c: c.execute(sa.text("ALTER TABLE inbox RENAME TO gone")))
    assert "the store can't be asked (UndefinedTable); trying again" in next(told)
    db.write(lambda c: c.execute(sa.text("ALTER TABLE gone RENAME TO inbox")))
    assert "the store answers again" in next(told)
    end(process)
