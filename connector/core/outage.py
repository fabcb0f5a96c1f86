"""What answers say of Customer.io as a whole: that now everybody's calls would fail, so that nobody else need try.

One answer is enough where it can't be about whom the call was for: the credentials, the region, no connection (and the
quick tries are over by then). A 5xx, a 408, a timeout, a broken connection or an answer that isn't Customer.io's may be
about one person with whom their server can't deal. So it counts as an outage when

    - of the last 20 tries, those of the last 60 seconds, at least 5, four fifths failed,
    - none of the last 5 succeeded, so that a few who are taken among many who aren't keep it going, and
    - those that failed were about two people at least: one alone stays the retries' business.

A try that says nothing about it (429, or a call that never went out) isn't counted; a refusal is a success: somebody
looked at what was sent. Reason words:

    unauthorized       the credentials are not accepted (401, 403)
    redirected         a 3xx: the account lives in another region
    other_region       the account lives in another region than the settings say
    other_workspace    the store belongs to another workspace than the credentials
    unreachable        no connection: the name, the network, the certificate
    wrong_address      a 4xx that Customer.io doesn't give: something else answers at that address
    all_refused        every call is refused, whoever it is for
    server_errors      too many tries failed
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from datetime import datetime, timedelta
from typing import Literal, NamedTuple, TypeAlias, cast

from connector.core import outcome
from connector.core.outcome import Answer, Later, Stopped

Reason: TypeAlias = Literal[
    "unauthorized",
    "redirected",
    "wrong_address",
    "other_region",
    "other_workspace",
    "unreachable",
    "server_errors",
    "all_refused",
]

SPAN = timedelta(seconds=60)
TRIES = 20
FEWEST = 5
SHARE = 0.8
PEOPLE = 2

_LONGEST_MESSAGE = 300


class Outage(NamedTuple):
    """Why nobody's calls would be taken; the message is the vendor's or ours and tells of nobody."""

    reason: Reason
    message: str


class _Try(NamedTuple):
    at: datetime
    failed: bool
    about: Hashable


def of_answer(answer: Answer) -> Outage | None:
    """What this one answer says: the gate's probe goes by it. None when Customer.io takes our calls, whatever it makes
    of this one. Only for what went out."""
    found = outcome.of_call(answer)
    return _certain(found) or (Outage("server_errors", _words(found)) if isinstance(found, Later) else None)


def went_out(answer: Answer) -> bool:
    """False when no call was made after all, so that its answer says nothing."""
    return answer.calls > 0 or not isinstance(outcome.of_call(answer), Stopped)


class Window:
    """The last tries of this process."""

    def __init__(self) -> None:
        self._tries: deque[_Try] = deque(maxlen=TRIES)

    def saw(self, answer: Answer, now: datetime, about: Hashable = None) -> Outage | None:
        """The outage that shows by now, with this answer. `about` is one of the people whom the call was for, the same
        when the call is made again in parts; without it, the call counts as one about somebody else."""
        found = outcome.of_call(answer)
        if isinstance(found, Stopped):
            return _certain(found)
        who = object() if about is None else about
        # The answer is that of the last quick try; there was a last one only because those before it failed.
        self._tries.extend(_Try(now, True, who) for _ in range(answer.calls - 1))
        self._tries.append(_Try(now, isinstance(found, Later), who))
        if not isinstance(found, Later):
            return None
        tries = [each for each in self._tries if now - each.at <= SPAN]
        failed = [each for each in tries if each.failed]
        if not _is_outage(tries, failed):
            return None
        message = f"{len(failed)} of the last {len(tries)} tries failed, the last one: {_words(found)}"
        return Outage("server_errors", message)

    def clear(self) -> None:
        """The gate is open again: what was before says nothing any more."""
        self._tries.clear()


def _is_outage(tries: list[_Try], failed: list[_Try]) -> bool:
    return (
        len(tries) >= FEWEST
        and len(failed) >= SHARE * len(tries)
        and all(each.failed for each in tries[-FEWEST:])
        and len({each.about for each in failed}) >= PEOPLE
    )


def _certain(found: outcome.Outcome) -> Outage | None:
    if isinstance(found, Stopped) and found.reason in outcome.CLOSE_THE_GATE:
        return Outage(cast("Reason", found.reason), found.message[:_LONGEST_MESSAGE])
    return None


def _words(found: Later) -> str:
    """Without the vendor's message, which may quote what was sent."""
    return f"HTTP {found.status}" if found.status is not None else found.reason
