"""Who of the users that are missing at Customer.io would really be created: the guard must not count the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from connector.core import decide
from connector.outbound import preparation
from connector.records import Subject
from connector.settings import Settings
from connector.store import entrants
from connector.store.database import Database


class Entering(NamedTuple):
    """Those who would be created, and why others can't be: their number by reason."""

    creates: list[str]
    kept_out: Counter[str]


def look(db: Database, user_ids: Sequence[str], settings: Settings, now: datetime) -> Entering:
    """At a thousand users at most, in their order; of two with one customer id the first."""
    subjects = {each.user.id: each for each in db.read(entrants.subjects, user_ids, settings)}
    return among(db, [subjects[user_id] for user_id in user_ids if user_id in subjects], settings, now)


def among(db: Database, subjects: Sequence[Subject], settings: Settings, now: datetime) -> Entering:
    """Likewise at these, as `entrants` has them."""
    found = Entering([], Counter())
    for subject in preparation.with_rivals(db, subjects, settings, now):
        decision = decide.entering(subject, settings, now)
        if subject.erased:
            found.kept_out["erased"] += 1
        elif decision.verb == "create":
            found.creates.append(subject.user.id)
        else:
            found.kept_out[decision.reason] += 1
    return found
