"""Every open connection of a listener by what it is doing, and who is closed when, so that no client stops the others.

    arriving   no whole request head yet              closed after `head_seconds`, or when the head is too large
    busy       a request was read, not answered yet   408 when its body isn't here after `body_seconds`
    idle       answered, kept alive                   stays; closed when there are too many connections
    proven     idle, and brought an authentic webhook stays; closed last of all

When there are more connections than `most`, or no descriptor is left, the ones arriving for long go first, then the
ones idle longest. A request that was read whole is answered, whatever happens.
"""

from __future__ import annotations

import asyncio
import fcntl
import itertools
import struct
import termios
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from aiohttp import http_exceptions, web
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader

from connector import errors, log, problem

_RETRY_AFTER = 5
_LOOK_AGAIN = 0.05
_SETTLED = 1.0

_log = log.get("listener")


@dataclass(frozen=True)
class Limits:
    """What a client may take. Seconds, bytes, and `most` connections at once."""

    most: int = 10_000
    head_seconds: float = 15
    body_seconds: float = 10
    answer_seconds: float = 60
    head_bytes: int = 64 * 1024
    bodies_bytes: int = 256 * 1024 * 1024
    small_body_bytes: int = 256 * 1024
    quiet_seconds: float = 0.5
    arriving_seconds: float = 3
    stop_seconds: float = 12

    def at_most(self, most: int) -> Limits:
        return replace(self, most=min(self.most, most))


class SlowBody(errors.Refused, TimeoutError):
    """A body that didn't arrive in time. A TimeoutError too: that is how aiohttp knows not to wait for the rest."""

    def __init__(self, seconds: float) -> None:
        super().__init__(408, "slow_body", f"the body wasn't here within {seconds:g} seconds")


class TooMuchAtOnce(errors.Unavailable, TimeoutError):
    """The largest of too many large bodies that arrive at once."""

    def __init__(self) -> None:
        super().__init__("too_much_at_once", "too many large bodies arrive at once; send it again", _RETRY_AFTER)


class Connection(web.RequestHandler):
    """aiohttp's protocol, which also tells `Connections` what it is doing.

    Read from aiohttp 3.14: `data_received`, `finish_response` and `handle_error` are called for every chunk, answer
    and unreadable request; `_request_count` (the one private name used) counts the request heads that were read, the
    queued and the unreadable ones too. tests/web/test_listener.py fails when that changes.
    """

    __slots__ = ("_all", "answered", "body", "head", "held", "table")

    def __init__(self, connections: Connections, server: web.Server, **options: Any) -> None:
        super().__init__(server, **options)
        self._all = connections
        self.table: dict[Connection, float] | None = None
        self.answered = 0
        self.head = 0
        self.held = 0
        self.body: StreamReader = EMPTY_PAYLOAD

    def requests_waiting(self) -> int:
        """Requests that were read and are not answered yet."""
        return self._request_count - self.answered

    def has_unread_bytes(self) -> bool:
        """Whether bytes of this client wait in the kernel: closing now would drop them."""
        found = self.transport.get_extra_info("socket") if self.transport is not None else None
        if found is None:
            return False
        try:
            return bool(struct.unpack("i", fcntl.ioctl(found.fileno(), termios.FIONREAD, b"\0" * 4))[0])
        except OSError:
            return False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._all.add(self)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._all.gone(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        refused_body_goes_on = not self.body.is_eof()
        super().data_received(data)
        if self._request_count != self.answered:
            self._all.busy_with(self, len(data))
        elif data and not refused_body_goes_on:
            self._all.arriving_with(self, len(data))

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        if (self._all.stopping and self.requests_waiting() == 1) or self.body.exception() is not None:
            resp.force_close()
        try:
            return await super().finish_response(request, resp, start_time)
        finally:
            self.answered += 1
            self._all.answered(self, proven=resp.status == 200 and request.method == "POST")

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """A request that isn't HTTP. Without a traceback in the log for each, which a client could flood."""
        if status != 400:
            return super().handle_error(request, status, exc, message)
        self._all.count("bad_request")
        if isinstance(exc, http_exceptions.LineTooLong) or "Too many headers" in str(message):
            answer = problem.response(431, "headers_too_large", "the request's line or headers are too large")
        else:
            answer = problem.response(400, "bad_request", "this is not a valid HTTP request")
        answer.force_close()
        return answer


class Connections:
    """All connections of one listener. `closed` counts those that were cut short here, by reason.

    `room` is called when there may be room for another, `counted` with the reason when one is cut short.
    """

    def __init__(self, limits: Limits, room: Callable[[], None], counted: Callable[[str], None]) -> None:
        self.limits = limits
        self.stopping = False
        self.expected = 0  # accepted, and on their way here
        self.closed: Counter[str] = Counter()
        self.is_full = False  # somebody waits for room
        self._room = room
        self._counted = counted
        # Since when each does what it does; in each table the first one is there longest.
        self._arriving: dict[Connection, float] = {}
        self._busy: dict[Connection, float] = {}
        self._idle: dict[Connection, float] = {}
        self._proven: dict[Connection, float] = {}
        self._held = 0
        self._changed = asyncio.Event()
        self._now = asyncio.get_running_loop().time

    def __len__(self) -> int:
        return self.expected + len(self._arriving) + len(self._busy) + len(self._idle) + len(self._proven)

    def doing(self) -> dict[str, int]:
        """How many connections there are, by what they do."""
        return {
            "arriving": len(self._arriving), "busy": len(self._busy),
            "idle": len(self._idle), "proven": len(self._proven),
        }  # fmt: skip

    def add(self, connection: Connection) -> None:
        """A new one, that was expected."""
        self.expected -= 1
        connection.table = self._arriving
        self._arriving[connection] = self._now()

    def busy_with(self, connection: Connection, size: int) -> None:
        """So many bytes came of a request whose head was read, and that isn't answered yet."""
        table = connection.table
        if table is None:
            return
        connection.held += size
        self._held += size
        if table is not self._busy:
            self._move(connection, self._busy)
        if self._held > self.limits.bodies_bytes:
            self._refuse_largest()

    def arriving_with(self, connection: Connection, size: int) -> None:
        """So many bytes came of a head that isn't whole yet."""
        if connection.table is None:
            return
        if connection.table is not self._arriving:
            self._move(connection, self._arriving)
            connection.head = 0
        connection.head += size
        if connection.head > self.limits.head_bytes:
            self.drop(connection, "head_too_large")

    def answered(self, connection: Connection, *, proven: bool) -> None:
        """It was sent an answer, and is idle unless it had sent more requests."""
        self._held -= connection.held
        connection.held = 0
        if connection.table is not None:
            after = self._busy if connection.requests_waiting() else self._proven if proven else self._idle
            self._move(connection, after)
            self._has_changed()

    def gone(self, connection: Connection) -> None:
        """It is closed, or as good as."""
        if connection.table is not None:
            del connection.table[connection]
            connection.table = None
            self._held -= connection.held
            connection.held = 0
        self._has_changed()

    def _move(self, connection: Connection, table: dict[Connection, float]) -> None:
        if connection.table is not None:
            del connection.table[connection]
        connection.table = table
        table[connection] = self._now()

    def _has_changed(self) -> None:
        if self.stopping:
            self._changed.set()
        elif self.is_full:
            self._room()

    def drop(self, connection: Connection, reason: str) -> None:
        """Closes it now, without an answer."""
        self.count(reason)
        self.gone(connection)
        connection.force_close()

    def count(self, reason: str) -> None:
        self.closed[reason] += 1
        self._counted(reason)
        if self.closed[reason] & (self.closed[reason] - 1) == 0:  # at 1, 2, 4, 8 …: said, but no flood
            _log.warning("connection_closed", reason=reason, closed=self.closed[reason], open=len(self))

    def _refuse_largest(self) -> None:
        """Bodies take too much memory: the one that takes most of it goes."""
        largest = max(filter(_arrives, self._busy), key=lambda one: one.held, default=None)
        if largest is not None and largest.held > self.limits.small_body_bytes:
            self.count("too_much_at_once")
            self._held -= largest.held
            largest.held = 0
            largest.body.set_exception(TooMuchAtOnce())

    def make_room(self) -> bool:
        """Closes the connection that is missed least; False when each one has a request under way."""
        found, since = next(iter(self._arriving.items()), (None, 0.0))
        if found is None or since > self._now() - _SETTLED:
            found = next(iter(self._idle), found)
        found = found or next(filter(_arrives, self._busy), None) or next(iter(self._proven), None)
        if found is not None:
            self.drop(found, "too_many")
        return found is not None

    def sweep(self) -> None:
        """Ends what takes too long. Called about once a second."""
        now = self._now()
        for connection in _until(self._arriving, now - self.limits.head_seconds):
            self.drop(connection, "slow_head")
        for connection in _until(self._busy, now - self.limits.body_seconds):
            if _arrives(connection):
                self.count("slow_body")
                connection.body.set_exception(SlowBody(self.limits.body_seconds))
        for connection in _until(self._busy, now - self.limits.answer_seconds):
            self.drop(connection, "stuck")  # the answer is there, and its reader isn't

    async def finish(self) -> None:
        """Answers whatever was read or arrives, then closes the rest. Nobody is accepted any more.

        A connection that is idle may bring a request that was on its way already: it is closed only after a short
        quiet, and never with bytes unread. After `arriving_seconds`, what still isn't whole is given up.
        """
        self.stopping = True
        began = self._now()
        while len(self) and self._now() < began + self.limits.stop_seconds:
            if self._now() >= began + self.limits.quiet_seconds:
                self._close_quiet()
            if self._now() >= began + self.limits.arriving_seconds:
                for connection in [*self._arriving, *filter(_arrives, self._busy)]:
                    self.drop(connection, "incomplete_at_stop")
            self._changed.clear()
            if len(self):
                await self._change(_LOOK_AGAIN)

    def _close_quiet(self) -> None:
        silent = [connection for connection in self._arriving if not connection.head]
        for connection in [*self._idle, *self._proven, *silent]:
            if not connection.has_unread_bytes():
                self.gone(connection)
                connection.force_close()

    async def _change(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        except TimeoutError:
            return


def _arrives(connection: Connection) -> bool:
    """Whether a request's body is still under way, and nothing was said against it yet."""
    return not connection.body.is_eof() and connection.body.exception() is None


def _until(table: dict[Connection, float], then: float) -> list[Connection]:
    """The ones that are there since then, or longer."""
    return [connection for connection, _ in itertools.takewhile(lambda entry: entry[1] <= then, table.items())]
