"""Attributes after a change: what is sent replaces, null and "" clear. Pure; never changes its arguments.

Follows the Track API reference (reserved attributes; objects; relationships). Sending the object
`cio_subscription_preferences` replaces it, a dotted name (`cio_subscription_preferences.topics.topic_1`)
changes that one entry; an empty entry is the topic's default, so it goes.

Reading of what is unverified: `null` clears an attribute of a person (recorded live traffic shows it for
v1), and so does "", which is documented for objects and relationships only: it isn't kept as empty text.
"""

from __future__ import annotations

from typing import Any

PREFERENCES = "cio_subscription_preferences"

_DOTTED = f"{PREFERENCES}."


def merged(current: dict[str, Any], sent: dict[str, Any]) -> dict[str, Any]:
    """Of an object or a relationship."""
    result = dict(current)
    for name, value in sent.items():
        if value is None or value == "":
            result.pop(name, None)
        else:
            result[name] = value
    return result


def merged_of_person(current: dict[str, Any], sent: dict[str, Any]) -> dict[str, Any]:
    """With the dotted names of preferences, which apply after all others."""
    dotted = [name for name in sent if name.startswith(_DOTTED)]
    if not dotted:
        return merged(current, sent)
    result = merged(current, {name: value for name, value in sent.items() if not name.startswith(_DOTTED)})
    tree = _copied(result.get(PREFERENCES))  # once for all names, else each would pay for those before it
    tree = tree if isinstance(tree, dict) else {}
    for name in dotted:
        _set_entry(tree, name.split(".")[1:], sent[name])
    result[PREFERENCES] = tree
    return result


def _set_entry(tree: dict[str, Any], path: list[str], value: object) -> None:
    """Changes `tree`; what is no object on the way is replaced by one."""
    *way, last = path
    for name in way:
        inner = tree.get(name)
        if not isinstance(inner, dict):
            inner = tree[name] = {}
        tree = inner
    if value is None or value == "":
        tree.pop(last, None)
    else:
        tree[last] = _copied(value)


def _copied(value: object) -> object:
    """Its objects are new ones, for they can be changed entry by entry; nothing changes a list."""
    return {name: _copied(inner) for name, inner in value.items()} if isinstance(value, dict) else value
