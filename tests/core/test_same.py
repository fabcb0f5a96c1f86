"""core/same: when two values of JSON are the same."""

from __future__ import annotations

import pytest

from connector.core import same


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, 1.0),
        (1e23, 10**23),
        ({"a": [1, {"b": None}]}, {"a": [1.0, {"b": None}]}),
        (("a", 1), ["a", 1]),
        ("é", "é"),
        (None, None),
        (True, True),
    ],
)
def test_the_same(one: object, other: object) -> None:
    assert same.as_json(one, other)
    assert same.as_json(other, one)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (True, 1),
        (False, 0),
        (0, None),
        ("1", 1),
        ([1], [1, 1]),
        ([1, 2], [2, 1]),
        ({"a": 1}, {"b": 1}),
        ({"a": 1}, {"a": 2}),
        ({}, []),
        (10**30, 10**30 + 1),
        (0.1, 0.2),
    ],
)
def test_not_the_same(one: object, other: object) -> None:
    assert not same.as_json(one, other)
    assert not same.as_json(other, one)


def test_depth_is_no_limit() -> None:
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    assert same.as_json(deep, deep)
