"""When what could not be delivered is tried again."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector.core import retry


def test_the_time_to_the_next_try_doubles_from_ten_seconds_to_an_hour() -> None:
    middle = [retry.seconds(attempts, 0.5) for attempts in range(10)]

    assert middle == [10, 20, 40, 80, 160, 320, 640, 1280, 2560, 3600]
    assert retry.seconds(10**6, 0.5) == 3600


@given(st.integers(0, 100), st.floats(0, 1))
def test_chance_moves_a_try_by_up_to_a_fifth(attempts: int, chance: float) -> None:
    middle = retry.seconds(attempts, 0.5)

    assert middle * 0.8 <= retry.seconds(attempts, chance) <= middle * 1.2 or chance in {0, 1}
    assert retry.seconds(attempts, 0) == pytest.approx(middle * 0.8)
    assert retry.seconds(attempts, 1) == pytest.approx(middle * 1.2)


def test_later_tries_are_never_closer_together() -> None:
    waits = [retry.seconds(attempts, 0.3) for attempts in range(30)]

    assert all(one <= other for one, other in pairwise(waits))
