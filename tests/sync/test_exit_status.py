"""What `sync` tells a script by its exit status: failed goes before held, held goes before waiting."""

from __future__ import annotations

from collections import Counter

import pytest

from connector.commands.sync_summary import Summary, describe
from connector.outbound.full_pass import Found
from connector.outbound.tally import Tally
from connector.store import event_counts, held
from connector.store.held import Hold
from tests.store.given import NOW

HOLD = Hold(1, "abc", held.CREATE, "max_creates", 5, 0, "", NOW)


@pytest.mark.parametrize(
    ("failed", "holds", "waiting", "expected"),
    [
        (0, [], 0, 0),
        (0, [], 2, 1),
        (1, [], 1, 1),
        (0, [HOLD], 0, 3),
        (0, [HOLD], 2, 3),
        (1, [HOLD], 2, 1),
    ],
)
def test_it_says_what_to_look_at_first(failed: int, holds: list[Hold], waiting: int, expected: int) -> None:
    tally = Tally(failed=Counter(refused=failed) if failed else Counter())
    assert Summary(found=Found(holds=holds), tally=tally, waiting=waiting).exit_status == expected


def test_whom_a_pause_keeps_back_is_no_failure_and_who_is_held_is_said() -> None:
    assert Summary(waiting=2, paused=True).exit_status == 0
    assert Summary(waiting=2, paused=True, found=Found(holds=[HOLD])).exit_status == 3


def test_an_event_that_can_never_go_is_a_failure_like_a_user() -> None:
    tally = Tally(events=2, events_parked=Counter(name_too_long=1, event_too_large=1))
    summary = Summary(tally=tally)
    assert summary.exit_status == 1
    told = summary.as_json()
    assert (told["events"], told["events_parked"]) == (2, {"name_too_long": 1, "event_too_large": 1})
    lines = list(describe(summary))
    assert "2 events sent" in lines[0]
    assert any(line.startswith("events parked: 1 name_too_long, 1 event_too_large: ") for line in lines)


def test_events_that_the_guard_holds_are_held_and_not_only_waiting() -> None:
    summary = Summary(waiting=2, events_held=event_counts.HeldEvents(2, 4))
    assert summary.exit_status == 3
    held_back = {"hash": None, "what": "event", "count": 4, "users": 2, "reason": "max_events_per_user"}
    assert summary.as_json()["held"] == [held_back]
    assert "HELD (max_events_per_user): 4 events of 2 users" in "\n".join(describe(summary))
    assert Summary(tally=Tally(failed=Counter(refused=1)), events_held=event_counts.HeldEvents(1, 1)).exit_status == 1
