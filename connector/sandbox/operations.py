"""What a request asks for, once it has been read: the words that v1, v2 and the state share.

A v1 call is one operation, a v2 batch is many. An operation has passed the limits and says nothing about
who exists; only `state` knows that.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

Kind = Literal["id", "email", "phone", "cio_id", "anonymous_id"]
ActivityType = Literal["event", "page", "screen"]

# Assigned by Customer.io and immutable: writing them has no effect (docs: reserved attributes).
SYSTEM_ATTRIBUTES = frozenset({"cio_id", "_created_in_customerio_at"})


class Identifier(msgspec.Struct, frozen=True):
    """One name of a person. An email compares without case, all others with it (docs: identifying people)."""

    kind: Kind
    value: str

    @property
    def key(self) -> tuple[str, str]:
        return (self.kind, self.value.lower() if self.kind == "email" else self.value)


class Identify(msgspec.Struct, frozen=True):
    """Create or update. `sets` are the identifiers among the attributes; None there clears one.

    `timestamp` is in unix seconds, None means the time of receipt.
    """

    who: Identifier
    sets: dict[Kind, str | None]
    attributes: dict[str, Any]
    update_only: bool
    timestamp: int | None


class Delete(msgspec.Struct, frozen=True):
    who: Identifier


class Track(msgspec.Struct, frozen=True):
    """An activity. Without `who` it is an "invite" event, which has only a `data.recipient`."""

    who: Identifier | None
    type: ActivityType
    name: str
    id: str | None
    timestamp: int | None
    data: dict[str, Any]
    anonymous_id: str | None = None


Operation = Identify | Delete | Track


def identify(who: Identifier, attributes: dict[str, Any], *, update_only: bool, timestamp: int | None) -> Identify:
    """An Identify from the attributes as sent, the control keys (`_update` and such) already taken out."""
    sets: dict[Kind, str | None] = {}
    if "id" in attributes:
        sets["id"] = attributes["id"]
    if "email" in attributes:
        sets["email"] = attributes["email"] or None
    rest = {
        name: value
        for name, value in attributes.items()
        if name not in ("id", "email") and name not in SYSTEM_ATTRIBUTES
    }
    return Identify(who, sets, rest, update_only, timestamp)


def unix_seconds(value: object) -> int | None:
    """None for what isn't a number: Customer.io then takes the time of receipt (since 2024-05-28 on v2,
    like v1).

    Stricter reading: numeric text isn't a number, and milliseconds are taken for seconds of a far future,
    so that a connector which sends them finds its next identify refused as older.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return int(value)
