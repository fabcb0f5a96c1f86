"""What one sync did: as an exit status, as JSON, and in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from connector.commands import calls_shown
from connector.commands.calls_shown import Shown
from connector.core import hold_words
from connector.outbound import full_pass
from connector.outbound.tally import Tally
from connector.store import event_counts, gate, held
from connector.watching.current import HeldEdit, Replaced


@dataclass
class Summary:
    """What one sync did. `waiting` users could not be delivered and are tried again later. `edit` is one of the
    settings that is held: who and what was sent went by those before it. `replaced` says that they took the place of
    others. `events_held` wait for `guard.max_events_per_user`. `shown` are the calls, where it was for some users; then
    `parked_events` of theirs are parked, by reason, since this run or before."""

    read: int = 0
    found: full_pass.Found = field(default_factory=full_pass.Found)
    tally: Tally = field(default_factory=Tally)
    waiting: int = 0
    parked: int = 0
    refused: gate.Closed | None = None
    edit: HeldEdit | None = None
    replaced: Replaced | None = None
    paused: bool = False
    events_held: event_counts.HeldEvents | None = None
    shown: Shown | None = None
    parked_events: Mapping[str, int] = field(default_factory=dict)

    @property
    def exit_status(self) -> int:
        """0 all delivered, or kept back by `sync.paused`; 1 when somebody, or an event, could not be delivered in this
        run, or of those who were named in an earlier one, else 3 when something is held, else 1 while somebody waits
        for another try. Who only waits must not hide what the guard holds."""
        if self.tally.failed or self.tally.parked or self.tally.events_parked or self.refused is not None:
            return 1
        if self.shown is not None and (self.parked or self.parked_events):
            return 1
        if self.found.holds or self.edit is not None or self.events_held is not None:
            return 3
        return 1 if self.waiting and not self.paused else 0

    def as_json(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "read": self.read,
            "created": self.tally.created,
            "updated": self.tally.updated,
            "deleted": self.tally.deleted,
            "calls": self.tally.calls,
            "skipped": dict(self.tally.skipped + self.found.skipped),
            "failed": dict(self.tally.failed),
            "parked": self.parked,
            "events": self.tally.events,
            "events_parked": dict(self.parked_events or self.tally.events_parked),
            "waiting": self.waiting,
            "gate": None if self.refused is None else self.refused.reason,
            "held": list(self._held()),
            **({} if self.shown is None else {"calls_shown": self.shown.calls}),
        }

    def _held(self) -> Iterator[dict[str, Any]]:
        for hold in self.found.holds:
            yield {"hash": hold.hash, "what": hold.what, "count": hold.count, "reason": hold.reason}
        if self.edit is not None:
            yield {"hash": self.edit.hash, "what": "settings", "reason": self.edit.reason}
        if self.events_held is not None:
            # No hash: nobody approves them, a day with room does.
            users, events = self.events_held
            what, reason = event_counts.EVENT, event_counts.LIMIT
            yield {"hash": None, "what": what, "count": events, "users": users, "reason": reason}


def describe(summary: Summary) -> Iterator[str]:
    """The summary in words, a line each."""
    tally = summary.tally
    if summary.replaced is not None:
        yield from _replaced(summary.replaced)
    if summary.read:
        yield f"{summary.read:,} webhooks and messages read"
    if summary.shown is not None:
        yield from calls_shown.describe(summary.shown.calls)
    calls = "1 call" if tally.calls == 1 else f"{tally.calls:,} calls"
    deleted = f", {tally.deleted:,} deleted" if tally.deleted else ""
    events = f", {_events(tally.events)} sent" if tally.events else ""
    yield f"{tally.created:,} created, {tally.updated:,} updated{deleted}{events}, in {calls}"
    if summary.found.leaving:
        yield f"{summary.found.leaving:,} have left and are deleted after people.delete.grace, unless they come back"
    if skipped := tally.skipped + summary.found.skipped:
        yield "skipped: " + ", ".join(f"{count:,} {reason}" for reason, count in skipped.most_common())
    if tally.failed:
        yield "failed: " + ", ".join(f"{count:,} {reason}" for reason, count in tally.failed.most_common())
    if summary.parked:
        now = ", ".join(f"{count:,} {reason}" for reason, count in tally.parked.most_common())
        yield f"{summary.parked:,} parked{f' (now: {now})' if now else ''}: connector replay parked tries them again"
    if parked_events := summary.parked_events or tally.events_parked:
        now = ", ".join(f"{count:,} {reason}" for reason, count in Counter(parked_events).most_common())
        yield f"events parked: {now}: connector export events says which, connector replay parked tries them again"
    if summary.refused is not None:
        yield f"Customer.io takes no calls ({summary.refused.reason}): {summary.refused.message}"
    if summary.paused:
        yield f"sync.paused is true: nothing was sent, {summary.waiting:,} wait"
    elif summary.waiting:
        yield f"{summary.waiting:,} wait for another try"
    if summary.edit is not None:
        yield f"HELD: the settings would do more than the guard allows: {summary.edit.reason}. Those before them go on."
        yield f"  let them go:       connector approve {summary.edit.hash}"
    for hold in summary.found.holds:
        yield from _held(hold)
    if summary.events_held is not None:
        users, number = summary.events_held
        yield f"HELD ({event_counts.LIMIT}): {hold_words.events(number, users)}"


def _events(number: int) -> str:
    return "1 event" if number == 1 else f"{number:,} events"


def _replaced(them: Replaced) -> Iterator[str]:
    yield f"these settings are revision {them.by} now, in place of revision {them.number}"
    yield (
        "  a running connector with another file sends nothing from now on, until its file says the same "
        f"(connector settings diff {them.number} {them.by}), or is saved with another change or read again (SIGHUP)"
    )


def _held(hold: held.Hold) -> Iterator[str]:
    would, why = hold_words.would(hold.what, hold.count), hold_words.why(hold.reason, hold.allowed)
    yield f"HELD ({hold.reason}): {would}; {why}. Nothing was done."
    ways = hold_words.commands(hold.what, hold.hash)
    for way, command in zip(("let them go:", "only some of them:"), ways, strict=False):
        yield f"  {way:<18} {command}"
