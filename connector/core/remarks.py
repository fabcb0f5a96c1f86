"""What is odd about settings that can be used all the same, each with one reason word."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from connector.core import mapping
from connector.settings import Settings


class Remark(NamedTuple):
    """One thing to look at, and what comes of it."""

    reason: str
    message: str


def remarks(settings: Settings) -> Iterator[Remark]:
    """All of them."""
    if settings.events.pages and "page" not in settings.events.names:
        yield Remark(
            "pages_not_sent", 'events.pages says which pages are sent, and none is: events.names doesn\'t have "page"'
        )
    attribute = settings.people.segments_attribute
    names = [name for name, segment in settings.segments.items() if not segment.internal]
    if attribute and (size := len(msgspec.json.encode(names))) > mapping.MAX_VALUE_BYTES:
        yield Remark(
            "segments_too_long",
            f"the names of all segments are {size:,} bytes together, and Customer.io takes {mapping.MAX_VALUE_BYTES:,}:"
            f" who is in too many of them keeps the {attribute} they have; give shorter names, or make some internal",
        )
