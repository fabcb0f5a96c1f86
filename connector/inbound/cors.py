"""Which pages may send: the CORS headers of a preflight and of each answer
(https://fetch.spec.whatwg.org/#http-cors-protocol).

aiohttp-cors fixes the origins when routes are made; ours are settings, which are edited while the server runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

_ANY = "*"
_HEADERS = "Authorization, Content-Type, Content-Encoding"
_LONGEST_HEADERS = 1000
_MAX_AGE = "600"  # seconds for which a browser need not ask again; an edit of the origins is felt as late


def answer_headers(request: Mapping[str, str], origins: Sequence[str]) -> dict[str, str]:
    """What an answer says about the origin that asked; without them the page can't see the answer."""
    if _ANY in origins:
        return {"Access-Control-Allow-Origin": _ANY}
    origin = request.get("Origin")
    if origin is None or origin.lower() not in origins:
        return {"Vary": "Origin"}
    return {"Access-Control-Allow-Origin": origin, "Vary": "Origin"}


def preflight_headers(request: Mapping[str, str], origins: Sequence[str]) -> dict[str, str]:
    """What a preflight is answered: any header may be sent, each SDK has one of its own."""
    headers = answer_headers(request, origins)
    if "Access-Control-Allow-Origin" in headers:
        wanted = request.get("Access-Control-Request-Headers", "")
        headers["Access-Control-Allow-Methods"] = "POST"
        headers["Access-Control-Allow-Headers"] = wanted if 0 < len(wanted) <= _LONGEST_HEADERS else _HEADERS
        headers["Access-Control-Max-Age"] = _MAX_AGE
    return headers
