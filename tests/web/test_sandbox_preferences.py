"""Subscription preferences under dotted names: each changes one entry, and many cost what one does each."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from connector.sandbox.rules import attributes
from tests.track_client import Client, Reply, identify, sandbox

NAME = "cio_subscription_preferences"
OK = Reply(200, {})


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    async with sandbox() as running:
        yield running


def dotted(count: int) -> dict[str, Any]:
    return {f"{NAME}.topics.topic_{number}": number % 2 == 0 for number in range(count)}


def cost(count: int) -> float:
    """Seconds of the processor; the least of five tries."""
    tries, sent = [], dotted(count)
    for _ in range(5):
        started = time.process_time()
        merged = attributes.merged_of_person({}, sent)
        tries.append(time.process_time() - started)
        assert len(merged[NAME]["topics"]) == count
    return min(tries)


def test_eight_times_the_dotted_names_are_eight_times_the_work() -> None:
    """Work that grew with the square would be 64 times as much."""
    assert cost(8_000) < 24 * cost(1_000)


@pytest.mark.parametrize(
    ("current", "sent", "expected"),
    [
        ({}, {".topics.topic_1": True}, {"topics": {"topic_1": True}}),
        ({"topics": {"topic_1": True}}, {".topics": {"topic_2": True}}, {"topics": {"topic_2": True}}),
        ({"topics": 7}, {".topics.topic_1": True}, {"topics": {"topic_1": True}}),
        ({"topics": {"topic_1": True}}, {".topics.topic_1": ""}, {"topics": {}}),
        ({}, {".topics.topic_1": None}, {"topics": {}}),
        (
            {},
            {"": {"topics": {"topic_1": True}}, ".topics.topic_2": False},
            {"topics": {"topic_1": True, "topic_2": False}},
        ),
        ({}, {".topics": {"topic_1": True}, ".topics.topic_2": False}, {"topics": {"topic_1": True, "topic_2": False}}),
        ({"a": {"b": [1]}}, {".a.c": 2, ".x": 3}, {"a": {"b": [1], "c": 2}, "x": 3}),
    ],
)
def test_dotted_names_change_entries_and_leave_their_arguments_alone(
    current: dict[str, Any], sent: dict[str, Any], expected: dict[str, Any]
) -> None:
    before, given = {NAME: current, "plan": "pro"}, {f"{NAME}{name}": value for name, value in sent.items()}
    copies = repr(before), repr(given)
    assert attributes.merged_of_person(before, given) == {NAME: expected, "plan": "pro"}
    assert (repr(before), repr(given)) == copies


async def test_preferences_grow_up_to_the_bytes_of_a_value_and_no_further(client: Client) -> None:
    def topics(*numbers: int) -> dict[str, Any]:
        return {f"{NAME}.topics.{'n' * 100}{number}": True for number in numbers}

    for number in range(8):
        assert await client.batch(identify(plan="pro", **topics(number))) == OK
    assert client.refusals == []
    before = await client.person()
    assert len(before["attributes"][NAME]["topics"]) == 8
    assert await client.put("/api/v1/customers/42", {**topics(8, 9), "plan": "team"}) == OK
    assert client.refusals == ["too_large"]
    assert await client.person() == before


@pytest.mark.parametrize(("over", "refusals"), [(0, []), (1, ["too_large"])])
async def test_preferences_have_1000_bytes_at_the_limit_and_one_over(
    client: Client, over: int, refusals: list[str]
) -> None:
    first = {"x": "v" * (1000 - len('{"x":"","y":true}') + over)}
    await client.batch(identify(**{NAME: first}))
    await client.batch(identify(**{f"{NAME}.y": True}))
    assert client.refusals == refusals
    assert (await client.person())["attributes"] == {NAME: first if over else {**first, "y": True}}


async def test_deep_dotted_names_with_deep_values_can_be_read_back(client: Client) -> None:
    value: Any = []
    for _ in range(90):
        value = [value]
    name = NAME + "." * (150 - len(NAME))
    assert await client.put("/api/v1/customers/42", {name: value}) == OK
    assert list((await client.person())["attributes"]) == [NAME]
