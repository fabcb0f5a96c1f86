"""The sandbox's side of the webhooks: what is to be reported, and the one queue through which it leaves.

    what was applied (campaign) --+
    POST /sandbox/webhooks -------+-> enqueue -> Delivery -> the connector
    a test: enqueue --------------+

GET  /sandbox/webhooks           how the queue stands: backlog, its head, the next try
GET  /sandbox/webhooks/recent    the last 1,000 that were tried, newest first
POST /sandbox/webhooks           sends a mix in volume (volume.Mix): count, kinds, people, per_second, duplicates, …
PUT  /sandbox/webhooks           where they go: url, signing_key, campaign_event

Without a URL nothing is reported. A queue that waits for a retry goes on waiting when the URL changes.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import msgspec
import orjson
from aiohttp import web
from yarl import URL

from connector.sandbox.read_back import STATE
from connector.sandbox.state import State
from connector.sandbox.webhooks import campaign, volume, webhook_sender
from connector.sandbox.webhooks.clock import Clock, Wall
from connector.sandbox.webhooks.delivery import Delivery
from connector.sandbox.webhooks.volume import Mix
from connector.sandbox.webhooks.webhook_bodies import Recipient, Setup
from connector.sandbox.webhooks.webhook_sender import Endpoint, Report

NOWHERE = Endpoint("", "")

_IN_ONE_GO = 100


class Webhooks:
    """Everything that is reported to one endpoint. `run` it; the rest may be called from the same loop at any time."""

    def __init__(
        self,
        endpoint: Endpoint = NOWHERE,
        *,
        clock: Clock | None = None,
        seed: int = 0,
        setup: Setup = Setup(),  # noqa: B008 - frozen
        campaign_event: str | None = None,
        timeout_seconds: float = webhook_sender.TIMEOUT_SECONDS,
    ) -> None:
        self._clock = clock or Wall()
        self._setup = setup
        self._tasks: asyncio.TaskGroup | None = None
        self._mixes = 0
        self.delivery = Delivery(endpoint, self._clock, timeout_seconds=timeout_seconds)
        self.reactions = campaign.Reactions(
            self.enqueue,
            self._begin,
            clock=self._clock,
            rng=random.Random(seed),  # noqa: S311 - repeatable, no secret
            setup=setup,
            event=campaign_event,
        )

    @property
    def goes_somewhere(self) -> bool:
        return self.delivery.endpoint != NOWHERE

    def enqueue(self, report: Report) -> None:
        if self.goes_somewhere:
            self.delivery.enqueue(report)

    def send(self, mix: Mix, people: list[Recipient]) -> None:
        """Begins to enqueue a mix. Raises ValueError when it can't be made."""
        started = self._clock.now()
        made = volume.reports(mix, people, self._setup, started)

        async def feed() -> None:
            self._mixes += 1
            try:
                for number, report in enumerate(made):
                    if mix.per_second is not None:
                        await self._sleep_until(started + number / mix.per_second)
                    elif number % _IN_ONE_GO == 0:
                        await asyncio.sleep(0)  # nobody else waits while a large mix is made
                    self.enqueue(report)
            finally:
                self._mixes -= 1

        self._begin(feed)

    async def run(self) -> None:
        """Delivers until cancelled. What takes its time, a campaign or a mix, goes on only while this runs."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            try:
                await self.delivery.run()
            finally:
                self._tasks = None

    def status(self) -> dict[str, Any]:
        """As `Delivery.status`; `mixes_under_way` counts those that aren't all enqueued."""
        return self.delivery.status() | {"mixes_under_way": self._mixes}

    def recent(self) -> list[dict[str, Any]]:
        return self.delivery.recent()

    def _begin(self, what: Callable[[], Awaitable[None]]) -> None:
        async def task() -> None:
            await what()

        if self._tasks is not None:
            self._tasks.create_task(task())

    async def _sleep_until(self, moment: float) -> None:
        now = self._clock.now()
        if now < moment:
            await self._clock.sleep(moment - now)


WEBHOOKS = web.AppKey("WEBHOOKS", Webhooks)


class _Destination(msgspec.Struct, forbid_unknown_fields=True):
    url: str
    signing_key: str
    campaign_event: str | None = None


def add_to(app: web.Application, webhooks: Webhooks) -> None:
    """Reports what happens in the application's state for as long as the application runs."""
    app[WEBHOOKS] = webhooks
    webhooks.reactions.follow(app[STATE])
    app.cleanup_ctx.append(_running)
    app.add_routes(
        [
            web.get("/sandbox/webhooks", _status),
            web.get("/sandbox/webhooks/recent", _recent),
            web.post("/sandbox/webhooks", _send),
            web.put("/sandbox/webhooks", _set),
        ]
    )


async def _running(app: web.Application) -> AsyncIterator[None]:
    task = asyncio.create_task(app[WEBHOOKS].run())
    yield
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def _status(request: web.Request) -> web.Response:
    return _json(request.app[WEBHOOKS].status())


async def _recent(request: web.Request) -> web.Response:
    return _json(request.app[WEBHOOKS].recent())


async def _send(request: web.Request) -> web.Response:
    webhooks = request.app[WEBHOOKS]
    try:
        mix = msgspec.json.decode(await request.read(), type=Mix)
        people = _people(request.app[STATE], mix.people)
        if not webhooks.goes_somewhere:
            return _json({"error": "there is no URL to send webhooks to; PUT one here first"}, 409)
        webhooks.send(mix, people)
    except ValueError as error:  # msgspec's errors are ValueErrors
        return _json({"error": str(error)}, 400)
    return _json({"count": mix.count}, 202)


async def _set(request: web.Request) -> web.Response:
    webhooks = request.app[WEBHOOKS]
    try:
        destination = msgspec.json.decode(await request.read(), type=_Destination)
        webhooks.delivery.endpoint = endpoint(destination.url, destination.signing_key)
    except ValueError as error:
        return _json({"error": str(error)}, 400)
    webhooks.reactions.event = destination.campaign_event
    return _json(webhooks.status())


def endpoint(url: str, signing_key: str) -> Endpoint:
    """Raises ValueError for what no webhook can be sent to."""
    parsed = URL(url)
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise ValueError(f"url must be http:// or https:// and a host, is {url!r}")
    if not signing_key.encode():
        raise ValueError("signing_key must not be empty")
    return Endpoint(url, signing_key)


def _people(state: State, ids: list[str] | None) -> list[Recipient]:
    if ids is None:
        return [campaign.recipient(person) for person in state.people] or list(volume.STRANGERS)
    found = [state.find("id", each) for each in ids]
    if not found or None in found:
        raise ValueError("people must be ids of people who are there")
    return [campaign.recipient(person) for person in found if person is not None]


def _json(value: object, status: int = 200) -> web.Response:
    return web.Response(body=orjson.dumps(value), status=status, content_type="application/json")
