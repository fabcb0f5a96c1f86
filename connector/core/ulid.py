"""The id under which Customer.io deduplicates an event.

Customer.io ignores a repeated event `id`, and only a ULID counts as one
(https://docs.customer.io/api/track/#operation/track). So ours is derived from the event itself: 48 bits of
its time in milliseconds, then 80 bits of BLAKE2b over source, a NUL and the source's id. Anyone can compute it,
and it is the same on every retry, restore and second installation.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime

from ulid import ULID

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def activity_id(source: str, source_id: str, at: datetime) -> str:
    """26 characters of Crockford base32, sorted by `at`; times before 1970 count as 1970."""
    elapsed = at - _EPOCH
    ms = (elapsed.days * 86_400 + elapsed.seconds) * 1000 + elapsed.microseconds // 1000
    digest = hashlib.blake2b(f"{source}\0{source_id}".encode(), digest_size=10).digest()
    return str(ULID.from_bytes(max(ms, 0).to_bytes(6, "big") + digest))
