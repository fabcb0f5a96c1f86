"""`connector approve [HASH]`: lists what is held, by the guard or of the settings; with a hash lets it go."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from connector import errors
from connector.core import hold_words
from connector.outbound import approving
from connector.settings import Settings
from connector.store import approvals, held
from connector.store.database import Database


def listed(db: Database) -> list[dict[str, Any]]:
    """What is held, as `--json` prints it. An edit of the settings is one of its own, and has the plan's words."""
    return [
        {
            "hash": hold.hash,
            "what": hold.what,
            "count": hold.count,
            "reason": hold.reason,
            "allowed": hold.allowed,
            "since": hold.since,
        }
        for hold in (*db.read(held.current), db.read(approvals.held_edit))
        if hold is not None
    ]


def approve(db: Database, settings: Settings, prefix: str, first: int | None, now: datetime) -> int:
    """Lets those go who stood on the list when the hash was made and are still held, or an edit of the settings;
    returns how many. As `outbound/approving`, and an edit goes as a whole."""
    edit = db.read(approvals.waiting)
    if edit is None or len(prefix) < approving.SHORTEST or not str(edit.hash).startswith(prefix):
        return approving.approve(db, settings, prefix, first, now)
    if db.read(held.by_hash, prefix):
        raise errors.Misconfigured(f"{prefix} is the beginning of several hashes; give more of it")
    if first is not None:
        raise errors.Misconfigured(f"{edit.hash} is an edit of the settings: it goes as a whole, without --first")
    if not db.write(approvals.approve, edit.number, now):
        raise errors.Misconfigured(f"{edit.hash} is not held any more")
    return sum(each["count"] for each in edit.counts.get("holds", ()))


def describe(holds: Sequence[dict[str, Any]]) -> Iterator[str]:
    """What is held, in words."""
    if not holds:
        yield "nothing is held"
    for hold in holds:
        since = f"since {hold['since']:%Y-%m-%d %H:%M} UTC"
        if hold["what"] == approvals.SETTINGS:
            yield f"{hold['hash']}  an edit of the settings: {hold['reason']}  ({since})"
            yield f"              connector approve {hold['hash']}"
            continue
        would = hold_words.would(hold["what"], hold["count"])
        why = hold_words.why(hold["reason"], hold["allowed"])
        yield f"{hold['hash']}  {would}; {why}  ({hold['reason']}, {since})"
        yield f"          {' or '.join(hold_words.commands(hold['what'], hold['hash']))}"
