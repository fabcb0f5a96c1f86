"""The crash test's judgement of events that go out: it finds what is there to find."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from connector.commands.prove import comparing, comparing_events, happenings, settling
from connector.commands.prove import evidence as gathering
from connector.commands.prove.cases import Case
from connector.commands.prove.comparing import Evidence
from connector.commands.prove.comparing_events import Arrived
from connector.commands.prove.happenings import Happened, History
from connector.commands.prove.load import Load
from connector.commands.prove.options import Wanted
from connector.commands.prove.stories import Story
from connector.core import selection
from connector.sandbox.operations import Delete, Identifier, Operation, Track
from connector.sandbox.operations import identify as identified
from connector.sandbox.state_file import StateFile
from connector.settings import Events, Settings
from connector.store.database import Database
from tests.store import told as telling

ASKED = Wanted(kills=1, events=1, seed=1, servers=1, workers=1, store=None, restart_command=None, patience_seconds=0)


def did(user: str, *kinds: str) -> History:
    """What a user did, all of it acknowledged."""
    history = History(user, datetime(2026, 3, 1, 12, 0, 0, 900_000, UTC))
    rng = random.Random(user)
    for each in kinds:
        history.said = history.add(each, rng).number
    return history


def arrival(event: Happened, **other: Any) -> Arrived:
    seconds = int(event.at.timestamp())
    ulid = f"ULID {event.number}"
    right = Arrived(1.0, event.user, event.type, event.name, ulid, seconds, dict(event.properties), None, True)
    return right._replace(**other)


DID = did("ann", "Order Completed", "Button Clicked", "page", "Order Completed")
ORDER, CLICK, VIEW, LAST = DID.happened


@pytest.fixture
def evidence() -> Evidence:
    """Three of Ann's four events are whitelisted, and arrived."""
    return Evidence(
        stories={},
        sent={},
        filed=[],
        users=[],
        people=[],
        applied=[],
        histories={"ann": DID},
        stored={ORDER.id: "sent", CLICK.id: "none", VIEW.id: "sent", LAST.id: "sent"},
        arrived=[arrival(ORDER), arrival(VIEW), arrival(LAST)],
    )


def words(cases: Sequence[Case]) -> list[tuple[str, str, str]]:
    return [(case.kind, case.what, case.who) for case in cases]


def test_an_event_that_came_again_and_was_dropped_makes_no_case(evidence: Evidence) -> None:
    assert comparing.compare(evidence) == []
    again = arrival(ORDER, refused="repeated_event")
    assert comparing.compare(replace(evidence, arrived=[*evidence.arrived, again])) == []


def test_an_event_that_nobody_has_acknowledged_need_not_arrive(evidence: Evidence) -> None:
    history = did("ann", "Order Completed", "Button Clicked", "page", "Order Completed")
    history.said = 2
    assert comparing.compare(replace(evidence, histories={"ann": history}, arrived=evidence.arrived[:1])) == []


def test_a_lost_event_is_found(evidence: Evidence) -> None:
    evidence.stored = {**evidence.stored, VIEW.id: "skipped: left"}
    [case] = comparing.compare(replace(evidence, arrived=[arrival(ORDER), arrival(LAST)]))
    assert case == ("lost", "event_lost", VIEW.id, "it has not arrived, the store says skipped: left")


def test_an_acknowledged_event_that_the_store_has_not_is_found(evidence: Evidence) -> None:
    stored = {name: state for name, state in evidence.stored.items() if name != CLICK.id}
    assert words(comparing.compare(replace(evidence, stored=stored))) == [("lost", "event_lost", CLICK.id)]


def test_an_event_that_was_ignored_there_is_found(evidence: Evidence) -> None:
    ignored = replace(evidence, arrived=[arrival(ORDER, refused="suppressed"), arrival(VIEW), arrival(LAST)])
    assert words(comparing.compare(ignored)) == [
        ("wrong", "event_refused", ORDER.id),
        ("lost", "event_lost", ORDER.id),
    ]


@pytest.mark.parametrize("ulid", ["another", None])
def test_an_event_that_took_effect_twice_is_found(evidence: Evidence, ulid: str | None) -> None:
    twice = replace(evidence, arrived=[*evidence.arrived, arrival(ORDER, id=ulid)])
    assert words(comparing.compare(twice)) == [("doubled", "event_twice", ORDER.id)]


def test_an_older_event_after_a_newer_one_is_found(evidence: Evidence) -> None:
    mixed = replace(evidence, arrived=[arrival(ORDER), arrival(LAST), arrival(VIEW)])
    assert words(comparing.compare(mixed)) == [("out_of_order", "event_out_of_order", VIEW.id)]


def test_an_event_before_its_person_is_found(evidence: Evidence) -> None:
    early = replace(evidence, arrived=[arrival(ORDER, was_there=False), arrival(VIEW), arrival(LAST)])
    assert words(comparing.compare(early)) == [("out_of_order", "event_without_person", ORDER.id)]


def test_an_event_before_the_edit_that_was_told_before_it_is_found() -> None:
    history, story = did("ann"), Story("ann")
    rng = random.Random(1)
    for number in (1, 2):
        story.edit(rng, inside=True)
        history.said = history.add("Order Completed", rng, after=number).number
    first, second = history.happened
    right = [arrival(first, seq=1), arrival(second, seq=3)]

    def found(*arrived: Arrived) -> list[tuple[str, str, str]]:
        stored = dict.fromkeys((first.id, second.id), "sent")
        return words(list(comparing_events.compare({"ann": history}, {"ann": story}, stored, arrived)))

    assert found(*right) == []
    early = arrival(first, seq=1), arrival(second, seq=1)
    assert found(*early) == [("out_of_order", "event_before_edit", second.id)]
    story.edit(rng, inside=False)
    assert found(*early) == [], "who has left is not sent what they were"


def test_an_event_that_is_not_whitelisted_is_found(evidence: Evidence) -> None:
    unwanted = replace(evidence, arrived=[arrival(ORDER), arrival(CLICK), arrival(VIEW), arrival(LAST)])
    assert words(comparing.compare(unwanted)) == [("wrong", "event_not_wanted", CLICK.id)]


def test_an_event_that_nobody_told_is_found(evidence: Evidence) -> None:
    other = arrival(LAST, data={**LAST.properties, "number": 5})
    none = arrival(LAST, data={})
    assert words(comparing.compare(replace(evidence, arrived=[*evidence.arrived, other, none]))) == [
        ("wrong", "event_never_told", "ann event 5"),
        ("wrong", "event_never_told", "None event None"),
    ]


@pytest.mark.parametrize(
    ("what", "wrong"),
    [
        ("user", {"customer_id": "ben"}),
        ("type", {"type": "event"}),
        ("name", {"name": "page"}),
        ("time", {"timestamp": int(VIEW.at.timestamp()) + 1}),
        ("time", {"timestamp": None}),
        ("data", {"data": {**VIEW.properties, "url": "https://prove.example/"}}),
    ],
)
def test_a_wrong_event_is_found(evidence: Evidence, what: str, wrong: dict[str, Any]) -> None:
    [case] = comparing.compare(replace(evidence, arrived=[arrival(ORDER), arrival(VIEW, **wrong), arrival(LAST)]))
    assert case[:3] == ("wrong", "event_wrong", VIEW.id)
    assert case.detail.startswith(f"{what}: has ")


@pytest.mark.parametrize("kind", sorted({*happenings.KINDS}))
def test_what_is_wanted_is_what_the_settings_whitelist(kind: str) -> None:
    [event] = did("ann", kind).happened
    message = event.message()
    name = str(message.get("event", "page"))
    assert selection.wanted(str(message["type"]), name, event.name, Events(names=happenings.NAMES)) == event.is_wanted


def test_what_arrived_is_read_from_the_journal_in_order(db: Database, tmp_path: Path) -> None:
    ann = Identifier("id", "ann")
    tracks = [
        Track(ann, each.type, each.name, f"01HZXJ6Q9V0000000000000{each.number:03}", 1, each.properties)
        for each in DID.happened
    ]
    operations: list[Operation] = [
        tracks[0],
        Delete(ann),
        identified(ann, {"seq": 1}, update_only=False, timestamp=None),
        tracks[0],
        tracks[2],
    ]
    journal = StateFile(tmp_path / "sandbox.db")
    for number, each in enumerate(operations):
        journal.add(float(number), each)
    journal.close()
    found = gathering.gather(db, tmp_path / "sandbox.db", Load(ASKED, "", "", db), {}, set(), [])
    assert [(each.at, each.told_as, each.refused, each.was_there, each.seq) for each in found.arrived] == [
        (0.0, ORDER.id, None, False, 0),
        (3.0, ORDER.id, "repeated_event", True, 1),
        (4.0, VIEW.id, None, True, 1),
    ]
    assert found.arrived[2][1:7] == ("ann", "page", VIEW.name, tracks[2].id, 1, VIEW.properties)


async def test_it_waits_for_events_that_are_due_and_names_them(db: Database, tmp_path: Path) -> None:
    telling.tell(db, ORDER.message(), settings=Settings(events=Events(names=happenings.NAMES)), now=ORDER.at)
    with db.transaction() as connection:
        connection.execute(sa.text("DELETE FROM pending"))
    seen: list[settling.Left] = []
    await settling.settle(db, {}, [], ASKED, seen.append)
    assert (seen[-1].events, seen[-1].is_nothing) == (1, False)
    found = gathering.gather(db, tmp_path / "sandbox.db", Load(ASKED, "", "", db), {}, set(), [])
    assert found.waiting == [f"{ORDER.id} (due)"]
    assert found.stored == {ORDER.id: "due"}
