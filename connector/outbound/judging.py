"""What an edit of the settings would do, and whether the guard lets it: the plan under the new settings, by the limits
of the old ones.

What the old settings held already is no reason to hold the edit, as long as the new ones hold it too: the pass does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from connector.core import hold_words
from connector.outbound import planning
from connector.settings import Settings
from connector.store.database import Database


@dataclass(frozen=True, slots=True)
class Verdict:
    """`counts` are those of the plan, as a revision keeps them; `holds` is why the edit must wait."""

    counts: dict[str, Any]
    holds: tuple[planning.Hold, ...]

    @property
    def reason(self) -> str:
        """Why it waits, in words."""
        return "; ".join(f"{hold_words.would(each.what, each.count)} ({each.reason})" for each in self.holds)


def judge(
    db: Database, before: Settings, edit: Settings, now: datetime, going: Callable[[], bool] = lambda: True
) -> Verdict:
    """Blocking. Raises planning.CutShort soon after `going` says no."""
    if not edit.customerio.site_id:
        return Verdict({}, ())
    by_old_limits = edit.model_copy(update={"guard": before.guard})
    outlook = planning.outlook(db, by_old_limits, now, going=going)
    holds = outlook.holds
    if holds:
        earlier = {each.what: each.count for each in planning.outlook(db, before, now, going=going).holds}
        later = holds
        if edit.guard != before.guard:
            later = planning.outlook(db, edit, now, going=going).holds
        kept = {each.what for each in later}
        holds = tuple(each for each in holds if each.what not in kept or each.count > earlier.get(each.what, 0))
    sending = outlook.plan.sending
    counts = {
        "decisions": outlook.plan.decisions,
        "calls": sending.calls,
        "operations": sending.operations,
        "holds": [asdict(each) for each in holds],
    }
    return Verdict(counts, holds)
