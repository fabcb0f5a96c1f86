"""What `check` says about segments and the attributes and events that the settings name."""

from __future__ import annotations

import pytest

from connector.commands import check
from connector.records import Event
from connector.store import events
from connector.store.database import Database
from tests.places import Place
from tests.store import given
from tests.store.given import NOW


@pytest.fixture
def stocked(place: Place, db: Database) -> Place:
    given.have(db, given.user("U1", attributes={"plan": "pro"}))
    return place


async def warnings(place: Place, segments: str, people: str = "") -> list[tuple[str, str]]:
    lines = await check.check(place.write(segments=segments, people=people).settings())
    return [(line.about, line.message) for line in lines if line.level == "warning"]


async def test_names_that_the_data_do_not_know_are_told_with_what_was_meant(stocked: Place) -> None:
    segments = '"Pro" = { attribute = "plam", is = "pro" }\n"Buyers" = { event = "Order", at_least = 1 }'
    found = await warnings(stocked, segments, 'segments = ["Pro"]\nattributes = ["plan"]')
    assert ("segments", '`plam` was never seen; `plan` was (attribute, segment "Pro")') in found
    assert ("segments", '`Order` was never seen (event, segment "Buyers")') in found
    assert not any("`plan` was never seen" in message for _, message in found)


async def test_segment_names_that_are_too_long_together_are_told(stocked: Place) -> None:
    segments = "\n".join(f'"{letter * 600}" = {{ everyone = true }}' for letter in "ab")
    (found,) = [message for about, message in await warnings(stocked, segments) if about == "settings"]
    assert found.startswith("segments_too_long: the names of all segments are 1,207 bytes")


async def test_a_pause_is_told_with_the_events_that_it_keeps_back(stocked: Place, db: Database) -> None:
    event = Event(
        source="intake", source_id="1", user_id="U1", type="track", name="Clicked", properties={}, context={},
        occurred_at=NOW, received_at=NOW, activity_id="1", outbound="due", due_at=NOW,
    )  # fmt: skip
    db.write(events.add, [event])
    lines = await check.check(stocked.write(sync="paused = true").settings())
    (said,) = [line.message for line in lines if line.about == "sync"]
    assert said == "sync.paused is true: nothing is sent until it is false: 1 event is due by now, and all would go"
    assert not [line for line in await check.check(stocked.write().settings()) if line.about == "sync"]
