"""Who may ask the admin listener: with a token set, whoever sends it."""

from __future__ import annotations

import hmac

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from connector import errors

_PROBES = frozenset({"/healthz", "/readyz"})


def token_required(token: str) -> Middleware:
    """A middleware that wants `Authorization: Bearer TOKEN` for everything but the probes; "" lets everyone in."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        if token and request.path not in _PROBES:
            given = request.headers.get("Authorization", "")
            if not hmac.compare_digest(given.encode(errors="replace"), f"Bearer {token}".encode()):
                raise errors.Refused(401, "unauthorized", "send the admin token: Authorization: Bearer …")
        return await handler(request)

    return middleware
