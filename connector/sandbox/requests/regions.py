"""Where the account lives, and what happens to a request that was sent to the other region's host.

Follows docs.customer.io/integrations/api/track (regions): an EU account on the US host is redirected to the
EU host; a US account on the EU host is refused. `/api/v1/accounts/region` and `/auth` answer on either host.

One sandbox plays both hosts. Which one a request is for, its `Host` header says:

    curl -i -u SITE:KEY -X PUT -H 'Host: track.customer.io' http://127.0.0.1:9000/api/v1/customers/1 -d '{}'

is answered 301 when the account is an EU one. Any other `Host` is that of the account's own region. The
redirect leads to the sandbox itself and never to the vendor, so that a client which follows it is caught
here and not there.

Stricter readings of what is unverified:
- The redirect is a 301, which most clients turn into a GET without a body and without credentials.
- A US account on the EU host gets a 401.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from aiohttp import web

from connector.sandbox import json_body

Region = Literal["us", "eu"]

HOSTS: dict[Region, str] = {"us": "https://track.customer.io", "eu": "https://track-eu.customer.io"}

_REGION_OF: dict[str, Region] = {
    "track.customer.io": "us",
    "track-sdk.customer.io": "us",
    "track-eu.customer.io": "eu",
    "track-sdk-eu.customer.io": "eu",
}
ON_EITHER_HOST = ("/auth", "/api/v1/accounts/region")


@dataclass(frozen=True, slots=True)
class Account:
    """The workspace's side of the credentials. `authorization` is the one header value that is let in."""

    authorization: bytes
    region: Region
    environment_id: int


ACCOUNT = web.AppKey("ACCOUNT", Account)


def routes() -> list[web.RouteDef]:
    return [web.get("/auth", _auth), web.get("/api/v1/accounts/region", _region)]


def wrong_host(request: web.Request) -> web.Response | None:
    """The answer to a request with good credentials that was sent to the other region's host."""
    account = request.app[ACCOUNT]
    asked = _REGION_OF.get(request.host.partition(":")[0].lower(), account.region)
    if asked == account.region or request.path in ON_EITHER_HOST:
        return None
    if account.region == "us":
        return json_body.answer({"meta": {"error": "Unauthorized request"}}, 401)
    return redirect(request)


def redirect(request: web.Request) -> web.Response:
    """As to the other region's host, but to where the request arrived: a redirect leads nowhere off the machine."""
    return web.Response(status=301, headers={"Location": _own_address(request) + path_and_query(request)})


def address(scheme: str, host: str, port: int) -> str:
    """As a URL without a path; an IPv6 address stands in brackets there."""
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"


def path_and_query(request: web.Request) -> str:
    """As sent, and without the scheme and host of a target in absolute form (RFC 9112, 3.2.2)."""
    sent = request.raw_path
    return sent if sent.startswith("/") else str(request.rel_url)


def _own_address(request: web.Request) -> str:
    """Where the request really arrived: redirects lead there, since nothing sent to a sandbox may leave the machine."""
    name = request.transport.get_extra_info("sockname") if request.transport else None
    host, port = name[:2] if isinstance(name, tuple) else ("127.0.0.1", 80)
    return address(request.scheme, host, port)


async def _auth(_request: web.Request) -> web.Response:
    return json_body.answer({"meta": {"message": "nice credentials."}})


async def _region(request: web.Request) -> web.Response:
    account = request.app[ACCOUNT]
    answer = {
        "url": HOSTS[account.region],
        "region": account.region,
        "environment_id": account.environment_id,
    }
    return json_body.answer(answer)
