"""The servers that are compared, each a process of its own on uvloop; prints its port once it listens.

    bare      an aiohttp handler that reads the body and answers 200: what aiohttp can do at most
    grouped   the connector's receiver and appender alone: nothing reads what they store
    single    the same, with groups of one message: one transaction a request

The connector itself needs nothing here: its command is run.
"""

from __future__ import annotations

import asyncio
import sys
from datetime import UTC, datetime
from pathlib import Path

import uvloop
from aiohttp import web

from connector import problem, settings_file
from connector.inbound import appender, webhooks
from connector.inbound.refused import Refused
from connector.metrics import Metrics
from connector.store import inbox
from connector.store.database import Database


async def _read_and_answer(request: web.Request) -> web.Response:
    await request.read()
    return web.Response()


def _receiving(settings: Path) -> web.Application:
    loaded = settings_file.load(settings)
    db = Database(loaded.store.url.get_secret_value())
    metrics = Metrics()
    appending = appender.Appender(db, inbox.CUSTOMERIO, lambda: None, metrics.webhooks)
    receiver = webhooks.Receiver(lambda: loaded, appending, Refused(db, now), metrics, now)
    application = web.Application(client_max_size=webhooks.MAX_BODY_BYTES, middlewares=[problem.middleware])
    application.add_routes([web.post(webhooks.PATH, receiver.handle)])
    return application


def now() -> datetime:
    return datetime.now(UTC)


def _bare() -> web.Application:
    application = web.Application()
    application.add_routes([web.post(webhooks.PATH, _read_and_answer)])
    return application


async def _serve(application: web.Application) -> None:
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.Event().wait()


def main(which: str, settings: Path) -> None:
    """Serves until it is killed."""
    if which == "single":
        appender._GROUP_ROWS = 1
    application = _bare() if which == "bare" else _receiving(settings)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(application))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
