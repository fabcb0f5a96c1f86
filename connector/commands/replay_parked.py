"""`connector replay parked`: tries users again who could not be delivered.

They are only made due: a running connector sends them, or the next `connector sync`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy.engine import Connection

from connector import errors
from connector.store import backlog, database, story
from connector.store.database import Database


@dataclass(frozen=True, slots=True)
class Summary:
    """How many are tried again, how many of those who were named are not, and who is still parked, by reason."""

    replayed: int
    passed_over: int
    parked: dict[str, int]

    def as_json(self) -> dict[str, Any]:
        """For `--json`."""
        return {"replayed": self.replayed, "passed_over": self.passed_over, "parked": self.parked}


def parked(
    db: Database, now: datetime, since: datetime | None, reason: str | None, given: Sequence[str] | None
) -> Summary:
    """Makes those due who match; `given` are IDs, as `connector person` takes them. Raises Failed, and tries nobody,
    when one of them names nobody."""
    user_ids = None if given is None else db.read(_named, given)
    replayed, left = db.write(_replay, now, since, reason, user_ids)
    return Summary(replayed, 0 if user_ids is None else len(user_ids) - replayed, left)


def _named(connection: Connection, given: Sequence[str]) -> list[str]:
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
    then = ": a running connector sends them now, else connector sync" if summary.replayed else ""
    yield f"{users} tried again{then}"
    if summary.passed_over:
        yield f"{summary.passed_over:,} of those named not: not parked, or for another reason, or before"
    if summary.parked:
        yield "still parked: " + ", ".join(f"{count:,} {reason}" for reason, count in summary.parked.items())
