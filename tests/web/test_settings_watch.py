"""The settings file while it is watched: edits as editors, people and mounts make them, on a real file."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from connector import settings_file
from connector.errors import Misconfigured
from connector.settings import Settings

# An edit is told well within this; nothing waits for it to pass.
SOON = 20


class Watched:
    """A settings file under watch, and what was told about it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.stop = asyncio.Event()
        self.told: asyncio.Queue[Settings | Misconfigured] = asyncio.Queue()
        # Changes count from here.
        self._changes = settings_file.watch(path, self.stop, {})

    async def follow(self) -> None:
        async with contextlib.aclosing(self._changes):
            async for outcome in self._changes:
                self.told.put_nowait(outcome)

    async def next(self) -> Settings | Misconfigured:
        async with asyncio.timeout(SOON):
            return await self.told.get()

    async def next_port(self) -> int:
        outcome = await self.next()
        assert isinstance(outcome, Settings), outcome
        return outcome.server.port


@pytest.fixture
async def watched(tmp_path: Path) -> AsyncIterator[Watched]:
    path = tmp_path / "settings.toml"
    path.write_text(with_port(1))
    watched = Watched(path)
    task = asyncio.create_task(watched.follow())
    yield watched
    watched.stop.set()
    async with asyncio.timeout(SOON):
        await task


def with_port(port: int) -> str:
    return f"[server]\nport = {port}\n"


async def test_an_edit_in_place_is_told(watched: Watched) -> None:
    watched.path.write_text(with_port(2))
    assert await watched.next_port() == 2

    watched.path.write_text(with_port(3))
    assert await watched.next_port() == 3


async def test_files_renamed_over_it_are_told_again_and_again(watched: Watched) -> None:
    for port in (2, 3, 4):
        new = watched.path.with_suffix(".new")
        new.write_text(with_port(port))
        new.replace(watched.path)
        assert await watched.next_port() == port


async def test_a_deleted_file_is_told_and_so_is_its_return(watched: Watched) -> None:
    watched.path.unlink()
    gone = await watched.next()
    assert isinstance(gone, Misconfigured)
    assert "There is no settings file" in str(gone)

    watched.path.write_text(with_port(1))
    assert await watched.next_port() == 1


async def test_a_broken_edit_is_told_with_its_line_and_so_is_the_mended_one(watched: Watched) -> None:
    watched.path.write_text('[server]\nport = "x"\n')
    broken = await watched.next()
    assert isinstance(broken, Misconfigured)
    assert [(fault.path, fault.line) for fault in broken.faults] == [("server.port", 2)]

    watched.path.write_text(with_port(1))
    assert await watched.next_port() == 1


async def test_a_save_that_changes_nothing_is_not_told(watched: Watched) -> None:
    watched.path.write_text(with_port(1))
    os.utime(watched.path)
    (watched.path.parent / "other.toml").write_text(with_port(9))
    watched.path.write_text(with_port(2))

    assert await watched.next_port() == 2
    assert watched.told.empty()


async def test_of_many_quick_saves_the_last_one_wins(watched: Watched) -> None:
    for port in range(2, 50):
        watched.path.write_text(with_port(port))

    assert await watched.next_port() == 49
    assert watched.told.empty()


async def test_a_save_that_is_still_being_written_is_waited_for(watched: Watched) -> None:
    whole = with_port(2) + '[log]\nlevel = "debug"\n'
    with watched.path.open("w") as file:
        for character in whole:
            file.write(character)
            file.flush()
            await asyncio.sleep(0.01)

    outcome = await watched.next()
    assert isinstance(outcome, Settings)
    assert (outcome.server.port, outcome.log.level) == (2, "debug")


async def test_a_changed_dot_env_is_told(watched: Watched) -> None:
    env = watched.path.parent / ".env"
    env.write_text("TOKEN=one\n")
    assert await watched.next_port() == 1

    watched.path.write_text('[admin]\ntoken = "env:TOKEN"\n')
    first = await watched.next()
    env.write_text("TOKEN=two\n")
    second = await watched.next()

    assert isinstance(first, Settings)
    assert isinstance(second, Settings)
    assert [first.admin.token.get_secret_value(), second.admin.token.get_secret_value()] == ["one", "two"]


async def test_a_swapped_link_to_a_folder_is_told(tmp_path: Path) -> None:
    """As Kubernetes mounts a config map: settings.toml -> ..data/settings.toml, ..data -> a folder a revision."""
    for port in (1, 2, 3):
        revision = tmp_path / f"..{port}"
        revision.mkdir()
        (revision / "settings.toml").write_text(with_port(port))
    (tmp_path / "..data").symlink_to("..1")
    path = tmp_path / "settings.toml"
    path.symlink_to("..data/settings.toml")
    watched = Watched(path)
    task = asyncio.create_task(watched.follow())

    for port in (2, 3):
        (tmp_path / "..new").symlink_to(f"..{port}")
        (tmp_path / "..new").replace(tmp_path / "..data")
        assert await watched.next_port() == port

    (tmp_path / "..3" / "settings.toml").write_text(with_port(4))
    assert await watched.next_port() == 4
    watched.stop.set()
    await task


async def test_a_folder_that_is_away_for_a_while_is_found_again(watched: Watched) -> None:
    folder = watched.path.parent
    away = folder.with_name(folder.name + "-away")
    folder.rename(away)
    assert isinstance(await watched.next(), Misconfigured)

    (away / "settings.toml").write_text(with_port(5))
    away.rename(folder)
    assert await watched.next_port() == 5


async def test_an_edit_between_the_call_and_the_first_look_is_told(tmp_path: Path) -> None:
    path = tmp_path / "settings.toml"
    path.write_text(with_port(1))
    stop = asyncio.Event()
    changes = settings_file.watch(path, stop, {})
    path.write_text(with_port(2))

    async with asyncio.timeout(SOON), contextlib.aclosing(changes):
        outcome = await anext(changes)

    assert isinstance(outcome, Settings)
    assert outcome.server.port == 2


async def test_cancelling_the_watch_does_not_stop_anything_else(tmp_path: Path) -> None:
    path = tmp_path / "settings.toml"
    path.write_text(with_port(1))
    watched = Watched(path)
    task = asyncio.create_task(watched.follow())
    path.write_text(with_port(2))
    await watched.next()

    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task

    assert not watched.stop.is_set()
