"""`connector plan` in words: for a terminal, and as Markdown for a pull request. What the data say stands there as
JSON, so that no text of theirs can move the cursor or pass for a line of ours."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from connector import settings_file
from connector.commands import sync
from connector.commands.person_text import quoted
from connector.core.plan import Plan
from connector.outbound.planning import Outlook
from connector.settings import Settings, values
from connector.store import held

# Skips that are as they should be; all others are worth a look.
_EXPECTED = frozenset({"unchanged", "not_in_segment", "left_kept", "merged", "only_from_customerio", "awaits_pass"})
_ORDER = ("create", "update", "delete", "postpone", "skip")
_MOST_EMPTIED = 5
_MARKUP = re.compile(r"[\\`*_|\[\]~>#]")
_WOULD = {
    held.CREATE: "{count:,} of those who were here before would be created",
    held.DELETE: "{count:,} of the people have left every whitelisted segment and would be deleted",
    held.RENAME: "everybody at Customer.io ({count:,}) would get another id",
}


def surprises(before: Settings, wanted: Settings, outlook: Outlook) -> Iterator[str]:
    """What the admin may not have meant, the worst first; `before` are the settings in force."""
    for hold in outlook.holds:
        why = sync.WHY[hold.reason].format(allowed=f"{hold.allowed:,}")
        yield f"HELD ({hold.reason}): {_WOULD[hold.what].format(count=hold.count)}; {why}. None of them would go."
    if wanted.people.delete.enabled and not before.people.delete.enabled and outlook.outside:
        grace = values.duration_text(wanted.people.delete.grace)
        yield f"{outlook.outside:,} left_kept would now be deleted, {grace} after the next pass unless they come back"
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
    if not wanted.customerio.site_id:
        yield "customerio.site_id is empty: nothing is sent while it is"
    if needs_restart := settings_file.restart_needed(before, wanted):
        yield f"takes effect only after a restart: {', '.join(needs_restart)}"
    if before.customerio.site_id and before.customerio.site_id != wanted.customerio.site_id:
        yield "customerio.site_id is another workspace's: this store belongs to the one that it was sent to"


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
    yield f"events: {told['events']:,}, because this version sends none"
    operations, calls = _counted(told["operations"], "operation"), _counted(told["calls"], "call")
    yield (
        f"to send: {operations} in {calls}, {told['bytes']:,} bytes; {told['minutes']:,} minutes at "
        "customerio.rate_per_second"
    )
    held_back = ", ".join(told["guard"]["reasons"])
    yield f"guard: holds ({held_back})" if told["guard"]["held"] else "guard: holds nothing"


def _counted(number: int, what: str) -> str:
    return f"1 {what}" if number == 1 else f"{number:,} {what}s"


def _cell(text: str) -> str:
    """Text that Markdown leaves as it is, in a table's cell too."""
    return _MARKUP.sub(r"\\\g<0>", text.replace("&", "&amp;").replace("<", "&lt;"))
