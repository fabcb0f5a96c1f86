"""Ann, who asks to be forgotten after she has left her traces everywhere, and Ben, who stays."""

from __future__ import annotations

import json
from typing import Any

import sqlalchemy as sa

from connector import app
from connector.commands import erase
from connector.commands import sync as syncing
from connector.settings import Settings
from connector.store import schema
from connector.store.database import Database
from tests.places import Give, Place, Sandbox, example
from tests.store import given, told
from tests.store.told import message

ANN = {"external_id": "u1042", "email": "Ann@Example.com", "anonymous_id": "device-1", "plan": "pro", "city": "Zwolle"}
BEN = {"external_id": "u1043", "email": "ben@example.com", "plan": "pro"}
OF_ANN = ["u1042", "ann@example.com", "device-1", "d9c106000001", "zwolle"]
ABOUT_ANN = {
    "customer_id": "u1042",
    "identifiers": {"id": "u1042", "email": "ann@example.com", "cio_id": "d9c106000001"},
}


def settings(place: Place, sandbox: Sandbox) -> Settings:
    """Everybody is sent, and drafted mails are ignored."""
    place.track_url = sandbox.url
    place.more = {
        "people": 'segments = ["All"]\nattributes = ["plan", "city"]',
        "segments": '"All" = { everyone = true }',
        "webhooks": 'signing_keys = ["env:SIGNING_KEY"]\nignore = ["email.drafted"]',
    }
    return place.write().settings()


async def lived(db: Database, settings: Settings, give: Give) -> Database:
    """Both are people at Customer.io; webhooks, messages, a failure and a conflict are about Ann."""
    give(settings, ANN, BEN)
    await syncing.sync(db, settings, app.now)
    given.read(
        db, happened("01HAPPENED"), drafted("01DRAFTED"), b'{"to": "ANN@example.com" and no JSON', settings=settings
    )
    told.tell(
        db,
        message("identify", "m1", user="u1042", traits={"city": "Zwolle"}),
        message("track", "m2", anonymous="device-1", properties={"city": "Zwolle"}),
        # Ben's browser says that he is Ann, too: that is refused, and noted with her address.
        message("identify", "m3", user="u1043", traits={"email": "ann@example.com"}),
        settings=settings,
    )
    failure = {"what": "update", "calls": 1, "reason": "refused", "message": "city: Zwolle", "at": app.now()}
    with db.transaction() as connection:
        connection.execute(sa.insert(schema.attempts).values(user_id=user_id(db, "u1042"), **failure))
        # As if retention had taken it: a message of Ben's is his.
        connection.execute(sa.delete(schema.inbox).where(schema.inbox.c.source_id == "m3"))
    return db


def happened(event_id: str) -> bytes:
    """A webhook about Ann, as she is there today."""
    about = json.loads(example(event_id, recipient="ann@example.com", **ABOUT_ANN))
    return json.dumps({**about, "timestamp": int(app.now().timestamp())}).encode()


def drafted(event_id: str) -> bytes:
    """Another one, of a kind that the settings ignore."""
    return json.dumps({**json.loads(happened(event_id)), "metric": "drafted"}).encode()


def user_id(db: Database, external_id: str) -> str | None:
    """Whom it names."""
    found = given.rows(db, schema.identifiers, "kind", "value", "user_id")
    return next((owner for kind, value, owner in found if (kind, value) == ("external_id", external_id)), None)


def everything(db: Database) -> str:
    """All that stands in any table, in lower case."""

    def look(connection: sa.Connection) -> str:
        rows = [tuple(row) for table in schema.metadata.sorted_tables for row in connection.execute(sa.select(table))]
        return repr(rows).lower()

    return db.read(look)


def traces(db: Database) -> list[str]:
    """What of Ann is found anywhere in the store."""
    stored = everything(db)
    return [each for each in OF_ANN if each in stored]


def states(db: Database, *source_ids: str) -> list[Any]:
    """State, reason and body of messages."""
    found = {each[0]: each[1:] for each in given.rows(db, schema.inbox, "source_id", "state", "reason", "body")}
    return [found[each] for each in source_ids]


async def erased(db: Database, settings: Settings, who: str = "u1042", **options: Any) -> erase.Receipt:
    """By the command's own function."""
    return await erase.erase(db, settings, who, app.now, **options)
