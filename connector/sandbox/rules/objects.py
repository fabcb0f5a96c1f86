"""The objects of the workspace (companies, accounts, courses) and who is related to them.

Each has a cio_object_id for life and is found by it, or by its type and id. An object holds its
relationships, each with its attributes; a person only knows which objects those are, so that neither side
has to be searched when the other goes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from connector.sandbox.operations import ObjectName
from connector.sandbox.rules.people import Person


@dataclass(slots=True)
class CustomObject:
    """`people` has the attributes of each relationship by cio_id, `anonymous` by anonymous_id."""

    cio_object_id: str
    name: ObjectName
    created: int
    attributes: dict[str, Any] = field(default_factory=dict)
    people: dict[str, dict[str, Any]] = field(default_factory=dict)
    anonymous: dict[str, dict[str, Any]] = field(default_factory=dict)


class Objects:
    """All objects, in the order of creation."""

    def __init__(self) -> None:
        self._by_cio_object_id: dict[str, CustomObject] = {}
        self._by_name: dict[ObjectName, CustomObject] = {}
        self._by_anonymous_id: dict[str, set[str]] = {}
        self._made = 0

    def __len__(self) -> int:
        return len(self._by_cio_object_id)

    def __iter__(self) -> Iterator[CustomObject]:
        return iter(self._by_cio_object_id.values())

    def find(self, name: ObjectName) -> CustomObject | None:
        if not name.object_type_id:
            return self._by_cio_object_id.get(name.object_id)
        return self._by_name.get(name)

    def create(self, name: ObjectName, created: int) -> CustomObject:
        """An object with a cio_object_id that was never used before, and its name."""
        self._made += 1
        made = CustomObject(f"ob1{self._made:08x}", name, created)
        self._by_cio_object_id[made.cio_object_id] = made
        self._by_name[name] = made
        return made

    def relate(self, it: CustomObject, person: Person, attributes: dict[str, Any]) -> None:
        """`attributes` replace those that the relationship had."""
        it.people[person.cio_id] = attributes
        person.objects.add(it.cio_object_id)

    def relate_anonymous(self, it: CustomObject, anonymous_id: str, attributes: dict[str, Any]) -> None:
        it.anonymous[anonymous_id] = attributes
        self._by_anonymous_id.setdefault(anonymous_id, set()).add(it.cio_object_id)

    def unrelate(self, it: CustomObject, person: Person) -> bool:
        """Whether there was a relationship."""
        person.objects.discard(it.cio_object_id)
        return it.people.pop(person.cio_id, None) is not None

    def of(self, person: Person) -> list[CustomObject]:
        return [self._by_cio_object_id[each] for each in sorted(person.objects)]

    def adopt(self, anonymous_id: str, person: Person) -> None:
        """The relationships of an anonymous id become the person's, where the person has none yet."""
        for cio_object_id in self._by_anonymous_id.pop(anonymous_id, ()):
            it = self._by_cio_object_id[cio_object_id]
            attributes = it.anonymous.pop(anonymous_id)
            if person.cio_id not in it.people:
                self.relate(it, person, attributes)

    def leave(self, person: Person) -> None:
        """The person is related to nothing any more."""
        for it in self.of(person):
            self.unrelate(it, person)

    def remove(self, it: CustomObject, related: list[Person]) -> None:
        """`related` are the people of its relationships."""
        for person in related:
            self.unrelate(it, person)
        for anonymous_id in it.anonymous:
            self._by_anonymous_id[anonymous_id].discard(it.cio_object_id)
        del self._by_name[it.name]
        del self._by_cio_object_id[it.cio_object_id]
