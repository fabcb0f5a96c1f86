"""How new attributes of a user meet the ones they have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def attributes(before: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Top-level keys replace whole, None removes the key, keys that are not given stay."""
    merged = {**before, **given}
    return {name: value for name, value in merged.items() if value is not None}


def account(before: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    """A user's account after a `group` message: what is said of one account adds up, another one takes its place."""
    known = before if isinstance(before, dict) and before.get("id") == given.get("id") else {}
    return attributes(known, given)


def at(given: Mapping[str, Any], path: str) -> Any:
    """What stands at a dotted path; None when nothing does."""
    if "." not in path:
        return given.get(path)
    first, *deeper = path.split(".")
    value = given.get(first)
    for part in deeper:
        if not isinstance(value, dict):
            return None
        value = value.get(part)
    return value


def without(given: Mapping[str, Any], path: str) -> dict[str, Any]:
    """The same without what stands at a dotted path. A group that it stands in goes whole, as it would come whole."""
    first, _, rest = path.partition(".")
    return {name: value for name, value in given.items() if name != first or (rest and at(given, path) is None)}
