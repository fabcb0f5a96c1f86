"""The names in the settings that the data have to know, each with the place that mentions it first.

What the connector knows of every user by itself (`email`, `opted_out`, `customerio.opened_at`, …) is not among them.
"""

from __future__ import annotations

from collections.abc import Iterator

from connector.settings import Attribute, Condition, Event, Settings, conditions
from connector.settings.faults import quoted

_OWN = frozenset({"id", "external_id", "email", "created_at", "opted_out"})


def attributes(settings: Settings) -> dict[str, str]:
    """Dotted paths of users' attributes: picked ones, sources of the customer id, the opt-out, those in conditions."""
    people = settings.people
    found: dict[str, str] = {}
    for source in people.customer_id:
        found.setdefault(source, "people.customer_id")
    for pick in people.attributes:
        found.setdefault(pick.name, "people.attributes")
    if people.opt_out:
        found.setdefault(people.opt_out, "people.opt_out")
    for name, condition in _conditions(settings):
        if isinstance(condition, Attribute):
            found.setdefault(condition.attribute, f"segment {quoted(name)}")
    return {name: where for name, where in found.items() if name not in _OWN and not name.startswith("customerio.")}


def events(settings: Settings) -> dict[str, str]:
    """Names of events in conditions."""
    found: dict[str, str] = {}
    for name, condition in _conditions(settings):
        if isinstance(condition, Event):
            found.setdefault(condition.event, f"segment {quoted(name)}")
    return found


def _conditions(settings: Settings) -> Iterator[tuple[str, Condition]]:
    for name, segment in settings.segments.items():
        waiting = [segment.condition]
        while waiting:
            condition = waiting.pop()
            yield name, condition
            waiting += [each for _, each in conditions.inner(condition)]
