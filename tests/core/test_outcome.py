"""Customer.io's answers, in every shape that is documented or seen."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector.core import outcome
from connector.core.outcome import Answer, Delivered, Later, Outcome, Refused, Stopped
from tests.core.given import values

HTML = b"<html><head><title>502 Bad Gateway</title></head></html>"
BLANK_NAME = b'{"meta":{"error":"name cannot be blank"}}'
LONG_VALUE = b'{"meta":{"errors":["value for attribute \'x\' cannot be longer than 1000 bytes","and another"]}}'
V2_ERROR = b'{"errors":[{"reason":"required","field":"identifiers","message":"identifiers must be present"}]}'
WRONG_DATACENTER = b'{"errors":[{"detail":"wrong datacenter","status":"301"}]}'
KINDS = {"refused": Refused, "server_error": Later, "unclear_answer": Later}
TOO_LONG = "property value cannot be longer than 1000 bytes"


def refused_items(*errors: dict[str, Any], status: int = 207) -> Answer:
    return Answer(status, msgspec.json.encode({"errors": errors}))


def item(index: object, message: str = TOO_LONG) -> dict[str, Any]:
    return {"batch_index": index, "reason": "invalid", "field": "attributes.delivery_suburb", "message": message}


@pytest.mark.parametrize(
    ("body", "messages"),
    [
        (BLANK_NAME, ["name cannot be blank"]),
        (b'{"meta":{"error":"Unauthorized request"}}', ["Unauthorized request"]),
        (LONG_VALUE, ["value for attribute 'x' cannot be longer than 1000 bytes", "and another"]),
        (V2_ERROR, ["identifiers: required: identifiers must be present"]),
        (WRONG_DATACENTER, ["wrong datacenter"]),
        (b'{"errors":["plain words",{"status":"400"}]}', ["plain words", "an error without a message"]),
        (b'{"meta":{"error":{"message":"no"}}}', ["no"]),
        (b'{"meta":"no","errors":[{"message":"yes"}]}', ["yes"]),
        (b'{"meta":{},"errors":[{"message":"yes"}]}', ["yes"]),
        (b'{"errors":[{"message":"NUL \\u0000 here"}]}', ["NUL \ufffd here"]),
    ],
)
def test_the_vendors_words_are_found_in_each_of_its_shapes(body: bytes, messages: list[str]) -> None:
    assert outcome.messages(body) == messages


@pytest.mark.parametrize(
    "body",
    [
        *(b"", HTML, b"{}", b"[]", b"null", b'"no"', b'{"errors":null}', b'{"errors":"no"}', b'{"errors":[]}'),
        *(
            b'{"meta":{"error":""}}',
            b'{"meta":{"errors":[]}}',
            b'{"meta":null}',
            b"\xff",
            b'"\xff"',
            b'{"errors":[NaN]}',
        ),
        pytest.param(b"[" * 100_000, id="deep"),
    ],
)
def test_a_body_without_an_error_in_it_has_no_words(body: bytes) -> None:
    assert outcome.messages(body) == []


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (400, "refused"),
        (404, "wrong_address"),
        (413, "refused"),
        (422, "refused"),
        (409, "refused"),
        (405, "wrong_address"),
        (499, "wrong_address"),
        (401, "unauthorized"),
        (403, "unauthorized"),
        (429, "rate_limited"),
        (408, "server_error"),
        (500, "server_error"),
        (503, "server_error"),
        (522, "server_error"),
        (599, "server_error"),
        (300, "redirected"),
        (301, "redirected"),
        (308, "redirected"),
        (399, "redirected"),
        (101, "unclear_answer"),
        (199, "unclear_answer"),
    ],
)
def test_every_status_outside_2xx_fails_all_of_the_call_with_one_reason(status: int, reason: str) -> None:
    failed = KINDS.get(reason, Stopped)(reason, f"HTTP {status}", status)

    assert outcome.of_failure(Answer(status)) == failed
    assert outcome.of_call(Answer(status)) == failed
    assert outcome.of_items(Answer(status), 3) == [failed] * 3


@pytest.mark.parametrize(
    ("answer", "failed"),
    [
        (Answer(400, BLANK_NAME), Refused("refused", "name cannot be blank", 400)),
        (
            Answer(400, LONG_VALUE),
            Refused("refused", "value for attribute 'x' cannot be longer than 1000 bytes; and another", 400),
        ),
        (Answer(400, V2_ERROR), Refused("refused", "identifiers: required: identifiers must be present", 400)),
        (Answer(301, WRONG_DATACENTER), Stopped("redirected", "wrong datacenter", 301)),
        (Answer(502, HTML), Later("server_error", "HTTP 502", 502)),
        (Answer(401, HTML), Stopped("unauthorized", "HTTP 401", 401)),
        (Answer(None, problem="timeout"), Later("timeout", "no answer")),
        (Answer(None), Later("network", "no answer")),
        (Answer(None, problem="unreachable"), Stopped("unreachable", "no answer")),
        (Answer(None, problem="lease_ran_out"), Stopped("lease_ran_out", "no answer")),
    ],
)
def test_a_failed_call_says_why_in_the_vendors_words_if_it_has_any(answer: Answer, failed: Outcome) -> None:
    assert outcome.of_call(answer) == failed
    assert outcome.of_items(answer, 2) == [failed, failed]


@pytest.mark.parametrize("status", [200, 201, 202, 204])
@pytest.mark.parametrize("body", [b"{}", b"", b' {"errors":[]} ', b'{"errors":null}', b'{"meta":{}}'])
def test_a_2xx_without_errors_delivers_everything(status: int, body: bytes) -> None:
    assert outcome.of_call(Answer(status, body)) == Delivered()
    assert outcome.of_items(Answer(status, body), 2) == [Delivered(), Delivered()]


@pytest.mark.parametrize("status", [200, 207])
def test_the_items_that_are_named_are_refused_and_the_others_delivered(status: int) -> None:
    answer = refused_items(item(3), item(0, "one"), item(0, "two"), status=status)

    words = "attributes.delivery_suburb: invalid: "
    assert outcome.of_items(answer, 4) == [
        Refused("refused", f"{words}one; {words}two", status),
        Delivered(),
        Delivered(),
        Refused("refused", f"{words}{TOO_LONG}", status),
    ]


@pytest.mark.parametrize(
    "index",
    [
        pytest.param(None, id="null"),
        pytest.param("1", id="text"),
        pytest.param(1.0, id="a float"),
        pytest.param(True, id="truth"),
        pytest.param(-1, id="before the first"),
        pytest.param(2, id="after the last"),
        pytest.param(10**30, id="huge"),
    ],
)
def test_an_error_that_names_no_item_of_the_call_leaves_none_delivered(index: object) -> None:
    words = f"attributes.delivery_suburb: invalid: {TOO_LONG}"

    assert outcome.of_items(refused_items(item(index)), 2) == [Later("unclear_answer", words, 207)] * 2
    mixed = outcome.of_items(refused_items(item(0), item(index, "?")), 2)
    assert {type(each) for each in mixed} == {Later}


@pytest.mark.parametrize("body", [V2_ERROR, b'{"errors":["plain words"]}', BLANK_NAME, LONG_VALUE])
def test_an_error_in_a_200_without_an_index_leaves_none_delivered(body: bytes) -> None:
    failed = Later("unclear_answer", "; ".join(outcome.messages(body)), 200)

    assert outcome.of_items(Answer(200, body), 2) == [failed, failed]


@pytest.mark.parametrize("body", [V2_ERROR, b'{"errors":[{"batch_index":0,"message":"no"}]}', BLANK_NAME, LONG_VALUE])
def test_an_error_in_a_200_refuses_a_call_that_held_one_thing(body: bytes) -> None:
    failed = Refused("refused", "; ".join(outcome.messages(body)), 200)

    assert outcome.of_call(Answer(200, body)) == failed


@pytest.mark.parametrize("body", [HTML, b"[]", b"null", b'"ok"', b'{"errors":"no"}', b'{"errors":{"0":"no"}}', b"{"])
def test_a_2xx_that_is_not_customer_ios_delivers_nothing(body: bytes) -> None:
    # A proxy's log-in page comes with a 200, too.
    unclear = Later("unclear_answer", "HTTP 200", 200)

    assert outcome.of_call(Answer(200, body)) == unclear
    assert outcome.of_items(Answer(200, body), 2) == [unclear, unclear]


@pytest.mark.parametrize("body", [b"", b"{}", HTML, b'{"errors":[]}'])
def test_a_207_that_does_not_say_which_item_failed_delivers_nothing(body: bytes) -> None:
    assert outcome.of_items(Answer(207, body), 2) == [Later("unclear_answer", "HTTP 207", 207)] * 2


statuses = st.none() | st.integers(100, 599)


@given(statuses, st.binary() | values.map(msgspec.json.encode), st.integers(1, 5))
def test_no_answer_makes_reading_fail_and_each_item_has_one_outcome(
    status: int | None, body: bytes, count: int
) -> None:
    answer = Answer(status, body)

    assert len(outcome.of_items(answer, count)) == count
    assert isinstance(outcome.of_call(answer), Delivered | Refused | Later | Stopped)


@given(st.integers(1, 50), st.data())
def test_exactly_the_items_that_are_named_are_refused(count: int, data: st.DataObject) -> None:
    named = data.draw(st.lists(st.integers(0, count - 1), min_size=1))
    outcomes = outcome.of_items(refused_items(*map(item, named)), count)

    assert {index for index, each in enumerate(outcomes) if isinstance(each, Refused)} == set(named)


@pytest.mark.parametrize(
    ("answer", "failing"),
    [
        (Answer(500), True),
        (Answer(None, problem="timeout"), True),
        (Answer(200, HTML), True),
        (Answer(400), False),
        (Answer(401), False),
        (Answer(None, problem="unreachable"), False),
        (Answer(200), False),
    ],
)
def test_a_call_fails_where_nothing_is_said_of_what_it_held(answer: Answer, failing: bool) -> None:
    assert outcome.is_failing(answer) is failing
