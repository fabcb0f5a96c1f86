"""All of the direction in, as one thing that can be left out: what the public listener answers, and what reads it.

webhooks, intake -> appenders -> inbox -> reader            refused -> noted for `check` and `status`
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from aiohttp import web

from connector import log
from connector.inbound import intake, webhooks
from connector.inbound.appender import Appender
from connector.inbound.reader import Reader
from connector.inbound.refused import Refused
from connector.metrics import Metrics
from connector.settings import Settings
from connector.store import inbox
from connector.store.database import Database

_log = log.get("requests")


class Receiving:
    """One for each process that listens. `failed` is called with what storing raised: true when that is said in the log
    already."""

    def __init__(
        self,
        db: Database,
        settings: Callable[[], Settings],
        clock: Callable[[], datetime],
        metrics: Metrics,
        failed: Callable[[Exception], bool],
    ) -> None:
        self._failed = failed
        self.reader = Reader(db, settings, clock, metrics)
        self.refused: Mapping[str, Refused] = {
            "webhooks": Refused(db, clock, "webhook"),
            "intake": Refused(db, clock, "message"),
        }
        self._webhooks = Appender(db, inbox.CUSTOMERIO, self.reader.wake, metrics.webhooks, failed)
        self._messages = Appender(db, inbox.INTAKE, self.reader.wake, metrics.intake, failed)
        self._customerio = webhooks.Receiver(settings, self._webhooks, self.refused["webhooks"], metrics, clock)
        self._products = intake.Receiver(settings, self._messages, self.refused["intake"], metrics, clock)

    def routes(self) -> list[web.RouteDef]:
        """What the public listener answers."""
        return [web.post(webhooks.PATH, self._customerio.handle), *self._products.routes()]

    def tasks(self) -> dict[str, Callable[[], Coroutine[Any, Any, None]]]:
        """What runs until it is cancelled, by name."""
        return {
            "reader": self.reader.run,
            **{f"refused_{what}": each.keep for what, each in self.refused.items()},
        }

    async def drain(self) -> None:
        """Stores what was taken, and what was noted if the store takes it; the listeners are closed by now."""
        for appender in (self._webhooks, self._messages):
            await appender.drain()
        try:
            for each in self.refused.values():
                await each.flush()
        except sa.exc.SQLAlchemyError as error:
            if not self._failed(error):
                _log.error("refusals_not_noted", error=type(error).__name__)
