"""Files are saved in many ways; none of them is read by halves, and no webhook is refused meanwhile."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import aiohttp

from connector.store import revisions
from connector.store.database import Database
from tests.places import Place, Process, example, post


async def started(place: Place) -> Process:
    return await asyncio.to_thread(Process, place)


async def applied(process: Process, count: int) -> None:
    """Until so many edits were applied."""
    async with asyncio.timeout(30):
        while sum(line.get("event") == "settings_applied" for line in process.lines) < count:
            await asyncio.sleep(0.02)


async def settings_of(session: aiohttp.ClientSession, process: Process) -> dict[str, str]:
    async with session.get(process.admin_url + "/status") as response:
        return dict((await response.json())["settings"])


async def gauge(session: aiohttp.ClientSession, process: Process, name: str) -> str:
    async with session.get(process.admin_url + "/metrics") as response:
        lines = (await response.text()).splitlines()
    return next(line.split()[1] for line in lines if line.startswith(f"{name} "))


def every_of(process: Process) -> list[str]:
    """What each applied edit said of `sync.every`."""
    return [
        word
        for line in process.lines
        if line.get("event") == "settings_applied"
        for word in line["changed"]
        if word.startswith("sync.every")
    ]


def with_every(place: Place, every: str) -> str:
    """The text of the file with this `sync.every` at its end, and a long comment before."""
    place.write(sync='latency = "100ms"')
    text = place.path.read_text()
    return f"{'# a comment' * 500}\n{text}".replace('latency = "100ms"', f'latency = "100ms"\nevery = "{every}"')


async def test_a_file_that_is_written_slowly_is_read_when_it_is_whole(place: Place) -> None:
    text = with_every(place, "7m")
    usable = text.index("[log]")  # what stands before it is a whole file too, of other settings
    with await started(place) as process:
        async with aiohttp.ClientSession() as session:
            with place.path.open("w") as file:
                for number, start in enumerate(range(0, usable, usable // 4 + 1)):
                    file.write(text[start : min(usable, start + usable // 4 + 1)])
                    file.flush()
                    assert (await post(session, process.url, example(f"event {number}")))[0] == 200
                    await asyncio.sleep(0.4)  # longer than a file has to stand still
                file.write(text[usable:])
            await applied(process, 1)
        assert every_of(process) == ['sync.every: "5m" -> "7m"']
        assert [line["event"] for line in process.lines if str(line.get("event")).startswith("settings_")] == [
            "settings_applied"
        ]
        assert process.terminate() == 0


async def test_links_that_are_swapped_as_kubernetes_does_it_are_followed(place: Place) -> None:
    first, second = with_every(place, "6m"), with_every(place, "8m")
    place.path.unlink()
    folder = place.folder
    for name, text in (("one", first), ("two", second)):
        (folder / name).mkdir()
        (folder / name / "settings.toml").write_text(text)
    (folder / "..data").symlink_to("one")
    place.path.symlink_to(Path("..data") / "settings.toml")
    with await started(place) as process:
        (folder / "..tmp").symlink_to("two")
        (folder / "..tmp").replace(folder / "..data")
        await applied(process, 1)
        async with aiohttp.ClientSession() as session:
            assert (await post(session, process.url, example()))[0] == 200
        assert every_of(process) == ['sync.every: "6m" -> "8m"']
        assert process.terminate() == 0


async def test_a_file_that_is_away_is_shown_until_it_is_back(place: Place, db: Database) -> None:
    text = with_every(place, "6m")
    place.path.write_text(text)
    with await started(place) as process:
        async with aiohttp.ClientSession() as session:
            assert await gauge(session, process, "connector_settings_refused") == "0.0"
            place.path.unlink()
            await asyncio.to_thread(process.wait_for, "settings_refused")
            assert (await settings_of(session, process))["state"] == "edit_refused"
            assert await gauge(session, process, "connector_settings_refused") == "1.0"
            assert (await post(session, process.url, example()))[0] == 200
            place.path.write_text(text)
            await asyncio.to_thread(process.wait_for, "settings_mended")
            await applied(process, 1)
            assert (await settings_of(session, process))["state"] == "running"
            assert await gauge(session, process, "connector_settings_refused") == "0.0"
            assert "REFUSED" not in await asyncio.to_thread(place.run, "status")
        assert process.terminate() == 0
    assert [each.state for each in db.read(revisions.history)] == ["applied", "refused", "applied"]


async def test_of_twenty_saves_in_a_second_the_last_one_is_in_force_and_no_webhook_is_refused(
    place: Place, db: Database
) -> None:
    texts = [with_every(place, f"{10 + number}m") for number in range(20)]
    with await started(place) as process:
        async with aiohttp.ClientSession() as session:
            for number, text in enumerate(texts):
                place.path.write_text(text)
                assert (await post(session, process.url, example(f"event {number}")))[0] == 200
                await asyncio.sleep(0.05)
            async with asyncio.timeout(30):
                while not every_of(process) or '-> "29m"' not in every_of(process)[-1]:
                    await asyncio.sleep(0.02)
        assert process.terminate() == 0
    newest = db.read(revisions.newest_applied)
    assert newest is not None
    assert newest.text is not None
    assert 'every = "29m"' in newest.text


async def test_a_hangup_reads_the_file_again_with_the_secrets_it_refers_to(place: Place) -> None:
    secret = place.folder / "key"
    secret.write_text("another key")
    place.write(webhooks=f'signing_keys = ["file:{secret}"]')
    with await started(place) as process:
        async with aiohttp.ClientSession() as session:
            place.write(webhooks=f'signing_keys = ["file:{secret}"]', sync='every = "6m"')
            await applied(process, 1)  # what stood there at the start was looked at before that
            secret.write_text("a signing key")
            assert (await post(session, process.url, example()))[0] == 401, "nothing says that it changed"
            os.kill(process.pid, signal.SIGHUP)
            await applied(process, 2)
            assert (await post(session, process.url, example()))[0] == 200
        applied_lines = [line for line in process.lines if line.get("event") == "settings_applied"]
        assert applied_lines[1]["changed"] == ["webhooks.signing_keys: changed"]
        assert process.terminate() == 0
