"""`connector status`: `/status` for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from connector.commands import gate_text, person_text
from connector.core import hold_words
from connector.store import approvals, event_counts

_STATES = {"edit_held": "HELD", "edit_refused": "REFUSED", "superseded": "STALE", "paused": "PAUSED"}


def describe(found: dict[str, Any], now: datetime) -> Iterator[str]:
    """What `admin/status` collected, in words, a line each."""
    stored, inbox, backlog = found["stored"], found["inbox"], found["backlog"]
    yield f"connector {found['version']}, settings {found['settings']['hash']}"
    if (state := found["settings"]["state"]) != "running":
        yield f"{_STATES.get(state, state):<9} {found['settings']['reason']}"
    for remark in found["settings"]["remarks"]:
        yield f"settings  {remark['reason']}: {remark['message']}"
    people = f"{stored['people']:,} people at Customer.io"
    yield f"stored    {stored['users']:,} users, {stored['events']:,} events, {people}"
    last = f", last {_ago(inbox['last_received_at'], now)}" if inbox["last_received_at"] else ", none so far"
    yield f"inbox     {inbox['new']:,} to read, {inbox['unread']:,} unread{last}"
    oldest = f", oldest {_ago(backlog['oldest_at'], now)}" if backlog["oldest_at"] else ""
    parked = f", {backlog['parked']:,} parked" if backlog["parked"] else ""
    yield f"backlog   {backlog['due']:,} due, {backlog['waiting']:,} waiting{parked}{oldest}"
    if (gate := found["gate"])["state"] == "closed":
        remedy = gate_text.remedy(gate["reason"])
        yield f"CLOSED    {gate['reason']}, {_ago(gate['since'], now)}, nothing is sent: {remedy}"
    yield from _rates(found["rates"])
    if found["parked"]:
        yield (
            f"PARKED    {_by_reason(found['parked'])}: connector export attempts says what was answered, "
            "connector replay parked tries them again"
        )
    yield from _newest(found["parked_newest"], now)
    yield from _events(found["events"], now)
    for verb, users in found["decisions"].items():
        yield f"in 24 h   {verb}: {_by_reason(users)}"
    for hold in found["held"]:
        if hold["what"] == approvals.SETTINGS:
            continue  # said above, as the state of the settings
        would, ways = hold_words.would(hold["what"], hold["count"]), hold_words.commands(hold["what"], hold["hash"])
        yield f"HELD      {would} ({hold['reason']}, {_ago(hold['since'], now)}): {' or '.join(ways)}"
    for run in found["runs"]:
        counts = ", ".join(f"{value:,} {name}" for name, value in run["counts"].items() if isinstance(value, int))
        skipped = f", skipped {by_reason}" if (by_reason := _by_reason(run["counts"].get("skipped", {}))) else ""
        yield f"pass      {_ago(run['started_at'], now)}: {run['state']}{f', {counts}' if counts else ''}{skipped}"


def _rates(rates: Mapping[str, Any]) -> Iterator[str]:
    """Nothing while it is as the settings say."""
    until = rates["paused_until"]
    rest = f", none until {until:%H:%M:%S} UTC" if until is not None else ""
    if rest or rates["allowed"] < rates["rate_per_second"]:
        yield f"rate      {rates['allowed']:g} of {rates['rate_per_second']:g} calls a second{rest}"


def _newest(parked: Mapping[str, Mapping[str, Any]], now: datetime) -> Iterator[str]:
    for reason, each in parked.items():
        status = f" {each['status']}" if each["status"] is not None else ""
        message = f" {person_text.quoted(each['message'])}" if each["message"] else ""
        yield f"          {reason}, newest {_ago(each['at'], now)}: {each['what']}:{status}{message}"


def _events(events: Mapping[str, Any], now: datetime) -> Iterator[str]:
    skipped = f", skipped {_by_reason(events['skipped'])}" if events["skipped"] else ""
    yield f"events    {events['due']:,} due, {events['sent']:,} sent{skipped}"
    if events["parked"]:
        yield (
            f"PARKED    events: {_by_reason(events['parked'])}: connector export events says which, "
            "connector replay parked tries them again"
        )
    yield from _newest(events["parked_newest"], now)
    if number := events[event_counts.USER_PARKED]:
        yield f"PARKED    {number:,} events wait with their users ({event_counts.USER_PARKED})"
    if (held := events["held"]) is not None:
        yield f"HELD      {hold_words.events(held['events'], held['users'])} ({held['reason']})"


def _by_reason(users: Mapping[str, int]) -> str:
    most_first = sorted(users.items(), key=lambda each: (-each[1], each[0]))
    return ", ".join(f"{number:,} {reason}" for reason, number in most_first)


def _ago(at: datetime, now: datetime) -> str:
    seconds = max((now - at).total_seconds(), 0)
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit} ago"
    return f"{seconds:.0f} s ago"
