"""`connector plan` in words: for a terminal, and as Markdown for a pull request. What the data say stands there as
JSON, so that no text of theirs can move the cursor or pass for a line of ours."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from connector import settings_file
from connector.commands import saving
from connector.commands.person_text import quoted
from connector.core import hold_words
from connector.core.plan import Plan
from connector.outbound import planning
from connector.outbound.planning import Outlook
from connector.settings import Settings, values
from connector.store import event_counts

# Skips that are as they should be; all others are worth a look.
_EXPECTED = frozenset({"unchanged", "not_in_segment", "left_kept", "merged", "only_from_customerio", "awaits_pass"})
_ORDER = ("create", "update", "delete", "postpone", "skip")
_MOST_EMPTIED = 5
_MOST_NAMES = 5
_MARKUP = re.compile(r"[\\`*_|\[\]~>#]")


def surprises(before: Settings, wanted: Settings, outlook: Outlook) -> Iterator[str]:
    """What the admin may not have meant, the worst first; `before` are the settings in force."""
    for hold in outlook.holds:
        would, why = hold_words.would(hold.what, hold.count), hold_words.why(hold.reason, hold.allowed)
        yield f"HELD ({hold.reason}): {would}; {why}. None of them would go."
    yield from _leavers(before, wanted, outlook)
    decisions = outlook.plan.decisions
    for reason, users in decisions.get("skip", {}).items():
        if reason not in _EXPECTED:
            yield f"{users:,} skipped: {reason}"
    for (name, reason), users in outlook.plan.left_out.items():
        yield f"{users:,} without their {quoted(name)}: {reason}"
    emptied = list(outlook.plan.emptied.items())
    for name, users in emptied[:_MOST_EMPTIED]:
        yield f"{users:,} would have their {quoted(name)} emptied"
    if (others := len(emptied) - _MOST_EMPTIED) > 0:
        yield f"and {others:,} other attributes would be emptied"
    if creates := decisions.get("create", {}).get("entered", 0):
        yield f"{_counted(creates, 'person', 'people')} would be created"
    if not wanted.customerio.site_id:
        yield "customerio.site_id is empty: nothing is sent while it is"
    if needs_restart := settings_file.restart_needed(before, wanted):
        yield f"takes effect only after a restart: {', '.join(needs_restart)}"
    if before.customerio.site_id and before.customerio.site_id != wanted.customerio.site_id:
        yield "customerio.site_id is another workspace's: this store belongs to the one that it was sent to"


def held_events(events: event_counts.HeldEvents) -> Iterator[str]:
    """Whose events are more than they may get in these 24 hours."""
    if events.users:
        yield f"HELD ({event_counts.LIMIT}): {hold_words.events(events.events, events.users)}"


def paused(settings: Settings, events: int) -> Iterator[str]:
    """What `sync.paused` keeps back."""
    if settings.sync.paused:
        went = f": {_counted(events, 'event is', 'events are')} due by now, and all would go" if events else ""
        yield f"sync.paused is true: nothing is sent until it is false{went}"


def _leavers(before: Settings, wanted: Settings, outlook: Outlook) -> Iterator[str]:
    """Deletes that the guard lets go: they may not have been meant either."""
    decisions, held_kinds = outlook.plan.decisions, planning.kinds_held(outlook.holds)
    grace = values.duration_text(wanted.people.delete.grace)
    deletes, leaving = decisions.get("delete", {}).get("left", 0), decisions.get("postpone", {}).get("leaving", 0)
    if deletes:
        yield f"{_counted(deletes, 'person', 'people')} would be deleted now: their grace is over"
    if wanted.people.delete.enabled and not before.people.delete.enabled and outlook.outside:
        yield f"{outlook.outside:,} left_kept would now be deleted, {grace} after the next pass unless they come back"
    elif leaving and "delete" not in held_kinds:
        yield f"{_counted(leaving, 'person', 'people')} would leave and be deleted after {grace} unless they come back"


def unknown(plan: Plan) -> Iterator[str]:
    """What can't be known without asking Customer.io, or the future."""
    yield "what was edited, deleted or suppressed at Customer.io by others: a plan compares with what was last sent"
    yield "whether somebody who would be created is there already, from another source: they would be updated"
    yield "who enters or leaves a segment by then: it is asked as of now; rows that SQL wrote get their names in a pass"
    yield "what Customer.io refuses, and how fast it answers: the minutes are those of rate_per_second"
    if plan.emails_by_id:
        yield (
            f"whether the workspace lets an email be changed by id: {plan.emails_by_id:,} would get another one, and "
            "no cio_id of theirs is known"
        )


def describe(told: Mapping[str, Any], of: str, people: Iterable[Mapping[str, Any]], more: int) -> Iterator[str]:
    """The plan for a terminal; `more` people are not among those that are shown."""
    yield f"plan {told['hash']} of {of}: nothing was sent"
    yield from (f"! {line}" for line in told["surprises"])
    yield ""
    for verb, reason, users in _decisions(told):
        yield f"{verb:<9} {reason:<24} {users:>11,}"
    yield ""
    for person in people:
        known_by = f" as {quoted(person['customer_id'])}" if person["customer_id"] is not None else ""
        yield f"{person['decision']:<9} {person['reason']:<24} {person['user_id']}{known_by}"
        for name, (old, new) in person["changes"].items():
            yield f"    {quoted(name)}: {quoted(old)} -> {quoted(new)}"
    if more:
        yield f"… and {more:,} more: --all shows them"
    yield ""
    yield from _totals(told)
    yield ""
    yield "what a plan can't know:"
    yield from (f"- {line}" for line in told["unknown"])


def markdown(told: Mapping[str, Any], of: str, people: Iterable[Mapping[str, Any]], more: int) -> Iterator[str]:
    """The same for a pull request."""
    yield f"### Plan `{told['hash']}` of {_cell(of)}"
    yield ""
    yield from (f"- **{_cell(line)}**" for line in told["surprises"])
    yield from ("", "| decision | reason | users |", "|---|---|---:|")
    yield from (f"| {verb} | {reason} | {users:,} |" for verb, reason, users in _decisions(told))
    yield ""
    yield from (f"- {_cell(line)}" for line in _totals(told))
    yield from ("", "| user | customer id | decision | changes |", "|---|---|---|---|")
    for person in people:
        changes = (f"{quoted(name)}: {quoted(old)} → {quoted(new)}" for name, (old, new) in person["changes"].items())
        known_by = "" if person["customer_id"] is None else quoted(person["customer_id"])
        cells = (person["user_id"], known_by, f"{person['decision']}: {person['reason']}")
        yield f"| {' | '.join(map(_cell, cells))} | {'<br>'.join(map(_cell, changes))} |"
    if more:
        yield f"\n… and {more:,} more (`--all` shows them)"
    yield from ("", "What a plan can't know:", "")
    yield from (f"- {_cell(line)}" for line in told["unknown"])


def _decisions(told: Mapping[str, Any]) -> Iterator[tuple[str, str, int]]:
    for verb in _ORDER:
        for reason, users in told["decisions"].get(verb, {}).items():
            yield verb, reason, users


def _totals(told: Mapping[str, Any]) -> Iterator[str]:
    yield from _events(told)
    operations, calls = (
        _counted(told["operations"], "operation", "operations"),
        _counted(told["calls"], "call", "calls"),
    )
    yield (
        f"to send: {operations} in {calls}, {told['bytes']:,} bytes; {told['minutes']:,} minutes at "
        "customerio.rate_per_second"
    )
    held_back = ", ".join(told["guard"]["reasons"])
    yield f"guard: holds ({held_back})" if told["guard"]["held"] else "guard: holds nothing"
    if told["saving"] is not None:
        yield saving.describe(told["saving"], told["hash"])


def _events(told: Mapping[str, Any]) -> Iterator[str]:
    """What is due of those who are or become people; nobody can tell how many of the others will."""
    if not told["events"]:
        yield "events: none due"
        return
    names = list(told["events_by_name"].items())
    shown = [f"{number:,} {quoted(name)}" for name, number in names[:_MOST_NAMES]]
    if (others := len(names) - _MOST_NAMES) > 0:
        shown.append(f"{others:,} other names")
    yield (
        f"events: {told['events']:,} due ({', '.join(shown)}), of which {told['events_triggering']:,} are young enough "
        "to trigger campaigns; only those of people are sent"
    )


def _counted(number: int, one: str, more: str) -> str:
    return f"{number:,} {one if number == 1 else more}"


def _cell(text: str) -> str:
    """Text that Markdown leaves as it is, in a table's cell too."""
    return _MARKUP.sub(r"\\\g<0>", text.replace("&", "&amp;").replace("<", "&lt;"))
