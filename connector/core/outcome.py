"""Reading Customer.io's answer: one outcome for each thing that was sent.

A 2xx is not yet success: a 207, and sometimes a 200, names refused items in `errors` by `batch_index`. Four
shapes of error body are documented or seen, and a proxy's HTML is possible too
(https://docs.customer.io/api/track/, "errors"). Reason words, and what comes of what was sent:

    refused         Customer.io looked at it and said no (its `message` says why)      Refused
    server_error    5xx or 408                                                         Later
    timeout         no answer in time                                                  Later
    network         the connection broke                                               Later
    unclear_answer  anything else                                                      Later
    unauthorized    the credentials are not accepted (401, 403)                        Stopped, the gate closes
    redirected      a 3xx: the account lives in another region; never followed         Stopped, the gate closes
    unreachable     no connection: the name, the network, the certificate              Stopped, the gate closes
    wrong_address   another 4xx, such as 404: somebody answers who isn't Customer.io   Stopped, the gate closes
    rate_limited    429                                                                Stopped, for as long as it says
    lease_ran_out   it never went out                                                  Stopped
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any, Literal, TypeAlias

import msgspec

Problem: TypeAlias = Literal["", "unreachable", "timeout", "network", "lease_ran_out"]


class Answer(msgspec.Struct, frozen=True):
    """A response as bytes; `status` is None when none came, and `problem` then says what happened. `retry_after` is in
    seconds, None where the answer doesn't say; `calls` is how often it was tried, 0 when it never went out. `unheard`
    is true when one of the tries may have been applied, and nobody heard."""

    status: int | None
    body: bytes = b""
    retry_after: float | None = None
    problem: Problem = ""
    calls: int = 0
    unheard: bool = False


class Delivered(msgspec.Struct, frozen=True):
    """Accepted. Customer.io applies it later, and drops it silently when something newer came in between."""


class Refused(msgspec.Struct, frozen=True):
    """Not accepted, and the same again would not be."""

    reason: str
    message: str
    status: int | None = None


class Later(msgspec.Struct, frozen=True):
    """Not accepted this time; another try may be."""

    reason: str
    message: str
    status: int | None = None


class Stopped(msgspec.Struct, frozen=True):
    """Nothing is said of what was sent: the whole API takes no calls, or ours never went out. No attempt of anybody."""

    reason: str
    message: str
    status: int | None = None


Undelivered: TypeAlias = Refused | Later | Stopped
Outcome: TypeAlias = Delivered | Undelivered

CLOSE_THE_GATE = frozenset({"unauthorized", "redirected", "unreachable", "wrong_address"})

# Nobody heard whether it was applied.
UNHEARD = frozenset({"server_error", "timeout", "network", "unclear_answer", "server_errors"})

_ABOUT_WHAT_WAS_SENT = frozenset({400, 409, 413, 414, 422})

_NO_PROBLEM = frozenset({b"", b"{}"})  # nearly every answer

_STOPPED = CLOSE_THE_GATE | {"rate_limited", "lease_ran_out"}


def of_items(answer: Answer, count: int) -> list[Outcome]:
    """One outcome for each of the `count` operations that the call held, in their order."""
    if answer.status is None or not 200 <= answer.status < 300:
        return [of_failure(answer)] * count
    problems = _problems(answer)
    indices = [_index(each, count) for each in problems or []]
    if problems is None or None in indices:
        # Which items the answer means can't be told, so none counts as delivered.
        return [_undelivered("unclear_answer", answer)] * count
    named: defaultdict[int | None, list[str]] = defaultdict(list)
    for index, problem in zip(indices, problems, strict=True):
        named[index].append(_words(problem))
    delivered = Delivered()
    return [
        Refused("refused", "; ".join(named[index]), answer.status) if index in named else delivered
        for index in range(count)
    ]


def of_call(answer: Answer) -> Outcome:
    """The outcome of a call that held one thing."""
    if answer.status is None or not 200 <= answer.status < 300:
        return of_failure(answer)
    problems = _problems(answer)
    if problems is None:
        return _undelivered("unclear_answer", answer)
    return _undelivered("refused", answer) if problems else Delivered()


def of_failure(answer: Answer) -> Undelivered:
    """What a missing answer or one outside 2xx means for everything in the call."""
    if answer.status is None:
        word = answer.problem or "network"
        return Stopped(word, "no answer") if word in _STOPPED else Later(word, "no answer")
    return _undelivered(_reason(answer.status), answer)


def is_failing(answer: Answer) -> bool:
    """No answer that says anything of what was sent, as far as a server or a network can fail: others may have been
    answered meanwhile."""
    return isinstance(of_call(answer), Later)


def messages(body: bytes) -> list[str]:
    """The vendor's own words in any of its error shapes; [] when there are none."""
    document = _decode(body)
    return [_words(each) for each in _errors(document)] if isinstance(document, dict) else []


def _reason(status: int) -> str:
    if status in {401, 403}:
        return "unauthorized"
    if status == 429:
        return "rate_limited"
    if status == 408 or status >= 500:
        return "server_error"
    if 300 <= status < 400:
        return "redirected"
    if status < 400:
        return "unclear_answer"
    return "refused" if status in _ABOUT_WHAT_WAS_SENT else "wrong_address"


def _undelivered(reason: str, answer: Answer) -> Undelivered:
    kind = Refused if reason == "refused" else Stopped if reason in _STOPPED else Later
    return kind(reason, "; ".join(messages(answer.body)) or f"HTTP {answer.status}", answer.status)


def _problems(answer: Answer) -> list[Any] | None:
    """What a 2xx says is wrong. None when that can't be told: it isn't Customer.io's (a proxy's log-in page comes
    with a 200, too), or it is a 207, which means that some item is wrong, and names none."""
    if answer.body in _NO_PROBLEM:
        return None if answer.status == 207 else []
    document = _decode(answer.body)
    if not isinstance(document, dict) or not isinstance(document.get("errors") or [], list):
        return None
    errors = _errors(document)
    return None if answer.status == 207 and not errors else errors


def _errors(document: dict[str, Any]) -> list[Any]:
    meta = document.get("meta")
    meta = meta if isinstance(meta, dict) else {}
    lists = [each for each in (meta.get("errors"), document.get("errors")) if isinstance(each, list)]
    return [*([meta["error"]] if meta.get("error") else []), *(error for errors in lists for error in errors)]


def _index(problem: Any, count: int) -> int | None:
    """Which of the `count` items the problem is about; None when it names none of them. True is not 1."""
    index = problem.get("batch_index") if isinstance(problem, dict) else None
    return index if type(index) is int and 0 <= index < count else None


def _words(problem: Any) -> str:
    if not isinstance(problem, dict):
        return _storable(problem)
    said = [_storable(problem[key]) for key in ("field", "reason", "message", "detail") if problem.get(key)]
    return ": ".join(said) or "an error without a message"


def _storable(value: Any) -> str:
    # An attribute's name may come back in the message; PostgreSQL can't store a NUL.
    return str(value).replace("\0", "\ufffd")


def _decode(body: bytes) -> Any:
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
