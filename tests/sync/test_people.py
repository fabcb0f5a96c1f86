"""`sync` against the sandbox, over HTTP, on both stores and with both of Customer.io's APIs."""

from __future__ import annotations

import json
from typing import Any

import pytest

from connector import app
from connector.commands import sync as syncing
from connector.records import Received
from connector.settings import Settings
from connector.store import inbox
from connector.store.database import Database
from tests.places import Give, Place, Sandbox, example

PEOPLE = 'segments = ["Paying"]\nattributes = ["plan", "seats", "tags", { name = "account.name", as = "company" }]'
SEGMENTS = '"Paying" = { attribute = "plan", in = ["pro", "team"] }\n"All" = { everyone = true }'


@pytest.fixture(params=["batch", "single"])
def api(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def settings(place: Place, sandbox: Sandbox, api: str) -> Settings:
    place.track_url = sandbox.url
    place.more = {"people": PEOPLE, "segments": SEGMENTS}
    place.write(customerio=place.customerio(f'api = "{api}"', "rate_per_second = 10000"))
    return place.settings()


def user(number: int, **attributes: Any) -> dict[str, Any]:
    return {"external_id": f"u{number}", "email": f"u{number}@example.com", "plan": "pro", **attributes}


def expected(number: int, **attributes: Any) -> dict[str, Any]:
    return {"email": f"u{number}@example.com", "hull_segments": ["Paying", "All"], "plan": "pro", **attributes}


async def test_whitelisted_users_become_people_with_the_picked_attributes(
    db: Database, settings: Settings, sandbox: Sandbox, give: Give
) -> None:
    give(
        settings,
        user(1, seats=5, account={"name": "Acme", "size": 9}, created_at="2024-01-01", secret="stays here"),
        user(2, tags=["a", "b"], plan="team"),
        user(3, plan="free"),
    )
    summary = await syncing.sync(db, settings, app.now)
    assert (summary.tally.created, summary.tally.updated, summary.exit_status) == (2, 0, 0)
    assert sandbox.people() == {
        "u1": expected(1, seats=5, company="Acme", created_at=1704067200),
        "u2": expected(2, tags=["a", "b"], plan="team"),
    }


async def test_a_second_sync_with_nothing_changed_makes_no_call(
    db: Database, settings: Settings, sandbox: Sandbox, give: Give
) -> None:
    rows = [user(number) for number in range(50)]
    give(settings, *rows)
    await syncing.sync(db, settings, app.now)
    calls = sandbox.state.calls_received
    give(settings, *rows)
    summary = await syncing.sync(db, settings, app.now)
    assert sandbox.state.calls_received == calls
    assert summary.tally.calls == 0


async def test_an_update_sends_what_changed_and_empties_what_went(
    db: Database, settings: Settings, sandbox: Sandbox, give: Give
) -> None:
    give(settings, user(1, seats=5, account={"name": "Acme"}), user(2))
    await syncing.sync(db, settings, app.now)
    give(settings, user(1, seats=6, account=None))
    summary = await syncing.sync(db, settings, app.now)
    assert (summary.tally.created, summary.tally.updated) == (0, 1)
    assert sandbox.people()["u1"] == expected(1, seats=6)
    sent = json.loads(sandbox.state.calls[-1].body)
    attributes = sent["batch"][0]["attributes"] if "batch" in sent else sent
    assert {name: value for name, value in attributes.items() if name != "_timestamp"} == {"seats": 6, "company": None}


async def test_who_leaves_every_whitelisted_segment_is_kept_as_they_are(
    db: Database, settings: Settings, sandbox: Sandbox, give: Give
) -> None:
    give(settings, user(1))
    await syncing.sync(db, settings, app.now)
    give(settings, user(1, plan="free"))
    summary = await syncing.sync(db, settings, app.now)
    assert summary.tally.skipped["left_kept"] == 1
    assert sandbox.people()["u1"] == expected(1)
    give(settings, user(1, plan="team"))
    await syncing.sync(db, settings, app.now)
    assert sandbox.people()["u1"] == expected(1, plan="team")


async def test_more_attributes_than_a_call_may_hold_go_in_several_operations(
    db: Database,
    settings: Settings,
    sandbox: Sandbox,
    place: Place,
    api: str,
    give: Give,
) -> None:
    names = [f"a{number:03d}" for number in range(100)]
    place.write(
        customerio=place.customerio(f'api = "{api}"'), people=f'segments = ["Paying"]\nattributes = {json.dumps(names)}'
    )
    settings = place.settings()
    give(settings, user(1, **{name: number for number, name in enumerate(names)}))
    summary = await syncing.sync(db, settings, app.now)
    assert summary.exit_status == 0
    person = sandbox.people()["u1"]
    assert {name: person[name] for name in names} == {name: number for number, name in enumerate(names)}
    assert summary.tally.calls == (1 if api == "batch" else 4)


async def test_an_unsubscribe_that_we_know_of_goes_with_the_create(
    db: Database, settings: Settings, sandbox: Sandbox, give: Give
) -> None:
    body = json.loads(example(customer_id="u1", identifiers={"id": "u1", "email": "u1@example.com"}))
    webhook = json.dumps({**body, "object_type": "customer", "metric": "unsubscribed"}).encode()
    db.write(inbox.append, inbox.CUSTOMERIO, [Received("an-opt-out", app.now(), webhook)])
    summary = await syncing.sync(db, settings, app.now)
    assert summary.read == 1
    assert sandbox.people() == {}
    give(settings, user(1))
    await syncing.sync(db, settings, app.now)
    (person,) = list(sandbox.state.people)
    assert person.unsubscribed


async def test_an_opt_out_learnt_under_an_id_that_is_an_attribute_of_ours_reaches_who_is_created_with_it(
    db: Database, place: Place, settings: Settings, sandbox: Sandbox, give: Give
) -> None:
    place.more["people"] = f'{PEOPLE}\ncustomer_id = "code"'
    place.write(customerio=place.customerio("rate_per_second = 10000"))
    settings = place.settings()
    body = json.loads(example(customer_id="c1", identifiers={"id": "c1"}))
    webhook = json.dumps({**body, "object_type": "customer", "metric": "unsubscribed"}).encode()
    db.write(inbox.append, inbox.CUSTOMERIO, [Received("an-opt-out", app.now(), webhook)])
    await syncing.sync(db, settings, app.now)
    give(settings, user(1, code="c1"))
    await syncing.sync(db, settings, app.now)
    await syncing.sync(db, settings, app.now)
    (person,) = list(sandbox.state.people)
    assert (person.id, person.unsubscribed) == ("c1", True)
    assert [each["opted_out"] for each in place.export("users") if each["external_id"] == "u1"] == [True]
