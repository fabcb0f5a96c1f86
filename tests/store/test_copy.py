"""COPY puts rows into PostgreSQL as the statement does that takes fewer of them, and hides what it was given."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
import sqlalchemy as sa

from connector.store import copy, documents, driver_errors, schema
from connector.store.database import Database
from tests.store import given
from tests.store.given import NOW

MANY = documents.BY_COPY


on_postgresql = pytest.mark.parametrize("store_kind", ["postgresql"], indirect=True)

ODD = [
    {},
    {"text": "tab\tline\nreturn\r back\\slash \\N \\. \" ' ; 語 \U0001f600"},
    {"nested": {"list": [1, 2.5, None, True, {"deep": []}]}},
    {"big": 123456789012345678901234567890, "small": -1e-300},
]


def odd_users(count: int) -> list[dict[str, Any]]:
    return [
        given.user(
            f"U{n:05}",
            external_id=f"{n}" if n % 2 else None,
            email=f"tab\t{n}\\N@x.co" if n % 3 else None,
            attributes=ODD[n % len(ODD)],
            created_at=(None, datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, tzinfo=UTC))[n % 3],
            opted_out=n % 2 == 0,
            version=n,
        )
        for n in range(count)
    ]


def test_rows_are_the_same_however_many_come_at_once(db: Database) -> None:
    rows = odd_users(MANY)
    db.write(documents.insert, schema.users, rows)
    at_once = given.rows(db, schema.users)
    db.write(lambda c: c.execute(sa.delete(schema.users)))
    for start in range(0, len(rows), 100):
        db.write(documents.insert, schema.users, rows[start : start + 100])
    assert given.rows(db, schema.users) == at_once
    assert [row["attributes"] for row in at_once[:4]] == ODD


@on_postgresql
def test_rows_that_are_there_already_stay_or_fail_the_statement(db: Database) -> None:
    old = {"kind": "email", "value": "a@x.co", "user_id": "U1"}
    given.have(db, given.user("U1"), given.user("U2"))
    db.write(copy.insert, schema.identifiers, [old], keep_old=False)
    new = [{**old, "user_id": "U2"}, {**old, "value": "b@x.co"}, {**old, "value": "b@x.co", "user_id": "U2"}]
    db.write(copy.insert, schema.identifiers, new, keep_old=True)
    expected = [("email", "a@x.co", "U1"), ("email", "b@x.co", "U1")]
    assert given.rows(db, schema.identifiers, "kind", "value", "user_id") == expected
    with pytest.raises(sa.exc.IntegrityError) as refused:
        db.write(copy.insert, schema.identifiers, new, keep_old=False)
    assert "x.co" not in str(refused.value)


@on_postgresql
def test_one_transaction_can_copy_into_several_tables_and_into_one_again(db: Database) -> None:
    def twice(connection: sa.Connection) -> None:
        for n in (1, 2):
            copy.insert(connection, schema.users, [given.user(f"U{n}")], keep_old=False)
            named = {"kind": "email", "value": f"{n}@x.co", "user_id": f"U{n}"}
            copy.insert(connection, schema.identifiers, [named], keep_old=False)

    db.write(twice)
    db.write(copy.insert, schema.users, [given.user("U3")], keep_old=False)
    assert given.rows(db, schema.users, "id") == ["U1", "U2", "U3"]


@on_postgresql
@pytest.mark.parametrize(
    "wrong", [{"email": "secret\0@x.co"}, {"known_by": None}, {"external_id": None, "id": None, "email": "secret@x.co"}]
)
def test_a_value_that_postgres_refuses_is_an_error_without_the_value(db: Database, wrong: dict[str, Any]) -> None:
    with pytest.raises(sa.exc.StatementError) as refused:
        db.write(copy.insert, schema.users, [given.user("U1"), given.user("U2", **wrong)], keep_old=False)
    assert driver_errors.refused_a_value(refused.value)
    shown = f"{refused.value} {refused.value.orig} {refused.value.orig.args}"  # type: ignore[union-attr]
    assert "secret" not in shown
    assert given.rows(db, schema.users) == []


def test_a_time_without_a_timezone_is_refused_as_everywhere(db: Database) -> None:
    rows = [given.user(f"U{n}") for n in range(MANY - 1)] + [given.user("V", created_at=NOW.replace(tzinfo=None))]
    with pytest.raises(ValueError, match="without a timezone"):
        db.write(documents.insert, schema.users, rows)
