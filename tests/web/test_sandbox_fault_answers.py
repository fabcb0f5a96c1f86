"""Faults that answer 2xx with `errors` in the body, and requests for faults with numbers that nothing can hold."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from connector import errors
from connector.sandbox.faults import Faults, Wanted
from tests.track_client import EVENT, Client, Reply, identify, sandbox

ASKED = {"reason": "invalid", "field": "", "message": "the sandbox was asked to refuse this operation"}


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    async with sandbox() as running:
        yield running


async def faults(client: Client, **wanted: object) -> Reply:
    return await client.put("/sandbox/faults", wanted)


# 2xx with errors


@pytest.mark.parametrize(("word", "status"), [("207", 207), ("200-errors", 200)])
async def test_every_other_item_of_a_batch_is_refused_and_the_rest_is_applied(
    client: Client, word: str, status: int
) -> None:
    await faults(client, script=word)
    reply = await client.batch(*(identify(str(number)) for number in range(5)))
    assert reply == Reply(status, {"errors": [{"batch_index": index, **ASKED} for index in (0, 2, 4)]})
    assert list(await client.people()) == ["1", "3"]
    assert client.state.calls[0].fault == word
    assert (await client.batch(identify("0"))) == Reply(200, {})


async def test_what_is_wrong_with_an_item_is_said_beside_what_was_asked_for(client: Client) -> None:
    await faults(client, script="200-errors")
    reply = await client.batch(identify("0"), {**EVENT, "name": ""}, {**EVENT, "name": ""}, identify("3"))
    assert [(error["batch_index"], error["field"]) for error in reply.body["errors"]] == [
        (0, ""),
        (1, "name"),
        (2, "name"),
    ]
    assert list(await client.people()) == ["3"]


@pytest.mark.parametrize(("word", "status"), [("207", 207), ("200-errors", 200)])
async def test_a_refused_entity_has_errors_and_no_effect(client: Client, word: str, status: int) -> None:
    await faults(client, script=word)
    assert await client.post("/api/v2/entity", identify()) == Reply(status, {"errors": [ASKED]})
    assert await client.people() == {}


async def test_what_is_unusable_as_a_whole_is_a_400_all_the_same(client: Client) -> None:
    await faults(client, script="2x200-errors")
    assert (await client.post("/api/v2/batch", {"batch": 1})).status == 400
    assert (await client.post("/api/v2/entity", {**EVENT, "name": ""})).status == 400


async def test_what_has_no_such_answer_is_handled_as_usual(client: Client) -> None:
    await faults(client, script="3x207")
    assert await client.put("/api/v1/customers/42", {}) == Reply(200, {})
    assert await client.batch() == Reply(200, {})
    assert (await client.call("GET", "/auth")).status == 200
    assert list(await client.people()) == ["42"]


async def test_a_share_and_an_outage_may_be_of_answers_with_errors(client: Client) -> None:
    await faults(client, outage="200-errors")
    assert (await client.batch(identify("0"))).body["errors"]
    await faults(client, shares={"207": 1.0})
    assert (await client.batch(identify("0"))).status == 207
    assert await client.people() == {}


def test_their_words_are_written_as_they_were_read() -> None:
    assert Faults(Wanted(script="3x207, 200-errors, cut")).on()["script"] == "3x207, 200-errors, cut"


# Numbers


TOO_LARGE: list[dict[str, Any]] = [
    {"rate_limit": 10**30},
    {"rate_limit": 1_000_001},
    {"retry_after": 10**30},
    {"retry_after": 1_000_000},
    {"seed": 10**30},
    {"seed": 2**63},
    {"seed": -(2**63) - 1},
]


@pytest.mark.parametrize("wanted", TOO_LARGE)
async def test_a_number_that_is_too_large_is_a_400_and_leaves_the_faults_as_they_were(
    client: Client, wanted: dict[str, Any]
) -> None:
    await faults(client, script="500, cut", rate_limit=7, seed=5)
    before = await client.get("/sandbox/faults")
    reply = await faults(client, script="404", latency="1s", shares={"503": 0.5}, **wanted)
    assert (reply.status, list(reply.body)) == (400, ["error"])
    assert await client.get("/sandbox/faults") == before
    assert (await client.put("/api/v1/customers/42", {})).status == 500


@pytest.mark.parametrize("wanted", TOO_LARGE)
def test_a_number_that_is_too_large_changes_nothing_when_it_was_not_sent_as_json(wanted: dict[str, Any]) -> None:
    faulty = Faults(Wanted(script="500"))
    with pytest.raises(errors.Refused) as refused:
        faulty.put(Wanted(script="404", latency="1s", outage="503", **wanted))
    assert next(iter(wanted)) in str(refused.value)
    assert (faulty.next_step().word, faulty.latency, faulty.next_step().word) == ("500", 0.0, "200")


@pytest.mark.parametrize("wanted", [{"rate_limit": 1_000_000}, {"retry_after": 999_999}, {"seed": 2**63 - 1}])
async def test_the_largest_numbers_are_taken_and_read_back(client: Client, wanted: dict[str, int]) -> None:
    assert (await faults(client, **wanted)).status == 200
    assert (await client.get("/sandbox/faults")) | wanted == await client.get("/sandbox/faults")
    assert (await client.put("/api/v1/customers/42", {})).status == 200
