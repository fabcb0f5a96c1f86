"""What would become of settings if they were saved: judged as a running connector judges an edit, by the guard of the
settings in force, not by their own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from connector.core import hold_words
from connector.outbound import judging
from connector.outbound.planning import Outlook
from connector.settings import Settings
from connector.store import revisions
from connector.store.database import Database
from connector.watching import starting


def foretold(db: Database, path: Path, present: Settings, wanted: Settings, now: datetime) -> dict[str, Any] | None:
    """As `plan --json` prints it; None where it is no edit of who and what is sent. In force is the revision that was
    applied last; where there is none yet, what the file at `path` says at present."""
    newest = db.read(revisions.newest_applied)
    before = None if newest is None else starting.of_revision(path, newest)
    in_force = present.sent_hash() if newest is None else newest.hash
    if wanted.sent_hash() == in_force:
        return None
    holds = judging.judge(db, before or present, wanted, now).holds
    reasons = list(dict.fromkeys(each.reason for each in holds))
    return {"held": bool(holds), "reasons": reasons, "holds": [asdict(each) for each in holds]}


def surprises(told: Mapping[str, Any] | None, outlook: Outlook) -> Iterator[str]:
    """What holds the edit, a line each; the outlook has what its own guard would hold."""
    held_by_its_own = {each.what for each in outlook.holds}
    for hold in told["holds"] if told is not None else ():
        would, why = hold_words.would(hold["what"], hold["count"]), hold_words.why(hold["reason"], hold["allowed"])
        own = "" if hold["what"] in held_by_its_own else " Its own guard would let them go, and is part of the edit."
        yield f"HELD AS AN EDIT ({hold['reason']}): {would}; by the settings in force {why}.{own}"


def describe(told: Mapping[str, Any], hash_: str) -> str:
    """What becomes of it, in one line."""
    if not told["held"]:
        return "as an edit: in force at once"
    by = ", ".join(told["reasons"])
    return f"as an edit: held ({by}); who and what is sent stays as it is until connector approve {hash_}"
