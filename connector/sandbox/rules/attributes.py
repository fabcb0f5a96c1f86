"""Attributes after a change: what is sent replaces, null and "" clear. Pure; never changes its arguments.

Follows the Track API reference (reserved attributes; objects; relationships). Sending the object
`cio_subscription_preferences` replaces it, a dotted name (`cio_subscription_preferences.topics.topic_1`)
changes that one entry; an empty entry is the topic's default, so it goes.

Reading of what is unverified: `null` clears an attribute of a person (recorded live traffic shows it for
v1), and so does "", which is documented for objects and relationships only: it isn't kept as empty text.
"""

from __future__ import annotations

from typing import Any

_PREFERENCES = "cio_subscription_preferences"
_DOTTED = f"{_PREFERENCES}."


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
    """With the dotted names of preferences."""
    dotted = [name for name in sent if name.startswith(_DOTTED)]
    if not dotted:
        return merged(current, sent)
    result = merged(current, {name: value for name, value in sent.items() if not name.startswith(_DOTTED)})
    for name in dotted:
        result[_PREFERENCES] = _with_entry(result.get(_PREFERENCES), name.split(".")[1:], sent[name])
    return result


def _with_entry(tree: object, path: list[str], value: object) -> dict[str, Any]:
    copy = dict(tree) if isinstance(tree, dict) else {}
    head, *rest = path
    if rest:
        copy[head] = _with_entry(copy.get(head), rest, value)
    elif value is None or value == "":
        copy.pop(head, None)
    else:
        copy[head] = value
    return copy
