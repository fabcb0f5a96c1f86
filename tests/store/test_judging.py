"""What an edit of the settings would do, in the few numbers by which the guard judges it."""

from __future__ import annotations

import functools
from datetime import datetime, timedelta
from typing import Any

import pytest

from connector.outbound import full_pass, judging, planning
from connector.outbound.planning import Hold
from connector.records import Event
from connector.settings import Customerio, Delete, Guard, People, Settings
from connector.store import entrants, events, kept_out, pending
from connector.store.database import Database
from tests.store import given
from tests.store.given import NOW

LONG_AGO = NOW - timedelta(days=3)


def settings(guard: Guard | None = None, **people: Any) -> Settings:
    return Settings.model_validate(
        {
            "customerio": {"site_id": "s", "api_key": "k", "region": "us"},
            "webhooks": {"signing_keys": ["key"]},
            "segments": {"pro": {"attribute": "plan", "is": "pro"}, "all": {"everyone": True}},
            "guard": guard or Guard(max_creates=None, max_delete_share=1.0),
            "people": People.model_validate({"segments": ["pro"], "attributes": ["plan"], **people}),
        }
    )


DELETES = Delete(enabled=True, grace=timedelta(hours=2))
PRO = settings(delete=DELETES)
ALL = settings(delete=DELETES, segments=["all"])


def user(user_id: str, plan: str = "pro", **more: Any) -> dict[str, Any]:
    return given.user(
        user_id, **{"external_id": user_id, "email": f"{user_id}@b.co", "attributes": {"plan": plan}, **more}
    )


def sent(db: Database, user_id: str, wanted: Settings = PRO, **more: Any) -> None:
    state = {"segment_bits": "11", "mapping_hash": wanted.mapping_hash(), **more}
    given.sent(db, given.person(user_id, customer_id=user_id, **state))


@pytest.fixture
def many(monkeypatch: pytest.MonkeyPatch) -> None:
    """The store has more users than are decided one by one."""
    monkeypatch.setattr(judging, "FEW", 0)


def everybody(db: Database) -> None:
    """Whoever can be anything to a pass."""
    given.have(
        db,
        *(user(each, "free") for each in ("free1", "free2", "left", "leaving", "approved")),
        *(user(each) for each in ("new1", "new2", "fresh", "same", "other")),
        user("x" * 200),  # no customer id
        user("no email", email=""),
        user("taken", external_id="same "),
        user("of webhooks", known_by="customerio"),
        user("died lately"),
        user("died as another"),
        user("erased"),
    )
    db.write(pending.arrived, ["fresh"], NOW)
    sent(db, "same")
    sent(db, "other", mapping_hash="another")
    sent(db, "left", left_at=LONG_AGO)
    sent(db, "leaving")
    sent(db, "approved", left_at=LONG_AGO)
    sent(db, "died lately", deleted_at=NOW - timedelta(seconds=5))
    given.sent(db, given.person("died as another", customer_id="another", deleted_at=NOW - timedelta(seconds=5)))
    db.write(pending.release, ["approved"], "delete_approved", NOW)
    db.write(lambda connection: kept_out.add(connection, [("email", "erased@b.co")], NOW))


def test_of_many_is_told_what_a_pass_would_find(db: Database, many: None) -> None:
    everybody(db)
    counts = judging.judge(db, ALL, PRO, NOW).counts
    found = full_pass.run(db, PRO, lambda: NOW)
    assert found is not None
    assert counts["decisions"] == {
        "create": {"entered": found.released},
        "delete": {"left": found.deletes},
        "postpone": {"leaving": found.leaving},
        "look_at": {"changed": 1},
        "skip": dict(found.skipped),
    }
    assert (found.released, found.deletes, found.leaving) == (2, 1, 1)
    assert found.skipped.pop("just_deleted") == 2
    assert found.skipped == dict.fromkeys(["bad_customer_id", "no_email", "customer_id_taken", "erased"], 1)


def test_of_many_what_the_guard_holds_is_counted_as_in_the_plan(db: Database, many: None) -> None:
    everybody(db)
    before = settings(Guard(max_creates=1, max_deletes=1), delete=DELETES, segments=["all"])
    edit = settings(before.guard, delete=DELETES)
    verdict = judging.judge(db, before, edit, NOW)
    plan = planning.outlook(db, edit, NOW)
    assert verdict.holds == tuple(each for each in plan.holds if each.what == "delete")  # more creates were held before
    for verb in ("create", "delete", "postpone"):
        kinds = verdict.counts["decisions"][verb]
        assert kinds.items() <= plan.plan.decisions[verb].items()
    assert verdict.counts["decisions"]["create"] == {"held": 2}


def test_of_few_the_whole_plan_is_told(db: Database) -> None:
    given.have(db, user("a"), user("b"))
    sent(db, "a", mapping_hash="another")
    counts = judging.judge(db, ALL, PRO, NOW).counts
    assert counts["decisions"] == {"create": {"entered": 1}, "update": {"changed": 1}}
    assert (counts["calls"], counts["operations"], counts["holds"]) == (1, 2, [])


def test_an_edit_that_only_lifts_the_limit_is_held_by_the_one_before(db: Database) -> None:
    given.have(db, user("a"), user("b"))
    before = settings(Guard(max_creates=1))
    verdict = judging.judge(db, before, settings(), NOW)
    assert verdict.holds == (Hold("create", "max_creates", 2, 1),)
    # What the new ones hold as well stays held whatever becomes of the edit.
    assert judging.judge(db, before, settings(Guard(max_creates=0)), NOW).holds == ()


def test_an_edit_that_would_create_more_than_were_held_before_is_held(db: Database) -> None:
    given.have(db, user("a"), user("b"), user("c", "free"))
    limit = Guard(max_creates=1)
    before = settings(limit)
    assert judging.judge(db, before, settings(limit, segments_attribute=""), NOW).holds == ()
    verdict = judging.judge(db, before, settings(limit, segments=["all"]), NOW)
    assert verdict.holds == (Hold("create", "max_creates", 3, 1),)
    assert verdict.reason == "3 users who were here before would be created (max_creates)"


def test_a_newer_edit_ends_it_at_each_step(db: Database, many: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entrants, "CHUNK", 1)
    given.have(db, user("a"), user("b"))
    for answers in ([], [True]):
        going = functools.partial(next, iter(answers), False)
        with pytest.raises(planning.CutShort):
            judging.judge(db, ALL, PRO, NOW, going)


def test_without_a_workspace_nothing_is_judged(db: Database) -> None:
    given.have(db, user("a"))
    nowhere = PRO.model_copy(update={"customerio": Customerio()})
    assert judging.judge(db, PRO, nowhere, NOW) == judging.Verdict({}, ())


def event(number: int, outbound: str, settled_at: datetime | None = None) -> Event:
    return Event(
        "import",
        str(number),
        "a",
        "track",
        "Ordered",
        {},
        {},
        NOW,
        NOW,
        f"ulid{number}",
        outbound,
        None,
        NOW,
        settled_at,
    )


@pytest.mark.parametrize(
    ("before", "after", "held"),
    [(1, None, 3), (1, 3, 3), (2, None, 3), (1, 2, 0), (1, 1, 0), (2, 1, 0), (3, None, 0), (None, 1, 0)],
)
def test_an_edit_that_lets_events_go_which_wait_for_the_limit_is_held(
    db: Database, before: int | None, after: int | None, held: int
) -> None:
    given.have(db, user("a"))
    of_today = [event(number, "sent", NOW - timedelta(hours=1)) for number in range(2)]
    db.write(events.add, [*of_today, *(event(number, "due") for number in range(2, 5))])
    old, new = (settings(Guard(max_creates=None, max_events_per_user=limit)) for limit in (before, after))
    verdict = judging.judge(db, old, new, NOW)
    assert verdict.holds == ((Hold("event", "max_events_per_user", held, 0),) if held else ())
    if held:
        assert verdict.reason == "3 events that wait for guard.max_events_per_user would go (max_events_per_user)"
