"""What visitors did before anybody knew them: sent under their anonymous ids, and joined to the person they become."""

from __future__ import annotations

from typing import Any

import pytest

from connector.core import mapping
from connector.store import schema
from connector.store.database import Database
from tests.places import Place, Sandbox
from tests.store import given
from tests.sync.events_out import MINUTE, Way, paths

VISITORS = 'names = ["*", "page"]\nanonymous = true'


@pytest.fixture(params=["batch", "single"])
def way(db: Database, place: Place, sandbox: Sandbox, request: pytest.FixtureRequest) -> Way:
    return Way(db, place, sandbox, request.param)


def told_of(way: Way) -> list[Any]:
    return given.rows(way.db, schema.mirror, "anonymous_ids")


def bound(way: Way) -> dict[str | None, list[str]]:
    return {person.id: sorted(person.anonymous_ids) for person in way.sandbox.state.people}


async def test_what_a_visitor_did_is_theirs_when_they_say_who_they_are_and_goes_once(way: Way) -> None:
    settings = way.settings(events=VISITORS)
    first = way.clock()
    way.tell(settings, "page", first - 2 * MINUTE, anonymous="v1", properties={"url": "https://a.example/"})
    way.tell(settings, "track", first - MINUTE, anonymous="v1")
    assert (await way.work(settings)).events == 2
    assert way.of(None) == ["https://a.example/", "Clicked"]
    assert {each["anonymous_id"] for each in way.activities()} == {"v1"}
    assert paths(way.sandbox, "events") == ["/api/v1/events"] * 2
    assert way.sandbox.people() == {}

    way.tell(settings, "identify", user="1", anonymous="v1", traits={"plan": "pro"})
    way.tell(settings, "track", user="1", event="Bought")
    tally = await way.work(settings)
    assert (tally.created, tally.events) == (1, 1)
    assert way.of("1") == ["https://a.example/", "Clicked", "Bought"]
    assert (bound(way), told_of(way)) == ({"1": ["v1"]}, [["v1"]])
    assert not way.sandbox.state.refused.total()


async def test_several_visitors_who_turn_out_to_be_one_user_are_all_joined(way: Way) -> None:
    settings = way.settings(events=VISITORS, people='segments = ["All"]\ncustomer_id = "external_id"')
    for visitor in ("v1", "v2", "v3"):
        way.tell(settings, "track", way.clock() - MINUTE, anonymous=visitor, event=f"By {visitor}")
        way.tell(settings, "identify", anonymous=visitor, traits={"email": "ann@b.co"})
    await way.work(settings)
    assert len(way.of(None)) == 3
    way.tell(settings, "identify", user="1", traits={"email": "ann@b.co"})
    assert (await way.work(settings)).created == 1
    assert sorted(way.of("1")) == ["By v1", "By v2", "By v3"]
    assert (bound(way), told_of(way)) == ({"1": ["v1", "v2", "v3"]}, [["v1", "v2", "v3"]])


async def test_a_person_who_logs_in_on_another_device_brings_what_they_did_there(way: Way) -> None:
    settings = way.settings(events=VISITORS)
    way.tell(settings, "identify", user="1", anonymous="v1")
    await way.work(settings)
    way.tell(settings, "track", way.clock() - MINUTE, anonymous="v2", event="Looked")
    await way.work(settings)
    assert way.of(None) == ["Looked"]

    way.tell(settings, "identify", user="1", anonymous="v2")
    tally = await way.work(settings)
    assert (tally.updated, tally.decided["update", "changed"], tally.events) == (1, 1, 0)
    assert way.of("1") == ["Looked"]
    assert (bound(way), told_of(way)) == ({"1": ["v1", "v2"]}, [["v1", "v2"]])
    way.tell(settings, "identify", user="1", anonymous="v2", traits={"plan": "pro"})
    assert (await way.work(settings)).updated == 1
    sent = [call.body.decode() for call in way.sandbox.state.calls]
    assert [sum(f'"anonymous_id":"{each}"' in body for body in sent) for each in ("v1", "v2")] == [1, 2]


async def test_an_alias_tells_of_a_visitor_whom_nobody_knew(way: Way) -> None:
    settings = way.settings(events=VISITORS)
    way.tell(settings, "identify", user="1")
    await way.work(settings)
    way.tell(settings, "alias", user="1", previous="v9")
    assert (await way.work(settings)).updated == 1
    assert bound(way) == {"1": ["v9"]}


async def test_where_visitors_are_not_sent_their_events_wait_and_are_skipped(way: Way) -> None:
    settings = way.settings()
    way.tell(settings, "track", way.clock() - MINUTE, anonymous="v1")
    way.tell(settings, "identify", user="1", anonymous="v2")
    assert (await way.work(settings)).events == 0
    assert way.outbound() == [("due", None)]
    way.clock.move(minutes=11)
    await way.work(settings)
    assert way.outbound() == [("skipped", "no_customer_id")]
    assert (bound(way), told_of(way)) == ({"1": []}, [[]])


async def test_the_edit_that_begins_to_send_visitors_tells_of_everybodys(way: Way) -> None:
    settings = way.settings()
    way.tell(settings, "identify", user="1", anonymous="v1")
    way.tell(settings, "identify", user="2")
    await way.work(settings)
    settings = way.settings(events=VISITORS)
    assert (await way.work(settings)).updated == 1
    assert bound(way) == {"1": ["v1"], "2": []}
    assert (await way.work(settings)).users == 0
    settings = way.settings()
    assert (await way.work(settings)).updated == 0
    assert (await way.work(way.settings(events=VISITORS))).updated == 0
    assert told_of(way) == [["v1"], []]


async def test_a_visitor_of_a_person_who_was_merged_and_is_there_still_is_not_told_of(way: Way) -> None:
    """Customer.io would take nothing of an identify with somebody else's anonymous id."""
    settings = way.settings(events=VISITORS)
    way.tell(settings, "identify", user="1", anonymous="v1")
    way.tell(settings, "identify", user="2", anonymous="v2")
    await way.work(settings)
    way.tell(settings, "alias", user="2", previous="1")
    way.tell(settings, "identify", user="2", anonymous="v3", traits={"plan": "pro"})
    await way.work(settings)
    assert bound(way) == {"1": ["v1"], "2": ["v2", "v3"]}
    assert way.sandbox.people()["2"]["plan"] == "pro"
    assert not way.sandbox.state.refused.total()
    # Who was merged into somebody who then was merged, too.
    way.tell(settings, "identify", user="3")
    await way.work(settings)
    way.tell(settings, "alias", user="3", previous="2")
    way.tell(settings, "identify", user="3", anonymous="v4", traits={"plan": "team"})
    await way.work(settings)
    assert bound(way) == {"1": ["v1"], "2": ["v2", "v3"], "3": ["v4"]}
    assert way.sandbox.people()["3"]["plan"] == "team"
    assert not way.sandbox.state.refused.total()


async def test_who_is_deleted_and_comes_back_is_told_of_with_all_their_visitors(way: Way) -> None:
    people = 'segments = ["Pro"]\nrequire_email = false\n[people.delete]\nenabled = true\nblind = true\ngrace = "1s"'
    more = {"segments": '"Pro" = { attribute = "plan", in = ["pro"] }'}
    settings = way.settings(
        events=VISITORS, people=people, **more, guard='max_delete_share = 1.0\nmax_creates = "unlimited"'
    )
    way.tell(settings, "identify", user="1", anonymous="v1", traits={"plan": "pro"})
    await way.work(settings)
    way.tell(settings, "identify", user="1", traits={"plan": "free"})
    await way.work(settings)
    way.clock.move(seconds=2)
    assert (await way.work(settings)).deleted == 1
    assert told_of(way) == [[]]
    way.tell(settings, "identify", user="1", traits={"plan": "pro"})
    way.clock.move(minutes=2)
    assert (await way.work(settings)).created == 1
    assert (bound(way), told_of(way)) == ({"1": ["v1"]}, [["v1"]])


async def test_as_many_visitors_as_go_at_a_time_go_and_the_others_with_the_next_change(way: Way) -> None:
    settings = way.settings(events=VISITORS)
    for number in range(mapping.MOST_ANONYMOUS_IDS + 2):
        way.tell(settings, "identify", user="1", anonymous=f"v{number:03}")
    await way.work(settings)
    assert len(told_of(way)[0]) == mapping.MOST_ANONYMOUS_IDS
    assert given.rows(way.db, schema.attempts, "reason") == ["too_many"]
    way.tell(settings, "identify", user="1", traits={"plan": "pro"})
    await way.work(settings)
    assert len(bound(way)["1"]) == mapping.MOST_ANONYMOUS_IDS + 2
