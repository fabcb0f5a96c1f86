"""Calls that leave the order of what they say of one person to chance: nothing is promised of the order inside a batch,
nor between calls under way at once.

    arrival -> began    operations as read -> take: noted, if it is so    answer -> ended

`twice_in_a_call`   A call has a person twice. The parts of one identify, which have one timestamp, may come together.
`calls_overlap`     A call arrived before another one about the same person was handled, and the clients of both waited.

A client that has given up doesn't count: who tries again can't know that the first call is still in hand. Neither does
a call that a fault turned away: it changes nothing. A person is whoever is addressed by the same identifier.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal, NamedTuple

from aiohttp import web

from connector.sandbox import read_back
from connector.sandbox.operations import (
    AddDevice,
    Delete,
    DeleteDevice,
    Identifier,
    Identify,
    Operation,
    Suppress,
    Track,
    Unsuppress,
)
from connector.sandbox.read_back import STATE

_KEPT = 1000
_ARRIVED = web.RequestKey("_ARRIVED", int)

_Key = tuple[str, str]


class Noted(NamedTuple):
    """`number` counts all, `at` is in unix seconds. `detail` says which operations it was, the first one first."""

    number: int
    at: float
    what: Literal["twice_in_a_call", "calls_overlap"]
    who: Identifier
    detail: str


class Unordered:
    """All calls of one application. A moment is a number that grows with each arrival and each handling."""

    def __init__(self) -> None:
        self.noted: deque[Noted] = deque(maxlen=_KEPT)
        self._total = 0
        self._moments = itertools.count(1)
        self._under_way: dict[int, None] = {}  # moments of arrival, the oldest first
        self._handled: dict[_Key, tuple[int, str]] = {}  # when last, and what it was
        self._in_turn: deque[tuple[int, list[_Key]]] = deque()

    def began(self, request: web.Request) -> None:
        arrived = request[_ARRIVED] = next(self._moments)
        self._under_way[arrived] = None

    def ended(self, request: web.Request) -> None:
        self._under_way.pop(request[_ARRIVED])
        self._forget()

    def take(self, request: web.Request, operations: Sequence[Operation]) -> None:
        """What the call asks for, at the moment in which it is applied."""
        arrived, now = request[_ARRIVED], next(self._moments)
        client_waits = request.transport is not None and not request.transport.is_closing()
        first: dict[_Key, Identify | _Other] = {}
        for who, each in _about_somebody(operations):
            earlier = first.setdefault(who.key, each)
            if earlier is not each:
                if not _are_parts(earlier, each):
                    self._note(request, "twice_in_a_call", who, f"{_word(earlier)}, {_word(each)}")
                continue
            handled, what = self._handled.get(who.key, (0, ""))
            if client_waits and handled > arrived:
                self._note(request, "calls_overlap", who, f"{what}, {_word(each)}")
        if client_waits:
            self._handled.update((key, (now, _word(each))) for key, each in first.items())
            self._in_turn.append((now, list(first)))

    def _note(
        self, request: web.Request, what: Literal["twice_in_a_call", "calls_overlap"], who: Identifier, detail: str
    ) -> None:
        self._total += 1
        self.noted.append(Noted(self._total, request.app[STATE].clock(), what, who, detail))

    def _forget(self) -> None:
        """What was handled before the oldest call under way arrived: no call overlaps it any more."""
        oldest = next(iter(self._under_way), None)
        while self._in_turn and (oldest is None or self._in_turn[0][0] < oldest):
            moment, keys = self._in_turn.popleft()
            for key in keys:
                if self._handled.get(key, (0, ""))[0] == moment:
                    del self._handled[key]


UNORDERED = web.AppKey("UNORDERED", Unordered)

_Other = Track | Delete | Suppress | Unsuppress | AddDevice | DeleteDevice


def routes() -> list[web.RouteDef]:
    return [web.get("/sandbox/unordered", _list)]


def shown(each: Noted) -> dict[str, Any]:
    """As JSON."""
    return {**each._asdict(), "who": {each.who.kind: each.who.value}}


async def _list(request: web.Request) -> web.Response:
    before = read_back.after(request)
    newest = (each for each in reversed(request.app[UNORDERED].noted) if before is None or each.number < before)
    return read_back.listed(request, newest, shown, key=lambda each: each.number)


def _about_somebody(operations: Iterable[Operation]) -> Iterator[tuple[Identifier, Identify | _Other]]:
    for each in operations:
        if isinstance(each, Identify | _Other) and each.who is not None:
            yield each.who, each


def _are_parts(one: Identify | _Other, other: Identify | _Other) -> bool:
    return isinstance(one, Identify) and isinstance(other, Identify) and one.timestamp == other.timestamp


def _word(each: Identify | _Other) -> str:
    if isinstance(each, Track):
        return f"{each.type} {each.id}"
    return f"identify {each.timestamp}" if isinstance(each, Identify) else type(each).__name__.lower()
