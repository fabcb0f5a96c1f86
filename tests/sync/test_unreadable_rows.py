"""A row that plain SQL wrote and nobody can read keeps nobody else from Customer.io, and of its user only that is
missing."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from connector import app
from connector.commands import sync as syncing
from connector.settings import Settings
from connector.store import schema
from connector.store.database import Database
from tests import erasing
from tests.places import Give, Place, Sandbox
from tests.store import given, unreadable

SEGMENTS = '"Paying" = { attribute = "plan", in = ["pro", "team"] }\n"Noted" = { attribute = "note", is = "x" }'


def settings(place: Place, sandbox: Sandbox, customer_id: Sequence[str] = ("external_id",)) -> Settings:
    place.track_url = sandbox.url
    people = f'segments = ["Paying"]\nattributes = ["plan", "note"]\ncustomer_id = {list(customer_id)}'
    place.more = {"people": people, "segments": SEGMENTS, "sync": 'every = "1h"\nlatency = "20ms"'}
    place.write(customerio=place.customerio("rate_per_second = 10000"))
    return place.settings()


def user(name: str, **attributes: Any) -> dict[str, Any]:
    return {"external_id": name, "email": f"{name}@b.co", "plan": "pro", "note": "old", **attributes}


def ids(db: Database) -> dict[str, str]:
    """The users by their external ids."""
    return {external_id: user_id for user_id, external_id in given.rows(db, schema.users, "id", "external_id")}


def write(db: Database, external_id: str, document: str) -> None:
    """Plain SQL's attributes, and the version raised."""
    user_id = ids(db)[external_id]
    unreadable.write(db, schema.users, "attributes", user_id, document)
    raised = sa.update(schema.users).where(schema.users.c.id == user_id).values(version=schema.users.c.version + 1)
    db.write(lambda connection: connection.execute(raised))


def person(name: str, **attributes: Any) -> dict[str, Any]:
    return {"email": f"{name}@b.co", "hull_segments": ["Paying"], **attributes}


def bad(db: Database) -> dict[str, str]:
    """Values that nobody can read, as JSON text, by the user who gets each."""
    return {f"u{number}": value for number, value in enumerate(unreadable.values(db).values(), start=10)}


async def test_all_others_are_delivered_and_of_such_users_what_can_be_read(
    db: Database, place: Place, sandbox: Sandbox, give: Give
) -> None:
    by, values = settings(place, sandbox), bad(db)
    give(by, user("u1"), *map(user, values), user("u3"))
    for name, value in values.items():
        write(db, name, f'{{"plan": "pro", "note": {value}}}')
    summary = await syncing.sync(db, by, app.now)
    assert (summary.tally.created, summary.exit_status) == (2 + len(values), 0)
    fine = {name: person(name, plan="pro", note="old") for name in ("u1", "u3")}
    assert sandbox.people() == fine | {name: person(name, plan="pro") for name in values}


async def test_what_was_sent_stays_until_it_can_be_read_again(
    db: Database, place: Place, sandbox: Sandbox, give: Give
) -> None:
    by, values = settings(place, sandbox), bad(db)
    give(by, user("u1"), *map(user, values))
    await syncing.sync(db, by, app.now)
    give(by, user("u1", plan="team"))
    for name, value in values.items():
        write(db, name, f'{{"plan": "team", "note": {value}}}')
    summary = await syncing.sync(db, by, app.now)
    assert (summary.tally.updated, summary.exit_status) == (1 + len(values), 0)
    assert sandbox.people() == {name: person(name, plan="team", note="old") for name in ["u1", *values]}
    assert (await syncing.sync(db, by, app.now)).tally.calls == 0
    for name in values:
        write(db, name, '{"plan": "team", "note": "new"}')
    await syncing.sync(db, by, app.now)
    assert {each["note"] for name, each in sandbox.people().items() if name != "u1"} == {"new"}


async def test_whose_id_cannot_be_read_is_skipped_and_not_sent_under_another_one(
    db: Database, place: Place, sandbox: Sandbox, give: Give
) -> None:
    by, values = settings(place, sandbox, ["note", "external_id"]), bad(db)
    give(by, user("u1", note="n1"), *(user(name, note=f"n-{name}") for name in values))
    await syncing.sync(db, by, app.now)
    there = {"n1", *(f"n-{name}" for name in values)}
    assert sandbox.people().keys() == there
    strangers = {f"{name}0": value for name, value in values.items()}
    give(by, user("u1", note="n1", plan="team"), *map(user, strangers))
    for name, value in {**values, **strangers}.items():
        write(db, name, f'{{"plan": "team", "note": {value}}}')
    summary = await syncing.sync(db, by, app.now)
    assert summary.exit_status == 0
    assert {name: each["plan"] for name, each in sandbox.people().items()} == dict.fromkeys(there, "pro") | {
        "n1": "team"
    }


async def test_commands_go_on(db: Database, place: Place, sandbox: Sandbox, give: Give) -> None:
    by, values = settings(place, sandbox), bad(db)
    give(by, user("u1"), *map(user, values))
    for name, value in values.items():
        write(db, name, f'{{"plan": "pro", "note": {value}}}')
    assert json.loads(place.run("plan", "--json"))["decisions"] == {"create": {"entered": 1 + len(values)}}
    assert len(place.export("users")) == 1 + len(values)
    assert '"note": unreadable' in place.run("person", "u10")
    assert "Paying" in place.run("segments")


async def test_such_a_user_can_be_erased(db: Database, place: Place, sandbox: Sandbox, give: Give) -> None:
    by, values = settings(place, sandbox), bad(db)
    give(by, user("u1"), *map(user, values))
    await syncing.sync(db, by, app.now)
    for name, value in values.items():
        write(db, name, f'{{"plan": "pro", "note": {value}}}')
        await erasing.erased(db, by, name)
    assert ids(db).keys() == sandbox.people().keys() == {"u1"}
