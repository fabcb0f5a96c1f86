"""`python -m tests.benchmarks.poison_api WAY PERSON`: a Track API that can't stand one person.

A call with them is answered `400` or `500`, or not at all in any time that a client waits (`hang`); every other one
is a 200 at once. Prints its port; `GET /taken` has, for each 200, the moment of the monotonic clock and how many
operations it took, in order.
"""

from __future__ import annotations

import asyncio
import sys
import time

from aiohttp import web

_NEVER = 60.0


def served(way: str, person: str) -> web.Application:
    """`person` empty: it can stand everybody."""
    mark = f'"{person}"'.encode() if person else None
    taken: list[tuple[float, int]] = []

    async def batch(request: web.Request) -> web.Response:
        body = await request.read()
        if mark is None or mark not in body:
            taken.append((time.monotonic(), body.count(b'"identifiers"')))
            return web.json_response({})
        if way == "hang":
            await asyncio.sleep(_NEVER)
        return web.json_response({}, status=500 if way == "hang" else int(way))

    async def told(_request: web.Request) -> web.Response:
        return web.json_response(taken)

    async def region(_request: web.Request) -> web.Response:
        return web.json_response({"url": "", "data_center": "us", "region": "us", "environment_id": 1})

    app = web.Application(client_max_size=2**20)
    app.router.add_post("/api/v2/batch", batch)
    app.router.add_get("/taken", told)
    app.router.add_get("/api/v1/accounts/region", region)
    return app


async def _main(way: str, person: str) -> None:
    runner = web.AppRunner(served(way, person), access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_main(*sys.argv[1:]))
