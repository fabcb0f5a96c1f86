"""Sending to Customer.io's Track API. The SDK encodes, aiohttp sends.

`customerio`'s one way out, `send_request(method, url, data)`, is overridden to hand the request back; it knows the
hosts, the paths and how an id is escaped. aiohttp then sends it: real status codes and headers, no redirects
(a redirect means the wrong region, and following it drops the credentials), any number of calls at once.

Retries of seconds happen here: three tries within ten seconds, after network errors, 408 and 5xx. Those of days are
the pending row's. A 429 is not tried again at once: it pauses every call of this process, and a call that finds the
client paused, or its lease too old to begin, is answered here without going out (`calls` is 0 then).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import aiohttp
import customerio
import msgspec
import tenacity
from aiolimiter import AsyncLimiter

from connector.core.outcome import Answer
from connector.settings import Customerio

TOTAL_SECONDS = 10.0
LEASE_RAN_OUT = "lease_ran_out"

_TRIES = 3
_TRY_SECONDS = 8.0
_LAST_TRY_BEGINS = 2.0  # so that a try that times out still ends within TOTAL_SECONDS
_MAX_PAUSE = 60.0


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
        parts = urlsplit(url)
        query = f"?{parts.query}" if parts.query else ""
        body = b"" if data is None else msgspec.json.encode(data)
        return Request(method, f"{self.origin}{parts.path}{query}", body)


class TrackClient:
    """One workspace. An async context manager; everything about rate and concurrency is inside."""

    def __init__(self, settings: Customerio) -> None:
        api_key = settings.api_key.get_secret_value()
        self._encoder = _Encoder(settings.site_id, api_key, settings.region or "us", settings.track_url)
        self._authorization = aiohttp.encode_basic_auth(settings.site_id, api_key)
        # One call each 1/rate seconds: a bucket of `rate` calls would let twice as many through in its first second.
        self._limiter = AsyncLimiter(1, 1 / settings.rate_per_second)
        self._slots = asyncio.Semaphore(settings.in_flight)
        self._connections = settings.in_flight
        self._paused_until = 0.0
        self._session: aiohttp.ClientSession | None = None
        self._workspace: Workspace | None = None
        self.calls = 0

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self._connections),
            timeout=aiohttp.ClientTimeout(total=_TRY_SECONDS),
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
        return max(self._paused_until - time.monotonic(), 0.0)

    async def batch(self, operations: Sequence[bytes], not_after: float) -> Answer:
        """POST /api/v2/batch with operations that are encoded already. No try begins after `not_after`, a moment
        of the monotonic clock."""
        return await self._send(self._encoder.batch([msgspec.Raw(each) for each in operations]), not_after)

    async def identify(self, customer_id: str, body: bytes, not_after: float) -> Answer:
        """PUT /api/v1/customers/{id}. The SDK's `identify` takes attributes as keywords, which can't be called
        `id` or `self`; so only its path is used."""
        url = self._encoder.get_customer_query_string(customer_id)
        return await self._send(self._encoder.send_request("PUT", url, msgspec.Raw(body)), not_after)

    async def delete(self, customer_id: str, not_after: float) -> Answer:
        """DELETE /api/v1/customers/{id}."""
        url = self._encoder.get_customer_query_string(customer_id)
        return await self._send(self._encoder.send_request("DELETE", url, None), not_after)

    async def region(self) -> Answer:
        """GET /api/v1/accounts/region: whether the credentials are good, and where the account lives. Not counted."""
        return await self._once(Request("GET", f"{self._encoder.origin}/api/v1/accounts/region", b""))

    async def workspace(self) -> Workspace | None:
        """Where the credentials lead, asked once; None while Customer.io can't say."""
        if self._workspace is None:
            answer = await self.region()
            if answer.status == 200:
                self._workspace = _workspace(answer.body)
        return self._workspace

    async def _send(self, request: Request, not_after: float) -> Answer:
        tried = 0

        async def once() -> Answer:
            nonlocal tried
            async with self._limiter:
                if self.paused_for > 0:
                    return Answer(429, retry_after=self.paused_for)
                if time.monotonic() > not_after:
                    return Answer(None, problem=LEASE_RAN_OUT)
                tried += 1
                self.calls += 1
                return await self._once(request)

        async with self._slots:
            retrying = tenacity.AsyncRetrying(
                retry=tenacity.retry_if_result(_worth_another_try),
                stop=tenacity.stop_after_attempt(_TRIES) | tenacity.stop_before_delay(_LAST_TRY_BEGINS),
                wait=tenacity.wait_random_exponential(multiplier=0.2, max=1),
                retry_error_callback=lambda state: state.outcome.result() if state.outcome else None,
            )
            return replace(await retrying(once), calls=tried)

    async def _once(self, request: Request) -> Answer:
        if self._session is None:
            raise RuntimeError("the client is used outside its `async with`")
        try:
            async with self._session.request(
                request.method, request.url, data=request.body or None, allow_redirects=False
            ) as response:
                body = await response.read()
                answer = Answer(response.status, body, _seconds(response.headers.get("Retry-After")))
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            # The exception's text may hold the URL, and with it a person's id; its type says enough.
            return Answer(None, problem=type(error).__name__)
        if answer.status == 429:
            self._paused_until = time.monotonic() + min(answer.retry_after or 1.0, _MAX_PAUSE)
        return answer


def _worth_another_try(answer: Answer) -> bool:
    if answer.problem == LEASE_RAN_OUT:
        return False
    return answer.status is None or answer.status == 408 or answer.status >= 500


def _seconds(header: str | None) -> float | None:
    return float(header) if header is not None and header.isascii() and header.isdigit() else None


def _workspace(body: bytes) -> Workspace | None:
    try:
        found = msgspec.json.decode(body, type=_Account)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    return Workspace(found.region, str(found.environment_id))
