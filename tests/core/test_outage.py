"""What is an outage, and what is one person with whom Customer.io can't deal."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from connector.core import outage
from connector.core.outage import Outage, Window
from connector.core.outcome import Answer
from tests.core.given import NOW

GOOD = Answer(200, b"{}", calls=1)
REFUSED = Answer(400, b'{"meta":{"error":"name cannot be blank"}}', calls=1)
BUSY = Answer(429, retry_after=1, calls=1)
NEVER_WENT_OUT = Answer(None, problem="lease_ran_out")
BAD = Answer(503, calls=1)
TIMEOUT = Answer(None, problem="timeout", calls=1)
LOG_IN_PAGE = Answer(200, b"<html>", calls=1)
FAILING = [BAD, Answer(408, calls=1), TIMEOUT, Answer(None, problem="network", calls=1), LOG_IN_PAGE]
SECOND = timedelta(seconds=1)


def saw(window: Window, *answers: Answer, now: datetime = NOW, about: str | None = None) -> Outage | None:
    """What the last of the answers shows."""
    shown = None
    for answer in answers:
        shown = window.saw(answer, now, about)
    return shown


@pytest.mark.parametrize(
    ("answer", "shown"),
    [
        (Answer(401, b'{"meta":{"error":"Unauthorized request"}}'), ("unauthorized", "Unauthorized request")),
        (Answer(403), ("unauthorized", "HTTP 403")),
        (Answer(301), ("redirected", "HTTP 301")),
        (Answer(None, problem="unreachable"), ("unreachable", "no answer")),
    ],
)
def test_one_answer_is_enough_when_it_can_be_about_nobody(answer: Answer, shown: tuple[str, str]) -> None:
    assert outage.of_answer(answer) == shown
    assert Window().saw(answer, NOW) == shown


@pytest.mark.parametrize("answer", [GOOD, REFUSED, BUSY, Answer(413), NEVER_WENT_OUT])
def test_a_refusal_or_a_wish_for_a_pause_is_no_outage(answer: Answer) -> None:
    assert outage.of_answer(answer) is None
    assert saw(Window(), *[answer] * 30) is None


@pytest.mark.parametrize("answer", [GOOD, REFUSED, BUSY, *FAILING, Answer(401), Answer(None, problem="unreachable")])
def test_an_answer_says_something_when_a_call_was_made_for_it(answer: Answer) -> None:
    assert outage.went_out(replace(answer, calls=1))


@pytest.mark.parametrize("answer", [NEVER_WENT_OUT, Answer(429), Answer(401)])
def test_what_stopped_a_call_before_it_was_made_says_nothing(answer: Answer) -> None:
    assert not outage.went_out(replace(answer, calls=0))


@pytest.mark.parametrize("answer", FAILING)
def test_a_probe_needs_one_failing_answer_and_a_usual_call_five(answer: Answer) -> None:
    found = outage.of_answer(answer)
    assert found is not None
    assert found.reason == "server_errors"
    window = Window()
    assert saw(window, *[answer] * 4) is None
    shown = saw(window, answer)
    assert shown is not None
    assert shown.reason == "server_errors"


def test_the_message_counts_and_quotes_nobodys_data() -> None:
    quoting = Answer(500, b'{"errors":[{"message":"ann@example.com"}]}', calls=1)
    assert saw(Window(), *[quoting] * 5) == ("server_errors", "5 of the last 5 tries failed, the last one: HTTP 500")
    assert saw(Window(), *[TIMEOUT] * 5) == ("server_errors", "5 of the last 5 tries failed, the last one: timeout")
    assert outage.of_answer(quoting) == ("server_errors", "HTTP 500")


def test_a_vendors_endless_words_are_cut() -> None:
    found = outage.of_answer(Answer(401, b'{"meta":{"error":"%s"}}' % (b"x" * 9000)))
    assert found is not None
    assert len(found.message) == 300


def test_quick_tries_count_one_by_one() -> None:
    thrice = Answer(503, calls=3)
    window = Window()
    assert saw(window, thrice) is None
    assert saw(window, thrice) == ("server_errors", "6 of the last 6 tries failed, the last one: HTTP 503")


def test_a_call_that_was_taken_at_its_third_try_is_a_success() -> None:
    window = Window()
    assert saw(window, *[Answer(200, b"{}", calls=3)] * 9) is None
    assert saw(window, *[BAD] * 4) is None


def test_who_are_taken_in_between_keep_it_going() -> None:
    window = Window()
    for _ in range(50):
        assert saw(window, BAD, BAD, BAD, BAD, GOOD) is None
    assert saw(window, *[BAD] * 4) is None
    assert saw(window, BAD) is not None


def test_five_that_fail_after_many_that_were_taken_are_too_few() -> None:
    window = Window()
    saw(window, *[GOOD] * 5)
    assert saw(window, *[BAD] * 15) is None
    assert saw(window, BAD) is not None


def test_what_is_over_a_minute_old_does_not_count() -> None:
    window = Window()
    saw(window, *[BAD] * 4)
    assert saw(window, BAD, now=NOW + timedelta(seconds=61)) is None
    assert saw(window, *[BAD] * 4, now=NOW + timedelta(seconds=121)) is not None


def test_one_person_alone_never_is_an_outage_and_two_are() -> None:
    window = Window()
    assert saw(window, *[BAD] * 60, about="poison") is None
    assert saw(window, BAD, about="another") is not None


def test_an_open_gate_begins_with_nothing_remembered() -> None:
    window = Window()
    saw(window, *[BAD] * 20)
    window.clear()
    assert saw(window, *[BAD] * 4) is None


@given(st.lists(st.sampled_from([GOOD, REFUSED, BUSY, *FAILING]), max_size=40))
def test_it_shows_exactly_when_the_last_tries_say_so(answers: list[Answer]) -> None:
    window = Window()
    tries: list[bool] = []
    for number, answer in enumerate(answers):
        shown = window.saw(answer, NOW + number * SECOND)
        if answer is not BUSY:
            tries.append(answer in FAILING)
        last = tries[-20:]
        expected = answer in FAILING and len(last) >= 5 and sum(last) * 5 >= len(last) * 4 and all(last[-5:])
        assert (shown is not None) is expected
