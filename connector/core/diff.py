"""What has to be sent so that a person has the wanted attributes, given what was sent before."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def changes(sent: Mapping[str, Any], wanted: Mapping[str, Any], unordered: str) -> dict[str, Any]:
    """The attributes to send, in the order of `wanted`; what was sent and isn't wanted any more comes last, as None.

    The list under the name `unordered` (the segments) counts as equal in any order. True and 1 are different values.
    """
    changed = {
        name: value
        for name, value in wanted.items()
        if name not in sent or not _equal(sent[name], value, in_any_order=name == unordered)
    }
    changed.update({name: None for name in sent if name not in wanted})
    return changed


def _equal(before: Any, after: Any, *, in_any_order: bool = False) -> bool:
    if isinstance(before, bool) or isinstance(after, bool):
        return before is after
    if isinstance(before, list) and isinstance(after, list):
        if in_any_order:
            return sorted(before) == sorted(after)
        return len(before) == len(after) and all(map(_equal, before, after))
    if isinstance(before, dict) and isinstance(after, dict):
        return before.keys() == after.keys() and all(_equal(before[key], after[key]) for key in after)
    return bool(before == after)
