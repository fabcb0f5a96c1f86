"""`POST /webhooks/customerio`: verify, append, answer.

Customer.io waits 4 seconds for an answer, and everything behind a webhook that fails is held back, for an hour or
more after most codes (https://docs.customer.io/api/webhooks/). So an authentic body is never answered 4xx (but
for 413 above 16 MiB): it is appended whole, committed with full durability, answered 200, and read later.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from datetime import datetime

from aiohttp import web

from connector import errors, log
from connector.core import naming, normalize, signature
from connector.inbound.appender import RETRY_AFTER, Appender
from connector.inbound.refused import BAD_SIGNATURE, Refused
from connector.metrics import Metrics
from connector.records import Received
from connector.settings import Settings, Webhooks

MAX_BODY_BYTES = 16 * 1024 * 1024
PATH = "/webhooks/customerio"

_log = log.get("webhooks")


class Receiver:
    """The handler."""

    def __init__(
        self,
        settings: Callable[[], Settings],
        appender: Appender,
        refused: Refused,
        metrics: Metrics,
        clock: Callable[[], datetime],
    ) -> None:
        self._settings = settings
        self._appender = appender
        self._refused = refused
        self._metrics = metrics
        self._clock = clock

    async def handle(self, request: web.Request) -> web.Response:
        """200 once durable; 401, 413 or 503 as the module says."""
        try:
            await self._take(request)
        except (errors.Refused, errors.Unavailable) as error:
            self._metrics.webhooks.refused.labels(error.code).inc()
            raise
        except web.HTTPRequestEntityTooLarge:
            self._metrics.webhooks.refused.labels("too_large").inc()
            raise errors.Refused(413, "too_large", "a webhook has at most 16 MiB") from None
        except (web.HTTPException, web.RequestPayloadError, OSError):
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is: a 500 would hold back the stream for an hour
            self._metrics.webhooks.refused.labels("internal").inc()
            _log.error("request_failed", path=PATH, error=type(error).__name__)
            raise errors.Unavailable("internal", "this failed here, the log says more", RETRY_AFTER) from None
        return web.Response()

    async def _take(self, request: web.Request) -> None:
        webhooks = self._settings().webhooks
        if not webhooks.signing_keys and not webhooks.url_key.get_secret_value():
            raise errors.Unavailable(
                "no_signing_key", "webhooks.signing_keys is empty: put the webhook's signing key there", RETRY_AFTER
            )
        body = await request.read()
        if not _is_authentic(request, body, webhooks):
            self._refused.note(BAD_SIGNATURE)
            raise errors.Refused(401, BAD_SIGNATURE, "the signature is missing or made with another key")
        self._metrics.webhooks.received.inc()
        now = self._clock()
        glance = normalize.glance(body)
        if glance.timestamp is not None:
            self._metrics.age.observe(max((now - glance.timestamp).total_seconds(), 0))
        if glance.kind is not None and _unwanted(glance.kind, webhooks.ignore):
            self._metrics.ignored.inc()
            return
        reason = "too_large" if len(body) > normalize.MAX_READ_BYTES else None
        await self._appender.append(Received(glance.source_id, now, body, reason))


def _is_authentic(request: web.Request, body: bytes, webhooks: Webhooks) -> bool:
    """Signed with one of the keys, or sent to the URL that carries the key for webhooks without a signature."""
    url_key = webhooks.url_key.get_secret_value()
    if url_key and hmac.compare_digest(request.query.get("key", "").encode(errors="surrogatepass"), url_key.encode()):
        return True
    return signature.verify(
        (key.get_secret_value() for key in webhooks.signing_keys),
        request.headers.get("X-CIO-Timestamp"),
        request.headers.get("X-CIO-Signature"),
        body,
    )


def _unwanted(kind: str, patterns: tuple[str, ...]) -> bool:
    """What may say that somebody unsubscribed goes to the reader all the same, which keeps that and no event."""
    return naming.ignored(kind, patterns) and not normalize.says_consent(kind)
