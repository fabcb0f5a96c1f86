"""When two values of JSON are the same."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

SINGLE = frozenset({str, bool, int, float, type(None)})


def as_json(before: Any, after: Any) -> bool:
    """Equal as JSON: True and 1 differ, 100 and 100.0 don't. A tuple counts as a list.

    A number may come back from a store in another form than it went in: PostgreSQL gives 1e23 back as the integer.
    """
    if type(before) is type(after) and type(before) in SINGLE:
        return bool(before == after)
    # Not by recursion: a value of 1,000 bytes can be nested deeper than Python follows.
    pairs = [(before, after)]
    while pairs:
        one, other = pairs.pop()
        if isinstance(one, dict) and isinstance(other, dict):
            if one.keys() != other.keys():
                return False
            pairs.extend((one[name], other[name]) for name in one)
        elif isinstance(one, list | tuple) and isinstance(other, list | tuple):
            if len(one) != len(other):
                return False
            pairs.extend(zip(one, other, strict=True))
        elif isinstance(one, bool) or isinstance(other, bool):
            if one is not other:
                return False
        elif isinstance(one, int | float) and isinstance(other, int | float):
            if one != other and Decimal(repr(one)) != Decimal(repr(other)):
                return False
        elif one != other:
            return False
    return True
