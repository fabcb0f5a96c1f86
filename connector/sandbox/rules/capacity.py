"""How much a person, an object or a relationship holds, and how a value is measured. Pure.

Follows the Track API reference. A single request that is over one of these is refused (`limits`); what grows over one
by several requests, each within it, answers 200 and stays as it was.
"""

from __future__ import annotations

import orjson

ATTRIBUTES = 300
ATTRIBUTE_VALUE_BYTES = 1000
OBJECT_BYTES = 100_000  # all attributes of an object or of a relationship


def size(value: object) -> int:
    """Bytes of a value as Customer.io counts them: text as UTF-8, nothing as 0, all else as compact JSON."""
    if isinstance(value, str):
        return len(value) if value.isascii() else len(value.encode())
    return 0 if value is None else len(orjson.dumps(value))
