"""What has to be sent so that a person has the wanted attributes, given what was sent before."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from connector.core import same

_ABSENT = object()


def changes(sent: Mapping[str, Any], wanted: Mapping[str, Any], unordered: str, most: int) -> dict[str, Any]:
    """The attributes to send, in the order of `wanted`; what was sent and isn't wanted any more comes last, as None.

    A person has at most so many: where all together are more, what goes makes room before what is new. The list under
    the name `unordered` (the segments) counts as equal in any order. True and 1 are different values.
    """
    changed = {}
    for name, value in wanted.items():
        before = sent.get(name, _ABSENT)
        if type(before) is type(value) and type(value) in same.SINGLE and before == value:
            continue  # as most attributes of most users are; the closer look takes several times as long
        if before is _ABSENT or not _equal(before, value, in_any_order=name == unordered):
            changed[name] = value
    emptied = {name: None for name in sent if name not in wanted}
    if len(wanted) + len(emptied) <= most:
        return {**changed, **emptied}
    known = {name: value for name, value in changed.items() if name in sent}
    return {**known, **emptied, **changed}


def _equal(before: Any, after: Any, *, in_any_order: bool) -> bool:
    if in_any_order and isinstance(before, list) and isinstance(after, list):
        # By their text: what was sent under this name may have been any list, before it was the segments.
        before, after = sorted(before, key=str), sorted(after, key=str)
    return same.as_json(before, after)
