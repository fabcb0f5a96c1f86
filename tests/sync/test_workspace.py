"""A store belongs to one workspace of Customer.io."""

from __future__ import annotations

import time
from typing import Any

import pytest

from connector import app, errors
from connector.commands import sync as syncing
from connector.sandbox import state, track_api
from connector.store import schema, workspace
from connector.store.database import Database
from tests.places import API_KEY, SITE_ID, Give, Place, Sandbox
from tests.store import given
from tests.store.meanwhile import before, other

PEOPLE = {"people": 'segments = ["All"]', "segments": '"All" = { everyone = true }'}


def user(number: int) -> dict[str, Any]:
    return {"external_id": f"u{number}", "email": f"u{number}@example.com"}


async def test_credentials_of_another_workspace_send_nothing_and_say_so(
    db: Database, place: Place, sandbox: Sandbox, give: Give
) -> None:
    place.track_url, place.more = sandbox.url, PEOPLE
    settings = place.write().settings()
    give(settings, user(1))
    await syncing.sync(db, settings, app.now)
    other = state.State(time.time)
    served = track_api.create_app(other, site_id=SITE_ID, api_key=API_KEY, environment_id=2)
    async with track_api.serve(served) as running:
        place.track_url = running.url
        settings = place.write().settings()
        give(settings, user(2))
        with pytest.raises(
            errors.Misconfigured, match="belongs to workspace 1, the credentials are those of workspace 2"
        ):
            await syncing.sync(db, settings, app.now)
        assert len(other.people) == 0
    place.track_url = sandbox.url
    summary = await syncing.sync(db, place.write().settings(), app.now)
    assert (summary.tally.created, summary.waiting) == (1, 0)


async def test_a_store_that_sent_nobody_yet_takes_the_workspace_it_meets(
    db: Database, place: Place, sandbox: Sandbox, give: Give
) -> None:
    place.track_url, place.more = sandbox.url, PEOPLE
    db.write(workspace.claim, "some other")
    settings = place.write().settings()
    give(settings, user(1))
    assert (await syncing.sync(db, settings, app.now)).tally.created == 1


@pytest.mark.parametrize("store_kind", ["postgresql"], indirect=True)
def test_of_two_workers_that_meet_a_new_store_at_once_each_hears_whose_it_is(store_url: str, db: Database) -> None:
    def faster() -> None:
        process.db.write(workspace.claim, "1")

    with other(db, store_url) as process, before(db, "INSERT INTO workspace", faster):
        assert db.write(workspace.claim, "1") == "1"
    assert given.rows(db, schema.workspace, "environment_id") == ["1"]


async def test_a_workspace_in_another_region_gets_nothing(db: Database, place: Place, give: Give) -> None:
    american = state.State(time.time)
    served = track_api.create_app(american, site_id=SITE_ID, api_key=API_KEY, region="eu")
    async with track_api.serve(served) as running:
        place.track_url, place.more = running.url, PEOPLE
        settings = place.write().settings()
        give(settings, user(1))
        with pytest.raises(errors.Misconfigured, match=r"lives in eu, customerio.region says us"):
            await syncing.sync(db, settings, app.now)
        assert len(american.people) == 0
