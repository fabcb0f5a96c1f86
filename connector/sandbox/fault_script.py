"""The words in which faults are asked for, on the command line and over HTTP alike. Pure.

    script   3x500, 429:2, cut, apply-cut, hang:30, 200      one step for each request, in order of arrival

    200        handled as if no fault were on             cut         body read, nothing applied, connection cut
    500        this status (300 to 599), nothing applied  apply-cut   applied, connection cut before the answer
    429:2      the same with `Retry-After: 2`             hang:30     nothing for 30 s, then handled as usual
    wrong-region   redirected, as an account of the other region is (to this very host)
    207        every other item of a batch, the first on, refused in `errors`, the rest applied; a lone operation of v2
               refused, without a `batch_index`; what isn't v2 is handled as if no fault were on
    200-errors     the same under a 200 (seen in production, and easily taken for a success)
    3x…        the same step three times

A word that can't be read is an `errors.Refused` that names it.
"""

from __future__ import annotations

import re
from typing import Literal

import msgspec

from connector import errors

WORDS = (
    "200, a status from 300 to 599, 429:2 (with Retry-After), cut, apply-cut, hang:30, wrong-region, "
    "207 and 200-errors (some of a batch is refused)"
)

_MOST_TIMES = 10_000_000
_LONGEST_SECONDS = 86_400.0
_REPEATED = re.compile(r"(?:([0-9]{1,8})\s*x\s*)?(.+)", re.DOTALL)
_STATUS = re.compile(r"([0-9]{3})(?::([0-9]{1,6}))?")
_SECONDS = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)(ms|s)?")


class Step(msgspec.Struct, frozen=True):
    """What becomes of one request. `seconds` is how long a `hang` lasts, and the Retry-After of a `status`.

    `status` is that of a `status`, and of an answer with `errors`.
    """

    does: Literal["pass", "status", "errors", "cut", "apply-cut", "hang", "wrong-region"]
    status: int = 200
    seconds: float | None = None

    @property
    def word(self) -> str:
        """As it would be written in a script."""
        if self.does == "errors":
            return "207" if self.status == 207 else f"{self.status}-errors"
        if self.does in ("pass", "status"):
            return f"{self.status}" if self.seconds is None else f"{self.status}:{self.seconds:.0f}"
        return self.does if self.seconds is None else f"{self.does}:{self.seconds:g}"


PASS = Step("pass")
WRONG_REGION = Step("wrong-region")
UNAUTHORIZED = Step("status", 401)

_PLAIN = {
    "200": PASS,
    "207": Step("errors", 207),
    "200-errors": Step("errors", 200),
    "cut": Step("cut"),
    "apply-cut": Step("apply-cut"),
    "wrong-region": WRONG_REGION,
}


def steps(script: str) -> list[tuple[int, Step]]:
    """A script as steps with how often each comes in a row; none when it is blank."""
    if not script.strip():
        return []
    read = []
    for number, part in enumerate(script.split(","), 1):
        word = part.strip()
        if not word:
            raise _refused(f"step {number} of the script is empty: a comma too many")
        match = _REPEATED.fullmatch(word)
        times = int(match[1]) if match and match[1] else 1
        if not 1 <= times <= _MOST_TIMES:
            raise _refused(f"step {number} of the script, {word!r}: a step comes 1 to {_MOST_TIMES} times")
        read.append((times, step(match[2] if match else word, f"step {number} of the script")))
    return read


def step(word: str, where: str) -> Step:
    """One step; `where` says in the message whose word it was."""
    if word in _PLAIN:
        return _PLAIN[word]
    if match := _STATUS.fullmatch(word):
        status, retry_after = int(match[1]), match[2]
        if not 300 <= status <= 599:
            raise _refused(f"{where}, {word!r}: a status is 200 (no fault) or from 300 to 599")
        return Step("status", status, None if retry_after is None else float(retry_after))
    if word.startswith("hang:"):
        return Step("hang", seconds=seconds(word.removeprefix("hang:"), f"{where}, {word!r}"))
    raise _refused(f"{where}, {word!r}: no such fault; there are: {WORDS}")


def seconds(text: str, where: str) -> float:
    """A time such as `30`, `30s`, `0.5` or `50ms`, in seconds."""
    match = _SECONDS.fullmatch(text)
    if match is None:
        raise _refused(f'{where}: {text!r} is no time; write "50ms", "2s" or a number of seconds')
    found = float(match[1]) / (1000 if match[2] == "ms" else 1)
    if found > _LONGEST_SECONDS:
        raise _refused(f"{where}: {text!r} is more than a day")
    return found


def written(script: list[tuple[int, Step]]) -> str:
    """A script as text, in words that read back as the same steps."""
    return ", ".join(step.word if times == 1 else f"{times}x{step.word}" for times, step in script)


def _refused(message: str) -> errors.Refused:
    return errors.Refused(400, "fault_unreadable", message)
