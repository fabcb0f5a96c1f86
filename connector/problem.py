"""Errors over HTTP: problem+json (RFC 9457) with `code` and `message`, the same on both listeners."""

from __future__ import annotations

import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler

from connector import errors, log

_log = log.get("http")


# Not Basic, which the intake takes as well: a browser would ask the visitor of a page for a password.
_CHALLENGE = 'Bearer realm="connector"'


def response(status: int, code: str, message: str, retry_after: int | None = None) -> web.Response:
    """`code` is a stable word, `message` a sentence that says what to do."""
    headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
    if status == 401:
        headers["WWW-Authenticate"] = _CHALLENGE
    return web.Response(
        status=status,
        body=msgspec.json.encode({"title": code, "status": status, "code": code, "message": message}),
        content_type="application/problem+json",
        headers=headers,
    )


@web.middleware
async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turns our errors and aiohttp's own refusals into problems."""
    try:
        return await handler(request)
    except errors.Refused as error:
        return response(error.status, error.code, error.message)
    except errors.Unavailable as error:
        return response(503, error.code, error.message, error.retry_after)
    except web.HTTPException as error:
        if error.status < 400:
            raise
        answer = response(error.status, _word(error.reason), f"{error.status} {error.reason}")
        if "Allow" in error.headers:
            answer.headers["Allow"] = error.headers["Allow"]
        return answer
    except web.RequestPayloadError:
        return response(400, "bad_body", "the body can't be decoded as its Content-Encoding says")
    except Exception as error:  # noqa: BLE001 - logged by type; the sender gets a problem, as for all else
        if not (isinstance(error, ConnectionError) and request.transport is None):  # the sender left: no fault of ours
            _log.error("request_failed", path=request.path, error=type(error).__name__)
        return response(500, "internal", "this failed here, the log says more")


def _word(reason: str) -> str:
    return reason.lower().replace(" ", "_")
