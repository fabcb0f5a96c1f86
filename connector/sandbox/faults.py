"""Faults on demand: which requests fail, and how.

    ask for them (Wanted) -> Faults.put -> next_step, once for each request in order of arrival -> inflict

The first of these that is on decides about a request: the script's next step, `outage`, `unauthorized`,
`wrong_region`, the rate limit, a share. `latency` comes on top, for every request. A script that has run out
is off. Only calls to Customer.io meet faults, and they do before their credentials are looked at.

No call is awaited between a request's arrival and its step, so on one event loop each step is given exactly
once, however many connections there are. Shares are drawn from a seeded `random.Random`.

Stricter readings of what is unverified:
- The body of a 429 and of every 5xx isn't JSON, as of a proxy that stands before the service.
- The rate limit lets no more than n requests through in any second, not n on average; a batch is one.
- A hung request is handled when the time is over, also when its sender has gone meanwhile.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from aiohttp import web

from connector import errors
from connector.sandbox import fault_script, json_body
from connector.sandbox.fault_script import PASS, UNAUTHORIZED, WRONG_REGION, Step
from connector.sandbox.requests import regions
from connector.sandbox.requests.endpoints import ERRORS_UNDER

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_SECOND = 1.0
_MOST_A_SECOND = 1_000_000
_LONGEST_RETRY_AFTER = 999_999
_LARGEST_SEED = 2**63 - 1  # it is read back as JSON


class Wanted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The faults to have, in the words of `fault_script`; what is left out is off.

    `shares` maps a word to the part of the requests, 0 to 1; `rate_limit` is in requests a second, and its
    429 carries `retry_after` in seconds where that is given: a million and 999,999 at most. Without a `seed`, of 64
    bits, the sandbox's own is taken.
    """

    script: str = ""
    shares: dict[str, float] = {}
    latency: str = ""
    rate_limit: int = 0
    retry_after: int | None = None
    outage: str = ""
    unauthorized: bool = False
    wrong_region: bool = False
    seed: int | None = None


class Faults:
    """What is on. `clock` is in seconds and never runs backwards."""

    def __init__(
        self, wanted: Wanted | None = None, *, seed: int | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._seed = seed
        self._clock = clock
        self.put(wanted or Wanted())

    def put(self, wanted: Wanted) -> None:
        """Puts these in place of those that are on; all stays as it is when a word can't be read."""
        script = fault_script.steps(wanted.script)
        shares = _shares(wanted.shares)
        latency = fault_script.seconds(wanted.latency, "latency") if wanted.latency else 0.0
        _in_range("rate_limit", wanted.rate_limit, 0, _MOST_A_SECOND)
        _in_range("retry_after", wanted.retry_after or 0, 0, _LONGEST_RETRY_AFTER)
        _in_range("seed", wanted.seed or 0, -_LARGEST_SEED, _LARGEST_SEED)
        outage = fault_script.step(wanted.outage, "outage") if wanted.outage else None
        standing = [outage, UNAUTHORIZED if wanted.unauthorized else None]
        standing.append(WRONG_REGION if wanted.wrong_region else None)
        # Nothing from here on can fail.
        self._script = deque(script)
        self._shares = shares
        self.latency = latency
        self._standing = next((step for step in standing if step is not None), None)
        self._too_many = Step("status", 429, None if wanted.retry_after is None else float(wanted.retry_after))
        self._let_through: deque[float] = deque(maxlen=wanted.rate_limit)
        seed = self._seed if wanted.seed is None else wanted.seed
        self._random = random.Random(seed)  # noqa: S311 - must be repeatable, guards nothing
        self._wanted = wanted
        self.given: Counter[str] = Counter()  # by word, since `put`

    def next_step(self) -> Step:
        """What becomes of the request that has just arrived."""
        step = self._decide()
        if step is not PASS:
            self.given[step.word] += 1
        return step

    def on(self) -> dict[str, Any]:
        """What is on, as `Wanted` would be written (the script: what is left of it), and what was `given`."""
        left = {"script": fault_script.written(list(self._script))}
        return {**msgspec.to_builtins(self._wanted), **left, "given": dict(self.given)}

    def _decide(self) -> Step:
        if self._script:
            times, step = self._script[0]
            if times > 1:
                self._script[0] = (times - 1, step)
            else:
                self._script.popleft()
            return step
        if self._standing is not None:
            return self._standing
        if self._let_through.maxlen and not self._lets_through():
            return self._too_many
        if self._shares:
            drawn = self._random.random()
            return next((step for below, step in self._shares if drawn < below), PASS)
        return PASS

    def _lets_through(self) -> bool:
        now, through = self._clock(), self._let_through
        if len(through) == through.maxlen and now - through[0] < _SECOND:
            return False
        through.append(now)
        return True


FAULTS = web.AppKey("FAULTS", Faults)


async def inflict(step: Step, request: web.Request, handler: Handler) -> web.StreamResponse | None:
    """The answer under this step, or None where the connection is cut.

    The body has been read, as far as it can be.
    """
    if latency := request.app[FAULTS].latency:
        await asyncio.sleep(latency)
    match step.does:
        case "pass":
            return await handler(request)
        case "status":
            return _status(step, request.path)
        case "errors":
            request[ERRORS_UNDER] = step.status
            return await handler(request)
        case "hang":
            await asyncio.sleep(step.seconds or 0.0)
            return await handler(request)
        case "wrong-region":
            if request.path in regions.ON_EITHER_HOST:
                return await handler(request)
            return regions.redirect(request)
        case "apply-cut":
            await _swallow_refusal(request, handler)
    _cut(request)
    return None


def routes() -> list[web.RouteDef]:
    return [
        web.get("/sandbox/faults", _get, allow_head=False),
        web.put("/sandbox/faults", _put),
        web.delete("/sandbox/faults", _delete),
    ]


async def _get(request: web.Request) -> web.Response:
    return _on(request)


async def _put(request: web.Request) -> web.Response:
    """Puts the faults of a `Wanted` as JSON; 400 with the word that is wrong when one can't be read."""
    try:
        request.app[FAULTS].put(json_body.read_as(await request.read(), Wanted))
    except (json_body.Malformed, errors.Refused) as error:
        return json_body.answer({"error": str(error)}, 400)
    return _on(request)


async def _delete(request: web.Request) -> web.Response:
    """All off."""
    request.app[FAULTS].put(Wanted())
    return _on(request)


def _on(request: web.Request) -> web.Response:
    return json_body.answer(request.app[FAULTS].on())


def _status(step: Step, path: str) -> web.Response:
    headers = {} if step.seconds is None else {"Retry-After": f"{step.seconds:.0f}"}
    if step.status >= 500 or step.status == 429:
        page = f"<html><body><h1>{step.status}</h1></body></html>\n"
        return web.Response(text=page, status=step.status, headers=headers, content_type="text/html")
    words = "Unauthorized request" if step.status == 401 else f"the sandbox was asked to answer {step.status}"
    v2 = {"errors": [{"reason": "invalid", "field": "", "message": words}]}
    said = v2 if path.startswith("/api/v2/") and step.status != 401 else {"meta": {"error": words}}
    answer = json_body.answer(said, step.status)
    answer.headers.update(headers)
    return answer


async def _swallow_refusal(request: web.Request, handler: Handler) -> None:
    """Handles the request for its effect; what it would have been answered, nobody gets to know."""
    try:
        await handler(request)
    except web.HTTPException:
        return


def _cut(request: web.Request) -> None:
    """Closes the transport at once, without a byte of an answer."""
    if request.transport is not None:
        request.transport.abort()


def _in_range(name: str, value: int, least: int, most: int) -> None:
    if not least <= value <= most:
        raise errors.Refused(400, "fault_unreadable", f"{name} must be from {least} to {most}")


def _shares(wanted: dict[str, float]) -> list[tuple[float, Step]]:
    """Each step with the bound below which a number drawn from 0 to 1 means it."""
    below, result = 0.0, []
    for word, share in wanted.items():
        step = fault_script.step(word, "shares")
        if not 0 <= share <= 1:
            raise errors.Refused(400, "fault_unreadable", f"shares, {word!r}: {share} is no share from 0 to 1")
        below += share
        result.append((below, step))
    if below > 1 + 1e-9:
        raise errors.Refused(400, "fault_unreadable", f"the shares add up to {below:g}, more than 1")
    return result
