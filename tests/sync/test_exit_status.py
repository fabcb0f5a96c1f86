"""What `sync` tells a script by its exit status: failed goes before held, held goes before waiting."""

from __future__ import annotations

from collections import Counter

import pytest

from connector.commands.sync import Summary
from connector.outbound.full_pass import Found
from connector.outbound.tally import Tally
from connector.store import held
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
