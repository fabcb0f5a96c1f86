"""A process that follows its settings file, beside others on the same store; a real file, a real store."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from connector import errors, settings_file
from connector.admin import status
from connector.commands import approve as approving
from connector.commands import status_text, sync_summary
from connector.outbound import approving as outbound_approving
from connector.outbound import full_pass, judging
from connector.settings import Settings
from connector.settings_file import whole
from connector.store import approvals, held, revisions, runs
from connector.store.database import Database
from connector.watching import edits, following, starting
from connector.watching.current import Current, HeldEdit, Replaced
from tests.store import given
from tests.store.given import NOW

SENDING = """[customerio]
site_id = "a-site"
region = "us"
api_key = "env:API_KEY"
[guard]
max_creates = 2
[segments]
"Pro" = { attribute = "plan", is = "pro" }
"All" = { everyone = true }
[people]
require_email = false
customer_id = "id"
"""
PRO = f'{SENDING}segments = ["Pro"]\n'
ALL = f'{SENDING}segments = ["Pro", "All"]\n'


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("API_KEY", "a key")
    path = tmp_path / "settings.toml"
    path.write_text('[sync]\nevery = "6m"\n')
    return path


@contextlib.asynccontextmanager
async def followed(path: Path, db: Database) -> AsyncIterator[Current]:
    stopping = asyncio.Event()
    current = starting.begin(path, settings_file.load(path), db, NOW)
    task = asyncio.create_task(following.follow(path, current, db, lambda: NOW, stopping))
    yield current
    stopping.set()
    async with asyncio.timeout(20):
        await task


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)


def settled(path: Path, db: Database) -> Current:
    """As `connector sync` does it, of another file."""
    return starting.settle(path, settings_file.load(path), db, NOW)


def names(db: Database) -> list[tuple[int, str]]:
    return [(each.number, each.state) for each in db.read(revisions.history)]


async def test_who_is_superseded_by_a_sync_of_another_file_says_so_and_the_way_back(
    db: Database, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "_PATIENCE_SECONDS", 0.0)
    other = file.with_name("other.toml")
    other.write_text('[events]\nnames = ["Order *"]\n')
    with capture_logs() as logged:
        async with followed(file, db) as current:
            replaced = settled(other, db).replaced
            assert replaced == Replaced(1, 2)
            first, second = list(sync_summary.describe(sync_summary.Summary(replaced=replaced)))[:2]
            assert first == "these settings are revision 2 now, in place of revision 1"
            assert "connector settings diff 1 2" in second

            await until(current.is_stale)
            told = current.told()
            assert (told["state"], told["revision"]) == ("superseded", 1)
            (line,) = (line for line in logged if line["event"] == "settings_superseded")
            assert (line["revision"], line["waits_for"], line["next"]) == (1, 2, told["reason"])
            for words in ("revision 2", "another file", "connector settings diff 1 2", "SIGHUP"):
                assert words in told["reason"]

            current.read_again.set()
            await until(lambda: not current.is_stale())
            assert current.told()["state"] == "running"
    assert names(db) == [(3, "applied"), (2, "applied"), (1, "applied")]


async def test_a_sync_of_a_file_that_says_the_same_takes_nobodys_place(db: Database, file: Path) -> None:
    same = file.with_name("same.toml")
    same.write_text('[sync]\nevery = "7m"\n')
    starting.begin(file, settings_file.load(file), db, NOW)
    assert settled(same, db).replaced is None


async def test_an_edit_that_is_held_waits_on_when_another_starts_with_the_file_before_it(
    db: Database, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "_LOOK_SECONDS", 0.02)
    stored(db)
    other = file.with_name("other.toml")
    other.write_text(PRO)
    settled(other, db)
    file.write_text(ALL)
    async with followed(file, db) as current:
        await until(lambda: current.held is not None)
        assert current.held is not None
        settled(other, db)
        assert names(db)[0] == (3, "applied"), "it may be the file that is held, edited back"
        await until(lambda: db.read(approvals.waiting) is not None)
        assert approving.approve(db, current.settings, current.held.hash, None, NOW) == 4
        await until(lambda: current.held is None)
        assert current.settings == settings_file.load(file)
        assert current.told()["state"] == "running"
    assert names(db) == [(4, "applied"), (3, "applied"), (2, "held"), (1, "applied")]


async def test_a_file_that_stays_open_is_a_fault_of_its_own_in_log_status_and_store(
    db: Database, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(whole, "PATIENCE_SECONDS", 0.3)
    with capture_logs() as logged:
        async with followed(file, db) as current:
            with file.open("w") as writing:
                writing.write('[sync]\nevery = "7m"\n')
                writing.flush()
                await until(lambda: names(db) == [(2, "refused"), (1, "applied")])
                assert current.settings.sync.every == timedelta(minutes=6)
                assert current.told()["state"] == "edit_refused"
                assert "still_open" in current.told()["reason"]
                newest = db.read(revisions.newest)
                assert newest is not None
                assert "still_open" in str(newest.reason)
            await until(lambda: current.settings.sync.every == timedelta(minutes=7))
            assert current.told()["state"] == "running"
    assert [line["reason"] for line in logged if line["event"] == "settings_refused"] == ["still_open"]


def stored(db: Database) -> None:
    """One user who pays and three who don't, and one of these was created while all were sent."""
    given.have(db, *(given.user(f"U{n}", attributes={"plan": "free" if n else "pro"}) for n in range(4)))


def listed(db: Database, settings: Settings) -> list[tuple[str, str, int]]:
    found = db.read(status.collect, settings, NOW)
    return [(each["hash"], each["what"], each["count"]) for each in found["held"]]


def test_an_edit_that_is_held_is_among_what_is_held(db: Database, file: Path) -> None:
    stored(db)
    file.write_text(PRO)
    settled(file, db)
    file.write_text(ALL)
    current = settled(file, db)
    assert current.held is not None
    assert listed(db, current.settings) == [(current.held.hash, "settings", 4)]
    assert [each["hash"] for each in approving.listed(db)] == [current.held.hash]
    found = db.read(status.collect, current.settings, NOW)
    assert sum(current.held.hash in line for line in status_text.describe(found, NOW)) == 1
    file.write_text(PRO)
    assert settled(file, db).held is None
    assert listed(db, current.settings) == []


def test_what_is_approved_with_the_settings_is_no_alarm_in_the_pass_that_lets_it_go(db: Database, file: Path) -> None:
    wanted = approved_edit(db, file)
    with capture_logs() as logged:
        found = full_pass.run(db, wanted, lambda: NOW)
        assert found is not None
        outbound_approving.with_the_settings(db, wanted, found, NOW)
    assert [(line["event"], line["reason"]) for line in logged] == [("let_go", "approved_with_the_settings")]
    assert [run["state"] for run in db.read(runs.last, 1)] == ["done"]


def approved_edit(db: Database, file: Path) -> Settings:
    """Four creates, which were approved with the settings."""
    stored(db)
    file.write_text(PRO)
    settled(file, db)
    file.write_text(ALL)
    held_edit = settled(file, db).held
    assert held_edit is not None
    assert approving.approve(db, held_edit.wanted, held_edit.hash, None, NOW) == 4
    return held_edit.wanted


def pass_and_what_was_approved(db: Database, wanted: Settings, going: Callable[[], bool] = lambda: True) -> int:
    """How many are held after it."""
    found = full_pass.run(db, wanted, lambda: NOW)
    assert found is not None
    outbound_approving.with_the_settings(db, wanted, found, NOW, going)
    return sum(hold.count for hold in found.holds)


def test_who_is_let_go_counts_no_more_among_the_approved_though_the_process_stops_halfway(
    db: Database, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = approved_edit(db, file)
    monkeypatch.setattr(outbound_approving, "CHUNK", 3)
    going = iter([True, False])
    with pytest.raises(full_pass.CutShort):
        pass_and_what_was_approved(db, wanted, lambda: next(going))
    assert db.read(approvals.counted, wanted.sent_hash(), held.CREATE, NOW) == 1
    assert pass_and_what_was_approved(db, wanted) == 0
    given.have(db, *(given.user(f"V{number}") for number in range(3)))
    assert pass_and_what_was_approved(db, wanted) == 3


def test_nobody_is_let_go_whose_approval_could_not_be_used_up(
    db: Database, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = approved_edit(db, file)

    def killed(*_more: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(approvals, "used", killed)
        with pytest.raises(KeyboardInterrupt):
            pass_and_what_was_approved(db, wanted)
    assert len(db.read(held.listed, held.CREATE, "", 9)) == 4
    assert pass_and_what_was_approved(db, wanted) == 0
    assert db.read(held.listed, held.CREATE, "", 9) == []


@pytest.mark.parametrize("how", ["follows", "syncs"])
async def test_an_edit_that_is_approved_elsewhere_while_it_is_judged_here_is_in_force(
    db: Database, file: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    stored(db)
    other = file.with_name("other.toml")
    other.write_text(PRO)
    settled(other, db)
    judge = judging.judge

    def judged_meanwhile(*args: Any) -> judging.Verdict:
        with monkeypatch.context() as patched:
            patched.setattr(judging, "judge", judge)
            other.write_text(ALL)
            first = settled(other, db).held
        assert first is not None
        approving.approve(db, first.wanted, first.hash, None, NOW)
        return judge(*args)

    monkeypatch.setattr(judging, "judge", judged_meanwhile)
    file.write_text(ALL)
    wanted = settings_file.load(file)
    if how == "syncs":
        current = settled(file, db)
        assert (current.settings, current.held, current.revision) == (wanted, None, 2)
    else:
        async with followed(file, db) as current:
            await until(lambda: current.file is not None)
            assert (current.settings, current.held, current.revision) == (wanted, None, 2)
    assert names(db) == [(2, "applied"), (1, "applied")]
    assert db.read(approvals.counted, wanted.sent_hash(), held.CREATE, NOW) == 4


async def test_who_would_hold_an_edit_again_that_was_just_approved_takes_it_up(db: Database, file: Path) -> None:
    wanted = approved_edit(db, file)
    row = db.read(revisions.newest_applied)
    current = Current(wanted.model_copy(), revision=1)
    held_edit = HeldEdit(wanted, wanted.sent_hash(), "max_creates", row)
    await edits.Edits(file, current, db, lambda: NOW, lambda: True).hold_again(held_edit)
    assert (current.settings, current.held, current.revision) == (wanted, None, 2)
    assert names(db) == [(2, "applied"), (1, "applied")]


def test_what_the_guard_held_is_approved_while_an_edit_is_held(db: Database, file: Path) -> None:
    """It was held under the settings that are in force, which aren't those in the file."""
    stored(db)
    before = SENDING.replace("max_creates = 2", "max_creates = 0") + 'segments = ["Pro"]\n'
    file.write_text(before)
    in_force = settled(file, db).settings
    found = full_pass.run(db, in_force, lambda: NOW)
    assert found is not None
    (hold,) = found.holds
    assert (hold.what, hold.count) == (held.CREATE, 1)
    file.write_text(before.replace('["Pro"]', '["Pro", "All"]'))
    assert settled(file, db).held is not None
    wanted = settings_file.load(file)
    with pytest.raises(errors.Misconfigured, match="under other settings"):
        approving.approve(db, wanted, hold.hash, None, NOW)
    assert starting.in_force(file, wanted, db).sent_hash() == in_force.sent_hash()
    assert approving.approve(db, starting.in_force(file, wanted, db), hold.hash, None, NOW) == 1
