"""`people.opt_out`: what messages of the intake say of an opt-out, and what a browser's key can't say of it."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from connector.records import Learnt
from connector.settings import People, Settings
from connector.store import pending, schema, users
from connector.store.database import Database
from tests.store import given, told
from tests.store.given import NOW
from tests.store.told import message

FLAT = Settings(people=People(opt_out="no_mail"))
NESTED = Settings(people=People(opt_out="consent.no_mail"))
HOUR = timedelta(hours=1)


def identify(
    db: Database, number: int, at: datetime, *, settings: Settings = FLAT, public: bool = False, **said: Any
) -> None:
    """Ann's message, sent and received at this time."""
    ids = {name: said.pop(name) for name in ("user", "anonymous") if name in said} or {"user": "1"}
    each = message("identify", f"i{number}", timestamp=at.isoformat(), traits=said, **ids)
    told.tell(db, each, settings=settings, now=at, **({"public": True} if public else {}))


def known(db: Database) -> list[tuple[bool, datetime | None, str]]:
    return given.rows(db, schema.users, "opted_out", "opt_changed_at", "opted_by")


def test_a_servers_message_opts_out_and_a_later_one_takes_it_back(db: Database) -> None:
    identify(db, 1, NOW, no_mail=False)
    assert known(db) == [(False, None, "customerio")]
    identify(db, 2, NOW + HOUR, no_mail=True)
    identify(db, 3, NOW + 2 * HOUR, no_mail=True)
    assert known(db) == [(True, NOW + HOUR, "own")]
    identify(db, 4, NOW + 3 * HOUR, plan="pro")
    identify(db, 5, NOW + 4 * HOUR, no_mail=None)
    identify(db, 6, NOW + 4 * HOUR, no_mail="false")
    assert known(db) == [(True, NOW + HOUR, "own")]
    identify(db, 7, NOW + 5 * HOUR, no_mail=False)
    assert known(db) == [(False, NOW + 5 * HOUR, "own")]


def test_a_message_that_is_older_than_the_opt_out_takes_nothing_back(db: Database) -> None:
    identify(db, 1, NOW, user="1")
    (user_id,) = given.rows(db, schema.users, "id")
    db.write(users.remember, {user_id: Learnt(True, NOW)}, NOW)
    late = message("identify", "i2", user="1", timestamp=(NOW - HOUR).isoformat(), traits={"no_mail": False})
    told.tell(db, late, settings=FLAT, now=NOW + HOUR)
    assert known(db) == [(True, NOW, "customerio")]
    ahead = message("identify", "i3", user="1", timestamp=(NOW + 9 * HOUR).isoformat(), traits={"no_mail": False})
    told.tell(db, ahead, settings=FLAT, now=NOW)
    assert known(db) == [(True, NOW, "customerio")], "nobody speaks from the future"


def test_the_attribute_may_stand_in_a_group(db: Database) -> None:
    identify(db, 1, NOW, settings=NESTED, consent={"no_mail": True})
    assert known(db) == [(True, NOW, "own")]


@pytest.mark.parametrize("settings", [FLAT, NESTED], ids=["flat", "nested"])
def test_a_browsers_key_says_nothing_of_who_has_an_id(db: Database, settings: Settings) -> None:
    def traits(value: object) -> dict[str, Any]:
        return {"no_mail": value} if settings is FLAT else {"consent": {"no_mail": value, "at": "x"}}

    identify(db, 1, NOW, settings=settings, public=True, **traits(True))
    assert known(db) == [(False, None, "customerio")]
    assert given.rows(db, schema.users, "attributes") == [{}]
    identify(db, 2, NOW + HOUR, settings=settings, **traits(True))
    before = given.rows(db, schema.users, "attributes")
    for number, value in enumerate([False, None, "", 0]):
        identify(db, 3 + number, NOW + 2 * HOUR, settings=settings, public=True, **traits(value))
    identify(db, 8, NOW + 3 * HOUR, settings=settings, public=True, consent={"other": 1}, plan="pro")
    assert known(db) == [(True, NOW + HOUR, "own")]
    (attributes,) = given.rows(db, schema.users, "attributes")
    kept = {name: value for name, value in attributes.items() if name != "plan"}
    assert kept == before[0] if settings is NESTED else kept == {**before[0], "consent": {"other": 1}}
    assert attributes["plan"] == "pro"


def test_a_visitor_without_an_id_can_opt_out_by_a_browsers_key_and_not_back_in(db: Database) -> None:
    identify(db, 1, NOW, public=True, anonymous="a", no_mail=True)
    assert known(db) == [(True, NOW, "own")]
    for number, value in enumerate([False, None]):
        identify(db, 2 + number, NOW + HOUR, public=True, anonymous="a", no_mail=value)
    assert known(db) == [(True, NOW, "own")]
    assert given.rows(db, schema.users, "attributes") == [{"no_mail": True}]


def test_without_a_path_no_attribute_says_anything(db: Database) -> None:
    identify(db, 1, NOW, settings=Settings(), no_mail=True, unsubscribed=True)
    assert known(db) == [(False, None, "customerio")]


def test_what_they_say_of_a_person_at_customerio_is_due_at_once(db: Database) -> None:
    identify(db, 1, NOW, user="1")
    (user_id,) = given.rows(db, schema.users, "id")
    given.sent(db, given.person(user_id, customer_id="1"))
    identify(db, 2, NOW, no_mail=True)
    assert given.rows(db, schema.pending, "user_id", "priority") == [(user_id, pending.AT_ONCE)]
