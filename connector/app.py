"""The composition root: builds settings, store, client, listeners and tasks from one settings file.

    serve    public listener    webhooks, intake -> inbox         tasks   reader, retention, indexes
    work                                                          tasks   worker, pass
    both     admin listener     health, status, metrics           tasks   settings watch

Nothing is made at import time. `running` is a whole connector, or one of its parts, as an async context manager; `main`
runs it until a signal comes. On the way out nobody is claimed any more and no call begins, the listeners stop, what was
accepted is stored, and calls under way end and are recorded.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias, TypeVar

import msgspec
import sqlalchemy as sa
from aiohttp import web

from connector import errors, indexing, listener, log, problem, retention, stopping
from connector.admin import access, exposition, health, status
from connector.inbound import adopting
from connector.inbound.reader import Reader
from connector.inbound.receiving import Receiving
from connector.inbound.refused import Refused
from connector.inbound.webhooks import MAX_BODY_BYTES, PATH
from connector.keeping import Keeper
from connector.metrics import Metrics
from connector.outbound.loops import Outbound
from connector.outbound.tally import Tally
from connector.settings import Settings
from connector.store import alone, migrate
from connector.store.database import Database
from connector.watching import following, starting
from connector.watching.current import Current

_PREDECESSOR_SECONDS = 30.0
_LOOK_AGAIN = 0.05
_COLLECT_AFTER = 20_000  # objects made and not freed since
_SWITCH_SECONDS = 0.0005
_SHUTDOWN_SECONDS = 12.0  # a call takes 8 at most, and none begins

Parts: TypeAlias = frozenset[str]
SERVE, WORK = "serve", "work"
BOTH: Parts = frozenset({SERVE, WORK})

T = TypeVar("T")

_log = log.get("connector")


def now() -> datetime:
    """The clock of everything in this process that isn't told the time."""
    return datetime.now(UTC)


def open_store(settings: Settings, *, make: bool = False) -> Database:
    """The store, at this version's schema. `make` builds a missing one; an older one is refused (StoreBehind)."""
    db = Database(settings.store.url.get_secret_value())
    try:
        if make:
            with errors_as_failed():
                if db.write(migrate.current) is None:
                    migrate.upgrade(db)
        migrate.require_current(db)
    except BaseException:
        db.close()
        raise
    return db


@contextlib.contextmanager
def errors_as_failed() -> Any:
    """A store that can't be reached is a sentence, not a traceback."""
    try:
        yield
    except sa.exc.DBAPIError as error:
        raise errors.Failed(f"the store can't be used: {str(error.orig).splitlines()[0]}") from error


class _Places(NamedTuple):
    """Where the listeners listen; None where there is none."""

    public: listener.Place | None
    admin: listener.Place | None


@dataclass
class Running:
    """A connector that runs: where it listens ("": nowhere), and its parts for whoever shares the process."""

    db: Database
    current: Current
    public_url: str
    admin_url: str
    reader: Reader
    metrics: Metrics


@asynccontextmanager
async def running(
    path: Path, settings: Settings, parts: Parts = BOTH, admin_port: int | None = None
) -> AsyncIterator[Running]:
    """The whole connector, or a part, from the file at `path` that says `settings`; makes the store when there is none.
    Without `serve` there is an admin listener only on an `admin_port`."""
    with _places(settings, parts, admin_port) as places:
        async with _alone(settings, parts):
            db = open_store(settings, make=True)
            try:
                async with _at_work(path, settings, db, places, parts) as connector:
                    yield connector
            finally:
                db.close()


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Runs a command's coroutine, on uvloop where it is installed: about a fifth more requests a second."""
    try:
        import uvloop
    except ImportError:
        return asyncio.run(coroutine)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(coroutine)


async def main(path: Path, settings: Settings, parts: Parts = BOTH, admin_port: int | None = None) -> None:
    """Runs until SIGTERM or SIGINT."""
    listener.raise_file_limit()
    stop = asyncio.Event()
    stopping.on_signals(stop.set)
    stopping.on_hangup(lambda: None)  # the start reads the file anyway
    async with contextlib.AsyncExitStack() as stack:
        starting = asyncio.create_task(stack.enter_async_context(running(path, settings, parts, admin_port)))
        asked = asyncio.create_task(stop.wait())
        await asyncio.wait((starting, asked), return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():  # it waits for a predecessor
            starting.cancel()
            await asyncio.gather(starting, return_exceptions=True)
            return
        connector = await starting
        stopping.on_hangup(connector.current.read_again.set)
        tune_the_interpreter()
        if SERVE in parts:
            _log.info("listening", webhooks=connector.public_url + PATH, admin=connector.admin_url)
        else:
            _log.info("working", admin=connector.admin_url or None)
        await asked
        _log.info("stopping")


def tune_the_interpreter() -> None:
    """For a busy process. What is there by now stays to the end: looking through it for garbage took a tenth of the
    time. And the thread that stores, back from the database, gets the interpreter's lock after half a millisecond
    instead of five."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_COLLECT_AFTER, 20, 50)
    sys.setswitchinterval(_SWITCH_SECONDS)


@contextlib.contextmanager
def _places(settings: Settings, parts: Parts, admin_port: int | None) -> Iterator[_Places]:
    """Where the public and the admin listener will listen; with `reuse_port` they do from here on."""
    server, private = settings.server, settings.admin
    port = private.port if admin_port is None else admin_port
    public = listener.Place("webhooks", server.host, server.port, server.reuse_port)
    admin = listener.Place("admin", private.host, port, server.reuse_port)
    places = _Places(public if SERVE in parts else None, admin if SERVE in parts or admin_port is not None else None)
    try:
        if places.public is not None:
            listener.take_handed_over(os.environ, public, admin)
        if admin.handed_over and not admin.is_private() and not private.token.get_secret_value():
            raise errors.Misconfigured(
                "admin.token is required: the admin's socket that was handed over is not on a loopback address"
            )
        if server.reuse_port:
            for place in places:
                if place is not None:
                    place.open()
        yield places
    finally:
        public.close()
        admin.close()


@asynccontextmanager
async def _alone(settings: Settings, parts: Parts) -> AsyncIterator[None]:
    """The only connector on a store that takes one. With `reuse_port`, the predecessor is given time to end."""
    loop = asyncio.get_running_loop()
    until = loop.time() + _PREDECESSOR_SECONDS if settings.server.reuse_port else None
    said = False
    with contextlib.ExitStack() as held:
        for part in sorted(parts):
            while True:
                try:
                    held.enter_context(alone.only_one(settings.store.url.get_secret_value(), part))
                    break
                except errors.StoreInUse:
                    if until is None or loop.time() > until:
                        raise
                if not said:
                    _log.info("waiting_for_predecessor", seconds=_PREDECESSOR_SECONDS)
                    said = True
                await asyncio.sleep(_LOOK_AGAIN)
        yield


@asynccontextmanager
async def _at_work(
    path: Path, settings: Settings, db: Database, places: _Places, parts: Parts
) -> AsyncIterator[Running]:
    current = await db.on_thread(lambda: starting.begin(path, settings, db, now()))
    metrics = _metrics_of(current)
    keeper = Keeper(db)
    ending = asyncio.Event()
    receiving = Receiving(db, current.get, now, metrics, keeper.is_told)
    outbound = Outbound(
        db,
        current.get,
        current.edited,
        now,
        lambda settings: adopting.everything(db, settings, now),
        _counted(metrics),
        current.is_stale,
    )

    def not_ready() -> str | None:
        if ending.is_set():
            return "stopping"
        if keeper.store_is_away:
            return "store_unreachable"
        silent = (now() - outbound.alive_at).total_seconds()
        latency = current.settings.sync.latency.total_seconds()
        return "worker_stuck" if WORK in parts and silent > 120 + latency else None

    probes = [web.get("/healthz", health.alive), web.get("/readyz", health.ready(db, not_ready))]
    public = web.Application(client_max_size=MAX_BODY_BYTES, middlewares=[problem.middleware])
    public.add_routes([*receiving.routes(), *probes])
    admin = web.Application(
        middlewares=[problem.middleware, access.token_required(settings.admin.token.get_secret_value())]
    )
    admin.add_routes(
        [
            *probes,
            web.get("/metrics", exposition.metrics_handler(db, metrics, now)),
            web.get("/status", _status(db, current, metrics, receiving.refused)),
        ]
    )
    endless: dict[str, Callable[[], Coroutine[Any, Any, None]]] = {}
    ended = {"settings": lambda: following.follow(path, current, db, now, ending)}
    if SERVE in parts:
        endless |= receiving.tasks()
        ended["retention"] = lambda: retention.run(db, current.kept, now, ending)
        ended["indexes"] = lambda: indexing.run(db, current.get, current.is_stale, ending)
    if WORK in parts:
        ended |= {"worker": outbound.work, "pass": outbound.passes}

    async with contextlib.AsyncExitStack() as stack:
        tasks = _Tasks(
            [asyncio.create_task(keeper.keep(name, task)) for name, task in endless.items()],
            [asyncio.create_task(keeper.keep(name, task)) for name, task in ended.items()],
        )
        stack.push_async_callback(_finish, receiving, tasks)
        public_url = admin_url = ""
        # The public one stops first; meanwhile the admin's still says what is going on.
        if places.admin is not None:
            private = await stack.enter_async_context(listener.serving(admin, places.admin, listener.admin_limits()))
            admin_url = private.url
        if places.public is not None:
            open_to_all = await stack.enter_async_context(
                listener.serving(public, places.public, listener.public_limits(), metrics.cut)
            )
            public_url = open_to_all.url
            metrics.connections.set_function(lambda: len(open_to_all.connections))
        try:
            yield Running(db, current, public_url, admin_url, receiving.reader, metrics)
        finally:
            ending.set()
            outbound.stop()
            keeper.stop()


def _metrics_of(current: Current) -> Metrics:
    metrics = Metrics()
    metrics.settings_refused.set_function(lambda: current.refused is not None)
    metrics.settings_held.set_function(lambda: current.held is not None)
    metrics.settings_superseded.set_function(current.is_stale)
    metrics.settings_revision.labels("in_force").set_function(lambda: current.revision or 0)
    metrics.settings_revision.labels("waited_for").set_function(lambda: current.waited_for() or 0)
    metrics.paused.set_function(lambda: current.settings.sync.paused)
    return metrics


def _counted(metrics: Metrics) -> Callable[[Tally], None]:
    def heard(tally: Tally) -> None:
        metrics.decided(tally.decided)
        metrics.called(tally.calls)

    return heard


class _Tasks(NamedTuple):
    """Those that are cancelled once nothing can come in any more, and those that end when they are told to."""

    endless: Sequence[asyncio.Task[None]]
    ended: Sequence[asyncio.Task[None]]


async def _finish(receiving: Receiving, tasks: _Tasks) -> None:
    """The listeners are closed by now: store what they took, let the calls in flight end, then stop the rest."""
    await receiving.drain()
    for task in tasks.endless:
        task.cancel()
    await asyncio.wait(tasks.ended, timeout=_SHUTDOWN_SECONDS)
    for task in tasks.ended:
        task.cancel()
    await asyncio.gather(*tasks.endless, *tasks.ended, return_exceptions=True)


def _status(
    db: Database, current: Current, metrics: Metrics, refused: Mapping[str, Refused]
) -> Callable[[web.Request], Any]:
    async def handle(_request: web.Request) -> web.Response:
        found = await db.run_read(status.collect, current.settings, now())
        found["settings"] |= current.told()
        found["rates"]["calls_per_second"] = round(metrics.calls_lately.per_second(), 2)
        for what, each in refused.items():
            found[f"refused_{what}"] = {"count": each.count, "last_at": each.last_at}
        return web.Response(body=msgspec.json.encode(found), content_type="application/json")

    return handle
