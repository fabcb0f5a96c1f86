"""Faults as they are asked for: the words of a script, and which request meets which, without a connection."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from connector import errors
from connector.sandbox import fault_script
from connector.sandbox.faults import Faults, Wanted


def words(faulty: Faults, count: int) -> Iterator[str]:
    return (faulty.next_step().word for _ in range(count))


# Words


@pytest.mark.parametrize(
    ("script", "read"),
    [
        ("", []),
        ("  ", []),
        ("200", ["200"]),
        ("3x500, 429:2, cut, apply-cut, hang:30, 200", ["500"] * 3 + ["429:2", "cut", "apply-cut", "hang:30", "200"]),
        ("2 x 503:120 ,wrong-region", ["503:120"] * 2 + ["wrong-region"]),
        ("hang:50ms,hang:2s,hang:0.5", ["hang:0.05", "hang:2", "hang:0.5"]),
        ("300, 599, 401", ["300", "599", "401"]),
    ],
)
def test_a_script_is_one_step_for_each_request(script: str, read: list[str]) -> None:
    assert list(words(Faults(Wanted(script=script)), len(read) + 2)) == [*read, "200", "200"]


@pytest.mark.parametrize("script", ["3x500, 429:2, cut, apply-cut, hang:0.05, 2x200", ""])
def test_what_is_left_of_a_script_is_written_in_words_that_read_back_the_same(script: str) -> None:
    assert Faults(Wanted(script=script)).on()["script"] == script
    assert fault_script.written(fault_script.steps(script)) == script


@pytest.mark.parametrize(
    ("wanted", "named"),
    [
        ({"script": "500, cutt"}, "step 2 of the script, 'cutt'"),
        ({"script": "500,,cut"}, "step 2 of the script is empty"),
        ({"script": "500,"}, "step 2 of the script is empty"),
        ({"script": "0x500"}, "'0x500'"),
        ({"script": "10000001x500"}, "'10000001x500'"),
        ({"script": "x500"}, "'x500'"),
        ({"script": "3x"}, "'3x'"),
        ({"script": "299"}, "'299'"),
        ({"script": "600"}, "'600'"),
        ({"script": "200:2"}, "'200:2'"),
        ({"script": "429:"}, "'429:'"),
        ({"script": "429:1.5"}, "'429:1.5'"),
        ({"script": "hang"}, "'hang'"),
        ({"script": "hang:soon"}, "'soon'"),
        ({"script": "hang:90000"}, "'90000' is more than a day"),
        ({"script": "cut\ncut"}, r"'cut\ncut'"),
        ({"script": "٣x500"}, "'٣x500'"),
        ({"latency": "50 ms"}, "latency: '50 ms' is no time"),
        ({"outage": "cutt"}, "outage, 'cutt'"),
        ({"shares": {"5OO": 0.1}}, "shares, '5OO'"),
        ({"shares": {"500": 1.5}}, "shares, '500': 1.5 is no share"),
        ({"shares": {"500": 0.6, "cut": 0.6}}, "the shares add up to 1.2"),
        ({"rate_limit": -1}, "rate_limit"),
        ({"retry_after": -1}, "retry_after"),
    ],
)
def test_what_cannot_be_read_is_named_and_changes_nothing(wanted: dict[str, Any], named: str) -> None:
    faulty = Faults(Wanted(script="2x500"))
    with pytest.raises(errors.Refused) as refused:
        faulty.put(Wanted(**wanted))
    assert named in str(refused.value)
    assert list(words(faulty, 3)) == ["500", "500", "200"]


# Who meets which


def test_the_first_that_is_on_decides_and_the_script_goes_before_all() -> None:
    everything = {
        "script": "cut, 200",
        "outage": "503",
        "unauthorized": True,
        "wrong_region": True,
        "rate_limit": 1,
        "shares": {"500": 1.0},
    }
    decided = []
    while everything:
        faulty = Faults(Wanted(**everything), clock=lambda: 0.0)
        decided.append(list(words(faulty, 3)))
        del everything[next(iter(everything))]
    assert decided == [
        ["cut", "200", "503"],
        ["503", "503", "503"],
        ["401", "401", "401"],
        ["wrong-region", "wrong-region", "wrong-region"],
        ["500", "429", "429"],
        ["500", "500", "500"],
    ]


def test_no_second_has_more_requests_than_the_rate_limit() -> None:
    now = 100.0
    faulty = Faults(Wanted(rate_limit=3, retry_after=2), clock=lambda: now)
    through = []
    for tick in range(400):
        now = 100.0 + tick / 100
        if faulty.next_step() is fault_script.PASS:
            through.append(tick)
    assert through == [start + tick for start in (0, 100, 200, 300) for tick in (0, 1, 2)]
    assert faulty.given == {"429:2": 400 - 12}


def test_a_share_is_met_by_about_that_part_and_by_the_same_ones_under_the_same_seed() -> None:
    wanted = Wanted(shares={"500": 0.05, "cut": 0.1, "429:2": 0.02})
    drawn = list(words(Faults(wanted, seed=1), 20_000))
    counted = Counter(drawn)
    assert 900 < counted["500"] < 1100
    assert 1850 < counted["cut"] < 2150
    assert 330 < counted["429:2"] < 470
    assert drawn == list(words(Faults(wanted, seed=1), 20_000))
    assert drawn != list(words(Faults(wanted, seed=2), 20_000))
    again = Faults(seed=3)
    again.put(Wanted(shares=wanted.shares, seed=1))
    assert drawn == list(words(again, 20_000))


def test_shares_that_add_up_to_one_leave_nobody_out() -> None:
    assert "200" not in set(words(Faults(Wanted(shares={"500": 0.1, "502": 0.2, "503": 0.7}), seed=1), 5000))
