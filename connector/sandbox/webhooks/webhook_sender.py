"""Delivers reporting webhooks: signed, one after the other, each with four seconds to be answered.

    Report -> sign -> attempt (one POST) -> Answer

Follows the reporting-webhooks reference (signature, delivery) and the Go sample of the vendor's docs:
lowercase hex of HMAC-SHA256 over `v0:`, the timestamp of the request, `:` and the body as sent. `attempt`
is one try and says what came of it; whether and when to try again is for its caller (`delivery`) to decide
from the Answer.

Stricter readings of what is unverified:
- Each try is signed with its own time, so a repeat carries another signature over the same body.
- A redirect isn't followed, and isn't an acceptance.
- A try that can't even be made (a host that is none, a body that can't be written) is a try that failed.
- The four seconds are for the whole exchange, the answer's body included, and always real ones.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import aiohttp

TIMEOUT_SECONDS = 4.0
TIMEOUT = "timeout"

_LOG = logging.getLogger(__name__)


class Report(Protocol):
    """A webhook in whichever format: `kind` is its name, `timestamp` (unix seconds) that of what it reports, `data`
    what it says of that, `body` the same bytes each time."""

    @property
    def event_id(self) -> str: ...

    @property
    def kind(self) -> str: ...

    @property
    def timestamp(self) -> int: ...

    @property
    def data(self) -> dict[str, Any]: ...

    @property
    def body(self) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where the webhooks of a workspace go, and the signing key that its owner copied from the page."""

    url: str
    signing_key: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of one POST: a status, or, without one, `error`: TIMEOUT, or what was wrong in words."""

    event_id: str
    status: int | None
    error: str = ""

    @property
    def accepted(self) -> bool:
        return self.status is not None and 200 <= self.status < 300


def sign(key: str, timestamp: int, body: bytes) -> str:
    return hmac.new(key.encode(), b"v0:%d:%b" % (timestamp, body), hashlib.sha256).hexdigest()


def headers(key: str, timestamp: int, body: bytes) -> dict[str, str]:
    return {
        "Content-Type": "application/json",
        "X-CIO-Timestamp": str(timestamp),
        "X-CIO-Signature": sign(key, timestamp, body),
    }


async def send(
    endpoint: Endpoint,
    webhooks: Iterable[Report],
    *,
    now: Callable[[], float] = time.time,
    timeout_seconds: float = TIMEOUT_SECONDS,
) -> list[Answer]:
    """Posts them in order, each once, whatever the one before was answered."""
    async with session_of(timeout_seconds) as session:
        return [await attempt(session, endpoint, webhook, int(now())) for webhook in webhooks]


def session_of(timeout_seconds: float = TIMEOUT_SECONDS, connections: int = 1) -> aiohttp.ClientSession:
    """A session for `attempt`: with the time limit, and without a memory for cookies."""
    timeout = aiohttp.ClientTimeout(total=timeout_seconds)
    connector = aiohttp.TCPConnector(limit=connections)
    return aiohttp.ClientSession(timeout=timeout, connector=connector, cookie_jar=aiohttp.DummyCookieJar())


async def attempt(session: aiohttp.ClientSession, endpoint: Endpoint, webhook: Report, timestamp: int) -> Answer:
    """One POST, `timestamp` (unix seconds) in its signature. The time limit is the session's. Raises nothing."""
    try:
        body = webhook.body
        signed = headers(endpoint.signing_key, timestamp, body)
        async with session.post(endpoint.url, data=body, headers=signed, allow_redirects=False) as response:
            await response.read()
            return Answer(webhook.event_id, response.status)
    except TimeoutError:
        return Answer(webhook.event_id, None, TIMEOUT)
    except (aiohttp.ClientError, OSError, ValueError) as error:  # a UnicodeError is a ValueError
        return Answer(webhook.event_id, None, _words(error))
    except Exception as error:  # noqa: BLE001 - nobody foresaw it, and what is behind this webhook must not wait for good
        _LOG.exception("a webhook of kind %s could not be sent", webhook.kind)
        return Answer(webhook.event_id, None, _words(error))


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
