"""The people of the workspace, and how they are found.

Each has a cio_id for life, and at most one value of each other identifier; no two people share one. `id` is
found with case, an email without (docs: identifying people). A person may have several anonymous ids, each
of which belongs to that person alone (docs: anonymous events). The directory doesn't judge whether a change
is allowed, that is the part of the modules that apply operations.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from connector.sandbox.operations import ActivityType, Identifier, Kind


@dataclass(frozen=True, slots=True)
class Activity:
    """`number` counts all activities of the workspace in the order applied; times are unix seconds."""

    number: int
    type: ActivityType
    name: str
    id: str | None
    timestamp: int
    received: int
    data: dict[str, Any]
    anonymous_id: str | None


@dataclass(frozen=True, slots=True)
class Device:
    """`last_used` in unix seconds."""

    token: str
    platform: str
    last_used: int
    attributes: dict[str, Any]


@dataclass(slots=True)
class Person:
    """`changed_at` is the time that orders identifies; None for a bare person, made by an event.

    `anonymous_ids` has the time of the last identify with each; `objects` the cio_object_ids of the objects
    that the person is related to.
    """

    cio_id: str
    created: int
    identifiers: dict[Kind, str] = field(default_factory=dict)
    attributes: dict[str, Any] = field(default_factory=dict)
    changed_at: int | None = None
    activities: list[Activity] = field(default_factory=list)
    anonymous_ids: dict[str, int] = field(default_factory=dict)
    devices: dict[str, Device] = field(default_factory=dict)
    segments: set[int] = field(default_factory=set)
    objects: set[str] = field(default_factory=set)

    @property
    def id(self) -> str | None:
        return self.identifiers.get("id")

    @property
    def email(self) -> str | None:
        return self.identifiers.get("email")

    @property
    def unsubscribed(self) -> bool:
        return means_unsubscribed(self.attributes.get("unsubscribed"))

    @property
    def names(self) -> list[Identifier]:
        """Everything that finds this person."""
        named = [Identifier("cio_id", self.cio_id)]
        named += [Identifier(kind, value) for kind, value in self.identifiers.items()]
        return named + [Identifier("anonymous_id", value) for value in self.anonymous_ids]


def means_unsubscribed(value: object) -> bool:
    """`true` in any letter case, as text or boolean, 1 and "1"; any other value is subscribed (reserved
    attributes).

    Stricter reading: 1.0 and " true " are other values.
    """
    if isinstance(value, str):
        return value == "1" or value.lower() == "true"
    return value is True or (type(value) is int and value == 1)


class People:
    """All people, in the order of creation."""

    def __init__(self) -> None:
        self._by_cio_id: dict[str, Person] = {}
        self._by_identifier: dict[tuple[str, str], Person] = {}
        self._made = 0

    def __len__(self) -> int:
        return len(self._by_cio_id)

    def __iter__(self) -> Iterator[Person]:
        return iter(self._by_cio_id.values())

    def find(self, who: Identifier) -> Person | None:
        if who.kind == "cio_id":
            return self._by_cio_id.get(who.value)
        return self._by_identifier.get(who.key)

    def create(self, created: int) -> Person:
        """A person with a cio_id that was never used before, and nothing else."""
        self._made += 1
        person = Person(f"d9c1{self._made:08x}", created)
        self._by_cio_id[person.cio_id] = person
        return person

    def name(self, person: Person, kind: Kind, value: str | None) -> None:
        """Gives the person this identifier in place of the one of its kind. It must be nobody else's."""
        if kind in person.identifiers:
            del self._by_identifier[Identifier(kind, person.identifiers.pop(kind)).key]
        if value is not None:
            person.identifiers[kind] = value
            self._by_identifier[Identifier(kind, value).key] = person

    def bind(self, person: Person, anonymous_id: str, at: int) -> None:
        """Gives the person this anonymous id beside those there are, or notes that it was used again."""
        person.anonymous_ids[anonymous_id] = at
        self._by_identifier[Identifier("anonymous_id", anonymous_id).key] = person

    def remove(self, person: Person) -> None:
        for name in person.names:
            self._by_identifier.pop(name.key, None)
        person.identifiers.clear()
        del self._by_cio_id[person.cio_id]
