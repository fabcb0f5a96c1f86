"""Sending to Customer.io's Track API. The SDK encodes, aiohttp sends.

`customerio`'s one way out, `send_request(method, url, data)`, is overridden to hand the request back; it knows the
hosts, the paths and how an id is escaped. aiohttp then sends it: real status codes and headers, no redirects
(a redirect means the wrong region, and following it drops the credentials), any number of calls at once.

Retries of seconds happen here: three tries within ten seconds, after network errors, 408 and 5xx. Those of days are
the pending row's. Every try waits for its turn (outbound/throttle). A 429 is not tried again at once: it pauses all
calls of the store, and a call that meets the pause, or whose lease is too old to begin, is answered here without going
out (`calls` is 0 then).
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self

import aiohttp
import customerio
import msgspec
import tenacity
from msgspec.structs import replace

from connector.core import outcome, retry_after
from connector.core.outcome import Answer, Problem
from connector.outbound.throttle import Throttle
from connector.settings import Customerio

TOTAL_SECONDS = 10.0

_TRIES = 3
_TRY_SECONDS = 8.0
_OTHER_PATHS = frozenset({"", ".", ".."})  # what a URL with them comes to


@dataclass(frozen=True, slots=True)
class Request:
    """A call on the wire."""

    method: str
    url: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Workspace:
    """Where credentials lead: `us` or `eu`, and the id that all keys of a workspace share."""

    region: str
    environment_id: str


class _Account(msgspec.Struct):
    region: str
    environment_id: int | str


class _Encoder(customerio.CustomerIO):  # type: ignore[misc]
    """The SDK as an encoder. It writes `https://host/…`; `origin` replaces that for a sandbox or a proxy."""

    def __init__(self, site_id: str, api_key: str, region: str, track_url: str) -> None:
        super().__init__(site_id, api_key, region=customerio.Regions.EU if region == "eu" else customerio.Regions.US)
        self.origin = track_url.rstrip("/") or f"https://{self.host}"

    def send_request(self, method: str, url: str, data: Any) -> Request:
        _, _, path = url.removeprefix("https://").partition("/")
        body = b"" if data is None else msgspec.json.encode(data)
        return Request(method, f"{self.origin}/{path}", body)


class TrackClient:
    """One workspace. An async context manager; that no more than `in_flight` calls are under way at once is seen to
    inside. Without a throttle it sends nothing, and only asks where the credentials lead.

    `calls` counts the tries that went out, `last_success` is when one was last answered with a 2xx, a moment of the
    monotonic clock. `heard` is told of each try of a call and its answer.
    """

    def __init__(
        self,
        settings: Customerio,
        throttle: Throttle | None,
        heard: Callable[[Request, Answer], None] | None = None,
    ) -> None:
        api_key = settings.api_key.get_secret_value()
        self._encoder = _Encoder(settings.site_id, api_key, settings.region or "us", settings.track_url)
        self._authorization = aiohttp.encode_basic_auth(settings.site_id, api_key)
        self._throttle = throttle
        self._heard = heard
        self._under_way = asyncio.Semaphore(settings.in_flight)
        self.in_flight = settings.in_flight
        # More calls than the rate lets out in a second only stand in the way of others.
        self.worth_beginning = min(settings.in_flight, max(math.ceil(settings.rate_per_second), 1))
        self._session: aiohttp.ClientSession | None = None
        self._workspace: Workspace | None = None
        self.calls = 0
        self.last_success: float | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self.in_flight),
            headers={"Authorization": self._authorization, "Content-Type": "application/json"},
            auto_decompress=True,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    @property
    def paused_for(self) -> float:
        """Seconds until Customer.io wants to hear from us again; 0 when it does now."""
        return self._throttle.paused_for if self._throttle is not None else 0.0

    async def batch(
        self,
        operations: Sequence[bytes],
        not_after: Callable[[], float],
        *,
        tries: int = _TRIES,
        seconds: float = _TRY_SECONDS,
    ) -> Answer:
        """POST /api/v2/batch with operations that are encoded already. No try begins after the moment of the monotonic
        clock that `not_after` says before each; one takes at most so many `seconds`, and there is another one only if
        all end within TOTAL_SECONDS, the wait for a turn included."""

        def request() -> Request:
            made: Request = self._encoder.batch([msgspec.Raw(each) for each in operations])
            return made

        return await self._send(request, not_after, tries, seconds)

    async def identify(
        self,
        customer_id: str,
        body: bytes,
        not_after: Callable[[], float],
        *,
        tries: int = _TRIES,
        seconds: float = _TRY_SECONDS,
    ) -> Answer:
        """PUT /api/v1/customers/{id}. The SDK's `identify` takes attributes as keywords, which can't be called
        `id` or `self`; so only its path is used."""
        request = self._encoder.send_request("PUT", self._path_of(customer_id), msgspec.Raw(body))
        return await self._send(lambda: request, not_after, tries, seconds)

    async def delete(
        self,
        customer_id: str,
        not_after: Callable[[], float],
        *,
        tries: int = _TRIES,
        seconds: float = _TRY_SECONDS,
    ) -> Answer:
        """DELETE /api/v1/customers/{id}."""
        request = self._encoder.send_request("DELETE", self._path_of(customer_id), None)
        return await self._send(lambda: request, not_after, tries, seconds)

    async def event(
        self,
        customer_id: str | None,
        body: bytes,
        not_after: Callable[[], float],
        *,
        tries: int = _TRIES,
        seconds: float = _TRY_SECONDS,
    ) -> Answer:
        """POST /api/v1/customers/{id}/events, or /api/v1/events where there is no id."""
        if customer_id is None:
            url: str = self._encoder.get_events_query_string()
        else:
            url = f"{self._path_of(customer_id)}/events"
        request = self._encoder.send_request("POST", url, msgspec.Raw(body))
        return await self._send(lambda: request, not_after, tries, seconds)

    async def region(self) -> Answer:
        """GET /api/v1/accounts/region: whether the credentials are good, and where the account lives. Not counted."""
        request = Request("GET", f"{self._encoder.origin}/api/v1/accounts/region", b"")
        return replace(await self._once(request, _TRY_SECONDS), calls=1)

    async def workspace(self) -> Workspace | None:
        """Where the credentials lead, asked once; None while Customer.io can't say."""
        if self._workspace is None:
            answer = await self.region()
            if answer.status == 200:
                self._workspace = _workspace(answer.body)
        return self._workspace

    def forget_workspace(self) -> None:
        """The next question where the credentials lead is asked anew."""
        self._workspace = None

    def _path_of(self, customer_id: str) -> str:
        if customer_id in _OTHER_PATHS:
            raise ValueError("this customer id would make the path of a call that is about somebody else, or everybody")
        path: str = self._encoder.get_customer_query_string(customer_id)
        return path

    async def _send(
        self, made: Callable[[], Request], not_after: Callable[[], float], tries: int, seconds: float
    ) -> Answer:
        """`made` makes the request, which may be half a megabyte, only when it is among those under way."""
        throttle = self._throttle
        if throttle is None:
            raise RuntimeError("a client without a throttle sends nothing")
        tried = 0
        unheard = False

        async def once() -> Answer:
            nonlocal tried, unheard
            if throttle.paused_for > 0 or not await throttle.slot():
                return Answer(429, retry_after=throttle.paused_for)
            if time.monotonic() > not_after():
                return Answer(None, problem="lease_ran_out")
            tried += 1
            self.calls += 1
            answer = await self._once(request, seconds)
            if self._heard is not None:
                self._heard(request, answer)
            unheard = unheard or outcome.is_failing(answer)
            if answer.status == 429 or asks_for_a_rest(answer):
                await throttle.rest(answer.retry_after, is_limited=answer.status == 429)
            elif answer.status is not None and 200 <= answer.status < 300:
                self.last_success = time.monotonic()
            return answer

        async with self._under_way:
            request = made()
            began = time.monotonic()
            answer = await once()
            if _worth_another_try(answer):
                answer = await _try_again(once, answer, tries, TOTAL_SECONDS - seconds - (time.monotonic() - began))
            return replace(answer, calls=tried, unheard=unheard)

    async def _once(self, request: Request, seconds: float) -> Answer:
        if self._session is None:
            raise RuntimeError("the client is used outside its `async with`")
        try:
            async with self._session.request(
                request.method,
                request.url,
                data=request.body or None,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=seconds),
            ) as response:
                body = await response.read()
                rest = retry_after.seconds(
                    response.headers.get("Retry-After"), response.headers.get("Date"), datetime.now(UTC)
                )
                return Answer(response.status, body, rest)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            # The exception's text may hold the URL, and with it a person's id; one word says enough.
            return Answer(None, problem=_problem(error))


async def _try_again(once: Callable[[], Awaitable[Answer]], answer: Answer, tries: int, seconds: float) -> Answer:
    """The last answer of so many tries, the one that was answered so among them; the last begins within so many
    `seconds`. Calls that go well, which are nearly all, don't come here: it would take them a sixth of their time."""
    answered = [answer]

    async def next_answer() -> Answer:
        return answered.pop() if answered else await once()

    retrying = tenacity.AsyncRetrying(
        retry=tenacity.retry_if_result(_worth_another_try),
        # So that a last try that times out still ends within TOTAL_SECONDS.
        stop=tenacity.stop_after_attempt(tries) | tenacity.stop_before_delay(seconds),
        wait=tenacity.wait_random_exponential(multiplier=0.2, max=1),
        retry_error_callback=lambda state: state.outcome.result() if state.outcome else None,
    )
    found: Answer = await retrying(next_answer)
    return found


def _worth_another_try(answer: Answer) -> bool:
    if answer.problem == "lease_ran_out" or asks_for_a_rest(answer):
        return False
    return answer.status is None or answer.status == 408 or answer.status >= 500


def asks_for_a_rest(answer: Answer) -> bool:
    """True of a server that fails and says for how long: https://www.rfc-editor.org/rfc/rfc9110#name-retry-after"""
    return answer.retry_after is not None and answer.status is not None and answer.status >= 500


def _problem(error: Exception) -> Problem:
    match error:
        case TimeoutError():
            return "timeout"
        case aiohttp.ClientConnectorError():
            return "unreachable"
        case _:
            return "network"


def _workspace(body: bytes) -> Workspace | None:
    try:
        found = msgspec.json.decode(body, type=_Account)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    return Workspace(found.region, str(found.environment_id))
