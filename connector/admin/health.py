"""`/healthz` and `/readyz`: is the process alive, and should it get requests."""

from __future__ import annotations

from collections.abc import Callable

import sqlalchemy as sa
from aiohttp import web
from aiohttp.typedefs import Handler

from connector import errors, problem
from connector.store import migrate
from connector.store.database import Database


async def alive(_request: web.Request) -> web.Response:
    """The process answers."""
    return web.json_response({"status": "alive"})


def ready(db: Database, not_ready: Callable[[], str | None]) -> Handler:
    """A handler: 200 when the store answers and is migrated and `not_ready` has no reason; else 503 with the reason."""

    async def handle(_request: web.Request) -> web.StreamResponse:
        reason = not_ready()
        if reason is not None:
            return problem.response(503, reason, "not ready", 5)
        try:
            await db.on_thread(lambda: migrate.require_current(db))
        except errors.StoreBehind:
            return problem.response(503, "store_behind", "the store's schema is behind", 5)
        except (errors.Failed, sa.exc.SQLAlchemyError):
            return problem.response(503, "store_unreachable", "the store can't be reached", 5)
        return web.json_response({"status": "ready"})

    return handle
