"""What has to be sent so that a person has what they should."""

from __future__ import annotations

import math
import sys
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from connector.core import diff
from tests.core.given import text, values

SEGMENTS = "hull_segments"
MOST = 300

documents = st.dictionaries(text, values, max_size=6)


@pytest.mark.parametrize(
    ("sent", "wanted", "changes"),
    [
        pytest.param({}, {"plan": "pro"}, {"plan": "pro"}, id="new"),
        pytest.param({"plan": "free"}, {"plan": "pro"}, {"plan": "pro"}, id="another value"),
        pytest.param({"plan": "pro"}, {"plan": "pro"}, {}, id="the same value"),
        pytest.param({"plan": "pro"}, {}, {"plan": None}, id="not wanted any more"),
        pytest.param({"plan": "pro"}, {"Plan": "pro"}, {"Plan": "pro", "plan": None}, id="names by case"),
        pytest.param({"a": True}, {"a": 1}, {"a": 1}, id="true is not 1"),
        pytest.param({"a": 0}, {"a": False}, {"a": False}, id="0 is not false"),
        pytest.param({"a": [1]}, {"a": [True]}, {"a": [True]}, id="nor inside a list"),
        pytest.param({"a": {"b": 1}}, {"a": {"b": True}}, {"a": {"b": True}}, id="nor inside an object"),
        pytest.param({"a": 1}, {"a": "1"}, {"a": "1"}, id="a number is not its text"),
        pytest.param({"a": 1}, {"a": 1.0}, {}, id="a number is its value"),
        pytest.param({"a": 10**30}, {"a": 10**30 + 1}, {"a": 10**30 + 1}, id="huge numbers to the last digit"),
        pytest.param({"a": ""}, {"a": None}, {"a": None}, id="nothing is not an empty text"),
        pytest.param({"a": []}, {"a": {}}, {"a": {}}, id="a list is not an object"),
        pytest.param({"a": [1, 2]}, {"a": [2, 1]}, {"a": [2, 1]}, id="the order of a list"),
        pytest.param({"a": [1]}, {"a": [1, 1]}, {"a": [1, 1]}, id="the length of a list"),
        pytest.param({"a": {"b": 1, "c": 2}}, {"a": {"c": 2, "b": 1}}, {}, id="not the order of an object"),
        pytest.param(
            {"a": {"b": 1}}, {"a": {"b": 1, "c": None}}, {"a": {"b": 1, "c": None}}, id="the keys of an object"
        ),
        pytest.param({SEGMENTS: ["A", "B"]}, {SEGMENTS: ["B", "A"]}, {}, id="not the order of segments"),
        pytest.param({SEGMENTS: ["A"]}, {SEGMENTS: "A"}, {SEGMENTS: "A"}, id="a text is not a list of its letters"),
        pytest.param({SEGMENTS: ["A", "B"]}, {SEGMENTS: ["A"]}, {SEGMENTS: ["A"]}, id="a segment that was left"),
        pytest.param({SEGMENTS: ["A"]}, {SEGMENTS: []}, {SEGMENTS: []}, id="all segments left"),
        pytest.param(
            {SEGMENTS: ["A", "A"]}, {SEGMENTS: ["A"]}, {SEGMENTS: ["A"]}, id="a segment that stood there twice"
        ),
    ],
)
def test_only_what_differs_is_sent(sent: dict[str, Any], wanted: dict[str, Any], changes: dict[str, Any]) -> None:
    found = diff.changes(sent, wanted, SEGMENTS, MOST)

    assert found == changes
    assert [type(value) for value in found.values()] == [type(value) for value in changes.values()]


@pytest.mark.parametrize(
    "sent", ["VIP", 7, None, True, {"a": 1}, [1, "VIP"], [None, True], [{"b": 1}, {"a": 1}], [["VIP"]]]
)
def test_segments_replace_whatever_was_sent_under_their_name_before(sent: object) -> None:
    assert diff.changes({SEGMENTS: sent}, {SEGMENTS: ["VIP"]}, SEGMENTS, MOST) == {SEGMENTS: ["VIP"]}


def test_changes_come_in_the_order_of_what_is_wanted_then_what_is_emptied() -> None:
    sent = {"old": 1, "kept": 2, "older": 3, "plan": "free"}
    wanted = {"z": 1, "plan": "pro", "kept": 2, "a": 1}

    assert list(diff.changes(sent, wanted, SEGMENTS, MOST)) == ["z", "plan", "a", "old", "older"]


def test_where_they_would_not_fit_together_what_goes_makes_room_before_what_is_new() -> None:
    sent = {"old": 1, "kept": 2, "older": 3, "plan": "free"}
    wanted = {"z": 1, "plan": "pro", "kept": 2, "a": 1}

    for most in (5, 4, 3):
        assert list(diff.changes(sent, wanted, SEGMENTS, most)) == ["plan", "old", "older", "z", "a"]
    for most in (6, 7):
        assert list(diff.changes(sent, wanted, SEGMENTS, most)) == ["z", "plan", "a", "old", "older"]


def same(one: Any, other: Any) -> bool:
    """Equal as JSON, where true is not 1 but 1.0 is 1."""
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[name], other[name]) for name in one)
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)


@given(documents, documents, st.integers(1, 12))
def test_the_changes_make_what_was_sent_into_what_is_wanted(
    sent: dict[str, Any], wanted: dict[str, Any], most: int
) -> None:
    changes = diff.changes(sent, wanted, SEGMENTS, most)
    after = {**sent, **changes}
    emptied = [name for name in after if name not in wanted]

    assert all(after.pop(name) is None for name in emptied)
    assert same(after, wanted)


@given(documents, documents)
def test_nothing_is_sent_twice(sent: dict[str, Any], wanted: dict[str, Any]) -> None:
    changes = diff.changes(sent, wanted, SEGMENTS, MOST)

    assert not any(name in sent and name in wanted and same(sent[name], wanted[name]) for name in changes)


@given(documents)
def test_an_equal_state_needs_no_changes(state: dict[str, Any]) -> None:
    assert diff.changes(state, dict(reversed(state.items())), SEGMENTS, MOST) == {}


@given(st.lists(text), st.randoms(use_true_random=False))
def test_the_order_of_segments_does_not_matter(names: list[str], random: Any) -> None:
    shuffled = names.copy()
    random.shuffle(shuffled)

    assert diff.changes({SEGMENTS: names}, {SEGMENTS: shuffled}, SEGMENTS, MOST) == {}


@given(st.lists(text), st.lists(text))
def test_other_segments_are_a_change(before: list[str], after: list[str]) -> None:
    assume(sorted(before) != sorted(after))

    assert diff.changes({SEGMENTS: before}, {SEGMENTS: after}, SEGMENTS, MOST) == {SEGMENTS: after}


@pytest.mark.parametrize("key", [None, "a"], ids=["lists", "objects"])
def test_depth_is_no_obstacle(key: str | None) -> None:
    def nested(innermost: object) -> Any:
        value = innermost
        for _ in range(sys.getrecursionlimit()):
            value = [value] if key is None else {key: value}
        return value

    assert diff.changes({"a": nested(1)}, {"a": nested(1)}, SEGMENTS, MOST) == {}
    assert list(diff.changes({"a": nested(1)}, {"a": nested(2)}, SEGMENTS, MOST)) == ["a"]


def test_a_float_next_to_another_is_a_change() -> None:
    assert diff.changes({"a": 1.0}, {"a": math.nextafter(1.0, 2)}, SEGMENTS, MOST)
