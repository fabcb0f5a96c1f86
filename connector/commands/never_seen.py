"""Names in the settings that the data don't know: most likely misspelt, and then nobody is in a segment, or an
attribute is never sent, without anything being wrong."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from connector.core import mentioned
from connector.settings import Settings
from connector.settings.faults import near, quoted
from connector.store import vocabulary
from connector.store.database import Database


def lines(db: Database, settings: Settings, now: datetime) -> Iterator[str]:
    """A sentence for each, with the name that was probably meant."""
    wanted = mentioned.events(settings)
    if unseen := [name for name in wanted if not db.read(vocabulary.has_event, name)]:
        times = db.read(vocabulary.event_names)
        for name in unseen:
            meant = near(name, times)
            hint = f"; {_shown(meant)} was, {_times(times[meant])}" if meant is not None else ""
            yield f"{_shown(name)} was never seen{hint} (event, {wanted[name]})"
    wanted = mentioned.attributes(settings)
    if unseen := [name for name in wanted if not db.read(vocabulary.has_attribute, name, settings, now)]:
        known = db.read(vocabulary.attributes)
        for name in unseen:
            meant = near(name, known)
            hint = f"; {_shown(meant)} was" if meant is not None else ""
            yield f"{_shown(name)} was never seen{hint} (attribute, {wanted[name]})"


def _shown(name: str) -> str:
    """Names come from the data, and must not move a terminal's cursor."""
    return f"`{quoted(name)[1:-1]}`"


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count:,} times"
