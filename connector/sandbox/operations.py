"""What a request asks for, once it has been read: the words that v1, v2 and the state share.

A v1 call is one operation, a v2 batch is many. An operation has passed the limits and says nothing about
who exists; only the state knows that. Each is tagged with its name, so that a list of them can be written
as JSON and read again.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

Kind = Literal["id", "email", "phone", "cio_id", "anonymous_id"]
ActivityType = Literal["event", "page", "screen"]

# Assigned by Customer.io and immutable: writing them has no effect (docs: reserved attributes).
SYSTEM_ATTRIBUTES = frozenset({"cio_id", "_created_in_customerio_at"})
IDENTIFYING_ATTRIBUTES = frozenset({"id", "email", "anonymous_id"})
_WITH_PHONE = IDENTIFYING_ATTRIBUTES | {"phone"}


class Identifier(msgspec.Struct, frozen=True):
    """One name of a person. An email compares without case, all others with it (docs: identifying people)."""

    kind: Kind
    value: str

    @property
    def key(self) -> tuple[str, str]:
        return (self.kind, self.value.lower() if self.kind == "email" else self.value)


class ObjectName(msgspec.Struct, frozen=True):
    """What names an object: its type and id, or, where the type is empty, its cio_object_id."""

    object_type_id: str
    object_id: str


class Relationship(msgspec.Struct, frozen=True):
    """Between a person (or an anonymous_id) and an object."""

    who: Identifier
    object: ObjectName
    attributes: dict[str, Any]


class Identify(msgspec.Struct, frozen=True, tag_field="operation"):
    """Create or update. `sets` are the identifiers among the attributes; None there clears one.

    `timestamp` is in unix seconds, None means the time of receipt.
    """

    who: Identifier
    sets: dict[Kind, str | None]
    attributes: dict[str, Any]
    update_only: bool
    timestamp: int | None
    anonymous_id: str | None = None
    relate: Relate | None = None


class Edit(msgspec.Struct, frozen=True, tag_field="operation"):
    """Another writer changes attributes: somebody on the website, a form, a second integration.

    `timestamp` is None for now, or one second after the person's last change if that is later.
    """

    who: Identifier
    attributes: dict[str, Any]
    timestamp: int | None = None


class Delete(msgspec.Struct, frozen=True, tag_field="operation"):
    who: Identifier


class Suppress(msgspec.Struct, frozen=True, tag_field="operation"):
    """Deletes for good, and blocks every identifier the person had."""

    who: Identifier


class Unsuppress(msgspec.Struct, frozen=True, tag_field="operation"):
    who: Identifier


class Merge(msgspec.Struct, frozen=True, tag_field="operation"):
    """`secondary` is folded into `primary` and gone."""

    primary: Identifier
    secondary: Identifier


class Track(msgspec.Struct, frozen=True, tag_field="operation"):
    """An activity. Without `who` it is an "invite" event, which has only a `data.recipient`."""

    who: Identifier | None
    type: ActivityType
    name: str
    id: str | None
    timestamp: int | None
    data: dict[str, Any]
    anonymous_id: str | None = None


class AddDevice(msgspec.Struct, frozen=True, tag_field="operation"):
    """Adds a device or updates it. `token` is what v1 calls `id`."""

    who: Identifier
    token: str
    platform: str
    last_used: int | None
    attributes: dict[str, Any]


class DeleteDevice(msgspec.Struct, frozen=True, tag_field="operation"):
    who: Identifier
    token: str


class Relate(msgspec.Struct, frozen=True, tag_field="operation"):
    """Adds relationships or deletes them, asked for from either side."""

    relationships: list[Relationship]
    adds: bool


class IdentifyObject(msgspec.Struct, frozen=True, tag_field="operation"):
    """Create or update an object, and relate people to it."""

    object: ObjectName
    attributes: dict[str, Any]
    relate: Relate | None = None


class DeleteObject(msgspec.Struct, frozen=True, tag_field="operation"):
    object: ObjectName


class Membership(msgspec.Struct, frozen=True, tag_field="operation"):
    """Puts people into a manual segment or takes them out of it."""

    segment_id: int
    people: list[Identifier]
    adds: bool


class ReportDelivery(msgspec.Struct, frozen=True, tag_field="operation"):
    """A device reports what became of a delivery: opened, converted or delivered."""

    delivery_id: str
    metric: str
    data: dict[str, Any]


Operation = (
    Identify
    | Edit
    | Delete
    | Suppress
    | Unsuppress
    | Merge
    | Track
    | AddDevice
    | DeleteDevice
    | Relate
    | IdentifyObject
    | DeleteObject
    | Membership
    | ReportDelivery
)


def identify(
    who: Identifier,
    attributes: dict[str, Any],
    *,
    update_only: bool,
    timestamp: int | None,
    relate: Relate | None = None,
    phone_identifies: bool = False,
) -> Identify:
    """An Identify from the attributes as sent, the control keys (`_update` and such) already taken out.

    With `phone_identifies` a `phone` among them is an identifier (reserved attributes: only through v2).
    """
    identifying = _WITH_PHONE if phone_identifies else IDENTIFYING_ATTRIBUTES
    sets: dict[Kind, str | None] = {}
    if "id" in attributes:
        sets["id"] = attributes["id"]
    if "email" in attributes:
        sets["email"] = attributes["email"] or None
    if phone_identifies and "phone" in attributes:
        sets["phone"] = attributes["phone"] or None
    rest = {
        name: value for name, value in attributes.items() if name not in identifying and name not in SYSTEM_ATTRIBUTES
    }
    return Identify(who, sets, rest, update_only, timestamp, attributes.get("anonymous_id") or None, relate)


_LATEST = 10**15  # seconds; far beyond any calendar, and still a number that every reader of JSON takes


def unix_seconds(value: object) -> int | None:
    """None for what isn't a number: Customer.io then takes the time of receipt (since 2024-05-28 on v2,
    like v1).

    Stricter reading: numeric text isn't a number, and milliseconds are taken for seconds of a far future,
    so that a connector which sends them finds its next identify refused as older.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return int(min(max(value, -_LATEST), _LATEST))
