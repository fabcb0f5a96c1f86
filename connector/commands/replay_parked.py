"""`connector replay parked`: tries users and events again that could not be delivered.

They are only made due: a running connector sends them, or the next `connector sync`. Events go out under the ids that
they have.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from sqlalchemy.engine import Connection

from connector import errors
from connector.inbound import due
from connector.store import backlog, database, event_counts, events_again, story
from connector.store.database import Database


@dataclass(frozen=True, slots=True)
class Summary:
    """How many users are tried again, how many of those who were named are not, and who is still parked, by reason;
    likewise how many events, and which still are."""

    replayed: int
    passed_over: int
    parked: dict[str, int]
    events: int
    parked_events: dict[str, int]

    def as_json(self) -> dict[str, Any]:
        """For `--json`."""
        return asdict(self)


def parked(
    db: Database, now: datetime, since: datetime | None, reason: str | None, given: Sequence[str] | None
) -> Summary:
    """Makes those due who match; `given` are IDs, as `connector person` takes them. Raises Failed, and tries nobody,
    when one of them names nobody."""
    user_ids = None if given is None else db.read(named, given)
    replayed, left = db.write(_replay, now, since, reason, user_ids)
    chunks = events_again.parked_ids(db, reason=reason, user_ids=user_ids, since=since)
    events = sum(db.write(due.again, ids, now, only_parked=True).events for ids in chunks)
    passed_over = 0 if user_ids is None else len(user_ids) - replayed
    return Summary(replayed, passed_over, left, events, db.read(event_counts.counts)["parked"])


def named(connection: Connection, given: Sequence[str]) -> list[str]:
    """Whom the IDs name, each user once. Raises Failed when one of them names nobody."""
    database.as_of_now(connection)
    found = [(each, story.matches(connection, each)) for each in given]
    unknown = [each for each, matches in found if not matches]
    if unknown:
        raise errors.Failed(f"nobody is known as {', '.join(unknown)}; tried as {', '.join(story.KINDS)}")
    return sorted({matches[0].user_id for _, matches in found})


def _replay(
    connection: Connection, now: datetime, since: datetime | None, reason: str | None, user_ids: Sequence[str] | None
) -> tuple[int, dict[str, int]]:
    replayed = backlog.replay(connection, now, reason=reason, user_ids=user_ids, since=since)
    return replayed, backlog.parked_reasons(connection)


def describe(summary: Summary) -> Iterator[str]:
    """The summary in words, a line each."""
    users = "1 parked user is" if summary.replayed == 1 else f"{summary.replayed:,} parked users are"
    then = ": a running connector sends them now, else connector sync"
    yield f"{users} tried again{then if summary.replayed else ''}"
    if summary.passed_over:
        yield f"{summary.passed_over:,} of those named not: not parked, or for another reason, or before"
    if summary.parked:
        yield f"still parked: {_by_reason(summary.parked)}"
    if summary.events:
        events = "1 parked event is" if summary.events == 1 else f"{summary.events:,} parked events are"
        yield f"{events} due again, under the same ids{'' if summary.replayed else then}"
    if summary.parked_events:
        yield f"events still parked: {_by_reason(summary.parked_events)}"


def _by_reason(parked: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {reason}" for reason, count in parked.items())
