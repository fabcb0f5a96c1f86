"""The settings file while it is watched: edits as editors, people and mounts make them, on a real file."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from connector.errors import Misconfigured
from connector.settings import Settings
from connector.settings_file import whole
from connector.watching import noticing

# An edit is told well within this; nothing waits for it to pass.
SOON = 20


class Watched:
    """A settings file under watch, and what was told about it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.stop, self.asked = asyncio.Event(), asyncio.Event()
        self.told: asyncio.Queue[Settings | Misconfigured] = asyncio.Queue()

    async def follow(self) -> None:
        async with contextlib.aclosing(noticing.watch(self.path, self.stop, self.asked, {})) as changes:
            async for outcome in changes:
                self.told.put_nowait(outcome if isinstance(outcome, Misconfigured) else outcome.settings)

    async def next(self) -> Settings | Misconfigured:
        async with asyncio.timeout(SOON):
            return await self.told.get()

    async def next_port(self) -> int:
        outcome = await self.next()
        assert isinstance(outcome, Settings), outcome
        return outcome.server.port

    async def tells_nothing(self, seconds: float) -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(self.told.get(), seconds)


@contextlib.asynccontextmanager
async def watching(path: Path) -> AsyncIterator[Watched]:
    """From when it has told what the file says at first."""
    watched = Watched(path)
    task = asyncio.create_task(watched.follow())
    assert await watched.next_port() == 1
    yield watched
    watched.stop.set()
    async with asyncio.timeout(SOON):
        await task


@pytest.fixture
async def watched(tmp_path: Path) -> AsyncIterator[Watched]:
    path = tmp_path / "settings.toml"
    path.write_text(with_port(1))
    async with watching(path) as watched:
        yield watched


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


@pytest.mark.parametrize("mode", ["w", "a"])
async def test_a_file_that_somebody_has_open_for_writing_is_never_read_by_halves(watched: Watched, mode: str) -> None:
    level = '[log]\nlevel = "debug"\n'
    with watched.path.open(mode) as file:
        file.write(with_port(2) if mode == "w" else level)
        file.flush()
        await watched.tells_nothing(seconds=1)  # twice what a save takes that is done
        file.write(level if mode == "w" else '[sync]\nlatency = "2s"\n')

    outcome = await watched.next()
    assert isinstance(outcome, Settings)
    assert outcome.log.level == "debug"
    assert (outcome.server.port, outcome.sync.latency.total_seconds()) == ((2, 1) if mode == "w" else (1, 2))
    assert watched.told.empty()


async def test_a_dot_env_that_somebody_has_open_for_writing_is_waited_for_too(watched: Watched) -> None:
    watched.path.write_text('[admin]\ntoken = "env:TOKEN"\n')
    assert isinstance(await watched.next(), Misconfigured)
    with (watched.path.parent / ".env").open("w") as file:
        file.write("TOKEN=hal")
        file.flush()
        await watched.tells_nothing(seconds=1)
        file.write("f a key\n")

    outcome = await watched.next()
    assert isinstance(outcome, Settings)
    assert outcome.admin.token.get_secret_value() == "half a key"


async def test_a_file_that_stays_open_is_a_fault_until_it_is_closed(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(whole, "PATIENCE_SECONDS", 0.6)
    with watched.path.open("r+") as file:
        file.write(with_port(2))
        file.flush()
        fault = await watched.next()
        assert isinstance(fault, whole.StillOpen)
        assert "still_open" in str(fault)
        await watched.tells_nothing(seconds=1)  # once is enough
        file.seek(0)
        file.write(with_port(1))

    assert await watched.next_port() == 1


async def test_where_nobody_can_tell_who_writes_a_file_has_to_stand_still_for_longer(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(fcntl, "F_SETLEASE")  # as on macOS
    with watched.path.open("w") as file:
        file.write(with_port(2))
        file.flush()
        await watched.tells_nothing(seconds=1)
        file.write('[log]\nlevel = "debug"\n')

    outcome = await watched.next()
    assert isinstance(outcome, Settings)
    assert outcome.log.level == "debug"


async def test_whoever_asks_is_told_what_did_not_change(watched: Watched) -> None:
    for _ in range(2):
        watched.asked.set()
        assert await watched.next_port() == 1


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
    async with watching(path) as watched:
        for port in (2, 3):
            (tmp_path / "..new").symlink_to(f"..{port}")
            (tmp_path / "..new").replace(tmp_path / "..data")
            assert await watched.next_port() == port

        (tmp_path / "..3" / "settings.toml").write_text(with_port(4))
        assert await watched.next_port() == 4


async def test_a_folder_that_is_away_for_a_while_is_found_again(watched: Watched) -> None:
    folder = watched.path.parent
    away = folder.with_name(folder.name + "-away")
    folder.rename(away)
    assert isinstance(await watched.next(), Misconfigured)

    (away / "settings.toml").write_text(with_port(5))
    away.rename(folder)
    assert await watched.next_port() == 5


async def test_cancelling_the_watch_does_not_stop_anything_else(tmp_path: Path) -> None:
    path = tmp_path / "settings.toml"
    path.write_text(with_port(1))
    watched = Watched(path)
    task = asyncio.create_task(watched.follow())
    await watched.next()

    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task

    assert not watched.stop.is_set()
