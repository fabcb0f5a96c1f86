"""What a plan finds in a store, and what it says about it. That it comes true is proven against the sandbox."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from connector.commands import never_seen, plan, plan_text
from connector.outbound import full_pass, planning
from connector.records import Event, Seen
from connector.settings import Customerio, Delete, Guard, People, Settings, Webhooks
from connector.store import events, facts, leases, pending, planned, schema
from connector.store.database import Database
from tests.store import given
from tests.store.given import NOW

SEGMENTS = {"pro": {"attribute": "plan", "is": "pro"}, "all": {"everyone": True}}


def settings(**people: Any) -> Settings:
    """Users with the plan `pro` are sent; keywords are keys of `[people]`, and `guard`."""
    return Settings.model_validate(
        {
            "customerio": Customerio(site_id="s", api_key="k", region="us"),
            "webhooks": Webhooks(signing_keys=["key"]),
            "segments": SEGMENTS,
            "guard": people.pop("guard", Guard(max_creates=None, max_delete_share=1.0)),
            "people": People.model_validate({"segments": ["pro"], "attributes": ["plan"], **people}),
        }
    )


SETTINGS = settings()
DELETING = settings(delete=Delete(enabled=True, grace=timedelta(hours=2)))


def user(user_id: str, plan: str = "pro", **more: Any) -> dict[str, Any]:
    values = {"external_id": f"x{user_id}", "email": f"{user_id}@b.co", "attributes": {"plan": plan}, **more}
    return given.user(user_id, **values)


def sent(db: Database, *user_ids: str, wanted: Settings = SETTINGS, **more: Any) -> None:
    """They are people, just as these settings say."""
    people = []
    for user_id in user_ids:
        attributes = {"email": f"{user_id}@b.co", "hull_segments": ["pro", "all"], "plan": "pro"}
        state = {"attributes": attributes, "segment_bits": "11", "mapping_hash": wanted.mapping_hash(), **more}
        people.append(given.person(user_id, customer_id=f"x{user_id}", **state))
    given.sent(db, *people)


def decisions(db: Database, wanted: Settings = SETTINGS) -> dict[str, dict[str, int]]:
    return planning.outlook(db, wanted, NOW).plan.decisions


def said(db: Database, wanted: Settings, before: Settings = SETTINGS) -> list[str]:
    return list(plan_text.surprises(before, wanted, planning.outlook(db, wanted, NOW)))


def test_everybody_is_counted_once(db: Database) -> None:
    given.have(db, user("A"), user("B"), user("C"), user("D", email=None), user("E", "free"), user("F", "free"))
    sent(db, "B", "C", "F")
    db.write(
        lambda connection: connection.execute(
            schema.users.update()
            .where(schema.users.c.id == "C")
            .values(attributes={"plan": "pro", "seats": 1}, email="new@b.co", version=2)
        )
    )
    assert decisions(db) == {
        "create": {"entered": 1},
        "update": {"changed": 1},
        "skip": {"unchanged": 1, "no_email": 1, "not_in_segment": 1, "left_kept": 1},
    }


def test_a_plan_writes_nothing(db: Database) -> None:
    given.have(db, user("A"), user("B", "free"))
    sent(db, "B", wanted=SETTINGS)
    tables = schema.metadata.sorted_tables
    before = [given.rows(db, table) for table in tables]
    outlook = planning.outlook(db, DELETING, NOW)
    assert [each.user_id for each in planning.everyone(db, DELETING, NOW, outlook.holds)] == ["A"]
    assert [given.rows(db, table) for table in tables] == before


def test_a_store_of_any_size_is_walked_in_stretches(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    given.have(db, *(user(f"U{number:02d}", ["pro", "free"][number % 2]) for number in range(11)))
    sent(db, "U00", "U01", "U06")
    whole = planning.outlook(db, DELETING, NOW)
    monkeypatch.setattr(planned, "STRETCH", 3)
    assert planning.outlook(db, DELETING, NOW) == whole
    assert whole.plan.decisions == {
        "create": {"entered": 4},
        "postpone": {"leaving": 1},
        "skip": {"not_in_segment": 4, "unchanged": 2},
    }


def test_of_two_users_with_one_customer_id_the_second_is_not_planned(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_code = settings(customer_id="code")
    given.have(db, *(user(each, attributes={"plan": "pro", "code": "same"}) for each in ("A", "B", "C")))
    for stretch in (10, 1):
        monkeypatch.setattr(planned, "STRETCH", stretch)
        assert decisions(db, by_code) == {"create": {"entered": 1}, "skip": {"customer_id_taken": 2}}


def test_who_waits_for_another_try_is_postponed(db: Database) -> None:
    given.have(db, user("A"), user("B"))
    sent(db, "A", "B", attributes={})
    later = NOW + timedelta(hours=1)
    db.write(pending.mark, ["A"], later, pending.CHANGED)
    db.write(pending.mark, ["B"], NOW, pending.CHANGED)
    outlook = planning.outlook(db, SETTINGS, NOW)
    assert outlook.plan.decisions == {"postpone": {"waiting": 1}, "update": {"changed": 1}}
    assert outlook.plan.sending.operations == 1


def test_who_was_let_go_before_is_not_the_guards_matter(db: Database) -> None:
    given.have(db, user("A"), user("B"), user("C"))
    db.write(pending.arrived, ["A"], NOW)
    db.write(pending.release, ["B"], "approved", NOW)
    outlook = planning.outlook(db, settings(guard=Guard(max_creates=0)), NOW)
    assert outlook.plan.decisions == {"create": {"entered": 2, "held": 1}}
    assert outlook.holds == (planning.Hold("create", "max_creates", 1, 0),)


def test_deletes_are_those_whose_grace_is_over(db: Database) -> None:
    given.have(db, *(user(each, "free") for each in ("A", "B", "C", "D")))
    for user_id, left_at in (("A", NOW - timedelta(hours=2)), ("B", NOW - timedelta(hours=1)), ("C", None)):
        sent(db, user_id, wanted=DELETING, left_at=left_at)
    sent(db, "D", wanted=DELETING, left_at=NOW - timedelta(hours=9))
    db.write(pending.release, ["D"], "delete_approved", NOW)
    outlook = planning.outlook(db, DELETING, NOW)
    assert outlook.plan.decisions == {"delete": {"left": 2}, "postpone": {"leaving": 2}}
    assert outlook.outside == 3
    held = planning.outlook(db, settings(delete=DELETING.people.delete, guard=Guard(max_deletes=1)), NOW)
    assert held.plan.decisions == {"delete": {"left": 1, "held": 1}, "postpone": {"leaving": 2}}
    assert held.holds == (planning.Hold("delete", "max_deletes", 3, 0),)


def test_turning_deletion_on_says_who_would_go(db: Database) -> None:
    given.have(db, user("A", "free"), user("B"))
    sent(db, "A", "B")
    assert said(db, DELETING) == ["1 left_kept would now be deleted, 2h after the next pass unless they come back"]


def test_who_comes_and_who_goes_is_told_also_where_the_guard_holds_nobody(db: Database) -> None:
    given.have(db, *(user(each, "free") for each in ("A", "B", "C")), user("D"), user("E"))
    sent(db, "A", wanted=DELETING, left_at=NOW - timedelta(hours=2))
    sent(db, "B", "C", wanted=DELETING)
    assert said(db, DELETING, before=DELETING) == [
        "1 person would be deleted now: their grace is over",
        "2 people would leave and be deleted after 2h unless they come back",
        "2 people would be created",
    ]
    few = settings(delete=DELETING.people.delete, guard=Guard(max_deletes=1, max_creates=1))
    assert [line.split(":")[0] for line in said(db, few, before=DELETING)] == [
        "HELD (max_creates)",
        "HELD (max_deletes)",
    ]


def test_who_only_waits_is_looked_at_when_a_pass_finds_that_they_changed(db: Database) -> None:
    given.have(db, user("A", "pro"), user("B", "pro"), user("C", "pro"))
    sent(db, "A", "B", "C", wanted=DELETING, attributes={}, version=0, left_at=NOW)
    db.write(pending.release, ["A", "B", "C"], "delete_approved", NOW)
    for lease, user_id in (("a", "A"), ("b", "B"), ("c", "C")):
        ours = sa.update(schema.pending).where(schema.pending.c.user_id == user_id)
        db.write(lambda c, ours=ours, lease=lease: c.execute(ours.values(lease=lease)))  # type: ignore[misc]
    later = NOW + timedelta(hours=1)
    db.write(leases.wait, "a", [leases.Wait("A", later)], NOW)
    db.write(leases.postpone, "b", [leases.Failure("B", later, "network")], NOW)
    in_flight = sa.update(schema.pending).where(schema.pending.c.user_id == "C").values(due_at=later)
    db.write(lambda connection: connection.execute(in_flight))
    assert decisions(db, DELETING) == {"update": {"changed": 1}, "postpone": {"waiting": 2}}
    full_pass.run(db, DELETING, lambda: NOW)
    due = db.write(leases.claim, "d", NOW, later, 9)
    assert [claim.user_id for claim in due] == ["A"]


def test_who_is_given_up_waits_until_they_or_the_settings_change(db: Database) -> None:
    given.have(db, user("A"), user("B", version=2), user("C"))
    sent(db, "A", "B", "C", attributes={}, version=0)
    db.write(pending.mark, ["A", "B", "C"], NOW, pending.CHANGED)
    db.write(leases.claim, "a", NOW, NOW + timedelta(hours=1), 9)
    given_up = [leases.Parked(each, "refused", 1) for each in ("A", "B", "C")]
    db.write(leases.park, "a", given_up, SETTINGS.mapping_hash(), NOW)
    assert decisions(db) == {"update": {"changed": 1}, "postpone": {"waiting": 2}}
    other = settings(attributes=["plan", "seats"])
    assert decisions(db, other) == {"update": {"changed": 3}}
    full_pass.run(db, SETTINGS, lambda: NOW)
    assert [claim.user_id for claim in db.write(leases.claim, "b", NOW, NOW + timedelta(hours=1), 9)] == ["B"]


def test_another_customer_id_holds_everything_that_cannot_be_undone(db: Database) -> None:
    given.have(
        db, user("A", attributes={"plan": "pro", "code": "c"}), user("B", attributes={"plan": "pro", "code": "d"})
    )
    sent(db, "A")
    db.write(facts.see, Seen(2, ("external_id",)))
    outlook = planning.outlook(db, settings(customer_id="code"), NOW)
    assert outlook.plan.decisions == {"create": {"held": 1}, "skip": {"customer_id_changed": 1}}
    assert {(each.what, each.reason) for each in outlook.holds} == {
        ("create", "other_customer_id"),
        ("rename", "other_customer_id"),
    }


def test_a_restored_store_is_told(db: Database) -> None:
    given.have(db, user("A"))
    db.write(facts.see, Seen(100, ("external_id",)))
    told = "1 user who was here before would be created; the store has far fewer users than at an earlier pass"
    assert said(db, SETTINGS) == [f"HELD (store_shrank): {told}. None of them would go."]


def test_who_was_merged_into_another_is_nobody(db: Database) -> None:
    given.have(db, user("A"), user("B"))
    sent(db, "B")
    gone = sa.update(schema.users).where(schema.users.c.id == "B").values(merged_into="A")
    db.write(lambda connection: connection.execute(gone))
    assert decisions(db, DELETING) == {"create": {"entered": 1}, "skip": {"merged": 1}}


def test_the_worst_comes_first_and_what_is_as_it_should_be_is_not_said(db: Database) -> None:
    given.have(
        db,
        user("A"),
        user("B", email=None),
        user("C", external_id=None),
        user("D", attributes={"plan": "pro", "note": "x" * 1001}),
        user("E", "free"),
        user("F"),
    )
    sent(db, "F")
    wanted = settings(attributes=["note"], customer_id=["external_id", "none"], guard=Guard(max_creates=1))
    told = "2 users who were here before would be created; guard.max_creates leaves 1 in these 24 h"
    assert said(db, wanted) == [
        f"HELD (max_creates): {told}. None of them would go.",
        "1 skipped: no_customer_id",
        "1 skipped: no_email",
        '1 would have their "plan" emptied',
    ]
    assert '1 without their "note": value_too_long' in said(
        db, wanted.model_copy(update={"guard": Guard(max_creates=None)})
    )


def test_many_attributes_that_are_emptied_are_told_in_one_line(db: Database) -> None:
    given.have(db, user("A"))
    sent(db, "A", attributes={"email": "A@b.co", **{f"old{number}": 1 for number in range(8)}}, version=0)
    assert said(db, SETTINGS)[-1] == "and 3 other attributes would be emptied"


def test_settings_that_can_send_nothing_or_need_a_restart_are_told(db: Database) -> None:
    wanted = SETTINGS.model_copy(update={"customerio": Customerio()})
    port = SETTINGS.server.model_copy(update={"port": 1})
    told = said(db, wanted.model_copy(update={"server": port}))
    assert "customerio.site_id is empty: nothing is sent while it is" in told
    assert "takes effect only after a restart: server.port" in told
    elsewhere = SETTINGS.model_copy(update={"customerio": Customerio(site_id="t", api_key="k", region="us")})
    assert any("another workspace" in line for line in said(db, elsewhere))


def test_names_that_the_data_never_had_are_told_with_the_one_that_was_meant(db: Database) -> None:
    given.have(db, user("A", attributes={"plan": "pro", "account": {"name": "Acme"}, "Seats": None}))
    for number in range(3):
        event = Event("import", str(number), "A", "track", "Order Completed", {}, {}, NOW, NOW, f"U{number}")
        db.write(events.add, [event])
    wanted = Settings.model_validate(
        {
            "people": {"attributes": ["plan", "account.nam", "Seats"]},
            "segments": {"Buyers": {"event": "Order completed"}, "Quiet": {"event": "\x1b[2J", "at_most": 0}},
        }
    )
    assert list(never_seen.lines(db, wanted, NOW)) == [
        '`Order completed` was never seen; `Order Completed` was, 3 times (event, segment "Buyers")',
        '`\\u001b[2J` was never seen (event, segment "Quiet")',
        "`account.nam` was never seen; `account.name` was (attribute, people.attributes)",
        "`Seats` was never seen (attribute, people.attributes)",
    ]


def test_segment_names_that_are_too_long_together_are_told(db: Database) -> None:
    segments = {letter * 600: {"everyone": True} for letter in "ab"}
    wanted = Settings.model_validate({"segments": segments})
    told = plan.tell(db, SETTINGS, wanted, planning.outlook(db, wanted, NOW), None, NOW)
    assert any(line.startswith("segments_too_long: the names of all") for line in told["surprises"])


def test_the_plan_of_a_changed_email_says_what_it_cannot_know(db: Database) -> None:
    given.have(db, user("A", email="new@b.co"))
    sent(db, "A", version=0)
    told = plan.tell(db, SETTINGS, SETTINGS, planning.outlook(db, SETTINGS, NOW), None, NOW)
    assert told["unknown"][-1].startswith("whether the workspace lets an email be changed by id: 1 would")


def test_a_plan_of_two_walks_names_the_same_people(db: Database) -> None:
    given.have(db, *(user(f"U{number}") for number in range(30)))
    outlook = planning.outlook(db, SETTINGS, NOW)
    everyone = list(planning.everyone(db, SETTINGS, NOW, outlook.holds))
    assert (len(outlook.plan.people), len(everyone)) == (planning.FIRST, 30)
    assert everyone[: planning.FIRST] == outlook.plan.people
    assert full_pass.run(db, SETTINGS, lambda: NOW).released == 30  # type: ignore[union-attr]
