"""Turning a decision into operations of the Track API, as bytes.

One identify has at most `max_attributes` attributes and stays under the vendor's 32 KB an operation, so a
person with more becomes several parts: disjoint attributes, one `timestamp`, the opt-out and the preferences in
every part of a create, because each part may be the one that makes the person. The first has one anonymous id of
theirs, each further one is a part of its own. Operations are encoded once, sized as
they will be sent, and joined (https://docs.customer.io/api/track/#tag/batch: a batch is under 500 KB).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, TypeAlias

import msgspec

from connector.core import mapping
from connector.records import CustomerId, Decision

MAX_OPERATION_BYTES = 32_000
MAX_BATCH_BYTES = 499_000
# A name and a value are at most 1,150 bytes; the quotes, escapes and identifiers stay inside the margin.
_MOST_BYTES = MAX_OPERATION_BYTES - 1_500
ENVELOPE_BYTES = len(b'{"batch":[]}')


class Identify(msgspec.Struct, frozen=True):
    """One identify operation, or one part of one; `renamed` is the id that the person has after it, where it is new."""

    customer_id: CustomerId
    attributes: dict[str, Any]
    timestamp: int
    renamed: CustomerId | None = None


class Delete(msgspec.Struct, frozen=True):
    """The delete of one person."""

    customer_id: CustomerId
    timestamp: int


Part: TypeAlias = Identify | Delete


class Work(msgspec.Struct, frozen=True):
    """The encoded parts of one user's identify; they belong into one batch."""

    user_id: str
    parts: tuple[bytes, ...]

    @property
    def size(self) -> int:
        """Bytes in a batch, a comma for each part included."""
        return sum(len(part) + 1 for part in self.parts)


def parts(decision: Decision, max_attributes: int) -> tuple[Part, ...]:
    """What has to be sent, in this order; nothing for who is skipped or postponed."""
    match decision.verb:
        case "create" | "update":
            return tuple(_identifies(decision, max_attributes))
        case "delete":
            return (Delete(_required(decision), decision.timestamp),)
        case _:
            return ()


def _required(decision: Decision) -> CustomerId:
    if decision.customer_id is None:
        raise ValueError(f"{decision.verb} ({decision.reason}) names no customer id")
    return decision.customer_id


def _identifies(decision: Decision, max_attributes: int) -> list[Identify]:
    customer_id = _required(decision)
    in_all = {}
    if decision.verb == "create" or decision.reason == "unsure":
        in_all = {name: value for name, value in decision.changes.items() if name in mapping.CONSENT}
    first = {mapping.ANONYMOUS_ID: decision.anonymous_ids[0]} if decision.anonymous_ids else {}
    rest = {**first, **decision.changes}
    for name in in_all:
        del rest[name]
    room = max(max_attributes - len(in_all), 1)
    renamed = decision.renamed
    described = [
        Identify(
            customer_id,
            {**in_all, **chunk},
            decision.timestamp,
            renamed if renamed is not None and renamed.kind in chunk else None,
        )
        for chunk in _chunks(rest, room, len(msgspec.json.encode(in_all)))
    ]
    further = decision.anonymous_ids[1:]
    return described + [
        Identify(customer_id, {**in_all, mapping.ANONYMOUS_ID: each}, decision.timestamp) for each in further
    ]


def operation(part: Part) -> bytes:
    """The part in a v2 batch (https://docs.customer.io/api/track/#operation/batch); a delete has no time."""
    identifiers = {part.customer_id.kind: part.customer_id.value}
    if isinstance(part, Delete):
        return msgspec.json.encode({"type": "person", "action": "delete", "identifiers": identifiers})
    return msgspec.json.encode(
        {
            "type": "person",
            "action": "identify",
            "identifiers": identifiers,
            "timestamp": part.timestamp,
            "attributes": part.attributes,
        }
    )


def path_of(customer_id: CustomerId) -> str:
    """The id in a v1 path, where a `cio_id` is told by its prefix."""
    return f"cio_{customer_id.value}" if customer_id.kind == "cio_id" else customer_id.value


def body(part: Identify) -> bytes:
    """The part as the body of a v1 identify, whose order key is called `_timestamp`."""
    return msgspec.json.encode({**part.attributes, "_timestamp": part.timestamp})


class Packer:
    """Packs works, as they come, into the fewest calls that keep their order and the vendor's limit."""

    def __init__(self) -> None:
        self._works: list[Work] = []
        self._size = ENVELOPE_BYTES

    def add(self, work: Work) -> list[Work]:
        """The call that is full now because this work needs another one; empty while there is room."""
        size = work.size
        full = self.rest() if self._works and self._size + size > MAX_BATCH_BYTES else []
        self._works.append(work)
        self._size += size
        return full

    def rest(self) -> list[Work]:
        """The last call, full or not; what comes next begins another one."""
        works, self._works, self._size = self._works, [], ENVELOPE_BYTES
        return works


def batches(works: Iterable[Work]) -> Iterator[list[Work]]:
    """The works in the fewest calls that keep their order and the vendor's limit."""
    packer = Packer()
    for work in works:
        if full := packer.add(work):
            yield full
    if rest := packer.rest():
        yield rest


def _chunks(given: dict[str, Any], most: int, taken: int) -> Iterator[dict[str, Any]]:
    """The attributes in the fewest chunks that keep their order and the limits; one empty chunk when there are none. So
    many bytes are `taken` in each."""
    if len(given) <= most and taken + len(msgspec.json.encode(given)) <= _MOST_BYTES:
        yield given  # so it is for nearly everybody, and nothing needs to be sized by itself
        return
    chunk: dict[str, Any] = {}
    size = taken
    for name, value in given.items():
        item_size = len(msgspec.json.encode({name: value}))
        if chunk and (len(chunk) == most or size + item_size > _MOST_BYTES):
            yield chunk
            chunk, size = {}, taken
        chunk[name] = value
        size += item_size
    yield chunk
