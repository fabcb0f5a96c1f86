"""What an edit of the settings would do, and whether the guard lets it: what a pass under the new settings would find,
by the limits of the old ones.

    store/entrants (SQL counts; who is missing is streamed) -> entering (would they be created?) -> limits
    a small store: the whole plan as well, for its numbers

A plan decides for everybody, which takes minutes of a million; an edit is judged in seconds. So only those are looked
at one by one who would be created. Nothing is written.

What the old settings held already is no reason to hold the edit, as long as the new ones hold it too: the pass does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from itertools import islice
from typing import Any

from connector.core import hold_words
from connector.outbound import entering, limits, planning
from connector.outbound.planning import CutShort, Hold
from connector.settings import Settings
from connector.store import entrants, event_counts, users
from connector.store.database import Database
from connector.store.held import CREATE

# So many users are decided one by one as well, in about a second.
FEW = 5_000


@dataclass(frozen=True, slots=True)
class Verdict:
    """`counts` are what a revision keeps: decisions by verb and reason, where `look_at` are people who are compared
    anew, and `holds`, which is why the edit must wait."""

    counts: dict[str, Any]
    holds: tuple[Hold, ...]

    @property
    def reason(self) -> str:
        """Why it waits, in words."""
        return "; ".join(f"{hold_words.would(each.what, each.count)} ({each.reason})" for each in self.holds)


@dataclass(frozen=True, slots=True)
class _Found:
    """What a pass would find, and how many it would let be created."""

    counted: entrants.Counted
    creates: int
    kept_out: Counter[str]

    def decisions(self, holds: Sequence[Hold]) -> dict[str, dict[str, int]]:
        """By verb and reason, where the guard holds these."""
        held = planning.kinds_held(holds)
        found = {
            "create": {"held" if "create" in held else "entered": self.creates},
            "delete": {"held" if "delete" in held else "left": self.counted.outside - self.counted.leaving},
            "postpone": {"leaving": self.counted.leaving},
            "look_at": {"changed": self.counted.changed},
            "skip": dict(self.kept_out),
        }
        told = {verb: {why: number for why, number in of.items() if number} for verb, of in found.items()}
        return {verb: of for verb, of in told.items() if of}


def judge(
    db: Database, before: Settings, edit: Settings, now: datetime, going: Callable[[], bool] = lambda: True
) -> Verdict:
    """Blocking. Raises planning.CutShort soon after `going` says no."""
    if not edit.customerio.site_id:
        return Verdict({}, ())
    by_old_limits = edit.model_copy(update={"guard": before.guard})
    found = _look(db, edit, now, going)
    would_hold = _holds(db, by_old_limits, found, now)
    kept = {each.what for each in _holds(db, edit, found, now)} if would_hold else set()
    still = [each for each in would_hold if each.what in kept]
    held = _held(db, before, still, now, going)
    holds = tuple(each for each in would_hold if each not in still or each.count > held.get(each.what, 0))
    holds += tuple(_events(db, before, edit, now))
    told = [asdict(each) for each in holds]
    if db.read(users.count) <= FEW:
        plan = planning.outlook(db, by_old_limits, now, going=going).plan
        sending = plan.sending
        numbers = {"decisions": plan.decisions, "calls": sending.calls, "operations": sending.operations}
        return Verdict({**numbers, "holds": told}, holds)
    return Verdict({"decisions": found.decisions(would_hold), "holds": told}, holds)


def _held(
    db: Database, before: Settings, still: Sequence[Hold], now: datetime, going: Callable[[], bool]
) -> dict[str, int]:
    """Of how many of a kind the old settings hold back already, where it may be as many as those of the edit."""
    if not still:
        return {}
    # Who is missing is counted at once. Of most edits that are held it is clear by that: there were fewer.
    counted = db.read(entrants.count, before, now)
    found = _Found(counted, counted.missing, Counter())
    held = {each.what: each.count for each in _holds(db, before, found, now)}
    if any(each.what == CREATE and each.count <= held.get(CREATE, 0) for each in still):
        found = _look(db, before, now, going)
        held = {each.what: each.count for each in _holds(db, before, found, now)}
    return held


def _events(db: Database, before: Settings, edit: Settings, now: datetime) -> Iterator[Hold]:
    """Events that wait for the limit of the old settings, and would go by that of the new ones. All others are judged
    as they arrive, so an edit sends none that was there before."""
    old, new = before.guard.max_events_per_user, edit.guard.max_events_per_user
    if old is None or (new is not None and new <= old):
        return
    wait_on = 0 if new is None else db.read(event_counts.held, new, now).events
    if (let_go := db.read(event_counts.held, old, now).events - wait_on) > 0:
        yield Hold(event_counts.EVENT, event_counts.LIMIT, let_go, 0)


def _look(db: Database, settings: Settings, now: datetime, going: Callable[[], bool]) -> _Found:
    found = _Found(db.read(entrants.count, settings, now), 0, Counter())
    creates = 0
    with db.reader.begin() as connection, closing(entrants.missing(connection, settings, now)) as missing:
        while some := list(islice(missing, entrants.CHUNK)):
            if not going():
                raise CutShort
            looked_at = entering.among(db, some, settings, now)
            creates += len(looked_at.creates)
            found.kept_out.update(looked_at.kept_out)
    return replace(found, creates=creates)


def _holds(db: Database, settings: Settings, found: _Found, now: datetime) -> tuple[Hold, ...]:
    _, suspicion = limits.look(db, settings)
    return tuple(planning.holds(db, settings, found.creates, found.counted.outside, suspicion, now))
