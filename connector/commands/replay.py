"""`connector replay webhooks`: reads again what could not be read.

    inbox (unread) -> new, a page at a time -> the reader -> read, ignored, or unread again with its reason

Safe beside a running connector: whichever of the two takes a message makes one event of it. A message that is over
the size that this version reads stays where it is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Any
from zoneinfo import ZoneInfo

from pydantic import TypeAdapter, ValidationError

from connector import errors
from connector.core import normalize, times
from connector.inbound.reader import Reader
from connector.settings import Settings, values
from connector.store import inbox
from connector.store.database import Database

PAGE = 500

_duration = TypeAdapter(values.Duration)


@dataclass
class Summary:
    """What became of the messages that were put back, and of those that are too large to be."""

    put_back: int = 0
    read: int = 0
    ignored: int = 0
    unread: Counter[str] = field(default_factory=Counter)

    def as_json(self) -> dict[str, Any]:
        """For `--json`."""
        unread = dict(sorted(self.unread.items()))
        return {"put_back": self.put_back, "read": self.read, "ignored": self.ignored, "unread": unread}


def since(given: str, zone: str, now: datetime, option: str = "--since") -> datetime:
    """A time (read in `zone` when it has no offset), or how long ago. Raises Misconfigured for any other text."""
    at = times.parse(given, ZoneInfo(zone))
    if at is not None:
        return at
    try:
        return now - _duration.validate_python(given)
    except ValidationError:
        example = '"2026-03-01T12:00:00Z", or how long ago, such as "24h"'
        raise errors.Misconfigured(f"{option} must be a time such as {example}") from None


async def webhooks(
    db: Database,
    settings: Settings,
    clock: Callable[[], datetime],
    since: datetime | None = None,
    kind: str | None = None,
    reason: str | None = None,
) -> Summary:
    """Puts back the unread messages that match, and reads them. `kind` is a pattern; a message whose kind nobody could
    tell matches none."""
    reader = Reader(db, lambda: settings, clock)
    summary = Summary()
    after = 0
    while found := await db.run_read(inbox.unread, after, PAGE, since, reason):
        after = found[-1].id
        matching = [row for row in found if kind is None or (row.kind is not None and fnmatchcase(row.kind, kind))]
        readable = [row for row in matching if row.size <= normalize.MAX_READ_BYTES]
        summary.unread["too_large"] += len(matching) - len(readable)
        if not readable:
            continue
        put_back = await db.run(inbox.put_back, [row.id for row in readable])
        await reader.read_outstanding()
        _count(summary, put_back, await db.run_read(inbox.states, put_back))
    summary.unread = +summary.unread
    return summary


def _count(summary: Summary, put_back: list[int], states: Counter[tuple[str, str | None]]) -> None:
    unread = Counter({str(reason): count for (state, reason), count in states.items() if state == "unread"})
    ignored = states["ignored", None]
    summary.put_back += len(put_back)
    summary.unread += unread
    summary.ignored += ignored
    # Read ones may be gone by now: nothing else deletes what is old.
    summary.read += len(put_back) - unread.total() - ignored - states["new", None]


def describe(summary: Summary) -> Iterator[str]:
    """The summary in words, a line each."""
    ignored = f", {summary.ignored:,} ignored" if summary.ignored else ""
    yield f"{summary.put_back:,} put back, {summary.read:,} read{ignored}"
    if summary.unread:
        yield "still unread: " + ", ".join(f"{count:,} {reason}" for reason, count in summary.unread.most_common())
