"""Nothing late brings back who was erased, until they are readmitted."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import aiohttp
import pytest
import sqlalchemy as sa

from connector import app, errors
from connector.commands import import_files, person, readmit
from connector.commands import sync as syncing
from connector.settings import Settings
from connector.store import schema
from connector.store.database import Database
from tests import erasing, places
from tests.erasing import ANN, BEN, drafted, erased, happened, states, traces, user_id
from tests.places import Give, Place, Process, Sandbox, example
from tests.store import given, told
from tests.store.told import message


@pytest.fixture
def settings(place: Place, sandbox: Sandbox) -> Settings:
    return erasing.settings(place, sandbox)


@pytest.fixture
async def here(db: Database, settings: Settings, give: Give) -> Database:
    return await erasing.lived(db, settings, give)


async def test_late_webhooks_and_messages_dont_bring_them_back(
    here: Database, settings: Settings, sandbox: Sandbox
) -> None:
    await erased(here, settings)
    given.read(
        here,
        happened("01LATE"),
        drafted("01IGNORED"),
        example("01OTHER", customer_id="u1043", identifiers={"id": "u1043"}),
        settings=settings,
    )
    told.tell(
        here,
        message("identify", "n1", user="u1042", traits={"email": "ann@example.com"}),
        message("track", "n2", anonymous="device-1"),
        message("alias", "n3", user="brand-new", previous="u1042"),
        message("identify", "n4", user="another", traits={"email": "Ann@Example.com"}),
        settings=settings,
    )
    gone = ("ignored", "erased", b"")
    assert states(here, "01LATE", "01IGNORED", "n1", "n2", "n3", "n4") == [gone] * 6
    assert states(here, "01OTHER")[0][0] == "read"
    assert traces(here) == []
    await syncing.sync(here, settings, app.now)
    assert list(sandbox.people()) == ["u1043"]


async def test_what_is_about_somebody_else_is_taken_without_the_erased_address_and_device(
    here: Database, settings: Settings
) -> None:
    await erased(here, settings)
    told.tell(
        here,
        message("track", "n1", user="u1043", anonymous="device-1"),
        message("identify", "n2", user="u1043", traits={"email": "ann@example.com", "plan": "team"}),
        message("alias", "n3", user="u1043", previous="device-1"),
        settings=settings,
    )
    assert [state[0] for state in states(here, "n1", "n2", "n3")] == ["read"] * 3
    named = [value for value, owner in given.rows(here, schema.identifiers, "value", "user_id")]
    assert {"device-1", "ann@example.com"}.isdisjoint(named)
    assert {"email": "ben@example.com", "plan": "team"}.items() <= {
        **(ben := next(each for each in given.rows(here, schema.users) if each["external_id"] == "u1043")),
        **ben["attributes"],
    }.items()


async def test_rows_of_imports_are_counted_and_kept_nowhere(
    here: Database, settings: Settings, give: Give, tmp_path: Path
) -> None:
    await erased(here, settings)
    summary = give(settings, ANN, {**BEN, "plan": "team"}, {"external_id": "x", "email": "ann@example.com"})
    assert (dict(summary.results), summary.rejects) == ({"erased": 2, "updated": 1}, None)
    path = tmp_path / "events.jsonl"
    path.write_text('{"external_id": "u1042", "name": "Paid", "occurred_at": "2026-01-01T00:00:00Z"}\n')
    events = import_files.one(here, settings, import_files.kind(import_files.What.events), path, app.now)
    assert (dict(events.results), events.stored) == ({"erased": 1}, 0)
    assert traces(here) == []


async def test_a_row_of_sql_is_neither_named_nor_sent_and_the_summary_says_so(
    here: Database, settings: Settings, sandbox: Sandbox
) -> None:
    await erased(here, settings, here_only=True)
    sandbox.state.people.remove(sandbox.state.find("id", "u1042"))  # type: ignore[arg-type]
    with here.transaction() as connection:
        connection.execute(sa.text("INSERT INTO users (external_id, email) VALUES ('u1042', 'ann@example.com')"))
    summary = await syncing.sync(here, settings, app.now)
    assert summary.found.skipped == {"erased": 1}
    assert list(sandbox.people()) == ["u1043"]
    assert user_id(here, "u1042") is None
    # Also when the writer has said who it is.
    row = next(each["id"] for each in given.rows(here, schema.users) if each["external_id"] == "u1042")
    with here.transaction() as connection:
        connection.execute(sa.insert(schema.identifiers).values(kind="external_id", value="u1042", user_id=row))
    await syncing.sync(here, settings, app.now)
    assert list(sandbox.people()) == ["u1043"]
    assert person.tell(here, settings, "u1042", None, app.now())["decision"]["reason"] == "erased"


async def test_a_row_that_sql_wrote_afterwards_goes_with_another_erasure(here: Database, settings: Settings) -> None:
    first = await erased(here, settings)
    with here.transaction() as connection:
        connection.execute(sa.text("INSERT INTO users (external_id, email) VALUES ('u1042', 'Ann@example.com')"))
    second = await erased(here, settings, "ann@example.com")
    assert (second.removed["users"], second.at) == (1, first.at)
    assert traces(here) == []


async def test_person_says_erased_and_names_the_way_back(here: Database, settings: Settings) -> None:
    await erased(here, settings)
    found = person.tell(here, settings, "ANN@example.com", None, app.now())
    assert (found["named_by"], found["decision"]["reason"]) == ("email", "erased")
    assert "connector readmit" in found["decision"]["remedy"]


async def test_readmitted_they_sign_up_as_somebody_new(
    here: Database, settings: Settings, sandbox: Sandbox, give: Give
) -> None:
    await erased(here, settings)
    done = await readmit.readmit(here, settings, ["u1042"], app.now)
    assert {each.kind for each in done.let_in} == {"external_id", "customer_id"}
    assert {each.kind for each in done.still_out} == {"anonymous_id", "cio_id", "email", "user_id"}
    assert give(settings, ANN).results == {"erased": 1}  # her address is still kept out

    await readmit.readmit(here, settings, ["Ann@example.com", "device-1"], app.now)
    assert give(settings, ANN).results == {"created": 1}
    await syncing.sync(here, settings, app.now)
    assert sorted(sandbox.people()) == ["u1042", "u1043"]
    with pytest.raises(errors.Failed, match="nobody was erased under u1042"):
        await readmit.readmit(here, settings, ["u1042"], app.now)


async def test_the_command_beside_a_connector_that_runs(here: Database, place: Place, settings: Settings) -> None:
    process = await asyncio.to_thread(Process, place)
    try:
        shown = await asyncio.to_thread(place.run, "erase", "u1042", "--json", "--rejects", str(place.folder))
        receipt = json.loads(shown)
        assert (receipt["already_erased"], receipt["removed"]["users"]) == (False, 1)
        assert all(each["accepted"] for each in receipt["customerio"])
        body = happened("01LATE")
        async with aiohttp.ClientSession() as session:
            status, _ = await places.post(session, process.url, body)
        assert status == 200
        again = await asyncio.to_thread(place.run, "person", "u1042")
        assert "decision    skip: erased" in again
        assert traces(here) == []
        assert "readmitted  external_id" in await asyncio.to_thread(place.run, "readmit", "u1042")
        assert process.terminate() == 0
    finally:
        process.__exit__()
