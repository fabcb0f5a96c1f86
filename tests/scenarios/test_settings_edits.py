"""An admin edits the settings file while the connector runs."""

from __future__ import annotations

import asyncio
import json

import aiohttp

from tests.places import Give, Place, Process, Sandbox, example, post


async def test_a_valid_edit_takes_effect_and_a_broken_one_is_shown_and_ignored(place: Place) -> None:
    place.write(webhooks="signing_keys = []")
    process = await asyncio.to_thread(Process, place)
    try:
        async with aiohttp.ClientSession() as session:
            assert (await post(session, process.url, example()))[0] == 503
            place.write()
            await asyncio.to_thread(process.wait_for, "settings_applied")
            assert (await post(session, process.url, example()))[0] == 200

            place.path.write_text('[webhooks]\nsigning_keyz = []\n[people]\nsegments = ["Nobody"]\n')
            refused = await asyncio.to_thread(process.wait_for, "settings_refused")
            assert any("signing_keys" in fault for fault in refused["faults"])
            assert (await post(session, process.url, example("another")))[0] == 200
            async with session.get(process.admin_url + "/status") as response:
                settings = (await response.json())["settings"]
            assert settings["state"] == "edit_refused"
            assert "line 2" in settings["reason"]
            assert "line 4" in settings["reason"]
    finally:
        assert process.terminate() == 0


async def test_an_edit_of_the_segments_changes_who_is_at_customerio(place: Place, sandbox: Sandbox, give: Give) -> None:
    place.track_url = sandbox.url
    segments = '"Pro" = { attribute = "plan", is = "pro" }\n"All" = { everyone = true }'
    place.write(people='segments = ["Pro"]', segments=segments)
    give(
        place.settings(),
        {"external_id": "u1", "email": "u1@example.com", "plan": "pro"},
        {"external_id": "u2", "email": "u2@example.com", "plan": "free"},
    )
    process = await asyncio.to_thread(Process, place)
    try:
        await people(sandbox, {"u1"})
        place.write(people='segments = ["Pro", "All"]\nattributes = ["plan"]', segments=segments)
        await people(sandbox, {"u1", "u2"})
        await until(lambda: sandbox.people()["u1"].get("plan") == "pro")
    finally:
        assert process.terminate() == 0
    assert json.loads(place.run("status", "--json"))["stored"]["people"] == 2


async def people(sandbox: Sandbox, ids: set[str]) -> None:
    await until(lambda: set(sandbox.people()) == ids)


async def until(condition: object) -> None:
    """Waits for a condition of the sandbox, which lives in this process's event loop."""
    assert callable(condition)
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.02)


async def test_what_is_odd_about_settings_is_logged_at_the_start_and_after_an_edit(place: Place) -> None:
    long = {letter: f'"{letter * 600}" = {{ everyone = true }}' for letter in "abc"}
    place.write(segments="\n".join((long["a"], long["b"])))
    process = await asyncio.to_thread(Process, place)
    try:
        remark = await asyncio.to_thread(process.wait_for, "settings_remark")
        assert (remark["reason"], remark["level"]) == ("segments_too_long", "warning")
        assert "1,207 bytes" in remark["what"]
        place.write(segments=long["a"])
        await asyncio.to_thread(process.wait_for, "settings_applied")
        remarks = [line for line in process.lines if line.get("event") == "settings_remark"]
        assert remarks == [remark], "an edit that mends it gets none"
        process.lines.clear()
        place.write(segments="\n".join(long.values()))
        again = await asyncio.to_thread(process.wait_for, "settings_remark")
        assert "1,810 bytes" in again["what"]
        async with aiohttp.ClientSession() as session, session.get(process.admin_url + "/status") as response:
            (shown,) = (await response.json())["settings"]["remarks"]
        assert shown == {"reason": "segments_too_long", "message": again["what"]}
    finally:
        assert process.terminate() == 0
