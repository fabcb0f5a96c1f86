"""The tracking API of Segment's SDKs (https://segment.com/docs/connections/sources/catalog/libraries/server/http-api/):
take apart, check, append, answer.

    key -> core/tracking_request (inflated, parsed, items: each checked by reading it) -> appender -> 200

The answer is 200 and nothing else once everything is durable: SDKs send again after 202 and 204, and after an error
without `code` and `message`. Messages that can't be read are kept too, as unread: a single one is answered 400 (413
when it is too large), those of a batch are named beside the success of the rest. Bodies are told by their content,
never by Content-Type: browsers send text/plain, to be spared a preflight, and one SDK sends gzip as a form.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import ParamSpec, TypeVar

import msgspec
from aiohttp import web
from pydantic import SecretStr

from connector import errors, problem
from connector.core import tracking_request
from connector.core.tracking_request import Item, Parsed
from connector.inbound import cors
from connector.inbound.appender import RETRY_AFTER, Appender
from connector.inbound.refused import BAD_WRITE_KEY, Refused
from connector.metrics import Metrics
from connector.records import MessageType, Received
from connector.settings import Intake, Settings

# What the SDKs post to, and of which type the message is then; None is a batch, whose messages say it themselves.
_PATHS: dict[str, MessageType | None] = {
    "/v1/identify": "identify",
    "/v1/track": "track",
    "/v1/page": "page",
    "/v1/screen": "screen",
    "/v1/group": "group",
    "/v1/alias": "alias",
    "/v1/batch": None,
    "/v1/import": None,
    "/v1/i": "identify",
    "/v1/t": "track",
    "/v1/p": "page",
    "/v1/s": "screen",
    "/v1/g": "group",
    "/v1/a": "alias",
    "/v1/b": None,
    "/beacon/v1/batch": None,
}

_SENTENCES = {
    "bad_gzip": "the compressed body is damaged or cut off",
    "nested_gzip": "the body is compressed twice",
    "too_many": f"a batch holds at most {tracking_request.MAX_MESSAGES:,} messages",
    "too_large": "a message has at most 32 KiB, a body 4 MiB, also when it is inflated",
    "not_json": "this is no JSON",
    "not_a_number": "NaN and Infinity are no JSON; leave the value out, or send null",
    "bad_text": "text must be UTF-8, without halves of surrogate pairs",
    "huge_number": "a number is larger than any that can be stored; send it as text",
    "too_deep": "objects and lists may nest in at most 200 levels",
    "wrong_shape": "an object is expected: for the message, its traits, properties, context and context.traits; "
    "for a batch an object with a list `batch`",
    "no_type": "type is missing: identify, track, page, screen, group or alias",
    "unknown_type": "type must be identify, track, page, screen, group or alias",
    "bad_identifier": "an id must be text or a number, of at most 1,000 bytes",
    "no_identifier": "nobody is named: send userId, anonymousId or traits.email",
    "no_group_id": "a group needs its groupId",
    "no_event_name": "a track needs the name of its event, as text",
    "long_name": "a name has at most 1,000 bytes",
    "bad_timestamp": "timestamp must be a time in ISO 8601",
}
_TOO_LARGE = frozenset({"too_large", "too_many"})

_SUCCESS = b'{"success": true}'
# Taking apart more than this would be felt by others who wait for the event loop; a thread takes a tenth of a
# millisecond to start with it.
_MOST_AT_ONCE = 16 * 1024
_MOST_COMPRESSED = 2 * 1024

P = ParamSpec("P")
T = TypeVar("T")


class Receiver:
    """The handlers."""

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
        self._metrics = metrics.intake
        self._clock = clock

    def routes(self) -> list[web.RouteDef]:
        """Every path, for messages and for a browser that asks first."""
        posts = [web.post(path, self.handle) for path in _PATHS]
        return [*posts, *(web.options(path, self.preflight) for path in _PATHS)]

    async def preflight(self, request: web.Request) -> web.Response:
        """Whether a page of this origin may send."""
        return web.Response(
            status=204, headers=cors.preflight_headers(request.headers, self._settings().intake.origins)
        )

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """200 once durable; 400, 401, 413 or 503 as the module says, in a form that also a page may read."""
        response = await problem.middleware(request, self._counted)
        response.headers.update(cors.answer_headers(request.headers, self._settings().intake.origins))
        return response

    async def _counted(self, request: web.Request) -> web.Response:
        try:
            return await self._take(request)
        except (errors.Refused, errors.Unavailable) as error:
            self._metrics.refused.labels(error.code).inc()
            raise
        except web.HTTPRequestEntityTooLarge:
            self._metrics.refused.labels("too_large").inc()
            raise _refusal("too_large") from None

    async def _take(self, request: web.Request) -> web.Response:
        intake = self._settings().intake
        if not intake.write_keys and not intake.browser_keys:
            raise errors.Unavailable(
                "no_write_key", "intake.write_keys is empty: put a key there, and in the SDK", RETRY_AFTER
            )
        body = await request.read()
        now = self._clock()
        if len(body) > tracking_request.MAX_BODY_BYTES:
            raise _refusal("too_large")
        key = _key_outside(request)
        public = self._is_public(key, intake) if key is not None else None
        encoding = request.headers.get("Content-Encoding", "")
        plain = await _run(len(body) > _MOST_COMPRESSED, tracking_request.inflated, body, encoding)
        if isinstance(plain, str):
            raise _refusal(plain)
        is_large = len(plain) > _MOST_AT_ONCE
        if public is None:
            public = self._is_public(await _run(is_large, tracking_request.write_key, plain), intake)
        items = await _run(is_large, _items, plain, _PATHS[request.path], now, public)
        if isinstance(items, str):
            raise _refusal(items)
        self._metrics.received.inc(len(items))
        if items:
            await self._appender.append(*(Received(item.source_id, now, item.body, item.reason) for item in items))
        return _answer(items, is_batch=_PATHS[request.path] is None)

    def _is_public(self, key: str | None, intake: Intake) -> bool:
        """Whether it is a key for web pages. Raises Refused when it is no key at all."""
        given = (key or "").encode(errors="surrogatepass")
        is_secret, is_public = _is_among(given, intake.write_keys), _is_among(given, intake.browser_keys)
        if not (is_secret or is_public):
            self._refused.note(BAD_WRITE_KEY)
            raise errors.Refused(401, BAD_WRITE_KEY, "the write key is missing, or none of those in [intake]")
        return not is_secret


def _is_among(given: bytes, keys: Iterable[SecretStr]) -> bool:
    found = False
    for key in keys:  # to the end, in the same time whichever it is
        found |= hmac.compare_digest(given, key.get_secret_value().encode())
    return found


def _key_outside(request: web.Request) -> str | None:
    """The key in the Authorization header, else in the query; None when it can only be in the body."""
    scheme, _, rest = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return rest.strip()
    if scheme.lower() == "basic":
        try:
            given = base64.b64decode(rest.strip(), validate=True).decode()
        except (binascii.Error, ValueError):
            return ""
        user, colon, _ = given.rpartition(":")
        return user if colon else given
    return request.query.get("writeKey")


def _items(plain: bytes, type_of_path: MessageType | None, now: datetime, public: bool) -> list[Item] | str:
    request = tracking_request.parsed(plain, type_of_path)
    return tracking_request.items(request, now, public=public) if isinstance(request, Parsed) else request


async def _run(elsewhere: bool, step: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """The step's result; `elsewhere` on a thread, so that others are answered meanwhile."""
    return await asyncio.to_thread(step, *args, **kwargs) if elsewhere else step(*args, **kwargs)


def _answer(items: Sequence[Item], *, is_batch: bool) -> web.Response:
    bad = [(index, item.reason) for index, item in enumerate(items) if item.reason is not None]
    if not bad:
        return web.Response(body=_SUCCESS, content_type="application/json")
    if not is_batch:
        raise _refusal(bad[0][1])
    faults = [{"index": index, "code": reason, "message": _SENTENCES[reason]} for index, reason in bad]
    return web.Response(body=msgspec.json.encode({"success": True, "errors": faults}), content_type="application/json")


def _refusal(reason: str) -> errors.Refused:
    return errors.Refused(413 if reason in _TOO_LARGE else 400, reason, _SENTENCES[reason])
