"""How new attributes meet the ones that a user has."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector.core import merge
from tests.core.given import text, values

documents = st.dictionaries(text, values, max_size=5)


@pytest.mark.parametrize(
    ("before", "given_now", "after"),
    [
        pytest.param({"plan": "free"}, {"plan": "pro"}, {"plan": "pro"}, id="a key that is given replaces"),
        pytest.param({"plan": "free"}, {"age": 3}, {"plan": "free", "age": 3}, id="a key that isn't given stays"),
        pytest.param({"plan": "free", "age": 3}, {"plan": None}, {"age": 3}, id="null removes"),
        pytest.param({}, {"plan": None}, {}, id="null for what isn't there is nothing"),
        pytest.param({"a": {"b": 1, "c": 2}}, {"a": {"b": 3}}, {"a": {"b": 3}}, id="objects are replaced whole"),
        pytest.param({"a": 1}, {"a": {"b": None}}, {"a": {"b": None}}, id="a null inside stays"),
        pytest.param({"a": 1, "b": 2}, {"a": False, "b": ""}, {"a": False, "b": ""}, id="false and '' are values"),
    ],
)
def test_attributes_merge_by_their_top_level_keys(
    before: dict[str, Any], given_now: dict[str, Any], after: dict[str, Any]
) -> None:
    assert merge.attributes(before, given_now) == after


@pytest.mark.parametrize(
    ("path", "after"),
    [
        ("a", {"b": 1}),
        ("a.x", {"b": 1}),
        ("a.y", {"a": {"x": True}, "b": 1}),
        ("b.x", {"a": {"x": True}, "b": 1}),
        ("c", {"a": {"x": True}, "b": 1}),
    ],
)
def test_a_path_is_taken_out_with_the_group_that_it_stands_in(path: str, after: dict[str, Any]) -> None:
    assert merge.without({"a": {"x": True}, "b": 1}, path) == after


def test_merging_leaves_what_it_was_given_untouched() -> None:
    before, given_now = {"a": 1}, {"a": None, "b": 2}

    merge.attributes(before, given_now)

    assert (before, given_now) == ({"a": 1}, {"a": None, "b": 2})


@given(documents, documents)
def test_merging_the_same_twice_is_merging_it_once(before: dict[str, Any], given_now: dict[str, Any]) -> None:
    once = merge.attributes(before, given_now)

    assert merge.attributes(once, given_now) == once
    assert None not in once.values()


@pytest.mark.parametrize(
    ("before", "given_now", "after"),
    [
        pytest.param(None, {"id": "G", "size": 5}, {"id": "G", "size": 5}, id="the first one"),
        pytest.param(
            {"id": "G", "size": 5}, {"id": "G", "plan": "pro"}, {"id": "G", "size": 5, "plan": "pro"}, id="the same"
        ),
        pytest.param({"id": "G", "size": 5}, {"id": "G", "size": None}, {"id": "G"}, id="null removes"),
        pytest.param({"id": "G", "size": 5}, {"id": "H"}, {"id": "H"}, id="another one takes its place"),
        pytest.param("Acme", {"id": "G"}, {"id": "G"}, id="what was no account goes"),
    ],
)
def test_an_account_gathers_what_is_said_of_it(before: Any, given_now: dict[str, Any], after: dict[str, Any]) -> None:
    assert merge.account(before, given_now) == after
