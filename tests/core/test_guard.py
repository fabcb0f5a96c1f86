"""The limit on creates."""

from __future__ import annotations

import pytest

from connector.core import guard


@pytest.mark.parametrize(
    ("waiting", "released", "limit"),
    [
        pytest.param(1000, 0, 1000, id="as many as the limit"),
        pytest.param(400, 600, 1000, id="as many as the limit with those of the last day"),
        pytest.param(1_000_000, 1_000_000, None, id="no limit"),
        pytest.param(0, 0, 0, id="nobody waits, and none are allowed"),
        pytest.param(0, 1001, 1000, id="nobody waits, though more than the limit went before"),
    ],
)
def test_creates_within_the_limit_are_let_go(waiting: int, released: int, limit: int | None) -> None:
    assert guard.creates(waiting=waiting, released=released, limit=limit) == guard.Verdict(held=False)


@pytest.mark.parametrize(
    ("waiting", "released", "limit"),
    [
        pytest.param(1001, 0, 1000, id="one more than the limit"),
        pytest.param(1, 1000, 1000, id="one more with those of the last day"),
        pytest.param(1, 0, 0, id="none are allowed"),
    ],
)
def test_creates_over_the_limit_are_held_all_of_them(waiting: int, released: int, limit: int) -> None:
    verdict = guard.creates(waiting=waiting, released=released, limit=limit)

    assert verdict == guard.Verdict(held=True, reason="max_creates")
