"""The two listeners: how their sockets come to be, how they accept, what a client may take, how they stop.

    sockets       handed over by systemd, or bound here
    connections   who is closed when, so that one client can't stop the others; and the end of all of them

Customer.io holds back its whole stream for an hour when a connection is refused or reset
(https://docs.customer.io/api/webhooks/). So accepting never stalls for want of file descriptors, and a stop first ends
accepting, then answers what was read or arrives, and closes idle connections only when they have been quiet.

Connections are accepted here rather than by the loop's own server: that one takes as many as are there without asking
whether there is room, stops for a second when there isn't, and loses those it has just taken when it is closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import resource
import select
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from connector.listener.connections import Connection, Connections, Limits
from connector.listener.sockets import Place as Place
from connector.listener.sockets import take_handed_over as take_handed_over

# Descriptors that are kept for all else: the store, calls to Customer.io, the admin listener, a round
# of accepting.
_RESERVED = 200
_ADMIN_CONNECTIONS = 32
_FEWEST_CONNECTIONS = 16
_ACCEPTED_AT_ONCE = 32
_PAUSE_WITHOUT_DESCRIPTORS = 0.1
_CLEANUP_SECONDS = 3.0
_NO_DESCRIPTORS = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}


def raise_file_limit() -> None:
    """Takes as many file descriptors as the system allows this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(ValueError, OSError):  # some systems say "unlimited", and don't mean it
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def public_limits() -> Limits:
    """As many connections as the file descriptors allow, and no more than 10,000."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return Limits() if soft == resource.RLIM_INFINITY else Limits().at_most(max(soft - _RESERVED, _FEWEST_CONNECTIONS))


def admin_limits() -> Limits:
    """Few connections; at a stop nobody waits for them to be quiet."""
    return Limits(most=_ADMIN_CONNECTIONS, quiet_seconds=0, arriving_seconds=1)


@asynccontextmanager
async def serving(
    application: web.Application, place: Place, limits: Limits, counted: Callable[[str], None] | None = None
) -> AsyncIterator[Listener]:
    """Serves the application at the place, which is opened if it isn't yet, and stops in good order.

    `counted` is called with the reason for each client that is cut short.
    """
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=_CLEANUP_SECONDS)
    await runner.setup()
    try:
        place.open()
        listener = Listener(place, runner, limits, counted or (lambda _reason: None))
        sweeping = asyncio.create_task(listener.sweep())
        try:
            yield listener
        finally:
            await listener.stop()
            sweeping.cancel()
            await asyncio.gather(sweeping, return_exceptions=True)
    finally:
        place.close()
        await runner.cleanup()


class Listener:
    """Accepts on the sockets of a place, as long as there is room."""

    def __init__(self, place: Place, runner: web.AppRunner, limits: Limits, counted: Callable[[str], None]) -> None:
        self.url = place.url()
        self.connections = Connections(limits, self._resume, counted)
        self._place = place
        self._server = _reporting_bodies(runner)
        self._loop = asyncio.get_running_loop()
        self._connecting: set[asyncio.Task[None]] = set()
        self.connections.is_full = True
        self._resume()

    def _resume(self) -> None:
        if self.connections.is_full and not self.connections.stopping:
            self.connections.is_full = False
            for one in self._place.sockets:
                self._loop.add_reader(one, self._accept, one)

    def _pause(self) -> None:
        self.connections.is_full = True
        for one in self._place.sockets:
            self._loop.remove_reader(one)

    def _accept(self, listening: socket.socket) -> bool:
        """Takes some of those who wait; false when nobody does, or nobody can be taken now."""
        for _ in range(_ACCEPTED_AT_ONCE):
            full = len(self.connections) >= self.connections.limits.most
            if full and not _is_waited_at(listening):
                return False
            if full and not self.connections.make_room():
                self._pause()  # every connection has a request under way; who comes waits in the kernel's queue
                return False
            try:
                accepted, _ = listening.accept()
            except (BlockingIOError, InterruptedError):
                return False
            except OSError as error:
                if error.errno in _NO_DESCRIPTORS:
                    self._without_descriptors()
                    return False
                continue  # this one went away while it waited
            self.connections.expected += 1
            task = self._loop.create_task(self._connect(accepted))
            self._connecting.add(task)
            task.add_done_callback(self._connecting.discard)
        return True

    def _without_descriptors(self) -> None:
        self.connections.count("no_descriptors")
        self.connections.make_room()
        self._pause()
        self._loop.call_later(_PAUSE_WITHOUT_DESCRIPTORS, self._resume)

    async def _connect(self, accepted: socket.socket) -> None:
        accepted.setblocking(False)
        try:
            await self._loop.connect_accepted_socket(self._connection, accepted)
        except OSError:  # gone again
            self.connections.expected -= 1
            accepted.close()

    def _connection(self) -> Connection:
        # A signature covers the bytes as they were sent, and a compressed bomb is then no more than its bytes.
        return Connection(
            self.connections, self._server, loop=self._loop, access_log=None, auto_decompress=False, max_headers=100
        )

    async def sweep(self) -> None:
        limits = self.connections.limits
        every = min(1.0, limits.head_seconds / 4, limits.body_seconds / 4)
        while True:
            await asyncio.sleep(every)
            self.connections.sweep()

    async def stop(self) -> None:
        """Returns when every request that was read is answered and nobody is connected.

        Who waits in the queue of a socket that was handed over is left to the successor; who waits in that of our own
        socket is taken, because closing it would reset them.
        """
        self.connections.stopping = True
        self._pause()
        if not self._place.handed_over:
            for one in self._place.sockets:
                while self._accept(one):
                    if self._connecting:  # or they have gone while they waited
                        await asyncio.wait(self._connecting)
        self._place.close()
        if self._connecting:
            await asyncio.wait(self._connecting)
        await self.connections.finish()


def _is_waited_at(listening: socket.socket) -> bool:
    """Whether somebody could be accepted now."""
    poll = select.poll()
    poll.register(listening, select.POLLIN)
    return bool(poll.poll(0))


def _reporting_bodies(runner: web.AppRunner) -> web.Server:
    """The runner's server, whose connections know the body of the request that they handle."""
    server = runner.server
    if server is None:
        raise RuntimeError("the runner is not set up")
    made = server.request_factory

    def factory(message: Any, body: Any, protocol: Any, writer: Any, task: Any) -> web.BaseRequest:
        protocol.body = body
        return made(message, body, protocol, writer, task)

    server.request_factory = factory
    return server
