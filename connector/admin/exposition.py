"""`/metrics`: what the process counts, and how far the reader is behind, in Prometheus' text format."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

import sqlalchemy as sa
from aiohttp import web
from aiohttp.typedefs import Handler
from prometheus_client.aiohttp import make_aiohttp_handler
from sqlalchemy.engine import Connection

from connector.metrics import Metrics
from connector.store import inbox
from connector.store.database import Database


def metrics_handler(db: Database, metrics: Metrics, clock: Callable[[], datetime]) -> Handler:
    """A handler. What is asked of the store is NaN while the store can't be reached; the rest is still told."""
    printed = make_aiohttp_handler(metrics.registry)

    async def handle(request: web.Request) -> web.StreamResponse:
        try:
            counts, oldest = await db.run_read(_backlog)
        except sa.exc.SQLAlchemyError:
            counts, oldest, lag = {"new": float("nan"), "unread": float("nan")}, None, float("nan")
        else:
            lag = max((clock() - oldest).total_seconds(), 0) if oldest is not None else 0
        for state, number in counts.items():
            metrics.inbox.labels(state).set(number)
        metrics.reader_lag.set(lag)
        return await printed(request)

    return handle


def _backlog(connection: Connection) -> tuple[dict[str, float], datetime | None]:
    return {**inbox.counts(connection)}, inbox.oldest_new_at(connection)
