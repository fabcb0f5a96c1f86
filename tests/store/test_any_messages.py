"""Whatever is told in whatever order: no event is lost or in two places, and who share nothing never meet."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import hypothesis
import sqlalchemy as sa
from hypothesis import strategies as st
from sqlalchemy.engine import Connection

from connector.inbound import reader
from connector.store import inbox, schema
from connector.store.database import Database
from tests.store import told
from tests.store.given import NOW, SETTINGS

KINDS = ("identify", "track", "page", "group", "alias")
ON_BOTH_STORES = hypothesis.settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture, hypothesis.HealthCheck.too_slow],
)


def ids(kind: str, names: str) -> st.SearchStrategy[str | None]:
    return st.sampled_from([None, None, *(f"{kind}-{name}" for name in names)])


@st.composite
def messages(draw: st.DrawFn, names: str, *, public: bool = True) -> dict[str, Any]:
    """One message about somebody out of a few; `names` tells apart who may be meant."""
    kind = draw(st.sampled_from(KINDS))
    said = {
        "user": draw(ids("user", names)),
        "anonymous": draw(ids("visitor", names)),
        "previous": draw(st.one_of(ids("user", names), ids("visitor", names))) if kind == "alias" else None,
    }
    traits: dict[str, Any] = {}
    if (email := draw(ids("mail", names))) is not None:
        traits["email"] = f"{email}@b.co"
    if draw(st.booleans()):
        traits["plan"] = draw(st.sampled_from([None, "free", "pro"]))
    more: dict[str, Any] = {"traits": traits} if kind in {"identify", "group"} else {"context": {"traits": traits}}
    if kind == "group":
        more = {"groupId": draw(st.sampled_from("GH")), "context": {"traits": traits}}
    if not any(said.values()) and "email" not in traits:
        said["anonymous"] = f"visitor-{names[0]}"
    return {"kind": kind, "public": public and draw(st.booleans()), **more, **{k: v for k, v in said.items() if v}}


def numbered(found: list[dict[str, Any]], prefix: str) -> list[tuple[dict[str, Any], bool]]:
    """Messages with ids of their own, and whether each came with a public key."""
    numbered_ones = []
    for number, each in enumerate(found):
        said = {name: value for name, value in each.items() if name not in {"kind", "public"}}
        numbered_ones.append((told.message(each["kind"], f"{prefix}{number}", **said), each["public"]))
    return numbered_ones


@contextmanager
def rolled_back(db: Database) -> Iterator[Connection]:
    """A transaction that leaves nothing behind."""
    with db.writer.connect() as connection, connection.begin() as transaction:
        yield connection
        transaction.rollback()


def read(connection: Connection, said: list[tuple[dict[str, Any], bool]], batch: int) -> None:
    arrived = [told.received(message, **({"public": True} if public else {})) for message, public in said]
    inbox.append(connection, inbox.INTAKE, [each for one in arrived for each in one])
    while reader._read(connection, SETTINGS, NOW, batch):
        pass


def outcome(db: Database, said: list[tuple[dict[str, Any], bool]], batch: int) -> list[tuple[Any, ...]]:
    with rolled_back(db) as connection:
        read(connection, said, batch)
        return told.everybody(connection)


@ON_BOTH_STORES
@hypothesis.given(
    st.lists(messages("ab"), max_size=6),
    st.lists(messages("cd"), max_size=6),
    st.lists(messages("ef"), max_size=6),
    st.randoms(use_true_random=False),
    st.integers(1, 20),
)
def test_who_share_no_identifier_become_the_same_users_in_any_interleaving(
    db: Database, one: Any, two: Any, three: Any, random: Any, batch: int
) -> None:
    apart = [numbered(found, prefix) for found, prefix in ((one, "x"), (two, "y"), (three, "z"))]
    together = []
    waiting = [list(each) for each in apart]
    while any(waiting):
        together.append(random.choice([each for each in waiting if each]).pop(0))
    alone = [each for of_one in apart for each in of_one]
    assert outcome(db, together, batch) == outcome(db, alone, 1)


@ON_BOTH_STORES
@hypothesis.given(st.lists(messages("abc"), max_size=14), st.integers(1, 20))
def test_no_event_is_lost_or_in_two_places_and_a_repeat_changes_nothing(db: Database, found: Any, batch: int) -> None:
    said = numbered(found, "m")
    with rolled_back(db) as connection:
        read(connection, said, batch)
        once = told.everybody(connection)
        events = connection.execute(sa.select(schema.events.c.source_id)).scalars().all()
        assert sorted(events) == sorted(each["messageId"] for each, _ in said if each["type"] in {"track", "page"})
        assert sum(len(each[-1]) for each in once) == len(events)
        assert_everybody_is_named(connection)
        read(connection, said, 3)
        assert told.everybody(connection) == once


@ON_BOTH_STORES
@hypothesis.given(found=st.lists(messages("abc"), max_size=14))
def test_how_messages_are_cut_into_batches_makes_no_difference(db: Database, found: Any) -> None:
    said = numbered(found, "m")
    one_by_one = outcome(db, said, 1)
    assert outcome(db, said, 4) == one_by_one
    assert outcome(db, said, 50) == one_by_one


def assert_everybody_is_named(connection: Connection) -> None:
    """Each external_id and email that a user has names that user, and nobody is somebody else by now."""
    named = {
        (kind, value): user_id
        for kind, value, user_id in connection.execute(
            sa.select(schema.identifiers.c.kind, schema.identifiers.c.value, schema.identifiers.c.user_id)
        )
    }
    users = connection.execute(sa.select(schema.users)).all()
    assert {*named.values()} <= {user.id for user in users if user.merged_into is None}
    for user in users:
        for kind in ("external_id", "email"):
            value = getattr(user, kind)
            assert value is None or named[kind, value.lower() if kind == "email" else value] == user.id
