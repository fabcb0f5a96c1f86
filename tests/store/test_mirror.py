"""The mirror: what was sent, who has which customer id, and who differs from it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from msgspec.structs import asdict, replace

from connector.outbound import full_pass
from connector.records import Identifier
from connector.settings import Attribute, Delete, Everyone, People, Settings
from connector.store import erasure, guarded, leases, merging, mirror, pending, schema, standing, users
from connector.store.database import Database
from connector.store.mirror import Looked
from tests.store import given
from tests.store.given import NOW

LATER = NOW + timedelta(hours=1)
PRO = Settings(segments={"pro": Attribute("plan", "is", "pro")}, people=People(segments=("pro",)))


DELETING = PRO.model_copy(update={"people": People(segments=("pro",), delete=Delete(enabled=True, blind=True))})


def differing(db: Database, settings: Settings = PRO) -> dict[str, bool]:
    """Whom a pass has to look at, and whether they are people at Customer.io."""
    found = db.read(lambda connection: list(standing.differing(connection, settings, given.NOW)))
    people = {each.user_id: each.is_person for each in found}
    assert len(found) == len(people)
    assert not any(each.outside for each in found)
    assert all(each.changed == each.is_person for each in found)
    return people


def pro(user_id: str, **more: object) -> dict[str, object]:
    values = {"external_id": user_id.lower(), "email": f"{user_id}@b.co", "attributes": {"plan": "pro"}}
    return given.user(user_id, **(values | more))


def sent_as_pro(user_id: str, **more: object) -> mirror.Mirror:
    return given.person(user_id, **({"segment_bits": "1", "mapping_hash": PRO.mapping_hash()} | more))


def test_what_was_sent_comes_back_and_is_replaced_by_what_is_sent_next(db: Database) -> None:
    given.have(db, given.user("U1"))
    first = given.person("U1", customer_id="c1", attributes={"a": [1, 2.5, "ä", None, True], "b": {"c": 2**60}})
    given.sent(db, first)
    assert given.rows(db, schema.mirror) == [asdict(first)]
    second = replace(first, attributes={}, version=2, sent_ts=first.sent_ts + 1, synced_at=LATER, segment_bits="1")
    given.sent(db, second)
    assert given.rows(db, schema.mirror) == [asdict(second)]
    assert db.read(mirror.count) == 1


def test_the_customer_id_of_a_new_person_names_the_user(db: Database) -> None:
    given.have(db, given.user("U1"), given.user("U2"))
    given.sent(db, given.person("U1", customer_id="c1"), given.person("U2", customer_id="a@b.co", id_kind="email"))
    assert given.rows(db, schema.identifiers, "kind", "value", "user_id") == [("customer_id", "c1", "U1")]
    given.sent(db, given.person("U1", customer_id="c1", synced_at=LATER))
    named = Identifier("customer_id", "c1")
    assert db.read(users.find, [named]) == {named: "U1"}


def test_a_customer_id_is_the_user_whom_we_sent_under_it_even_when_a_webhook_was_read_before_we_noted_it(
    db: Database,
) -> None:
    settings = Settings(people=People(customer_id=("crm_id",)))
    given.have(db, given.user("U1", attributes={"crm_id": "c1"}))
    given.read(db, given.webhook("a", identifiers={"id": "c1"}), settings=settings)
    given.sent(db, given.person("U1", customer_id="c1"))
    given.read(db, given.webhook("b", identifiers={"id": "c1"}), settings=settings)
    owners = dict(given.rows(db, schema.events, "source_id", "user_id"))
    assert owners["a"] != "U1"
    assert owners["b"] == "U1"


def test_a_customer_id_is_one_users_and_the_store_refuses_a_second(db: Database) -> None:
    given.have(db, given.user("U1"), given.user("U2"))
    given.sent(db, given.person("U1", customer_id="c"))
    with pytest.raises(sa.exc.IntegrityError):
        given.sent(db, given.person("U2", customer_id="c"))
    assert db.read(mirror.owners, ["c", "nobody's"]) == {"c": "U1"}


def test_owners_are_found_for_any_number_of_customer_ids(db: Database) -> None:
    numbers = [f"U{number}" for number in range(mirror.CHUNK + 5)]
    given.have(db, *(given.user(each) for each in numbers))
    given.sent(db, *(given.person(each, customer_id=f"c{each}") for each in numbers))
    assert db.read(mirror.owners, [f"c{each}" for each in numbers]) == {f"c{each}": each for each in numbers}
    assert db.read(mirror.owners, []) == {}


def test_a_touch_notes_what_was_compared_and_nothing_else(db: Database) -> None:
    given.have(db, given.user("U1"), given.user("U2"))
    before = given.person("U1", customer_id="c1", attributes={"a": 1})
    given.sent(db, before, given.person("U2"))
    db.write(mirror.touch, [Looked("U1", "10", "new hash", 7, LATER, 1), Looked("U0", "1", "nobody", 1, None, 1)])
    touched = replace(before, segment_bits="10", mapping_hash="new hash", version=7, left_at=LATER)
    assert given.rows(db, schema.mirror)[0] == asdict(touched)
    assert given.rows(db, schema.mirror)[1] == asdict(given.person("U2"))
    db.write(mirror.touch, [Looked("U1", "10", "new hash", 7, None, 1)])
    assert given.rows(db, schema.mirror)[0] == asdict(replace(touched, left_at=None))
    db.write(mirror.touch, [])


def test_a_pass_looks_at_nobody_when_nothing_differs(db: Database) -> None:
    given.have(db, pro("U1"), given.user("U2", external_id="u2", email="two@b.co"))
    given.sent(db, sent_as_pro("U1"))
    assert differing(db) == {}


def test_a_pass_looks_at_a_person_whose_user_has_another_version(db: Database) -> None:
    given.have(db, pro("U1", version=2), pro("U2", version=2))
    given.sent(db, sent_as_pro("U1"), sent_as_pro("U2", version=2))
    assert differing(db) == {"U1": True}


def test_a_pass_looks_at_a_person_who_entered_or_left_a_segment(db: Database) -> None:
    given.have(db, pro("U1", attributes={}), pro("U2"), pro("U3"))
    given.sent(db, sent_as_pro("U1"), sent_as_pro("U2", segment_bits="0"), sent_as_pro("U3"))
    assert differing(db) == {"U1": True, "U2": True}


def test_a_pass_looks_at_everyone_when_the_mapping_changed(db: Database) -> None:
    given.have(db, pro("U1"), given.user("U2"))
    given.sent(db, sent_as_pro("U1"), sent_as_pro("U2", segment_bits="0"))
    other = PRO.model_copy(update={"people": People(segments=("pro",), max_attributes_per_call=7)})
    assert differing(db, other) == {"U1": True, "U2": True}


def test_a_pass_looks_at_whitelisted_users_who_are_nobody_at_customerio(db: Database) -> None:
    given.have(db, pro("U1"), pro("U2", attributes={"plan": "free"}), pro("U3", attributes={"plan": 1}), pro("U4"))
    given.sent(db, sent_as_pro("U4"))
    assert differing(db) == {"U1": False}


def test_a_pass_never_looks_at_those_whom_only_customerio_told_us_of(db: Database) -> None:
    given.have(db, pro("U1", known_by="customerio"), pro("U2", known_by="customerio", version=5))
    given.sent(db, sent_as_pro("U2"))
    assert differing(db) == {"U2": True}


def test_a_pass_looks_at_users_without_an_email_only_when_none_is_required(db: Database) -> None:
    given.have(db, pro("U1", email=None), pro("U2"))
    assert differing(db) == {"U2": False}
    lenient = PRO.model_copy(update={"people": People(segments=("pro",), require_email=False)})
    assert differing(db, lenient) == {"U1": False, "U2": False}


@pytest.mark.parametrize(
    ("customer_id", "expected"),
    [
        (("external_id",), {"U1", "U3"}),
        (("email",), {"U1", "U2"}),
        (("external_id", "email"), {"U1", "U2", "U3", "U4"}),
        (("id",), {"U1", "U2", "U3", "U4"}),
    ],
)
def test_a_pass_skips_those_who_cannot_have_a_customer_id(
    db: Database, customer_id: tuple[str, ...], expected: set[str]
) -> None:
    given.have(
        db, pro("U1"), pro("U2", external_id=None), pro("U3", email=None), pro("U4", external_id=None, email=None)
    )
    settings = PRO.model_copy(
        update={"people": People(segments=("pro",), customer_id=customer_id, require_email=False)}
    )
    assert set(differing(db, settings)) == expected


def test_a_pass_skips_those_whose_create_was_let_go_already(db: Database) -> None:
    given.have(db, pro("U1"), pro("U2"), pro("U3"))
    db.write(pending.release, ["U1"], "guard", NOW)
    db.write(pending.release, ["U2"], "approved", NOW)
    db.write(pending.mark, ["U3"], NOW, pending.CHANGED)
    assert differing(db) == {"U3": False}


def test_without_a_whitelist_nobody_new_is_looked_at(db: Database) -> None:
    given.have(db, pro("U1"))
    assert differing(db, Settings(segments={"all": Everyone()})) == {}


def test_what_a_pass_finds_streams_while_the_same_thread_writes(db: Database) -> None:
    numbers = [f"U{number:05}" for number in range(mirror.CHUNK * 2 + 1)]
    given.have(db, *(pro(each) for each in numbers))
    seen = []
    with db.reader.begin() as connection:
        for each in standing.differing(connection, PRO, given.NOW):
            seen.append(each.user_id)
            if len(seen) % mirror.CHUNK == 0:
                db.write(pending.release, seen[-mirror.CHUNK :], "guard", NOW)
    assert sorted(seen) == numbers


def test_creates_that_the_guard_let_through_are_counted_since_a_moment(db: Database) -> None:
    given.have(db, *(given.user(f"U{number}") for number in range(4)))
    given.sent(
        db,
        given.person("U0", release="guard", created_at=NOW, synced_at=NOW),
        given.person("U1", release="guard", created_at=LATER, synced_at=LATER),
        given.person("U2", release="approved", created_at=LATER, synced_at=LATER),
        given.person("U3", created_at=LATER, synced_at=LATER),
    )
    assert db.read(guarded.since, "create", NOW - timedelta(seconds=1)) == 2
    assert db.read(guarded.since, "create", NOW) == 1


def test_an_update_in_the_moment_of_the_create_is_no_second_create(db: Database) -> None:
    given.have(db, given.user("U1"))
    for _ in range(2):
        given.sent(db, given.person("U1", release="guard"))
    given.sent(db, given.person("U1", release="guard", synced_at=LATER))
    assert db.read(guarded.since, "create", NOW - timedelta(seconds=1)) == 1


def test_who_is_created_anew_is_counted_again_and_takes_nothing_back(db: Database) -> None:
    given.have(db, given.user("U1"))
    for at in (NOW, NOW + timedelta(minutes=2)):
        new = {"release": "guard", "created_at": at, "synced_at": at}
        given.sent(db, given.person("U1", **new))
        given.sent(db, given.person("U1", **new | {"synced_at": at + timedelta(minutes=1)}, deleted_at=at))
    given.sent(db, given.person("U1", release="approved", created_at=LATER, synced_at=LATER))
    before = NOW - timedelta(seconds=1)
    assert (db.read(guarded.since, "create", before), db.read(guarded.since, "delete", before)) == (2, 2)


def test_what_happened_a_day_ago_is_forgotten(db: Database) -> None:
    db.write(guarded.count, {("delete", NOW): 2, ("delete", LATER): 1, ("create", LATER): 4})
    db.write(guarded.count, {("delete", LATER): 5})
    db.write(guarded.count, {})
    db.write(guarded.forget, NOW)
    assert given.rows(db, schema.guarded, "what", "at", "count") == [("create", LATER, 4), ("delete", LATER, 6)]


def test_while_nobody_is_deleted_nobody_leaves(db: Database) -> None:
    given.have(db, *(given.user(f"U{number}") for number in range(4)))
    given.sent(db, *(given.person(f"U{number}", left_at=NOW if number else None) for number in range(4)))
    assert [db.write(mirror.stay, 2) for _ in range(3)] == [2, 1, 0]
    assert given.rows(db, schema.mirror, "left_at") == [None] * 4


def leaving(db: Database, settings: Settings = DELETING) -> dict[str, tuple[bool, datetime | None, bool]]:
    """Of everyone a pass looks at: whether they are outside, since when, and whether they changed."""
    found = db.read(lambda connection: list(standing.differing(connection, settings, given.NOW)))
    return {each.user_id: (each.outside, each.left_at, each.changed) for each in found}


def test_where_people_are_deleted_a_pass_looks_at_everyone_who_is_outside_also_when_nothing_changed(
    db: Database,
) -> None:
    free = {"attributes": {"plan": "free"}}
    given.have(db, pro("U1"), pro("U2", **free), pro("U3", **free), pro("U4", **free), pro("U5", **free))
    given.sent(
        db,
        sent_as_pro("U1"),
        sent_as_pro("U2", segment_bits="0"),
        sent_as_pro("U3"),
        sent_as_pro("U4", segment_bits="0", left_at=NOW),
        sent_as_pro("U5", segment_bits="0", left_at=NOW, deleted_at=LATER),
    )
    assert leaving(db) == {"U2": (True, None, False), "U3": (True, None, True), "U4": (True, NOW, False)}
    assert leaving(db, PRO) == {"U3": (False, None, True)}


def test_without_a_whitelist_everyone_is_outside(db: Database) -> None:
    given.have(db, pro("U1"))
    given.sent(db, sent_as_pro("U1"))
    emptied = DELETING.model_copy(update={"people": DELETING.people.model_copy(update={"segments": ()})})
    assert leaving(db, emptied) == {"U1": (True, None, True)}


def test_who_was_deleted_is_missing_when_they_are_back_unless_they_are_suppressed(db: Database) -> None:
    given.have(db, pro("U1"), pro("U2"), pro("U3", version=7))
    given.sent(
        db,
        sent_as_pro("U1", deleted_at=NOW),
        sent_as_pro("U2", deleted_at=NOW, suppressed_at=NOW),
        sent_as_pro("U3", suppressed_at=NOW),
    )
    assert differing(db, DELETING) == {"U1": False, "U3": True}


def test_since_when_somebody_is_outside_is_noted_once_and_not_of_the_deleted(db: Database) -> None:
    given.have(db, pro("U1"), pro("U2"), pro("U3"))
    given.sent(db, sent_as_pro("U1"), sent_as_pro("U2", left_at=NOW), sent_as_pro("U3", deleted_at=NOW))
    db.write(mirror.leave, ["U1", "U2", "U3", "nobody"], LATER)
    assert given.rows(db, schema.mirror, "left_at") == [LATER, NOW, None]


def test_the_customer_id_of_who_was_deleted_is_free_for_another_one(db: Database) -> None:
    given.have(db, given.user("U1"), given.user("U2"), given.user("U3"))
    given.sent(db, given.person("U1", customer_id="c", deleted_at=NOW))
    assert db.read(mirror.owners, ["c"]) == {}
    given.sent(db, given.person("U2", customer_id="c", deleted_at=NOW))
    given.sent(db, given.person("U3", customer_id="c"))
    assert db.read(mirror.owners, ["c"]) == {"c": "U3"}
    assert db.read(mirror.count) == 1


def test_the_deleted_are_counted_since_a_moment(db: Database) -> None:
    given.have(db, *(given.user(f"U{number}") for number in range(3)))
    given.sent(db, given.person("U0"), given.person("U1", deleted_at=NOW), given.person("U2", deleted_at=LATER))
    assert db.read(guarded.since, "delete", NOW - timedelta(seconds=1)) == 2
    assert db.read(guarded.since, "delete", NOW) == 1
    assert db.read(guarded.since, "delete", LATER) == 0


def test_a_customer_id_that_was_deleted_a_moment_ago_is_found_with_the_last_time(db: Database) -> None:
    given.have(db, *(given.user(f"U{number}") for number in range(4)))
    given.sent(
        db,
        given.person("U0", customer_id="a", deleted_at=LATER),
        given.person("U1", customer_id="a", deleted_at=NOW),
        given.person("U2", customer_id="b", deleted_at=LATER),
        given.person("U3", customer_id="c"),
    )
    assert db.read(mirror.deleted, ["a", "c", "d"], NOW - timedelta(seconds=1)) == {"a": LATER}
    assert db.read(mirror.deleted, ["a", "b"], LATER) == {}
    assert db.read(mirror.deleted, [], NOW) == {}


def test_everybody_is_looked_at_again_in_stretches(db: Database) -> None:
    names = [f"U{number}" for number in range(5)]
    given.have(db, *map(pro, names))
    given.sent(db, *map(sent_as_pro, names))
    assert db.write(mirror.look_again, "", 3) == "U2"
    assert differing(db) == dict.fromkeys(names[:3], True)
    assert db.write(mirror.look_again, "U2", 3) == "U4"
    assert db.write(mirror.look_again, "U4", 3) is None
    assert differing(db) == dict.fromkeys(names, True)


def test_the_new_customer_id_of_who_was_renamed_names_the_user_and_the_old_one_does_too(db: Database) -> None:
    given.have(db, given.user("U1"))
    given.sent(db, given.person("U1", customer_id="c1"))
    renamed = given.person("U1", customer_id="c2", synced_at=LATER)
    db.write(mirror.record, [renamed], ["U1"])
    assert given.rows(db, schema.identifiers, "value", "user_id") == [("c1", "U1"), ("c2", "U1")]


@pytest.mark.parametrize("store_kind", ["postgresql"], indirect=True)  # SQLite has one writer at a time
@pytest.mark.parametrize("is_claimed", [True, False])
@pytest.mark.parametrize(
    ("fn", "arguments"),
    [
        (mirror.look_again, ("", 100)),
        (mirror.stay, (100,)),
        (full_pass._move, (["U3"], ["U1"], NOW)),
        (merging.merge, ({"U3": "U4", "U1": "U2"}, NOW)),
        (erasure.finish, (erasure.Erasure(("U3", "U1"), frozenset(), (), NOW),)),
    ],
)
def test_who_writes_of_many_people_and_who_records_what_was_sent_do_not_block_each_other(
    store_url: str, db: Database, fn: Callable[..., Any], arguments: tuple[Any, ...], is_claimed: bool
) -> None:
    """These lie in the table in another order than they are locked in; what is recorded comes in any order."""
    given.have(db, *(given.user(each) for each in ("U1", "U2", "U3", "U4")))
    for user_id in ("U3", "U1"):
        given.sent(db, given.person(user_id, left_at=NOW))
    if is_claimed:
        db.write(pending.mark, ["U1", "U3"], NOW, pending.CHANGED)
        db.write(leases.claim, "lease", NOW, LATER, 10)
    other = Database(store_url)
    with ThreadPoolExecutor(1) as threads, other.transaction() as first:
        leases.still_ours(first, {"U1": "lease", "U3": "lease"})
        order = ("U3", "U1") if is_claimed else ("U1", "U3")
        mirror.touch(first, [Looked(order[0], "", "hash", 1, NOW, 1)])
        running = threads.submit(db.write, fn, *arguments)
        given.until_it_waits(other, running)
        mirror.touch(first, [Looked(order[1], "", "hash", 1, NOW, 1)])
    running.result(20)
    other.close()
