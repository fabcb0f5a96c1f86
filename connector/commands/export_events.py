"""`connector export events`, and `--format segment`: Customer.io's events as Segment-spec track messages.

Events that came another way (an import, SQL) are no messages: they have other properties, and whoever sent them has
them in a form of their own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from connector import errors
from connector.core import segment_message, ulid
from connector.store import export
from connector.store.database import Database


def require(form: str | None, what: str) -> None:
    """Raises Misconfigured for a form that there isn't."""
    if form is not None and (form, what) != ("segment", "events"):
        there_is = "`connector export events --format segment`"
        raise errors.Misconfigured(f"--format must be left out, or be segment, for events: {there_is}")


def complete(stored: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The events with the activity ids that follow from them where the store has none, because SQL wrote them."""
    for event in stored:
        derived = ulid.activity_id(event["source"], event["source_id"], event["occurred_at"])
        yield {**event, "activity_id": event["activity_id"] or derived}


def segment_messages(db: Database) -> Iterator[dict[str, Any]]:
    """One message for each, in the order in which the events came."""
    for event, body in export.customerio_events(db):
        yield segment_message.message(event, body)
