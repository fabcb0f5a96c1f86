"""The state of the sandbox: the workspace, the calls that came in, and the one way to change either.

    apply(operation) -> identifying | tracking | removing | relating | belongings -> workspace

Plain Python, no I/O; the clock is an argument. `apply` takes one operation and never fails: Customer.io has
already answered 200 when it applies, so what it can't apply shows only in its activity log (`log`). Each
module that applies operations says which rules of the vendor's documents it follows, and which reading it
takes of what they leave open. Nothing here takes longer the more people there are.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, assert_never

from connector.sandbox.operations import (
    AddDevice,
    Delete,
    DeleteDevice,
    DeleteObject,
    Edit,
    Identifier,
    Identify,
    IdentifyObject,
    Kind,
    Membership,
    Merge,
    Operation,
    Relate,
    ReportDelivery,
    Suppress,
    Track,
    Unsuppress,
)
from connector.sandbox.rules import belongings, identifying, relating, removing, tracking
from connector.sandbox.rules.people import Activity, Person
from connector.sandbox.rules.workspace import Workspace

_CALL_BYTES_KEPT = 64 * 1024 * 1024
_CALL_OVERHEAD = 500


# Told of each operation before it, so that it can look at what was; what it returns is called after the operation.
Listener = Callable[[Operation], Callable[[], None]]


@dataclass(frozen=True, slots=True)
class Call:
    """A request, its `body` as received: by its `encoding` where that isn't empty. `status` is None when it wasn't
    answered, `fault` the word of the one it met."""

    number: int
    at: float
    method: str
    path: str
    status: int | None
    body: bytes
    fault: str
    encoding: str


class State(Workspace):
    """A workspace in memory. `email_updates_by_id` is Customer.io's "Allow updates to email using ID"."""

    def __init__(self, now: Callable[[], float], *, email_updates_by_id: bool = False) -> None:
        super().__init__(now, email_updates_by_id=email_updates_by_id)
        self.calls: deque[Call] = deque()  # the last ones, as many as 64 MiB hold; `calls_received` counts all
        self.calls_received = 0
        self.listeners: list[Listener] = []
        self._call_bytes = 0

    def apply(self, operation: Operation) -> None:
        applied = [listener(operation) for listener in self.listeners]
        match operation:
            case Identify():
                identifying.identify(self, operation)
            case Track():
                tracking.track(self, operation)
            case Delete():
                removing.delete(self, operation)
            case Edit():
                identifying.edit(self, operation)
            case Relate():
                relating.relate(self, operation)
            case AddDevice():
                belongings.add_device(self, operation)
            case DeleteDevice():
                belongings.delete_device(self, operation)
            case Membership():
                belongings.membership(self, operation)
            case IdentifyObject():
                relating.identify_object(self, operation)
            case DeleteObject():
                relating.delete_object(self, operation)
            case Merge():
                removing.merge(self, operation)
            case Suppress():
                removing.suppress(self, operation)
            case Unsuppress():
                removing.unsuppress(self, operation)
            case ReportDelivery():
                self.delivery_reports.append(operation)
                self.applied["delivery"] += 1
            case _:
                assert_never(operation)
        for each in applied:
            each()

    def edit(self, kind: Kind, value: str, /, **attributes: Any) -> None:
        """Another writer's change of a person, newer than every change before it."""
        self.apply(Edit(Identifier(kind, value), attributes))

    def find(self, kind: Kind, value: str) -> Person | None:
        return self.people.find(Identifier(kind, value))

    def activities(self) -> list[tuple[Person | None, Activity]]:
        """All that are kept, in the order applied; without a person when anonymous."""
        kept: list[tuple[Person | None, Activity]]
        kept = [(None, activity) for activity in self.anonymous.kept(self.seconds())]
        kept += [(person, activity) for person in self.people for activity in person.activities]
        return sorted(kept, key=lambda each: each[1].number)

    def activities_kept(self) -> int:
        anonymous = len(self.anonymous.kept(self.seconds()))
        return anonymous + sum(len(person.activities) for person in self.people)

    def received(
        self, method: str, path: str, status: int | None, body: bytes, fault: str = "", encoding: str = ""
    ) -> None:
        """Notes a call and its answer; the oldest are let go when they take too much memory."""
        self.calls_received += 1
        self.calls.append(Call(self.calls_received, self.clock(), method, path, status, body, fault, encoding))
        self._call_bytes += _held(self.calls[-1])
        while self._call_bytes > _CALL_BYTES_KEPT:
            self._call_bytes -= _held(self.calls.popleft())


def _held(call: Call) -> int:
    return len(call.body) + len(call.path) + len(call.encoding) + _CALL_OVERHEAD
