"""Rows of an import become users: whose row it is, what it changes, and what it can't take."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from connector.inbound import upsert
from connector.records import Learnt, UserRow
from connector.store import pending, schema, users
from connector.store.database import Database
from tests.store import given
from tests.store.given import NOW, row, webhook

LATER = datetime(2026, 3, 2, tzinfo=UTC)


def take(db: Database, *rows: UserRow, now: datetime = NOW) -> list[str]:
    """The rows as one chunk."""
    return list(db.write(upsert.upsert, rows, now))


def stored(db: Database) -> list[tuple[Any, ...]]:
    """External id, email and attributes of everyone, in the order in which they came."""
    return given.rows(db, schema.users, "external_id", "email", "attributes")


def emails(db: Database) -> dict[str, str | None]:
    """Which external id an email names."""
    owners = dict(given.rows(db, schema.users, "id", "external_id"))
    named = given.rows(db, schema.identifiers, "kind", "value", "user_id")
    return {value: owners[user_id] for kind, value, user_id in named if kind == "email"}


def test_a_row_is_created_then_unchanged_then_updated(db: Database) -> None:
    ann = row("1", "Ann@Example.com", plan="pro", created_at=NOW)
    assert take(db, ann) == ["created"]
    [found] = given.rows(db, schema.users)
    assert found | {"id": ""} == given.user(
        "", external_id="1", email="Ann@Example.com", attributes={"plan": "pro"}, created_at=NOW
    )
    assert take(db, ann, now=LATER) == ["unchanged"]
    assert given.rows(db, schema.users) == [found]
    assert take(db, row("1", plan="team"), now=LATER) == ["updated"]
    changed = {"attributes": {"plan": "team"}, "version": 2, "updated_at": LATER}
    assert given.rows(db, schema.users) == [found | changed]


def test_a_row_is_the_user_with_its_external_id_else_with_its_email(db: Database) -> None:
    take(db, row("1", "one@b.co"), row(None, "two@b.co"))
    assert take(db, row("1", a=1), row(None, "ONE@b.co", b=2), row(None, "two@B.co", c=3)) == ["updated"] * 3
    assert stored(db) == [("1", "ONE@b.co", {"a": 1, "b": 2}), (None, "two@B.co", {"c": 3})]
    assert emails(db) == {"one@b.co": "1", "two@b.co": None}


def test_a_user_known_by_email_gets_the_external_id_that_comes_with_it(db: Database) -> None:
    take(db, row(None, "a@b.co", plan="pro"))
    assert take(db, row("1", "A@b.co")) == ["updated"]
    assert take(db, row("1", plan="team")) == ["updated"]
    assert stored(db) == [("1", "A@b.co", {"plan": "team"})]


def test_email_is_compared_without_case_and_kept_as_it_was_given_last(db: Database) -> None:
    assert take(db, row("1", "Ann@B.co")) == ["created"]
    assert take(db, row("1", "ANN@b.CO")) == ["updated"]
    assert stored(db) == [("1", "ANN@b.CO", {})]
    assert emails(db) == {"ann@b.co": "1"}


def test_attributes_merge_at_the_top_and_null_removes_one(db: Database) -> None:
    take(db, row("1", plan="pro", seats=3, account={"name": "Acme", "size": 9}))
    assert take(db, row("1", seats=None, account={"name": "Other"}, city="Kiel", never=None)) == ["updated"]
    assert stored(db) == [("1", None, {"plan": "pro", "account": {"name": "Other"}, "city": "Kiel"})]
    assert take(db, row("1", never=None)) == ["unchanged"]


def test_true_and_one_are_different_values(db: Database) -> None:
    pairs: list[tuple[Any, Any]] = [
        (True, 1),
        (1, True),
        (0, False),
        ([True], [1]),
        ({"deep": [0]}, {"deep": [False]}),
    ]
    take(db, *(row(str(number), flag=before) for number, (before, _) in enumerate(pairs)))
    results = take(db, *(row(str(number), flag=after) for number, (_, after) in enumerate(pairs)))
    assert results == ["updated"] * len(pairs)
    flags = {external_id: repr(found["flag"]) for external_id, _, found in stored(db)}
    assert flags == {str(number): repr(after) for number, (_, after) in enumerate(pairs)}


def test_importing_the_same_values_again_changes_nothing(db: Database) -> None:
    numbers = [1, 1.0, 100.0, 0.1, -0.0, 1e22, 1e23, 1.5e300, 5e-324, 2**53 + 1, 2**70 + 1]
    values = [*numbers, True, "", "ä😀 %s", [], {}, {"b": 1, "a": 2}]
    rows = [row(str(number), value=value, values=[value]) for number, value in enumerate(values)]
    take(db, *rows)
    assert dict(zip(map(repr, values), take(db, *rows), strict=True)) == dict.fromkeys(map(repr, values), "unchanged")


def test_an_email_of_another_user_is_taken_and_its_row_changes_nothing(db: Database) -> None:
    take(db, row("1", "one@b.co"), row("2", "two@b.co"))
    before = given.rows(db, schema.users), given.rows(db, schema.identifiers)
    results = take(db, row("1", "TWO@b.co", plan="pro"), row("3", "one@b.co", plan="pro"), now=LATER)
    assert results == ["email_taken", "email_taken"]
    assert (given.rows(db, schema.users), given.rows(db, schema.identifiers)) == before


def test_an_anonymous_id_of_another_user_is_taken_and_its_row_changes_nothing(db: Database) -> None:
    take(db, row("1", anonymous_id="anon"))
    before = given.rows(db, schema.users), given.rows(db, schema.identifiers)
    results = take(db, row("2", anonymous_id="anon", plan="pro"), row(None, "a@b.co", anonymous_id="anon"), now=LATER)
    assert results == ["anonymous_id_taken", "anonymous_id_taken"]
    assert (given.rows(db, schema.users), given.rows(db, schema.identifiers)) == before


def test_a_user_gathers_anonymous_ids(db: Database) -> None:
    assert take(db, row("1", anonymous_id="x"), row("1", anonymous_id="y")) == ["created", "updated"]
    assert take(db, row("1", anonymous_id="z"), row("1", anonymous_id="x")) == ["updated", "unchanged"]
    found = given.rows(db, schema.identifiers, "kind", "value")
    assert found == [("anonymous_id", "x"), ("anonymous_id", "y"), ("anonymous_id", "z"), ("external_id", "1")]


def test_several_rows_of_one_user_in_a_chunk_are_taken_in_order(db: Database) -> None:
    results = take(
        db,
        row("1", plan="free", seats=1),
        row("1", "a@b.co", plan="pro"),
        row(None, "A@b.co", seats=None),
        row("1", plan="pro"),
    )
    assert results == ["created", "updated", "updated", "unchanged"]
    assert stored(db) == [("1", "A@b.co", {"plan": "pro"})]
    assert given.rows(db, schema.users, "version") == [1]


def test_several_rows_of_a_stored_user_in_a_chunk_are_one_version(db: Database) -> None:
    take(db, row("1", plan="free"))
    assert take(db, row("1", plan="pro"), row("1", seats=1), now=LATER) == ["updated", "updated"]
    assert given.rows(db, schema.users, "version", "attributes") == [(2, {"plan": "pro", "seats": 1})]


@pytest.mark.parametrize("chunked", [True, False], ids=["in one chunk", "one by one"])
def test_an_email_moves_from_one_user_to_another(db: Database, chunked: bool) -> None:
    take(db, row("1", "shared@b.co"), row("2", "two@b.co"))
    moves = [row("1", "own@b.co"), row("2", "Shared@b.co"), row("3", "two@b.co")]
    for each in [moves] if chunked else [[move] for move in moves]:
        assert set(take(db, *each)) <= {"updated", "created"}
    assert [(external_id, email) for external_id, email, _ in stored(db)] == [
        ("1", "own@b.co"),
        ("2", "Shared@b.co"),
        ("3", "two@b.co"),
    ]
    assert emails(db) == {"own@b.co": "1", "shared@b.co": "2", "two@b.co": "3"}


def test_two_users_swap_emails_by_way_of_a_third_address_within_a_chunk(db: Database) -> None:
    take(db, row("1", "one@b.co"), row("2", "two@b.co"))
    swap = [row("1", "tmp@b.co"), row("2", "one@b.co"), row("1", "two@b.co")]
    assert take(db, *swap) == ["updated"] * 3
    assert emails(db) == {"one@b.co": "2", "two@b.co": "1"}


def test_an_email_that_is_given_up_and_taken_back_within_a_chunk_stays(db: Database) -> None:
    take(db, row("1", "one@b.co"))
    assert take(db, row("1", "two@b.co"), row("1", "one@b.co")) == ["updated", "updated"]
    assert emails(db) == {"one@b.co": "1"}


def test_an_address_that_was_given_up_names_nobody(db: Database) -> None:
    take(db, row("1", "old@b.co"))
    take(db, row("1", "new@b.co"))
    assert emails(db) == {"new@b.co": "1"}
    assert take(db, row(None, "old@b.co")) == ["created"]


def test_a_user_known_only_from_customerio_becomes_our_own(db: Database) -> None:
    given.read(db, webhook("a", "customer.unsubscribed", identifiers={"id": "1", "email": "a@b.co", "cio_id": "c1"}))
    assert take(db, row("1", plan="pro"), now=LATER) == ["updated"]
    [found] = given.rows(db, schema.users)
    assert (found["known_by"], found["opted_out"], found["attributes"]) == ("own", True, {"plan": "pro"})
    assert db.read(users.count) == 1


def test_a_row_that_says_nothing_new_still_makes_a_user_of_customerios_our_own(db: Database) -> None:
    given.read(db, webhook("a", identifiers={"id": "1"}))
    assert take(db, row("1")) == ["updated"]
    assert take(db, row("1")) == ["unchanged"]
    assert given.rows(db, schema.users, "known_by") == ["own"]


def test_people_at_customerio_who_changed_become_pending_and_no_others(db: Database) -> None:
    take(db, row("1"), row("2"), row("3"))
    by_id = {external_id: user_id for user_id, external_id in given.rows(db, schema.users, "id", "external_id")}
    given.sent(db, given.person(by_id["1"]), given.person(by_id["2"]))
    take(db, row("1", plan="pro"), row("2"), row("3", plan="pro"), row("4"), now=LATER)
    assert given.rows(db, schema.pending, "user_id", "priority", "due_at") == [(by_id["1"], pending.CHANGED, LATER)]


def test_created_at_stays_until_another_one_is_told(db: Database) -> None:
    take(db, row("1", created_at=NOW))
    assert take(db, row("1")) == ["unchanged"]
    assert take(db, row("1", created_at=LATER)) == ["updated"]
    assert given.rows(db, schema.users, "created_at") == [LATER]


def test_more_rows_than_a_query_takes_identifiers_are_one_chunk(db: Database) -> None:
    many = [row(f"u{number}", f"u{number}@b.co") for number in range(users.CHUNK * 2 + 1)]
    assert set(take(db, *many)) == {"created"}
    assert set(take(db, *many)) == {"unchanged"}
    assert db.read(users.count) == len(many)


def test_a_row_that_the_database_refuses_leaves_its_whole_chunk_untaken(db: Database) -> None:
    def fails(connection: Connection) -> None:
        upsert.upsert(connection, [row("1"), row("2")], NOW)
        users.add(connection, [given.user("U9")], [])
        connection.execute(sa.update(schema.users).where(schema.users.c.id == "U9").values(known_by=None))

    with pytest.raises(sa.exc.IntegrityError):
        db.write(fails)
    assert db.read(users.count) == 0


def test_a_row_with_nothing_but_an_anonymous_id_is_the_user_with_that_id(db: Database) -> None:
    assert take(db, row(anonymous_id="anon", plan="pro")) == ["created"]
    assert take(db, row(anonymous_id="anon", plan="pro")) == ["unchanged"]
    assert take(db, row(anonymous_id="anon", plan="team"), row(anonymous_id="other")) == ["updated", "created"]
    assert stored(db) == [(None, None, {"plan": "team"}), (None, None, {})]


def said(db: Database, no_mail: object, at: datetime = NOW) -> tuple[bool, datetime | None, str]:
    """What is known of the opt-out after an import of a row that says this."""
    db.write(upsert.upsert, [row("1", consent={"no_mail": no_mail})], at, "consent.no_mail")
    ((opted_out, changed_at, by),) = given.rows(db, schema.users, "opted_out", "opt_changed_at", "opted_by")
    return opted_out, changed_at, by


def test_a_row_that_says_so_opts_out_and_one_that_takes_it_back_later_opts_in(db: Database) -> None:
    second = timedelta(seconds=1)
    assert said(db, False) == (False, None, "customerio")
    assert said(db, "yes") == (False, None, "customerio")
    assert said(db, True, NOW + second) == (True, NOW + second, "own")
    assert said(db, True, NOW + 2 * second) == (True, NOW + second, "own")
    assert said(db, None, NOW + 3 * second) == (True, NOW + second, "own")
    assert said(db, False, NOW + 4 * second) == (True, NOW + second, "own")
    assert said(db, True, NOW + 5 * second) == (True, NOW + second, "own")
    assert said(db, False, NOW + 6 * second) == (False, NOW + 6 * second, "own")


def test_a_row_takes_back_no_opt_out_that_only_customerio_has_told(db: Database) -> None:
    said(db, False)
    (user_id,) = given.rows(db, schema.users, "id")
    db.write(users.remember, {user_id: Learnt(True, NOW)}, NOW)
    assert said(db, False, NOW + timedelta(days=1)) == (True, NOW, "customerio")


def test_what_plain_sql_said_of_an_opt_out_is_taken_back_by_a_row(db: Database) -> None:
    given.have(db, given.user("U1", external_id="1", attributes={"consent": {"no_mail": True}}))
    assert said(db, False) == (False, NOW, "own")


def test_without_a_path_a_row_says_nothing_of_an_opt_out(db: Database) -> None:
    take(db, row("1", no_mail=True))
    assert given.rows(db, schema.users, "opted_out", "opt_changed_at") == [(False, None)]


def test_an_opt_out_of_a_person_is_due_at_once(db: Database) -> None:
    given.have(db, given.user("U1", external_id="1"))
    given.sent(db, given.person("U1", customer_id="1"))
    said(db, True)
    assert given.rows(db, schema.pending, "user_id", "priority") == [("U1", pending.AT_ONCE)]
