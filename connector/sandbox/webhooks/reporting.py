"""The sandbox's side of the webhooks: what is to be reported, and the ways in which it leaves.

    what was applied (campaign) --+
    a mix in volume --------------+-> enqueue -> Delivery, one by one -> the connector
    a test: enqueue --------------+
    a mix over connections ------------------------> Load, many at once -> the connector

Without a URL nothing is reported. A queue that waits for a retry goes on waiting when the URL changes.

What goes on here beside the requests is watched: what ends by an error is in the log and in `status`, and takes
nothing else with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import msgspec
from aiohttp import web
from yarl import URL

from connector.sandbox.read_back import STATE
from connector.sandbox.webhooks import campaign, volume, webhook_sender
from connector.sandbox.webhooks.acknowledged import Acknowledged
from connector.sandbox.webhooks.clock import Clock, Wall
from connector.sandbox.webhooks.delivery import Delivery
from connector.sandbox.webhooks.load import Load
from connector.sandbox.webhooks.volume import Mix
from connector.sandbox.webhooks.webhook_bodies import Recipient, Setup
from connector.sandbox.webhooks.webhook_sender import Endpoint, Report

NOWHERE = Endpoint("", "")

_IN_ONE_GO = 100
_FAILURES_KEPT = 20
_SEED_BITS = 53  # every reader of JSON takes such a number whole

_LOG = logging.getLogger(__name__)


class Webhooks:
    """Everything that is reported to one endpoint. `run` it; the rest may be called from the same loop at any time.

    With a `seed` all ids are repeatable, those of a mix without a seed of its own too; without one they are fresh.
    """

    def __init__(
        self,
        endpoint: Endpoint = NOWHERE,
        *,
        clock: Clock | None = None,
        seed: int | None = None,
        setup: Setup = Setup(),  # noqa: B008 - frozen
        campaign_event: str | None = None,
        timeout_seconds: float = webhook_sender.TIMEOUT_SECONDS,
    ) -> None:
        self._clock = clock or Wall()
        self._timeout_seconds = timeout_seconds
        # Each mix, and the campaign, draws from a seed of its own: the same one twice would be the same ids twice.
        self._seeds = random.Random(seed)  # noqa: S311 - repeatable where that is asked for, no secret
        self._tasks: asyncio.TaskGroup | None = None
        self._mixes = 0
        self._load: Load | None = None
        self._failures: deque[str] = deque(maxlen=_FAILURES_KEPT)
        self.acknowledged = Acknowledged()
        self.delivery = Delivery(endpoint, self._clock, timeout_seconds=timeout_seconds, acknowledged=self.acknowledged)
        self.reactions = campaign.Reactions(
            self.enqueue,
            self._begin,
            clock=self._clock,
            rng=random.Random(self._seeds.getrandbits(_SEED_BITS)),  # noqa: S311 - likewise
            setup=setup,
            event=campaign_event,
        )

    @property
    def goes_somewhere(self) -> bool:
        return self.delivery.endpoint.url != ""

    @property
    def is_delivering(self) -> bool:
        """False before `run`, and for good after an error that ended it."""
        return self._tasks is not None

    def enqueue(self, report: Report) -> None:
        if self.goes_somewhere:
            self.delivery.enqueue(report)

    def send(self, mix: Mix, people: list[Recipient]) -> Mix:
        """Begins to send a mix; returns it with its seed. Raises ValueError when it can't be made."""
        if mix.seed is None:
            mix = msgspec.structs.replace(mix, seed=self._seeds.getrandbits(_SEED_BITS))
        started = self._clock.now()
        made = self._in_time(mix, volume.reports(mix, people, self.reactions.setup, started), started)
        if self._tasks is not None:
            self._mixes += 1
            self._tasks.create_task(self._watched("a mix", self._send_all(mix, made)))
        return mix

    async def run(self) -> None:
        """Delivers until cancelled. What takes its time, a campaign or a mix, goes on only while this runs."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            try:
                await self._watched("delivery", self.delivery.run())
            finally:
                self._tasks = None

    def status(self) -> dict[str, Any]:
        """As `Delivery.status`, and: `mixes_under_way` counts those that aren't all enqueued, or, over connections,
        all accepted; `load` is the last one over connections; `delivering` is false and the queue stands still when
        delivery itself was ended by one of the `failures` (the last 20, in words). Then the settings."""
        return {
            **self.delivery.status(),
            "acknowledged": self.acknowledged.total,
            "mixes_under_way": self._mixes,
            "load": self._load.status() if self._load else None,
            "delivering": self.is_delivering,
            "failures": list(self._failures),
            "campaign_event": self.reactions.event,
            **msgspec.structs.asdict(self.reactions.setup),
        }

    async def _in_time(self, mix: Mix, made: Iterator[Report], started: float) -> AsyncIterator[Report]:
        for number, report in enumerate(made):
            if mix.per_second is not None:
                await self._sleep_until(started + number / mix.per_second)
            elif number % _IN_ONE_GO == 0:
                await asyncio.sleep(0)  # nobody else waits while a large mix is made
            yield report

    async def _send_all(self, mix: Mix, made: AsyncIterator[Report]) -> None:
        try:
            if mix.connections is None:
                async for report in made:
                    self.enqueue(report)
            else:
                await self._over(mix.connections, mix.retry_seconds, made)
        finally:
            self._mixes -= 1

    async def _over(self, connections: int, retry_seconds: float, made: AsyncIterator[Report]) -> None:
        self._load = Load(
            made,
            lambda: self.delivery.endpoint,
            self._clock,
            self.acknowledged,
            connections=connections,
            retry_seconds=retry_seconds,
            timeout_seconds=self._timeout_seconds,
        )
        await self._load.run()

    def _begin(self, what: Callable[[], Awaitable[None]]) -> None:
        if self._tasks is not None:
            self._tasks.create_task(self._watched("a mail", what()))

    async def _watched(self, name: str, work: Awaitable[None]) -> None:
        try:
            await work
        except Exception as error:  # noqa: BLE001 - a bug here must be seen, and must not end what goes on beside it
            _LOG.exception("webhooks: %s was ended by an error", name)
            while isinstance(error, ExceptionGroup):
                error = error.exceptions[0]
            self._failures.append(f"{name}: {type(error).__name__}: {error}")

    async def _sleep_until(self, moment: float) -> None:
        now = self._clock.now()
        if now < moment:
            await self._clock.sleep(moment - now)


WEBHOOKS = web.AppKey("WEBHOOKS", Webhooks)


def add_to(app: web.Application, webhooks: Webhooks) -> None:
    """Reports what happens in the application's state for as long as the application runs."""
    app[WEBHOOKS] = webhooks
    webhooks.reactions.follow(app[STATE])
    app.cleanup_ctx.append(_running)


async def _running(app: web.Application) -> AsyncIterator[None]:
    task = asyncio.create_task(app[WEBHOOKS].run())
    yield
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


def endpoint(url: str, signing_key: str) -> Endpoint:
    """Raises ValueError for what no webhook can be sent to."""
    parsed = URL(url)
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise ValueError(f"url must be http:// or https:// and a host, is {url!r}")
    if not signing_key.encode():
        raise ValueError("signing_key must not be empty")
    return Endpoint(url, signing_key)
