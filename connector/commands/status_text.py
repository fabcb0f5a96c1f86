"""`connector status`: `/status` for a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any


def describe(found: dict[str, Any], now: datetime) -> Iterator[str]:
    """What `admin/status` collected, in words, a line each."""
    stored, inbox, backlog = found["stored"], found["inbox"], found["backlog"]
    yield f"connector {found['version']}, settings {found['settings']['hash']}"
    people = f"{stored['people']:,} people at Customer.io"
    yield f"stored    {stored['users']:,} users, {stored['events']:,} events, {people}"
    last = f", last {_ago(inbox['last_received_at'], now)}" if inbox["last_received_at"] else ", none so far"
    yield f"inbox     {inbox['new']:,} to read, {inbox['unread']:,} unread{last}"
    oldest = f", oldest {_ago(backlog['oldest_at'], now)}" if backlog["oldest_at"] else ""
    yield f"backlog   {backlog['due']:,} due, {backlog['waiting']:,} waiting{oldest}"
    for hold in found["held"]:
        yield (
            f"HELD      {hold['what']} {hold['count']:,} users ({hold['reason']}, {_ago(hold['since'], now)}): "
            f"connector approve {hold['hash']}"
        )
    for run in found["runs"]:
        counts = ", ".join(f"{value:,} {name}" for name, value in run["counts"].items() if isinstance(value, int))
        yield f"pass      {_ago(run['started_at'], now)}: {run['state']}{f', {counts}' if counts else ''}"


def _ago(at: datetime, now: datetime) -> str:
    seconds = max((now - at).total_seconds(), 0)
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit} ago"
    return f"{seconds:.0f} s ago"
