"""The story of one user: everything that is stored about them, why they are not sent, and what to do about it."""

from __future__ import annotations

import ast
import inspect
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from connector import errors
from connector.commands import approve, person, person_text, remedies
from connector.core import decide, erased, mapping
from connector.inbound import reader
from connector.outbound import full_pass, preparation
from connector.records import Event, Identifier
from connector.settings import Attribute, Customerio, Delete, Everyone, Guard, People, Settings
from connector.store import attempts, conflicts, events, leases, merging, pending, schema, story, users
from connector.store.attempts import Attempt
from connector.store.conflicts import Conflict
from connector.store.database import Database
from tests.store import given
from tests.store.given import NOW, webhook

SETTINGS = Settings(
    customerio=Customerio(site_id="s", api_key="k", region="us"),
    segments={"pro": Attribute("plan", "is", "pro"), "all": Everyone()},
    people=People(segments=["pro"], attributes=["plan", "seats"]),
)


def told(db: Database, given_id: str, settings: Settings = SETTINGS, newest: int | None = 20) -> dict[str, Any]:
    return person.tell(db, settings, given_id, newest, NOW)


def said(db: Database, given_id: str, settings: Settings = SETTINGS) -> str:
    return "\n".join(person_text.describe(told(db, given_id, settings)))


def pro(user_id: str, **more: Any) -> dict[str, Any]:
    return given.user(user_id, **{"attributes": {"plan": "pro"}, "email": f"{user_id}@b.co", **more})


def words(node: ast.AST) -> set[str]:
    """The texts in an expression; a constant of a module by its value."""
    if isinstance(node, ast.Attribute):
        return {erased.ERASED} if ast.unparse(node) == "erased.ERASED" else set()
    return {each.value for each in ast.walk(node) if isinstance(each, ast.Constant) and isinstance(each.value, str)}


def test_every_reason_that_a_decision_can_have_has_a_remedy() -> None:
    reasons = {preparation.AWAITS_PASS, "held"}
    for node in ast.walk(ast.parse(inspect.getsource(decide))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Decision":
            reasons |= words(node.args[1])
        elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "word":
            reasons |= words(node.value)
    reasons |= {
        node.value.value
        for node in ast.walk(ast.parse(inspect.getsource(mapping.customer_id)))
        if isinstance(node, ast.Return) and isinstance(node.value, ast.Constant)
    }
    assert {"merged", "erased", "leaving", "left", "opted_out", "changed", "bad_customer_id"} < reasons
    assert set(remedies.REMEDIES) == reasons


@pytest.mark.parametrize(
    ("given_id", "kind"),
    [
        ("U1", "user_id"),
        ("42", "external_id"),
        ("ANN@b.CO", "email"),
        ("anon-1", "anonymous_id"),
        ("cust-9", "customer_id"),
        ("c0ffee", "cio_id"),
    ],
)
def test_a_user_is_found_by_everything_that_names_them(db: Database, given_id: str, kind: str) -> None:
    given.have(db, given.user("U1", external_id="42", email="Ann@b.co"), given.user("U2"))
    more = [Identifier("anonymous_id", "anon-1"), Identifier("customer_id", "cust-9"), Identifier("cio_id", "c0ffee")]
    db.write(users.add, [], [(each, "U1") for each in more])
    found = told(db, given_id)
    assert (found["named_by"], found["user"]["id"], found["also"]) == (kind, "U1", [])
    assert len(found["user"]["identifiers"]) == 5


def test_an_address_that_was_sent_as_the_customer_id_finds_its_user(db: Database) -> None:
    given.have(db, given.user("U1"))
    given.sent(db, given.person("U1", customer_id="ann@b.co", id_kind="email"))
    assert told(db, "Ann@b.co")["user"]["id"] == "U1"


def test_an_id_that_names_several_users_says_whom_else(db: Database) -> None:
    given.have(db, given.user("7"), given.user("U1", external_id="7"), given.user("U2"))
    db.write(users.add, [], [(Identifier("anonymous_id", "7"), "U2"), (Identifier("cio_id", "7"), "U1")])
    found = told(db, "7")
    assert found["user"]["id"] == "7"
    assert found["also"] == [
        {"named_by": "external_id", "user_id": "U1"},
        {"named_by": "anonymous_id", "user_id": "U2"},
    ]
    assert "the external_id of user U1: connector person U1" in said(db, "7")


def test_an_id_that_names_nobody_says_what_was_tried(db: Database) -> None:
    with pytest.raises(errors.Failed, match="nobody is known as 42; tried as user_id, external_id, email, anon"):
        told(db, "42")


def test_who_was_merged_is_shown_as_who_is_left(db: Database) -> None:
    given.have(db, given.user("U1"), given.user("U2"), given.user("U3", external_id="3"))
    given.sent(db, given.person("U1"), given.person("U2"), given.person("U3"))
    db.write(merging.merge, {"U1": "U2"}, NOW)
    db.write(merging.merge, {"U2": "U3"}, NOW)
    found = told(db, "U1")
    assert (found["user"]["id"], found["merged"]) == ("U3", ["U1"])
    assert "merged      U1 turned out to be this one" in said(db, "U1")


def test_a_user_in_full(db: Database) -> None:
    given.have(db, pro("U1", external_id="1", email="Ann@b.co", attributes={"plan": "pro", "n": [1]}, created_at=NOW))
    preference = {
        "customer_id": "1",
        "identifiers": {"id": "1"},
        "content": '{"topics": {"topic_1": false}}',
    }
    given.read(
        db,
        webhook("a", "customer.unsubscribed", identifiers={"id": "1"}),
        webhook("b", "email.opened", identifiers={"id": "1"}),
        webhook("c", "customer.cio_subscription_preferences_changed", **preference),
    )
    found = told(db, "1")["user"]
    assert {name: found[name] for name in ("id", "external_id", "email", "attributes", "known_by", "created_at")} == {
        "id": "U1",
        "external_id": "1",
        "email": "Ann@b.co",
        "attributes": {"plan": "pro", "n": [1]},
        "known_by": "own",
        "created_at": NOW,
    }
    assert found["opted_out"] is True
    assert found["opt_changed_at"] is not None
    assert list(found["customerio"]) == ["opened_at"]
    words = said(db, "1")
    for expected in (
        "known from  your own data",
        'email       "ann@b.co"',
        'email       "Ann@b.co" (as given)',
        "created     2026-03-01 12:00:00 UTC",
        "opted out   yes since 2021-02-11 17:04:49 UTC",
        "customerio  opened_at 2021-02-11 17:04:49 UTC",
        'attribute   "n" = [1]',
        'segment     "pro" (sent)',
        'segment     "all" (not whitelisted)',
    ):
        assert expected in words


def test_preferences_are_told(db: Database) -> None:
    given.have(db, given.user("U1", preferences={"topics": {"news": [False, 5], "sale": [True, 5]}}))
    assert told(db, "U1")["user"]["preferences"] == {"topics": {"news": False, "sale": True}}
    assert 'preference  "topics" "news": not wanted' in said(db, "U1")


def test_no_text_of_the_data_can_move_the_cursor(db: Database) -> None:
    given.have(db, given.user("U1", attributes={"a\x1b[2J": "b\x9b2J\n\u202e"}))
    for line in said(db, "U1").split("\n"):
        assert line.isprintable()
    assert r'"a\u001b[2J" = "b\u009b2J\n\u202e"' in said(db, "U1")


def test_nor_can_the_id_that_somebody_was_sent_under(db: Database) -> None:
    given.have(db, pro("U1", external_id="new"))
    given.sent(db, given.person("U1", customer_id="old\x1b[2J\nattribute"))
    assert all(line.isprintable() for line in said(db, "U1").split("\n"))
    assert r'has them under the id "old\u001b[2J\nattribute"' in said(db, "U1")


def test_who_is_merged_away_meanwhile_is_told_as_they_were(db: Database) -> None:
    given.have(db, given.user("U1", external_id="1"), given.user("anonymous", external_id=None, email=None))
    db.write(users.add, [], [(Identifier("anonymous_id", "a1"), "anonymous")])
    merged: list[str] = []

    @sa.event.listens_for(db.reader, "after_cursor_execute")
    def merge_behind_the_first_look(_connection: Any, _cursor: Any, statement: str, *_more: Any) -> None:
        if not merged and "FROM identifiers" in statement:
            merged.append(statement)
            db.write(merging.merge, {"anonymous": "U1"}, NOW)

    assert told(db, "a1")["user"]["id"] == "anonymous"
    assert merged
    assert told(db, "a1")["user"]["id"] == "U1"


@pytest.mark.parametrize(
    ("user", "reason", "remedy"),
    [
        ({"attributes": {}}, "not_in_segment", "connector segments NAME --user U1"),
        ({"known_by": "customerio"}, "only_from_customerio", "import them"),
        ({"external_id": None}, "no_customer_id", "a value for people.customer_id (external_id)"),
        ({"external_id": ".."}, "bad_customer_id", "1 to 150 bytes"),
        ({"external_id": "2"}, "customer_id_taken", "user U2 is that person"),
        ({"email": None}, "no_email", "people.require_email = false"),
        ({}, "awaits_pass", "a running connector makes one every 300 s"),
    ],
)
def test_who_is_not_sent_hears_why_and_what_to_do(db: Database, user: dict[str, Any], reason: str, remedy: str) -> None:
    given.have(db, given.user("U2"))
    given.sent(db, given.person("U2", customer_id="2"))
    values = pro("U1", **{"external_id": "1", **user})
    db.write(users.add, [values], [])
    found = told(db, "U1")["decision"]
    assert (found["decision"], found["reason"]) == ("skip", reason)
    assert remedy in found["remedy"]
    assert remedy in said(db, "U1")


@pytest.mark.parametrize(
    ("user", "sent", "reason", "remedy"),
    [
        ({"attributes": {}}, {}, "left_kept", "stay at Customer.io"),
        ({"external_id": "9"}, {}, "customer_id_changed", 'the id "1"'),
        ({}, {"attributes": {"email": "U1@b.co", "hull_segments": ["pro", "all"], "plan": "pro"}}, "unchanged", "noth"),
    ],
)
def test_who_is_not_updated_hears_why(
    db: Database, user: dict[str, Any], sent: dict[str, Any], reason: str, remedy: str
) -> None:
    given.have(db, pro("U1", **{"external_id": "1", **user}))
    given.sent(db, given.person("U1", customer_id="1", **sent))
    found = told(db, "U1")["decision"]
    assert (found["decision"], found["reason"], found["changes"]) == ("skip", reason, {})
    assert remedy in found["remedy"]


def test_what_would_change_stands_beside_what_was_sent(db: Database) -> None:
    given.have(db, pro("U1", external_id="1", email="a@b.co"))
    attributes = {"email": "old@b.co", "seats": 3, "hull_segments": ["pro", "all"]}
    given.sent(db, given.person("U1", customer_id="1", attributes=attributes))
    found = told(db, "1")
    assert found["decision"]["changes"] == {
        "email": ["old@b.co", "a@b.co"],
        "plan": [None, "pro"],
        "seats": [3, None],
    }
    assert found["sent"]["attributes"] == attributes
    assert '  change    "seats": 3 -> null' in said(db, "1")
    assert 'last sent   2026-03-01 12:00:00 UTC as id "1", created 2026-03-01 12:00:00 UTC' in said(db, "1")


def test_an_attribute_that_is_left_out_is_told(db: Database) -> None:
    given.have(db, pro("U1", external_id="1", attributes={"plan": "pro", "seats": "x" * 1001}))
    (left_out,) = told(db, "1")["decision"]["left_out"]
    assert left_out["reason"] == "value_too_long"
    assert 'left out  "seats": value_too_long' in said(db, "1")


def test_whom_the_guard_holds_hears_the_command_that_lets_them_go(db: Database) -> None:
    settings = SETTINGS.model_copy(update={"guard": Guard(max_creates=0)})
    given.have(db, pro("U1", external_id="1"))
    found = full_pass.run(db, settings, lambda: NOW)
    assert found is not None
    (hold,) = found.holds
    decision = told(db, "1", settings)["decision"]
    assert (decision["reason"], decision["changes"]["plan"]) == ("held", [None, "pro"])
    assert f"connector approve {hold.hash}" in decision["remedy"]
    late = person.tell(db, settings, "1", 20, NOW + timedelta(hours=25))
    assert "connector sync" in late["decision"]["remedy"]
    other = settings.model_copy(update={"people": People(segments=["pro", "all"])})
    assert "connector sync" in told(db, "1", other)["decision"]["remedy"]


def test_whose_delete_the_guard_holds_hears_the_command_too(db: Database) -> None:
    delete = Delete(enabled=True, blind=True, grace=timedelta(0))
    settings = SETTINGS.model_copy(
        update={"people": SETTINGS.people.model_copy(update={"delete": delete}), "guard": Guard(max_deletes=0)}
    )
    given.have(db, pro("U1", external_id="1", attributes={"plan": "free"}))
    given.sent(db, given.person("U1", customer_id="1", left_at=NOW))
    assert told(db, "1", settings)["decision"]["reason"] == "awaits_pass"
    found = full_pass.run(db, settings, lambda: NOW)
    assert found is not None
    (hold,) = found.holds
    decision = told(db, "1", settings)["decision"]
    assert (decision["reason"], hold.what) == ("held", "delete")
    assert f"connector approve {hold.hash}" in decision["remedy"]
    free = settings.model_copy(update={"guard": Guard()})
    full_pass.run(db, free, lambda: NOW)
    decision = told(db, "1", free)["decision"]
    assert (decision["decision"], decision["reason"]) == ("delete", "left")


def test_whose_delete_was_let_go_hears_that_it_is_a_delete(db: Database) -> None:
    given.have(db, pro("U1", external_id="1"), pro("U2", external_id="2"))
    db.write(pending.release, ["U1"], "delete_approved", NOW)
    db.write(pending.release, ["U2"], "approved", NOW)
    assert "pending     due 2026-03-01 12:00:00 UTC (delete let go: delete_approved)" in said(db, "1")
    assert "pending     due 2026-03-01 12:00:00 UTC (create let go: approved)" in said(db, "2")


def test_who_is_within_their_grace_hears_until_when(db: Database) -> None:
    people = SETTINGS.people.model_copy(update={"delete": Delete(enabled=True, blind=True, grace=timedelta(days=2))})
    settings = SETTINGS.model_copy(update={"people": people})
    given.have(db, pro("U1", external_id="1", attributes={"plan": "free"}))
    given.sent(db, given.person("U1", customer_id="1", left_at=NOW - timedelta(hours=5)))
    found = told(db, "1", settings)
    assert (found["decision"]["reason"], found["decision"]["until"]) == ("leaving", NOW + timedelta(hours=43))
    assert (found["sent"]["left_at"], found["sent"]["deleted_at"]) == (NOW - timedelta(hours=5), None)
    words = said(db, "1", settings)
    assert "  until     2026-03-03 07:00:00 UTC" in words
    assert "created 2026-03-01 12:00:00 UTC, left every whitelisted segment 2026-03-01 07:00:00 UTC" in words


def test_who_was_deleted_there_is_not_told_as_a_person(db: Database) -> None:
    given.have(db, pro("U1", external_id="1", attributes={"plan": "free"}))
    given.sent(db, given.person("U1", customer_id="1", deleted_at=NOW - timedelta(hours=5)))
    assert told(db, "1")["sent"]["deleted_at"] == NOW - timedelta(hours=5)
    assert 'last sent   deleted 2026-03-01 07:00:00 UTC, until then id "1"' in said(db, "1")


def test_who_would_get_another_id_hears_that_it_waits_for_an_approval(db: Database) -> None:
    given.have(db, pro("U1", external_id="1", email="a@b.co"))
    given.sent(db, given.person("U1", customer_id="1"))
    db.write(users.add, [], [(Identifier("cio_id", "c0ffee"), "U1")])
    full_pass.run(db, SETTINGS, lambda: NOW)
    people = SETTINGS.people.model_copy(update={"customer_id": ("email",)})
    settings = SETTINGS.model_copy(update={"people": people})
    decision = told(db, "U1", settings)["decision"]
    assert (decision["decision"], decision["reason"]) == ("skip", "customer_id_changed")
    assert "before that is approved; connector sync says how" in decision["remedy"]
    found = full_pass.run(db, settings, lambda: NOW)
    assert found is not None
    (hold,) = found.holds
    decision = told(db, "U1", settings)["decision"]
    assert decision["reason"] == "customer_id_changed"
    assert f"connector approve {hold.hash}" in decision["remedy"]
    approve.approve(db, settings, hold.hash, None, NOW)
    decision = told(db, "U1", settings)["decision"]
    assert (decision["decision"], decision["remedy"]) == ("update", remedies.RENAMING)


def test_who_is_let_go_is_created_now(db: Database) -> None:
    given.have(db, pro("U1", external_id="1"))
    full_pass.run(db, SETTINGS, lambda: NOW)
    found = told(db, "1")
    assert (found["decision"]["decision"], found["decision"]["reason"]) == ("create", "entered")
    assert (found["pending"]["release"], found["pending"]["in_flight"]) == ("guard", False)
    nowhere = SETTINGS.model_copy(update={"customerio": Customerio()})
    assert "customerio.site_id is empty" in told(db, "1", nowhere)["decision"]["remedy"]


def test_who_could_not_be_delivered_hears_the_failure_and_when_it_is_tried_again(db: Database) -> None:
    given.have(db, pro("U1", external_id="1"))
    db.write(pending.release, ["U1"], "guard", NOW)
    db.write(leases.claim, "lease", NOW, NOW + timedelta(minutes=1), 10)
    assert told(db, "1")["pending"]["in_flight"] is True
    assert "pending     in flight" in said(db, "1")
    failure = leases.Failure("U1", NOW + timedelta(minutes=5), "server_error")
    db.write(leases.postpone, "lease", [failure], NOW)
    db.write(attempts.add, [Attempt("U1", "create", 3, 503, "server_error", "no\nway")], NOW)
    words = said(db, "1")
    assert "pending     due 2026-03-01 12:05:00 UTC, 1 failed try since 2026-03-01 12:00:00 UTC: server_error" in words
    assert "the last try failed (server_error)" in words
    assert r'attempt     2026-03-01 12:00:00 UTC create: server_error 503 "no\nway"' in words


def test_an_identifier_that_is_anothers_says_whose_and_what_to_do(db: Database) -> None:
    given.have(db, given.user("U1", email="a@b.co"), given.user("U2"))
    email, gone = Identifier("email", "a@b.co"), Identifier("anonymous_id", "x")
    noted = [Conflict("U2", email, NOW), Conflict("U2", email, NOW), Conflict("U2", gone, NOW + timedelta(1))]
    db.write(conflicts.note, noted)
    first, second = told(db, "U2")["conflicts"]
    assert (first["kind"], first["value"], first["user_id"], first["count"]) == ("email", "a@b.co", "U1", 2)
    assert (second["user_id"], second["remedy"]) == (None, remedies.CONFLICT_IS_OVER)
    assert 'conflict    email "a@b.co" is user U1\'s (given 2 times' in said(db, "U2")


def test_the_newest_twenty_events_and_attempts_are_told_and_all_on_request(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(story, "PAGE", 7)
    given.have(db, given.user("U1"), given.user("U2"))

    def event(number: int, user_id: str) -> Event:
        at = NOW + timedelta(seconds=number // 2)
        return Event("import", f"{user_id} {number}", user_id, "track", "x", {}, {}, at, NOW, "an id")

    db.write(events.add, [event(number, user_id) for number in range(30) for user_id in ("U1", "U2")])
    db.write(attempts.add, [Attempt("U1", "update", 1, 400, "refused", f"{number}") for number in range(30)], NOW)
    found = told(db, "U1")
    assert [each["source_id"] for each in found["events"]] == [f"U1 {number}" for number in range(29, 9, -1)]
    assert [each["message"] for each in found["attempts"]] == [f"{number}" for number in range(29, 9, -1)]
    assert (found["more_events"], found["more_attempts"]) == (True, True)
    assert said(db, "U1").count("older ones with --all") == 2
    everything = told(db, "U1", newest=None)
    assert [each["source_id"] for each in everything["events"]] == [f"U1 {number}" for number in range(29, -1, -1)]
    assert len(everything["attempts"]) == 30
    assert (everything["more_events"], everything["more_attempts"]) == (False, False)


def test_events_of_both_directions_say_which_way_they_went(db: Database) -> None:
    given.have(db, given.user("U1", external_id="1"))
    given.read(db, webhook("a", identifiers={"id": "1"}))
    bare = Event("sql", "1", "U1", "track", "Paid", {}, {}, NOW, NOW, "an id")
    due = Event("sql", "2", "U1", "page", "/", {}, {}, NOW, NOW, "another", "skipped", "too_old")
    db.write(events.add, [bare, due])
    words = said(db, "1")
    assert 'event in    2021-02-11 17:04:49 UTC track "Email Opened" by customerio' in words
    assert 'event own   2026-03-01 12:00:00 UTC track "Paid" by sql' in words
    assert 'event out   2026-03-01 12:00:00 UTC page "/" by sql: skipped (too_old)' in words


def test_the_newest_events_of_a_user_come_from_an_index(db: Database, store_kind: str) -> None:
    if store_kind == "postgresql":
        return  # on an empty table its planner would rather read that

    def plan(connection: Connection) -> str:
        rows = connection.exec_driver_sql(
            "EXPLAIN QUERY PLAN SELECT * FROM events WHERE user_id = 'U1' ORDER BY occurred_at DESC, id DESC LIMIT 20"
        )
        return " ".join(row[-1] for row in rows)

    assert "ix_events_user_id_occurred_at" in db.read(plan)
    assert "TEMP B-TREE" not in db.read(plan)


def test_telling_writes_nothing(db: Database) -> None:
    given.have(db, pro("U1", external_id="1"))
    before = {name: given.rows(db, table) for name, table in schema.metadata.tables.items()}
    said(db, "1")
    assert {name: given.rows(db, table) for name, table in schema.metadata.tables.items()} == before
    assert reader.read_batch(db, SETTINGS, NOW).total() == 0
