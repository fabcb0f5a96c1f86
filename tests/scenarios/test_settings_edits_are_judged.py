"""An edit that would do more than the guard allows is held, and goes when somebody approves it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import aiohttp
import pytest

from connector.store import facts, revisions
from connector.store.database import Database
from tests.places import Give, Place, Process, Sandbox, example, post

SEGMENTS = '"Pro" = { attribute = "plan", is = "pro" }\n"All" = { everyone = true }'
PRO = {"people": 'segments = ["Pro"]', "segments": SEGMENTS, "guard": "max_creates = 2"}
ALL = {**PRO, "people": 'segments = ["Pro", "All"]'}


@pytest.fixture
def full(place: Place, sandbox: Sandbox, give: Give) -> Place:
    """One user who pays and five who don't."""
    place.track_url = sandbox.url
    place.write(**PRO)
    people = [{"external_id": f"u{n}", "email": f"u{n}@example.com", "number": n} for n in range(6)]
    give(place.settings(), *(person | {"plan": "free" if person["number"] else "pro"} for person in people))
    return place


async def started(place: Place) -> Process:
    return await asyncio.to_thread(Process, place)


async def until(condition: Callable[[], bool], process: Process) -> None:
    try:
        async with asyncio.timeout(20):
            while not condition():
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(process.lines) from None


async def waited(process: Process, event: str, count: int = 1) -> dict[str, Any]:
    """The line, when there are so many of the event."""

    def lines() -> list[dict[str, Any]]:
        return [line for line in process.lines if line.get("event") == event]

    await until(lambda: len(lines()) >= count, process)
    return lines()[count - 1]


async def state(process: Process) -> dict[str, Any]:
    async with aiohttp.ClientSession() as session, session.get(process.admin_url + "/status") as response:
        return dict((await response.json())["settings"])


async def test_mass_creates_are_held_until_they_are_approved_and_not_again_by_the_pass(
    full: Place, sandbox: Sandbox, db: Database
) -> None:
    with await started(full) as process:
        await until(lambda: set(sandbox.people()) == {"u0"}, process)
        before = full.settings().sent_hash()
        full.write(**ALL, sync='latency = "90ms"')
        held = await waited(process, "settings_held")
        assert held["next"] == f"connector approve {full.settings().sent_hash()}"
        assert "5 users who were here before would be created" in held["reason"]
        found = await state(process)
        assert (found["state"], found["hash"], found["revision"]) == ("edit_held", before, 1)
        assert held["next"] in found["reason"]
        said = await asyncio.to_thread(full.run, "status")
        assert "HELD" in said
        assert held["next"] in said
        assert held["next"] in await asyncio.to_thread(full.run, "approve")
        async with aiohttp.ClientSession() as session:
            assert (await post(session, process.url, example()))[0] == 200
            async with session.get(process.admin_url + "/metrics") as response:
                measured = await response.text()
        assert 'connector_settings_revision{which="in_force"} 1.0' in measured
        assert 'connector_settings_revision{which="waited_for"} 2.0' in measured
        await asyncio.sleep(1)
        assert set(sandbox.people()) == {"u0"}

        await asyncio.to_thread(full.run, "approve", full.settings().sent_hash())
        await waited(process, "settings_applied")
        await until(lambda: len(sandbox.people()) == 6, process)
        assert (await state(process))["state"] == "running"
        assert json.loads(await asyncio.to_thread(full.run, "approve", "--json")) == []
        assert process.terminate() == 0
    newest = db.read(revisions.newest_applied)
    assert newest is not None
    assert (newest.number, newest.reason, newest.hash) == (2, "approved", full.settings().sent_hash())
    with await started(full) as process:
        assert (await state(process))["state"] == "running"
        assert process.terminate() == 0


async def test_an_edit_back_clears_what_is_held(full: Place, sandbox: Sandbox, db: Database) -> None:
    with await started(full) as process:
        await until(lambda: set(sandbox.people()) == {"u0"}, process)
        full.write(**ALL)
        await waited(process, "settings_held")
        full.write(**PRO)
        await waited(process, "settings_applied")
        assert (await state(process))["state"] == "running"
        assert json.loads(await asyncio.to_thread(full.run, "approve", "--json")) == []
        assert process.terminate() == 0
    assert [each.state for each in db.read(revisions.history)] == ["applied", "held", "applied"]
    assert set(sandbox.people()) == {"u0"}


async def test_a_guard_that_is_lifted_in_the_same_edit_does_not_count_for_it(full: Place, sandbox: Sandbox) -> None:
    with await started(full) as process:
        await until(lambda: set(sandbox.people()) == {"u0"}, process)
        full.write(**{**ALL, "guard": 'max_creates = "unlimited"'})
        await waited(process, "settings_held")
        full.write(**{**PRO, "guard": 'max_creates = "unlimited"'})
        await waited(process, "settings_applied")
        full.write(**{**ALL, "guard": 'max_creates = "unlimited"'})
        await waited(process, "settings_applied", 2)
        await until(lambda: len(sandbox.people()) == 6, process)
        assert process.terminate() == 0


async def test_the_rest_of_an_edit_that_is_held_is_in_force(full: Place, sandbox: Sandbox) -> None:
    full.write(**PRO, webhooks="signing_keys = []")
    with await started(full) as process:
        async with aiohttp.ClientSession() as session:
            assert (await post(session, process.url, example()))[0] == 503
            full.write(**ALL)
            await waited(process, "settings_held")
            assert (await post(session, process.url, example()))[0] == 200
        assert process.terminate() == 0
    assert set(sandbox.people()) <= {"u0"}


async def test_another_id_for_everybody_is_held_and_approved_as_one(
    full: Place, sandbox: Sandbox, db: Database
) -> None:
    with await started(full) as process:
        await until(lambda: set(sandbox.people()) == {"u0"}, process)
        full.write(**{**PRO, "people": 'segments = ["Pro"]\ncustomer_id = "number"'})
        held = await waited(process, "settings_held")
        assert "would get another id" in held["reason"]
        await asyncio.to_thread(full.run, "approve", full.settings().sent_hash())
        await waited(process, "let_go")
        assert process.terminate() == 0
    assert full.run("approve") == "nothing is held\n"
    seen = db.read(facts.seen)
    assert seen is not None
    assert seen.customer_id == ("number",)


async def test_deletes_are_held_and_approved(full: Place, sandbox: Sandbox) -> None:
    delete = {"people.delete": 'enabled = true\ngrace = "1s"', "guard": "max_deletes = 2\nmax_creates = 10"}
    full.write(**{**ALL, **delete})
    with await started(full) as process:
        await until(lambda: len(sandbox.people()) == 6, process)
        full.write(**{**PRO, **delete})
        held = await waited(process, "settings_held")
        assert "5 people left every whitelisted segment" in held["reason"]
        await asyncio.to_thread(full.run, "approve", full.settings().sent_hash())
        await until(lambda: set(sandbox.people()) == {"u0"}, process)
        assert process.terminate() == 0


async def test_a_file_that_changed_before_the_start_is_judged_like_an_edit(full: Place, sandbox: Sandbox) -> None:
    with await started(full) as process:
        await until(lambda: set(sandbox.people()) == {"u0"}, process)
        assert process.terminate() == 0
    full.write(**ALL)
    with await started(full) as process:
        await waited(process, "settings_held")
        await asyncio.sleep(0.5)
        assert set(sandbox.people()) == {"u0"}
        full.write(**PRO, log='format = "json"\nlevel = "info"\npersonal_data = true')
        await waited(process, "settings_applied")
        assert process.terminate() == 0


async def test_while_it_is_paused_all_is_decided_and_nothing_is_sent(full: Place, sandbox: Sandbox) -> None:
    full.write(**PRO, sync="paused = true")
    with await started(full) as process:

        def has_passed() -> bool:
            return bool(json.loads(full.run("status", "--json"))["runs"])

        await until(has_passed, process)
        await asyncio.sleep(0.5)
        found = await state(process)
        assert (found["state"], found["reason"]) == ("paused", "sync.paused is true: nothing is sent")
        assert sandbox.people() == {}
        full.write(**PRO)
        await until(lambda: set(sandbox.people()) == {"u0"}, process)
        assert process.terminate() == 0


@pytest.mark.parametrize("store_kind", ["postgresql"], indirect=True)  # on SQLite one process sends, by the newest file
async def test_a_process_with_superseded_settings_receives_and_sends_nothing(
    full: Place, sandbox: Sandbox, give: Give, db: Database
) -> None:
    with await started(full) as process:
        await until(lambda: set(sandbox.people()) == {"u0"}, process)
        full.write(**{**PRO, "people": 'segments = ["Pro"]\nattributes = ["plan"]'})
        await waited(process, "settings_applied")
        await until(lambda: sandbox.people()["u0"].get("plan") == "pro", process)
        assert process.terminate() == 0
    full.write(**PRO)
    with await started(full) as process:
        assert (await waited(process, "settings_superseded"))["waits_for"] == 2
        found = await state(process)
        assert found["state"] == "superseded"
        assert "revision 2" in found["reason"]
        give(full.settings(), {"external_id": "new", "email": "new@example.com", "plan": "pro"})
        async with aiohttp.ClientSession() as session:
            assert (await post(session, process.url, example()))[0] == 200
        await asyncio.sleep(1)
        assert set(sandbox.people()) == {"u0"}
        full.path.write_text(full.path.read_text() + "# and it is meant\n")
        await until(lambda: set(sandbox.people()) == {"u0", "new"}, process)
        assert (await state(process))["state"] == "running"
        assert process.terminate() == 0


async def test_sync_goes_by_the_settings_before_an_edit_that_is_held(full: Place, sandbox: Sandbox) -> None:
    assert "1 created" in await asyncio.to_thread(full.run, "sync")
    full.write(**ALL)
    said = await asyncio.to_thread(full.run, "sync", exit_status=3)
    assert f"connector approve {full.settings().sent_hash()}" in said
    assert set(sandbox.people()) == {"u0"}
    await asyncio.to_thread(full.run, "approve", full.settings().sent_hash())
    assert "5 created" in await asyncio.to_thread(full.run, "sync")
    full.write(**{**PRO, "guard": "max_creates = 3"}, sync="paused = true")
    assert "nothing was sent, 6 wait" in await asyncio.to_thread(full.run, "sync")
