"""Who gets another customer id stays the same person: addressed through their cio_id, or left as they are."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa

from connector.commands import approve as approving
from connector.commands import sync as syncing
from connector.records import Received
from connector.settings import Settings
from connector.store import inbox, schema
from connector.store.database import Database
from tests.places import Give, Place, Sandbox
from tests.store import given
from tests.sync.clock import Clock

SEGMENTS = '"All" = { attribute = "plan", in = ["basic", "pro", "team"] }'
DELETING = '[people.delete]\nenabled = true\nblind = true\ngrace = "1m"'


@pytest.fixture(params=["batch", "single"])
def api(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def clock() -> Clock:
    return Clock()


def settings_for(place: Place, sandbox: Sandbox, api: str, customer_id: str = "code", *more: str) -> Settings:
    place.track_url = sandbox.url
    people = [f'segments = ["All"]\nattributes = ["plan"]\ncustomer_id = "{customer_id}"', *more]
    place.more = {"people": "\n".join(people), "segments": SEGMENTS}
    return place.write(customerio=place.customerio(f'api = "{api}"', "rate_per_second = 10000")).settings()


def user(code: str, number: int = 1, **more: Any) -> dict[str, Any]:
    return {"external_id": f"u{number}", "email": f"u{number}@b.co", "code": code, "plan": "pro", **more}


def tell_cio_ids(db: Database, sandbox: Sandbox, clock: Clock) -> None:
    """A webhook about each person, as Customer.io knows them."""
    for person in sandbox.state.people:
        named = {"id": person.id, "email": person.email, "cio_id": person.cio_id}
        event_id = f"{person.cio_id} {clock.now}"
        at = int(clock.now.timestamp())
        body = given.webhook(event_id, at=at, identifiers={name: value for name, value in named.items() if value})
        db.write(inbox.append, inbox.CUSTOMERIO, [Received(event_id, clock.now, body)])


async def test_without_a_cio_id_they_stay_as_they_were_and_no_second_person_is_made(
    db: Database, place: Place, sandbox: Sandbox, give: Give, clock: Clock, api: str
) -> None:
    settings = settings_for(place, sandbox, api)
    give(settings, user("c1"))
    await syncing.sync(db, settings, clock)
    give(settings, user("c2", plan="team"))
    for _ in range(2):
        summary = await syncing.sync(db, settings, clock)
        assert summary.tally.calls == 0
    assert [(person.id, person.attributes["plan"]) for person in sandbox.state.people] == [("c1", "pro")]
    give(settings, user("c1", plan="team"))
    await syncing.sync(db, settings, clock)
    assert sandbox.people()["c1"]["plan"] == "team"


async def test_with_their_cio_id_they_get_the_new_id_and_the_rest_in_one_go(
    db: Database, place: Place, sandbox: Sandbox, give: Give, clock: Clock, api: str
) -> None:
    settings = settings_for(place, sandbox, api)
    give(settings, user("c1"))
    await syncing.sync(db, settings, clock)
    tell_cio_ids(db, sandbox, clock)
    (before,) = [person.cio_id for person in sandbox.state.people]
    give(settings, user("c2", plan="team", email="new@b.co"))
    summary = await syncing.sync(db, settings, clock)
    assert (summary.tally.updated, summary.tally.calls) == (1, 1)
    (person,) = sandbox.state.people
    assert (person.cio_id, person.id, person.email, person.attributes["plan"]) == (before, "c2", "new@b.co", "team")
    assert given.rows(db, schema.mirror, "customer_id", "id_kind") == [("c2", "id")]
    assert (await syncing.sync(db, settings, clock)).tally.calls == 0
    give(settings, user("c2", plan="basic", email="new@b.co"))
    await syncing.sync(db, settings, clock)
    assert (len(sandbox.people()), sandbox.people()["c2"]["plan"]) == (1, "basic")


async def test_who_waited_for_their_cio_id_gets_the_new_id_when_a_webhook_tells_it(
    db: Database, place: Place, sandbox: Sandbox, give: Give, clock: Clock, api: str
) -> None:
    settings = settings_for(place, sandbox, api)
    give(settings, user("c1"))
    await syncing.sync(db, settings, clock)
    give(settings, user("c2"))
    assert (await syncing.sync(db, settings, clock)).tally.skipped == {"customer_id_changed": 1}
    tell_cio_ids(db, sandbox, clock)
    summary = await syncing.sync(db, settings, clock)
    assert (summary.tally.updated, list(sandbox.people())) == (1, ["c2"])


async def test_webhooks_under_the_new_id_and_the_old_one_are_still_theirs(
    db: Database, place: Place, sandbox: Sandbox, give: Give, clock: Clock, api: str
) -> None:
    settings = settings_for(place, sandbox, api)
    give(settings, user("c1"))
    await syncing.sync(db, settings, clock)
    tell_cio_ids(db, sandbox, clock)
    give(settings, user("c2"))
    await syncing.sync(db, settings, clock)
    for name in ("c1", "c2"):
        body = given.webhook(f"about {name}", "customer.unsubscribed", identifiers={"id": name})
        db.write(inbox.append, inbox.CUSTOMERIO, [Received(f"about {name}", clock.now, body)])
    await syncing.sync(db, settings, clock)
    assert len(given.rows(db, schema.users, "id")) == 1
    assert given.rows(db, schema.users, "opted_out") == [True]


async def test_what_was_learnt_under_the_new_id_before_is_theirs_too(
    db: Database, place: Place, sandbox: Sandbox, give: Give, clock: Clock, api: str
) -> None:
    settings = settings_for(place, sandbox, api)
    give(settings, user("c1"))
    await syncing.sync(db, settings, clock)
    tell_cio_ids(db, sandbox, clock)
    body = given.webhook("early", "customer.unsubscribed", identifiers={"id": "c2"})
    db.write(inbox.append, inbox.CUSTOMERIO, [Received("early", clock.now, body)])
    give(settings, user("c2"))
    await syncing.sync(db, settings, clock)
    assert (True, "u1") in given.rows(db, schema.users, "opted_out", "external_id")


async def test_two_users_who_change_their_ids_round_stay_as_they_are(
    db: Database, place: Place, sandbox: Sandbox, give: Give, clock: Clock, api: str
) -> None:
    settings = settings_for(place, sandbox, api)
    give(settings, user("c1"), user("c2", 2))
    await syncing.sync(db, settings, clock)
    tell_cio_ids(db, sandbox, clock)
    give(settings, user("c2"), user("c1", 2))
    summary = await syncing.sync(db, settings, clock)
    assert (summary.tally.calls, summary.tally.skipped) == (0, {"customer_id_changed": 2})
    assert {name: person["email"] for name, person in sandbox.people().items()} == {"c1": "u1@b.co", "c2": "u2@b.co"}


async def test_a_changed_email_is_addressed_by_the_cio_id(
    db: Database, place: Place, sandbox: Sandbox, give: Give, clock: Clock, api: str
) -> None:
    """Customer.io ignores it otherwise, unless the workspace allows it by id; and answers 200 all the same."""
    settings = settings_for(place, sandbox, api)
    give(settings, user("c1"), user("c2", 2))
    await syncing.sync(db, settings, clock)
    give(settings, user("c1", email="new1@b.co"))
    await syncing.sync(db, settings, clock)
    assert sandbox.people()["c1"]["email"] == "u1@b.co"
    tell_cio_ids(db, sandbox, clock)
    give(settings, user("c2", 2, email="new2@b.co"))
    await syncing.sync(db, settings, clock)
    assert sandbox.people()["c2"]["email"] == "new2@b.co"


@pytest.mark.parametrize("is_read", ["while they are gone", "when they are back"])
async def test_a_webhook_about_a_person_who_was_deleted_gives_no_cio_id_to_who_comes_back(
    db: Database, place: Place, sandbox: Sandbox, give: Give, clock: Clock, api: str, is_read: str
) -> None:
    """What is addressed by it would be lost, and answered 200 all the same."""
    settings = settings_for(place, sandbox, api, "external_id", DELETING)
    give(settings, user("c1"))
    await syncing.sync(db, settings, clock)
    [first] = sandbox.state.people
    named = {"id": first.id, "cio_id": first.cio_id}
    late = given.webhook("late", at=int(clock.now.timestamp()), identifiers=named)
    clock.move(seconds=10)
    give(settings, user("c1", plan="gone"))
    for _ in range(2):
        await syncing.sync(db, settings, clock)
        clock.move(minutes=2)
    assert sandbox.people() == {}
    if is_read == "while they are gone":
        given.read(db, late, settings=settings, now=clock.now)
    give(settings, user("c1"))
    await syncing.sync(db, settings, clock)
    if is_read == "when they are back":
        given.read(db, late, settings=settings, now=clock.now)
    tell_cio_ids(db, sandbox, clock)
    give(settings, user("c1", email="new@b.co"))
    await syncing.sync(db, settings, clock)
    assert sandbox.people()["u1"]["email"] == "new@b.co"


async def test_who_comes_back_after_a_delete_of_which_nobody_heard_has_another_cio_id(
    db: Database, place: Place, sandbox: Sandbox, give: Give, clock: Clock, api: str
) -> None:
    settings = settings_for(place, sandbox, api, "external_id", DELETING)
    give(settings, user("c1"))
    await syncing.sync(db, settings, clock)
    tell_cio_ids(db, sandbox, clock)
    give(settings, user("c1", plan="gone"))
    await syncing.sync(db, settings, clock)
    clock.move(minutes=2)
    await sandbox.faults("200, 12xapply-cut")  # the first call asks which workspace it is
    await syncing.sync(db, settings, clock)
    assert sandbox.people() == {}
    await sandbox.faults("")
    give(settings, user("c1"))
    clock.move(hours=1)
    await syncing.sync(db, settings, clock)
    give(settings, user("c1", email="new@b.co"))
    clock.move(hours=1)
    await syncing.sync(db, settings, clock)
    assert given.rows(db, schema.identifiers, "kind").count(("cio_id",)) == 0
    tell_cio_ids(db, sandbox, clock)
    give(settings, user("c1", email="newer@b.co"))
    await syncing.sync(db, settings, clock)
    assert sandbox.people()["u1"]["email"] == "newer@b.co"


async def test_who_is_known_by_email_gets_another_one(
    db: Database, place: Place, sandbox: Sandbox, give: Give, clock: Clock, api: str
) -> None:
    settings = settings_for(place, sandbox, api, "email")
    give(settings, user("c1"))
    await syncing.sync(db, settings, clock)
    tell_cio_ids(db, sandbox, clock)
    await syncing.sync(db, settings, clock)
    give(settings, user("c1", email="New@b.co"))
    await syncing.sync(db, settings, clock)
    assert [person.email for person in sandbox.state.people] == ["New@b.co"]
    assert given.rows(db, schema.mirror, "customer_id", "id_kind") == [("new@b.co", "email")]
    assert (await syncing.sync(db, settings, clock)).tally.calls == 0


async def test_an_email_that_has_gone_stays_there_where_it_is_all_that_they_are_known_by(
    db: Database, place: Place, sandbox: Sandbox, give: Give, clock: Clock, api: str
) -> None:
    settings = settings_for(place, sandbox, api, "email")
    give(settings, user("c1"))
    await syncing.sync(db, settings, clock)
    tell_cio_ids(db, sandbox, clock)
    changed = sa.update(schema.users).values(email=None, version=schema.users.c.version + 1)
    db.write(lambda connection: connection.execute(changed))
    assert (await syncing.sync(db, settings, clock)).tally.calls == 0
    changed = sa.update(schema.users).values(attributes={"plan": "team"}, version=schema.users.c.version + 1)
    db.write(lambda connection: connection.execute(changed))
    await syncing.sync(db, settings, clock)
    (person,) = sandbox.state.people
    assert (person.email, person.attributes["plan"]) == ("u1@b.co", "team")


async def test_nobody_is_addressed_through_v1_by_what_it_would_read_as_another_kind(
    db: Database, place: Place, sandbox: Sandbox, give: Give, clock: Clock
) -> None:
    more = '[people.delete]\nenabled = true\ngrace = "1s"'
    give(settings_for(place, sandbox, "batch"), user("ann@b.co"), user("cio_1", 2), user("c3", 3))
    await syncing.sync(db, settings_for(place, sandbox, "batch", "code", more), clock)
    before = sandbox.people()
    settings = settings_for(place, sandbox, "single", "code", more)
    give(settings, user("ann@b.co", plan="team"), user("cio_1", 2, plan="team"), user("c3", 3, plan="team"))
    summary = await syncing.sync(db, settings, clock)
    assert (summary.tally.updated, summary.tally.skipped) == (1, {"bad_customer_id": 2})
    assert (sandbox.people()["c3"]["plan"], settings.customerio.api) == ("team", "single")
    place.more |= {"segments": '"All" = { attribute = "plan", is = "nobody" }', "guard": "max_delete_share = 1.0"}
    lonely = place.write(customerio=place.customerio('api = "single"', "rate_per_second = 10000")).settings()
    await syncing.sync(db, lonely, clock)
    clock.move(minutes=1)
    await syncing.sync(db, lonely, clock)
    assert sandbox.people() == {name: before[name] for name in ("ann@b.co", "cio_1")}


async def test_after_an_approval_everybody_whose_cio_id_is_known_gets_the_new_id(
    db: Database, place: Place, sandbox: Sandbox, give: Give, clock: Clock, api: str
) -> None:
    settings = settings_for(place, sandbox, api)
    give(settings, user("c1"), user("c2", 2))
    await syncing.sync(db, settings, clock)
    tell_cio_ids(db, sandbox, clock)
    give(settings, user("c3", 3))
    await syncing.sync(db, settings, clock)
    other = settings_for(place, sandbox, api, "external_id")
    summary = await syncing.sync(db, other, clock)
    assert (summary.exit_status, sorted(sandbox.people())) == (3, ["c1", "c2", "c3"])
    (hold,) = approving.listed(db)
    assert approving.approve(db, other, hold["hash"], None, clock.now) == 3
    await syncing.sync(db, other, clock)
    assert sorted(sandbox.people()) == ["c3", "u1", "u2"]
