"""A person with more attributes than one operation holds: what was accepted isn't sent again, and nothing is lost."""

from __future__ import annotations

import json
from typing import Any

import pytest

from connector.commands import sync as syncing
from connector.commands import sync_summary
from connector.records import Received
from connector.settings import Settings
from connector.store import backlog, inbox, schema
from connector.store.database import Database
from tests.places import Give, Place, Sandbox
from tests.store import given
from tests.sync.clock import Clock

NAMES = [f"a{number:03}" for number in range(70)]
VALUES = {name: number for number, name in enumerate(NAMES)}
ANN = {"external_id": "1", "email": "ann@b.co"}


@pytest.fixture
def clock() -> Clock:
    return Clock()


def settings_for(place: Place, sandbox: Sandbox, api: str, most: int = 30, names: list[str] = NAMES) -> Settings:
    place.track_url = sandbox.url
    people = f'segments = ["All"]\nattributes = {json.dumps(names)}\nmax_attributes_per_call = {most}'
    place.more = {"people": people, "segments": '"All" = { everyone = true }'}
    return place.write(customerio=place.customerio(f'api = "{api}"', "rate_per_second = 10000")).settings()


def try_again(db: Database, clock: Clock) -> None:
    """Later on, and whoever was given up anew."""
    clock.move(hours=2)
    db.write(backlog.replay, clock.now, reason=None, user_ids=None, since=None)


def not_delivered(summary: sync_summary.Summary) -> int:
    return (summary.tally.failed + summary.tally.parked).total()


async def answers(sandbox: Sandbox, script: str) -> None:
    """What Customer.io answers from now on, after it was asked which workspace it is."""
    await sandbox.faults(f"200, {script}")


def sent(sandbox: Sandbox, calls: int) -> list[set[str]]:
    """The names in each operation of the last so many calls."""
    found = []
    for call in list(sandbox.state.calls)[-calls:]:
        body = json.loads(call.body)
        operations = [item["attributes"] for item in body["batch"]] if "batch" in body else [body]
        found += [set(each) - {"_timestamp", "email", "hull_segments"} for each in operations]
    return found


def has_all(sandbox: Sandbox, values: dict[str, Any]) -> bool:
    (person,) = sandbox.people().values()
    return person == {"email": "ann@b.co", "hull_segments": ["All"], **values}


@pytest.mark.parametrize(
    ("script", "calls", "rest"),
    [
        pytest.param("3x500", 3, [28, 30, 12], id="none was accepted"),
        pytest.param("200, 3x500", 4, [30, 12], id="the second failed"),
        pytest.param("200, 200, 3x500", 5, [12], id="the last failed"),
        pytest.param("200, 6xapply-cut", 4, [30, 12], id="the second was taken, and nobody heard"),
        pytest.param("200, 400", 2, [30, 12], id="the second was refused"),
    ],
)
async def test_in_single_mode_the_rest_goes_out_after_a_part_that_failed(
    db: Database, place: Place, sandbox: Sandbox, give: Give, clock: Clock, script: str, calls: int, rest: list[int]
) -> None:
    settings = settings_for(place, sandbox, "single")
    give(settings, {**ANN, **VALUES})
    await answers(sandbox, script)
    summary = await syncing.sync(db, settings, clock)
    assert (summary.tally.calls, not_delivered(summary), summary.exit_status) == (calls, 1, 1)
    try_again(db, clock)
    summary = await syncing.sync(db, settings, clock)
    assert [len(names) for names in sent(sandbox, summary.tally.calls)] == rest
    assert (summary.exit_status, has_all(sandbox, VALUES)) == (0, True)
    assert (await syncing.sync(db, settings, clock)).tally.calls == 0


async def test_in_a_batch_only_the_refused_parts_go_again(
    db: Database, place: Place, sandbox: Sandbox, give: Give, clock: Clock
) -> None:
    settings = settings_for(place, sandbox, "batch")
    give(settings, {**ANN, **VALUES})
    await answers(sandbox, "207")
    summary = await syncing.sync(db, settings, clock)
    first, second, third = sent(sandbox, 1)
    assert (not_delivered(summary), len(sandbox.people())) == (1, 1)
    assert set(next(iter(sandbox.people().values()))) == second
    try_again(db, clock)
    summary = await syncing.sync(db, settings, clock)
    assert (summary.tally.updated, summary.tally.calls, summary.exit_status) == (1, 1, 0)
    assert set().union(*sent(sandbox, 1)) == first | third
    assert has_all(sandbox, VALUES)
    assert (await syncing.sync(db, settings, clock)).tally.calls == 0


@pytest.mark.parametrize(("api", "script"), [("single", "200, 3x500"), ("batch", "207")])
async def test_of_an_update_the_rest_goes_out_with_what_has_changed_since(
    db: Database, place: Place, sandbox: Sandbox, give: Give, clock: Clock, api: str, script: str
) -> None:
    settings = settings_for(place, sandbox, api)
    give(settings, {**ANN, **VALUES})
    await syncing.sync(db, settings, clock)
    new = {name: value + 1000 for name, value in VALUES.items()}
    give(settings, {**ANN, **new})
    await answers(sandbox, script)
    assert not_delivered(await syncing.sync(db, settings, clock)) == 1
    newest = {**new, "a000": None, "a001": "newest"}
    give(settings, {**ANN, **newest})
    try_again(db, clock)
    summary = await syncing.sync(db, settings, clock)
    again = set().union(*sent(sandbox, summary.tally.calls))
    assert {"a000", "a001"} < again < set(NAMES)
    assert has_all(sandbox, {name: value for name, value in newest.items() if value is not None})


@pytest.mark.parametrize(("api", "script"), [("single", "200, 3x500"), ("batch", "207")])
async def test_whatever_part_makes_the_person_the_opt_out_and_the_topics_are_in_it(
    db: Database, place: Place, sandbox: Sandbox, give: Give, clock: Clock, api: str, script: str
) -> None:
    settings = settings_for(place, sandbox, api)
    refused = json.dumps({"topics": {"topic_1": False}})
    for kind, more in (
        ("customer.unsubscribed", {}),
        ("customer.cio_subscription_preferences_changed", {"content": refused}),
    ):
        body = given.webhook(kind, kind, at=int(clock.now.timestamp()), identifiers={"id": "1"}, **more)
        db.write(inbox.append, inbox.CUSTOMERIO, [Received(kind, clock.now, body)])
    await syncing.sync(db, settings, clock)
    give(settings, {**ANN, **VALUES})
    await answers(sandbox, script)
    await syncing.sync(db, settings, clock)
    for _ in range(2):
        (person,) = sandbox.state.people
        assert person.unsubscribed
        assert person.attributes["cio_subscription_preferences"] == {"topics": {"topic_1": False}}
        try_again(db, clock)
        await syncing.sync(db, settings, clock)
    assert VALUES.items() <= sandbox.people()["1"].items()


@pytest.mark.parametrize(("most", "operations"), [(30, 11), (300, 2)])
async def test_of_315_attributes_none_is_lost_but_those_that_a_person_cannot_have(
    db: Database, place: Place, sandbox: Sandbox, give: Give, clock: Clock, most: int, operations: int
) -> None:
    """315 change at once: 300 that they have now, and 15 that they had."""
    names = [f"b{number:03}" for number in range(298)]
    gone = names[:15]
    settings = settings_for(place, sandbox, "batch", most, [*names, *NAMES])
    before = dict.fromkeys(names, 1)
    give(settings, {**ANN, **before})
    await syncing.sync(db, settings, clock)
    assert has_all(sandbox, before)
    after = dict.fromkeys(names[15:], 2) | VALUES
    kept = {name: after[name] for name in [*names[15:], *NAMES[:15]]}
    give(settings, {**ANN, **after, **dict.fromkeys(gone)})
    summary = await syncing.sync(db, settings, clock)
    found = sent(sandbox, 1)
    assert (summary.tally.calls, summary.exit_status) == (1, 0)
    assert (sum(map(len, found)), len(found)) == (313, operations)
    assert has_all(sandbox, kept)
    left_out = given.rows(db, schema.attempts, "reason", "message")
    assert {message.split(":")[0] for reason, message in left_out if reason == "too_many"} == set(NAMES[15:])


@pytest.mark.parametrize("api", ["batch", "single"])
@pytest.mark.parametrize(
    ("fits", "too_long"),
    [
        pytest.param("x" * 1000, "x" * 1001, id="ASCII"),
        pytest.param("é" * 500, "é" * 500 + "x", id="two bytes a letter"),
        pytest.param("😀" * 250, "😀" * 250 + "x", id="four bytes a letter"),
        pytest.param(["x" * 996], ["x" * 997], id="a list, as it is written"),
        pytest.param({"é": "é" * 495}, {"é": "é" * 495 + "xxxxx"}, id="an object, as it is written"),
    ],
)
async def test_a_value_of_1000_bytes_goes_and_one_of_1001_is_left_out_alone(
    db: Database, place: Place, sandbox: Sandbox, give: Give, clock: Clock, api: str, fits: Any, too_long: Any
) -> None:
    settings = settings_for(place, sandbox, api, names=["plan", "fits", "too_long"])
    give(settings, {**ANN, "plan": "pro", "fits": fits, "too_long": too_long})
    summary = await syncing.sync(db, settings, clock)
    assert (summary.tally.created, summary.exit_status) == (1, 0)
    assert has_all(sandbox, {"plan": "pro", "fits": fits})
    assert given.rows(db, schema.attempts, "reason") == ["value_too_long"]
