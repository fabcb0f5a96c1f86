"""Reading Customer.io's answer: one outcome for each thing that was sent.

A 2xx is not yet success: a 207, and sometimes a 200, names refused items in `errors` by `batch_index`. Four
shapes of error body are documented or seen, and a proxy's HTML is possible too
(https://docs.customer.io/api/track/, "errors"). Reason words:

    refused         Customer.io looked at it and said no (its `message` says why)
    unauthorized    the credentials are not accepted (401, 403)
    redirected      a 3xx: the account lives in another region; never followed
    rate_limited    429
    server_error    5xx or 408
    network         no answer
    unclear_answer  anything else
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import msgspec


@dataclass(frozen=True, slots=True)
class Answer:
    """A response as bytes; `status` is None when none came, and `problem` then says what happened."""

    status: int | None
    body: bytes = b""
    retry_after: float | None = None
    problem: str = ""
    calls: int = 1


@dataclass(frozen=True, slots=True)
class Delivered:
    """Accepted. Customer.io applies it later, and drops it silently when something newer came in between."""


@dataclass(frozen=True, slots=True)
class Undelivered:
    """Not accepted, with one reason word; the user stays pending."""

    reason: str
    message: str
    status: int | None = None


Outcome = Delivered | Undelivered


def of_items(answer: Answer, count: int) -> list[Outcome]:
    """One outcome for each of the `count` operations that the call held, in their order."""
    if answer.status is None or not 200 <= answer.status < 300:
        return [of_failure(answer)] * count
    problems = _item_errors(answer.body)
    if None in problems:
        # An error that names no item: which one it means can't be told, so none counts as delivered.
        return [Undelivered("unclear_answer", "; ".join(problems[None]), answer.status)] * count
    return [
        Undelivered("refused", "; ".join(problems[index]), answer.status) if index in problems else Delivered()
        for index in range(count)
    ]


def of_call(answer: Answer) -> Outcome:
    """The outcome of a call that held one thing."""
    if answer.status is None or not 200 <= answer.status < 300:
        return of_failure(answer)
    problems = [message for messages in _item_errors(answer.body).values() for message in messages]
    return Undelivered("refused", "; ".join(problems), answer.status) if problems else Delivered()


def of_failure(answer: Answer) -> Undelivered:
    """What a missing answer or one outside 2xx means for everything in the call."""
    status = answer.status
    if status is None:
        return Undelivered("network", answer.problem)
    return Undelivered(_reason(status), "; ".join(messages(answer.body)) or f"HTTP {status}", status)


def messages(body: bytes) -> list[str]:
    """The vendor's own words in any of its error shapes; [] when there are none."""
    document = _decode(body)
    if not isinstance(document, dict):
        return []
    meta = document.get("meta")
    if isinstance(meta, dict):
        if isinstance(meta.get("errors"), list):
            return [str(item) for item in meta["errors"]]
        if meta.get("error"):
            return [str(meta["error"])]
    errors = document.get("errors")
    return [_words(item) for item in errors] if isinstance(errors, list) else []


def _reason(status: int) -> str:
    if status in {401, 403}:
        return "unauthorized"
    if status == 429:
        return "rate_limited"
    if status == 408 or status >= 500:
        return "server_error"
    if 300 <= status < 400:
        return "redirected"
    return "refused" if 400 <= status < 500 else "unclear_answer"


def _item_errors(body: bytes) -> dict[int | None, list[str]]:
    document = _decode(body)
    errors = document.get("errors") if isinstance(document, dict) else None
    found: defaultdict[int | None, list[str]] = defaultdict(list)
    for item in errors if isinstance(errors, list) else []:
        index = item.get("batch_index") if isinstance(item, dict) else None
        found[index if isinstance(index, int) else None].append(_words(item))
    return dict(found)


def _words(item: Any) -> str:
    if not isinstance(item, dict):
        return str(item)
    said = [str(item[key]) for key in ("field", "reason", "message", "detail") if item.get(key)]
    return ": ".join(said) or "an error without a message"


def _decode(body: bytes) -> Any:
    try:
        return msgspec.json.decode(body) if body else None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
