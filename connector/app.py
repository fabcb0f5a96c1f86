"""The composition root: builds settings, store, client, listeners and tasks from one settings file.

    public listener    webhooks, intake -> inbox         tasks   reader, worker, pass, settings watch, retention,
    admin listener     health, status, metrics                   indexes

Nothing is made at import time. `running` is the whole connector as an async context manager; `main` runs it until a
signal comes. On the way out the listeners stop first, then what was accepted is stored, then calls in flight end
and are recorded.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import sqlalchemy as sa
from aiohttp import web

from connector import errors, indexing, listener, log, problem, retention, settings_file
from connector.admin import access, exposition, health, status
from connector.inbound import adopting, intake
from connector.inbound.appender import Appender
from connector.inbound.reader import Reader
from connector.inbound.refused import Refused
from connector.inbound.webhooks import MAX_BODY_BYTES, PATH, Receiver
from connector.metrics import Metrics
from connector.outbound.loops import Outbound
from connector.settings import Settings
from connector.store import database, inbox, migrate
from connector.store.database import Database

_PAUSE_AFTER_FAILURE = 5.0
_PREDECESSOR_SECONDS = 30.0
_LOOK_AGAIN = 0.05
_COLLECT_AFTER = 20_000  # objects made and not freed since
_SWITCH_SECONDS = 0.0005
_SHUTDOWN_SECONDS = 15.0

T = TypeVar("T")

_log = log.get("connector")


def now() -> datetime:
    """The clock of everything in this process that isn't told the time."""
    return datetime.now(UTC)


@dataclass
class Current:
    """The settings in force, and why a newer edit isn't."""

    settings: Settings
    refused: errors.Misconfigured | None = None
    edited: asyncio.Event = field(default_factory=asyncio.Event)

    def get(self) -> Settings:
        return self.settings


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


@dataclass
class Running:
    """A connector that runs: where it listens, and its parts for whoever shares the process."""

    db: Database
    current: Current
    public_url: str
    admin_url: str
    reader: Reader
    metrics: Metrics


@asynccontextmanager
async def running(path: Path, settings: Settings) -> AsyncIterator[Running]:
    """The whole connector, from the file at `path` that says `settings`; the store is made when there is none."""
    with _places(settings) as places:
        async with _alone(settings):
            db = open_store(settings, make=True)
            try:
                async with _serving(path, settings, db, places) as connector:
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


async def main(path: Path, settings: Settings) -> None:
    """Runs until SIGTERM or SIGINT."""
    listener.raise_file_limit()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, stop.set)
    async with running(path, settings) as connector:
        _tune_the_interpreter()
        _log.info("listening", webhooks=connector.public_url + PATH, admin=connector.admin_url)
        await stop.wait()
        _log.info("stopping")


def _tune_the_interpreter() -> None:
    """For a busy process. What is there by now stays to the end: looking through it for garbage took a tenth of the
    time. And the thread that stores, back from the database, gets the interpreter's lock after half a millisecond
    instead of five."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_COLLECT_AFTER, 20, 50)
    sys.setswitchinterval(_SWITCH_SECONDS)


@contextlib.contextmanager
def _places(settings: Settings) -> Iterator[tuple[listener.Place, listener.Place]]:
    """Where the public and the admin listener will listen; with `reuse_port` they do from here on."""
    server, private = settings.server, settings.admin
    public = listener.Place("webhooks", server.host, server.port, server.reuse_port)
    admin = listener.Place("admin", private.host, private.port, server.reuse_port)
    try:
        listener.take_handed_over(os.environ, public, admin)
        if admin.handed_over and not admin.is_private() and not private.token.get_secret_value():
            raise errors.Misconfigured(
                "admin.token is required: the admin's socket that was handed over is not on a loopback address"
            )
        if server.reuse_port:
            public.open()
            admin.open()
        yield public, admin
    finally:
        public.close()
        admin.close()


@asynccontextmanager
async def _alone(settings: Settings) -> AsyncIterator[None]:
    """The only connector on a store that takes one. With `reuse_port`, the predecessor is given time to end."""
    loop = asyncio.get_running_loop()
    until = loop.time() + _PREDECESSOR_SECONDS if settings.server.reuse_port else None
    said = False
    with contextlib.ExitStack() as held:
        while True:
            try:
                held.enter_context(database.only_one(settings.store.url.get_secret_value()))
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
async def _serving(
    path: Path, settings: Settings, db: Database, places: tuple[listener.Place, listener.Place]
) -> AsyncIterator[Running]:
    current = Current(settings)
    metrics = Metrics()
    reader = Reader(db, current.get, now, metrics)
    webhooks_in = Appender(db, inbox.CUSTOMERIO, reader.wake, metrics.webhooks)
    messages_in = Appender(db, inbox.INTAKE, reader.wake, metrics.intake)
    refused = {"webhooks": Refused(db, now, "webhook"), "intake": Refused(db, now, "message")}
    webhooks = Receiver(current.get, webhooks_in, refused["webhooks"], metrics, now)
    messages = intake.Receiver(current.get, messages_in, refused["intake"], metrics, now)
    outbound = Outbound(db, current.get, current.edited, now, lambda: adopting.adopt(db, now))
    stopping = asyncio.Event()

    def not_ready() -> str | None:
        if stopping.is_set():
            return "stopping"
        silent = (now() - outbound.alive_at).total_seconds()
        latency = current.settings.sync.latency.total_seconds()
        return "worker_stuck" if silent > 120 + latency else None

    probes = [web.get("/healthz", health.alive), web.get("/readyz", health.ready(db, not_ready))]
    public = web.Application(client_max_size=MAX_BODY_BYTES, middlewares=[problem.middleware])
    public.add_routes([web.post(PATH, webhooks.handle), *messages.routes(), *probes])
    admin = web.Application(
        middlewares=[problem.middleware, access.token_required(settings.admin.token.get_secret_value())]
    )
    admin.add_routes(
        [
            *probes,
            web.get("/metrics", exposition.metrics_handler(db, metrics, now)),
            web.get("/status", _status(db, current, refused)),
        ]
    )

    async with contextlib.AsyncExitStack() as stack:
        tasks = [
            _kept("reader", reader.run),
            *(_kept("refused", each.keep) for each in refused.values()),
            _kept("worker", outbound.work),
            _kept("pass", outbound.passes),
            _kept("settings", lambda: _watch(path, current, stopping)),
            _kept("retention", lambda: retention.run(db, current.get, now, stopping)),
            _kept("indexes", lambda: indexing.run(db, current.get, stopping)),
        ]
        started = [asyncio.create_task(task) for task in tasks]
        stack.push_async_callback(_finish, outbound, stopping, started, (webhooks_in, messages_in), refused)
        # The public one stops first; meanwhile the admin's still says what is going on.
        private = await stack.enter_async_context(listener.serving(admin, places[1], listener.admin_limits()))
        open_to_all = await stack.enter_async_context(
            listener.serving(public, places[0], listener.public_limits(), metrics.cut)
        )
        metrics.connections.set_function(lambda: len(open_to_all.connections))
        yield Running(db, current, open_to_all.url, private.url, reader, metrics)
        stopping.set()


async def _finish(
    outbound: Outbound,
    stopping: asyncio.Event,
    tasks: list[asyncio.Task[None]],
    appenders: Iterable[Appender],
    refused: Mapping[str, Refused],
) -> None:
    """The listeners are closed by now: store what they took, let the calls in flight end, then stop the rest."""
    stopping.set()
    outbound.stop()
    for appender in appenders:
        await appender.drain()
    for each in refused.values():
        await each.flush()
    # The reader and those that note what was refused come first.
    ending = tasks[1 + len(refused) :]
    for task in tasks[: 1 + len(refused)]:
        task.cancel()
    await asyncio.wait(ending, timeout=_SHUTDOWN_SECONDS)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _kept(name: str, run: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Begins again after a failure: a fault in one direction must not stop the other."""
    while True:
        try:
            return await run()
        except Exception as error:  # noqa: BLE001 - logged by type, and tried again; receiving goes on meanwhile
            _log.error("task_failed", task=name, error=type(error).__name__, exc_info=error)
            await asyncio.sleep(_PAUSE_AFTER_FAILURE)


async def _watch(path: Path, current: Current, stopping: asyncio.Event) -> None:
    """A valid edit takes effect between units of work; a broken one is shown, and the settings in force stay."""
    async with contextlib.aclosing(settings_file.watch(path, stopping)) as edits:
        # An edit between the start's own reading and the watch's beginning must not be missed.
        _edited(await asyncio.to_thread(_read_again, path), current)
        async for edit in edits:
            _edited(edit, current)


def _read_again(path: Path) -> Settings | errors.Misconfigured:
    try:
        return settings_file.load(path)
    except errors.Misconfigured as error:
        return error


def _edited(edit: Settings | errors.Misconfigured, current: Current) -> None:
    if isinstance(edit, errors.Misconfigured):
        current.refused = edit
        _log.error("settings_refused", reason="invalid", faults=[str(fault) for fault in edit.faults] or str(edit))
        return
    before, current.settings, current.refused = current.settings, edit, None
    if edit != before:
        current.edited.set()
        log.configure(edit.log.level, edit.log.format, personal_data=edit.log.personal_data)
        needs_restart = list(settings_file.restart_needed(before, edit))
        _log.info("settings_applied", hash=edit.sent_hash(), needs_restart=needs_restart)


def _status(db: Database, current: Current, refused: Mapping[str, Refused]) -> Callable[[web.Request], Any]:
    async def handle(_request: web.Request) -> web.Response:
        found = await db.run_read(status.collect, current.settings, now())
        if current.refused is not None:
            found["settings"] |= {"state": "edit_refused", "reason": str(current.refused)}
        for what, each in refused.items():
            found[f"refused_{what}"] = {"count": each.count, "last_at": each.last_at}
        return web.Response(body=msgspec.json.encode(found), content_type="application/json")

    return handle
