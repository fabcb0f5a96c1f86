"""`people.opt_out` to Customer.io: our own opt-out goes at once, and comes back only by a later word of our own."""

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
from tests.store import given, told
from tests.sync.clock import Clock

PEOPLE = 'segments = ["All"]\nattributes = ["plan"]\nopt_out = "no_mail"'
SEGMENTS = '"All" = { everyone = true }\n"Out" = { attribute = "opted_out", is = true }'
ANN = {"external_id": "1", "email": "ann@b.co", "plan": "pro"}


@pytest.fixture(params=["batch", "single"])
def settings(place: Place, sandbox: Sandbox, request: pytest.FixtureRequest) -> Settings:
    place.track_url = sandbox.url
    api = place.customerio(f'api = "{request.param}"', "rate_per_second = 10000")
    place.more = {"people": PEOPLE, "segments": SEGMENTS, "customerio": api}
    return place.write(customerio=api).settings()


@pytest.fixture
def clock() -> Clock:
    return Clock()


def tell(db: Database, settings: Settings, clock: Clock, number: int, **more: Any) -> None:
    """A message of a server, said now."""
    each = told.message("identify", f"i{number}", user="1", timestamp=clock.now.isoformat(), **more)
    told.tell(db, each, settings=settings, now=clock.now)


def unsubscribed(sandbox: Sandbox) -> bool:
    (person,) = sandbox.state.people
    return person.unsubscribed


def by_webhook(db: Database, clock: Clock, kind: str) -> None:
    at = int(clock.now.timestamp())
    body = given.webhook(f"{kind} {at}", kind, at=at, identifiers={"id": "1"})
    db.write(inbox.append, inbox.CUSTOMERIO, [Received(f"{kind} {at}", clock.now, body)])


def bodies(sandbox: Sandbox) -> str:
    return "\n".join(call.body.decode() for call in sandbox.state.calls)


async def test_a_servers_word_opts_out_and_back_in(
    db: Database, settings: Settings, sandbox: Sandbox, give: Give, clock: Clock
) -> None:
    give(settings, ANN)
    await syncing.sync(db, settings, clock)
    for number, says in enumerate([True, False, True, False]):
        clock.move(minutes=1)
        tell(db, settings, clock, number, traits={"no_mail": says})
        summary = await syncing.sync(db, settings, clock)
        assert (summary.tally.updated, unsubscribed(sandbox)) == (1, says)
        assert (await syncing.sync(db, settings, clock)).tally.calls == 0


async def test_a_row_of_an_import_opts_out_and_one_that_turns_it_opts_back_in(
    db: Database, settings: Settings, sandbox: Sandbox, give: Give, clock: Clock
) -> None:
    give(settings, {**ANN, "no_mail": True})
    await syncing.sync(db, settings, clock)
    assert unsubscribed(sandbox)
    give(settings, {**ANN, "no_mail": None})
    await syncing.sync(db, settings, clock)
    give(settings, {**ANN, "no_mail": False})
    await syncing.sync(db, settings, clock)
    assert unsubscribed(sandbox), "it was not true before"
    give(settings, {**ANN, "no_mail": True})
    give(settings, {**ANN, "no_mail": False})
    await syncing.sync(db, settings, clock)
    assert not unsubscribed(sandbox)


async def test_an_opt_out_that_customerio_told_is_not_taken_back_by_what_was_said_before_it(
    db: Database, settings: Settings, sandbox: Sandbox, give: Give, clock: Clock
) -> None:
    give(settings, {**ANN, "no_mail": False})
    await syncing.sync(db, settings, clock)
    clock.move(hours=1)
    sandbox.state.edit("id", "1", unsubscribed=True)
    by_webhook(db, clock, "customer.unsubscribed")
    clock.move(hours=-1)
    tell(db, settings, clock, 1, traits={"no_mail": False, "plan": "team"})
    clock.move(hours=2)
    give(settings, {**ANN, "plan": "basic", "no_mail": False})
    await syncing.sync(db, settings, clock)
    assert unsubscribed(sandbox)
    assert sandbox.people()["1"]["plan"] == "basic"
    assert '"unsubscribed":false' not in bodies(sandbox)


async def test_an_opt_out_at_customerio_that_our_late_false_undid_is_told_again(
    db: Database, settings: Settings, sandbox: Sandbox, give: Give, clock: Clock
) -> None:
    give(settings, {**ANN, "no_mail": True})
    await syncing.sync(db, settings, clock)
    clock.move(minutes=1)
    tell(db, settings, clock, 1, traits={"no_mail": False})
    clock.move(minutes=15)
    sandbox.state.edit("id", "1", unsubscribed=True)
    said_at = clock.now
    clock.move(minutes=15)
    await syncing.sync(db, settings, clock)
    assert not unsubscribed(sandbox), "the webhook has not come yet"
    clock.move(minutes=1)
    body = given.webhook("late", "customer.unsubscribed", at=int(said_at.timestamp()), identifiers={"id": "1"})
    db.write(inbox.append, inbox.CUSTOMERIO, [Received("late", clock.now, body)])
    assert (await syncing.sync(db, settings, clock)).tally.updated == 1
    assert unsubscribed(sandbox)
    assert (await syncing.sync(db, settings, clock)).tally.calls == 0


KEPT = PEOPLE.replace("All", "Pro")
LEAVING = f"{KEPT}\n[people.delete]\nenabled = true"
PRO = '"Pro" = { attribute = "plan", is = "pro" }'


@pytest.mark.parametrize("people", [pytest.param(KEPT, id="kept"), pytest.param(LEAVING, id="within the grace")])
async def test_an_opt_out_reaches_who_has_left_and_nothing_else_does(
    db: Database, settings: Settings, place: Place, sandbox: Sandbox, give: Give, clock: Clock, people: str
) -> None:
    settings = place.write(customerio=place.more["customerio"], people=people, segments=PRO).settings()
    give(settings, ANN)
    await syncing.sync(db, settings, clock)
    give(settings, {**ANN, "plan": "free"})
    await syncing.sync(db, settings, clock)
    clock.move(hours=20)
    tell(db, settings, clock, 1, traits={"no_mail": True, "plan": "basic"})
    summary = await syncing.sync(db, settings, clock)
    assert (summary.tally.updated, summary.tally.calls, unsubscribed(sandbox)) == (1, 1, True)
    assert (await syncing.sync(db, settings, clock)).tally.calls == 0
    kept = {"email": "ann@b.co", "plan": "pro", "unsubscribed": True}
    assert sandbox.people()["1"] == {**kept, "hull_segments": ["Pro"]}
    ((attributes, opt_sent_at),) = given.rows(db, schema.mirror, "attributes", "opt_sent_at")
    assert (attributes, opt_sent_at) == ({**kept, "hull_segments": ["Pro"]}, clock.now)
    clock.move(hours=4)
    summary = await syncing.sync(db, settings, clock)
    assert summary.tally.deleted == (1 if people == LEAVING else 0), "the grace went on"


async def test_whose_delete_was_approved_within_the_grace_is_deleted_though_an_opt_out_came(
    db: Database, settings: Settings, place: Place, sandbox: Sandbox, give: Give, clock: Clock
) -> None:
    settings = place.write(
        customerio=place.more["customerio"], people=LEAVING, segments=PRO, guard="max_deletes = 0"
    ).settings()
    give(settings, ANN)
    await syncing.sync(db, settings, clock)
    give(settings, {**ANN, "plan": "free"})
    await syncing.sync(db, settings, clock)
    (hold,) = approving.listed(db)
    assert approving.approve(db, settings, hold["hash"], None, clock.now) == 1
    clock.move(hours=20)
    tell(db, settings, clock, 1, traits={"no_mail": True})
    assert (await syncing.sync(db, settings, clock)).tally.updated == 1
    clock.move(hours=4)
    assert (await syncing.sync(db, settings, clock)).tally.deleted == 1


async def test_an_opt_out_reaches_who_cannot_get_their_new_id(
    db: Database, settings: Settings, place: Place, sandbox: Sandbox, give: Give, clock: Clock
) -> None:
    settings = place.write(
        customerio=place.more["customerio"], people=f'{PEOPLE}\ncustomer_id = "code"', segments=SEGMENTS
    ).settings()
    give(settings, {**ANN, "code": "c1"})
    await syncing.sync(db, settings, clock)
    clock.move(minutes=1)
    tell(db, settings, clock, 1, traits={"code": "c2", "plan": "team", "no_mail": True})
    assert (await syncing.sync(db, settings, clock)).tally.updated == 1
    assert (list(sandbox.people()), sandbox.people()["c1"]["plan"], unsubscribed(sandbox)) == (["c1"], "pro", True)
    assert (await syncing.sync(db, settings, clock)).tally.calls == 0


async def test_what_plain_sql_wrote_opts_out_and_stays_whatever_becomes_of_the_attribute(
    db: Database, settings: Settings, sandbox: Sandbox, give: Give, clock: Clock
) -> None:
    def by_sql(attributes: dict[str, Any]) -> None:
        users = schema.users
        changed = sa.update(users).values(attributes=attributes, version=users.c.version + 1)
        db.write(lambda connection: connection.execute(changed))

    give(settings, ANN)
    await syncing.sync(db, settings, clock)
    by_sql({"plan": "pro", "no_mail": True})
    assert (await syncing.sync(db, settings, clock)).tally.updated == 1
    assert unsubscribed(sandbox)
    assert given.rows(db, schema.users, "opted_out", "opt_changed_at", "opted_by") == [(True, clock.now, "own")]
    clock.move(minutes=1)
    by_sql({"plan": "team", "no_mail": False})
    await syncing.sync(db, settings, clock)
    assert (await syncing.sync(db, settings, clock)).tally.calls == 0
    assert (unsubscribed(sandbox), sandbox.people()["1"]["plan"]) == (True, "team")
    clock.move(minutes=1)
    tell(db, settings, clock, 1, traits={"no_mail": False})
    await syncing.sync(db, settings, clock)
    assert not unsubscribed(sandbox)


async def test_a_browsers_key_never_subscribes_anybody(
    db: Database, settings: Settings, sandbox: Sandbox, give: Give, clock: Clock
) -> None:
    give(settings, {**ANN, "no_mail": True})
    await syncing.sync(db, settings, clock)
    clock.move(hours=1)
    each = told.message("identify", "i1", user="1", timestamp=clock.now.isoformat(), traits={"no_mail": False})
    told.tell(db, each, settings=settings, now=clock.now, public=True)
    await syncing.sync(db, settings, clock)
    assert unsubscribed(sandbox)
    assert '"unsubscribed":false' not in bodies(sandbox)


async def test_an_opt_out_does_not_wait_for_the_next_try_of_something_else(
    db: Database, settings: Settings, sandbox: Sandbox, give: Give, clock: Clock
) -> None:
    give(settings, ANN)
    await syncing.sync(db, settings, clock)
    give(settings, {**ANN, "plan": "team"})
    await sandbox.faults("200, 3x500")  # the first call asks which workspace it is
    assert (await syncing.sync(db, settings, clock)).tally.failed == {"server_error": 1}
    clock.move(seconds=1)
    tell(db, settings, clock, 1, traits={"no_mail": True})
    summary = await syncing.sync(db, settings, clock)
    assert (summary.tally.updated, summary.exit_status, unsubscribed(sandbox)) == (1, 0, True)
