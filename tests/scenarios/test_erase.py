"""A person who asked to be forgotten is suppressed at Customer.io and gone here."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import aiohttp
import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from connector import app, errors
from connector.commands import erase, erase_rejects, person, readmit
from connector.commands import sync as syncing
from connector.core.outcome import Delivered
from connector.inbound import forgetting
from connector.outbound import preparation, recording
from connector.outbound.delivery import Result
from connector.outbound.notes import Terms
from connector.records import CustomerId
from connector.settings import Settings
from connector.store import erasure, leases, pending, schema
from connector.store.database import Database
from connector.store.erasure import Erasure
from tests import erasing
from tests.erasing import ANN, BEN, OF_ANN, erased, everything, states, traces, user_id
from tests.places import Give, Place, Sandbox
from tests.store import given, told
from tests.store.told import message


@pytest.fixture
def settings(place: Place, sandbox: Sandbox) -> Settings:
    return erasing.settings(place, sandbox)


@pytest.fixture
async def here(db: Database, settings: Settings, give: Give) -> Database:
    return await erasing.lived(db, settings, give)


async def test_nothing_of_an_erased_person_is_left_in_any_table(
    here: Database, settings: Settings, sandbox: Sandbox
) -> None:
    assert traces(here) == OF_ANN
    ann = user_id(here, "u1042")
    receipt = await erased(here, settings, "ann@EXAMPLE.com")

    assert traces(here) == []
    assert list(sandbox.people()) == ["u1043"]
    assert receipt.user_id == ann
    assert receipt.removed == {
        "pending": 1, "held": 0, "attempts": 1, "conflicts": 1, "events": 2, "mirror": 1, "identifiers": 5, "users": 1,
        "inbox_bodies": 5,
    }  # fmt: skip
    assert sorted({each.kind for each in receipt.kept}) == [
        "anonymous_id", "cio_id", "customer_id", "email", "external_id", "user_id",
    ]  # fmt: skip
    assert user_id(here, "u1043") is not None


async def test_the_receipt_says_what_was_done_and_names_nobody(here: Database, settings: Settings) -> None:
    receipt = await erased(here, settings)
    shown = "\n".join(erase.describe(receipt)) + json.dumps(receipt.as_json(), default=str)
    assert [each for each in OF_ANN if each in shown.lower()] == []
    assert "suppressed under id, email, cio_id: accepted with 200" in shown
    assert "5 inbox bodies" in shown
    assert all(each.hash in shown for each in receipt.kept)
    assert "whether Customer.io did it" in shown


async def test_erasing_again_finds_it_done(here: Database, settings: Settings, sandbox: Sandbox) -> None:
    first = await erased(here, settings)
    calls = sandbox.state.calls_received
    for who in ("u1042", "Ann@Example.com", "device-1", str(first.user_id)):
        again = await erased(here, settings, who)
        assert (again.user_id, again.at, again.kept) == (None, first.at, first.kept)
    assert sandbox.state.calls_received == calls
    assert "already" in next(erase.describe(again))


async def test_who_was_merged_into_them_is_suppressed_and_goes_too(
    db: Database, settings: Settings, sandbox: Sandbox, give: Give
) -> None:
    give(settings, {"external_id": "old", "email": "old@example.com"}, {"external_id": "new"}, BEN)
    await syncing.sync(db, settings.model_copy(update={"people": settings.people.model_copy(
        update={"require_email": False})}), app.now)  # fmt: skip
    assert sorted(sandbox.people()) == ["new", "old", "u1043"]
    told.tell(db, message("alias", "a1", user="new", previous="old"), settings=settings)
    receipt = await erased(db, settings, "new")
    assert receipt.removed["users"] == 2
    assert list(sandbox.people()) == ["u1043"]


async def test_an_id_that_is_somebody_elses_is_never_suppressed(
    db: Database, settings: Settings, sandbox: Sandbox, give: Give
) -> None:
    give(settings, ANN, BEN)
    await syncing.sync(db, settings, app.now)
    with db.transaction() as connection:
        connection.execute(sa.text("UPDATE users SET email = 'BEN@example.com' WHERE external_id = 'u1042'"))
    await erased(db, settings)
    assert list(sandbox.people()) == ["u1043"]
    assert give(settings, {**BEN, "plan": "team"}).results == {"updated": 1}


@pytest.mark.parametrize("who", ["nobody", "u10", ""])
async def test_a_wrong_id_erases_nobody(here: Database, settings: Settings, who: str) -> None:
    before = everything(here)
    with pytest.raises(errors.Failed, match="nobody is known by that ID"):
        await erased(here, settings, who)
    assert everything(here) == before


async def test_an_id_that_names_two_users_erases_nobody(db: Database, settings: Settings, give: Give) -> None:
    give(settings, {"external_id": "same", "email": "a@b.co"}, {"external_id": "x", "anonymous_id": "same"})
    with pytest.raises(errors.Failed, match=r"names several users: \w+ \(by external_id\), \w+ \(by anonymous_id\)"):
        await erased(db, settings, "same")
    assert len(given.rows(db, schema.users)) == 2


async def test_while_customerio_cant_be_reached_nothing_is_removed(
    here: Database, place: Place, sandbox: Sandbox
) -> None:
    before = everything(here)
    place.track_url = "http://127.0.0.1:9"
    settings = place.write().settings()
    with pytest.raises(errors.Failed, match="nothing was removed"):
        await erased(here, settings)
    assert everything(here) == before
    receipt = await erased(here, settings, here_only=True)
    assert (traces(here), receipt.answered) == ([], None)
    assert sorted(sandbox.people()) == ["u1042", "u1043"]
    assert "suppress the person there yourself" in "\n".join(erase.describe(receipt))


async def test_without_credentials_only_here_only_erases(here: Database, place: Place) -> None:
    settings = place.write(customerio="").settings()
    with pytest.raises(errors.Failed, match=r"customerio\.site_id is empty.*nothing was removed"):
        await erased(here, settings)
    await erased(here, settings, here_only=True)
    assert traces(here) == []


async def test_another_workspaces_people_are_not_suppressed(here: Database, settings: Settings) -> None:
    with here.transaction() as connection:
        connection.execute(sa.update(schema.workspace).values(environment_id="another"))
    with pytest.raises(errors.Misconfigured, match="belongs to workspace another"):
        await erased(here, settings)
    assert user_id(here, "u1042") is not None


async def faulty(sandbox: Sandbox, script: str) -> None:
    async with (
        aiohttp.ClientSession() as session,
        session.put(f"{sandbox.url}/sandbox/faults", json={"script": script}) as response,
    ):
        assert response.status == 200


async def test_a_refused_suppression_removes_nothing_and_the_next_run_goes_on(
    here: Database, settings: Settings, sandbox: Sandbox
) -> None:
    await faulty(sandbox, "200, 207")
    with pytest.raises(errors.Failed, match=r"did not accept the suppression .*nothing was removed"):
        await erased(here, settings)
    assert traces(here) == OF_ANN
    found = person.tell(here, settings, "u1042", None, app.now())["decision"]
    assert (found["reason"], "goes on with it" in found["remedy"]) == ("erased", True)
    with pytest.raises(errors.Failed, match="not wholly erased yet"):
        await readmit.readmit(here, settings, ["u1042"], app.now)
    told.tell(here, message("track", "n1", user="u1042"), settings=settings)
    assert states(here, "n1") == [("ignored", "erased", b"")]
    await erased(here, settings)
    assert traces(here) == []


async def test_a_worker_that_had_them_in_flight_writes_nothing_back(here: Database, settings: Settings) -> None:
    now = app.now()
    ann = str(user_id(here, "u1042"))
    with here.transaction() as connection:
        connection.execute(
            sa.update(schema.users).where(schema.users.c.id == ann).values(attributes={"plan": "x"}, version=99)
        )
    here.write(pending.mark, [ann], now, pending.CHANGED)
    claims = here.write(leases.claim, "lease", now, now + timedelta(seconds=60), 10)
    prepared = preparation.prepare(here, settings, claims, now)
    assert [each.decision.verb for each in prepared] == ["update"]
    await erased(here, settings)
    results = [Result(each, Delivered(), 1, each.parts) for each in prepared]
    terms = Terms(settings.mapping_hash(), timedelta(days=7), timedelta(minutes=10), now)
    recording.record(here, [], results, terms)
    assert traces(here) == []


async def test_lines_of_rejects_files_go_too(here: Database, settings: Settings, tmp_path: Path) -> None:
    folder = tmp_path / "imports"
    folder.mkdir()
    kept = '{"line":1,"reason":"bad","message":"","row":{"external_id":"u10421","note":"u1043"}}\n'
    doomed = [
        '{"line":2,"reason":"bad","message":"","row":{"email":"ANN@example.com"}}\n',
        '{"line":3,"reason":"not_json","message":"","row":"x; u1042; y"}\n',
        '{"line":4,"reason":"bad","message":"","row":{"note":"said ann\\u0040example.com"}}\n',
    ]
    (folder / "a.rejects.jsonl").write_text(kept + "".join(doomed))
    (folder / "b.rejects.jsonl").write_text(doomed[0])
    (folder / "c.rejects.jsonl").write_text(kept)
    receipt = await erased(here, settings, rejects=folder)
    assert {each.path.name: each.lines for each in receipt.rejects} == {"a.rejects.jsonl": 3, "b.rejects.jsonl": 1}
    assert sorted(each.name for each in folder.iterdir()) == ["a.rejects.jsonl", "c.rejects.jsonl"]
    assert (folder / "a.rejects.jsonl").read_text() == kept
    assert (folder / "a.rejects.jsonl").stat().st_mode & 0o777 == 0o600


async def test_killed_while_customerio_is_asked_the_next_run_finishes(
    here: Database, place: Place, settings: Settings, sandbox: Sandbox
) -> None:
    await faulty(sandbox, "200, hang:30")
    calls = sandbox.state.calls_received
    command = [sys.executable, "-m", "connector", "--settings", str(place.path), "erase", "u1042"]
    process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    async with asyncio.timeout(30):
        while sandbox.state.calls_received == calls or not here.read(erasure.begun):
            await asyncio.sleep(0.05)
    process.kill()
    await process.wait()
    assert traces(here) == OF_ANN
    await faulty(sandbox, "")
    assert "removed" in await asyncio.to_thread(place.run, "erase", "u1042")
    assert traces(here) == []
    assert list(sandbox.people()) == ["u1043"]


@pytest.mark.parametrize("steps", range(1, 5))
async def test_interrupted_after_any_step_the_next_run_finishes(
    here: Database, settings: Settings, sandbox: Sandbox, tmp_path: Path, steps: int
) -> None:
    def begin(connection: Connection) -> Erasure:
        sent = CustomerId("id", "u1042")
        return erasure.begin(connection, [str(user_id(here, "u1042"))], [sent], app.now())

    begun = here.write(begin)
    following: list[Callable[[], object]] = [
        lambda: forgetting.forget(here, settings, begun.names),
        lambda: erase_rejects.clean(tmp_path, begun.names),
        lambda: here.write(erasure.remove_events, begun.user_ids),
    ]
    for step in following[: steps - 1]:
        step()
    receipt = await erased(here, settings)
    assert (receipt.user_id, receipt.at) == (begun.user_ids[0], begun.at)
    assert traces(here) == []
    assert list(sandbox.people()) == ["u1043"]
