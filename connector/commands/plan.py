"""`connector plan [NEW]`: what a pass would do to Customer.io now, or under another settings file; sends nothing.

    what has arrived is read -> outbound/planning walks the store -> what saving them would come to (commands/saving)
        -> told in words, as JSON, or for a pull request

The store is always that of the present settings, and NEW is read as if it stood in their place. With `--all` the store
is walked once more, so that people can be printed one by one when the guard's word is known. Exits 3 where the guard
would hold something: of what would be sent, or the edit.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from connector import app, errors
from connector.commands import never_seen, plan_text, saving, terminal
from connector.core import remarks
from connector.core.plan import Person
from connector.inbound import due
from connector.inbound.reader import Reader
from connector.outbound import planning
from connector.outbound.planning import Outlook
from connector.settings import Settings
from connector.store import event_counts, story
from connector.store.database import Database


def command(
    context: typer.Context,
    new: Annotated[
        Path | None, typer.Argument(metavar="NEW", help="Other settings, for the store of those in force.")
    ] = None,
    user: Annotated[
        str | None, typer.Option(metavar="ID", help="This user, whatever is due: whoever the ID names.")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help=f"Everybody by name, not the first {planning.FIRST}.")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="For a pull request.")] = False,
    settings: terminal.SettingsFile = None,
    as_json: terminal.AsJson = False,
) -> None:
    """What a pass would do now, or under other settings: who, what changes, how many calls, what the guard holds. Exits
    3 when it holds something."""
    if sum((every, user is not None)) == 2 or (markdown and as_json):
        raise errors.Misconfigured("choose one: --all or --user, --markdown or --json")
    path, loaded = terminal.settings(context, settings)
    wanted = loaded if new is None else terminal.other_settings(new, path)
    with terminal.store(loaded) as db:
        app.run(Reader(db, lambda: loaded, app.now).read_outstanding())
        now = app.now()
        only = None if user is None else _named(db, user)
        outlook = planning.outlook(db, wanted, now, only)
        saved = saving.foretold(db, path, loaded, wanted, now)
        told = tell(db, loaded, wanted, outlook, saved, now)
        first = outlook.plan.people
        people = planning.everyone(db, wanted, now, outlook.holds) if every else iter(first)
        if as_json:
            _print_json(told, people)
        else:
            sent = sum(sum(outlook.plan.decisions.get(verb, {}).values()) for verb in ("create", "update", "delete"))
            more = 0 if every or user is not None else sent - len(first)
            describe = plan_text.markdown if markdown else plan_text.describe
            terminal.show(None, describe(told, str(new or path), map(asdict, people), more), as_json=False)
    if told["guard"]["held"] or (saved is not None and saved["held"]):
        raise typer.Exit(3)


def tell(
    db: Database, before: Settings, wanted: Settings, outlook: Outlook, saved: dict[str, Any] | None, now: datetime
) -> dict[str, Any]:
    """The plan as `--json` prints it, but for the people. `before` are the settings in force: `wanted` themselves, or
    what they would take the place of. `saved` is what saving them would come to."""
    plan, sending = outlook.plan, outlook.plan.sending
    coming = due.outlook(db, wanted.events, now)
    # Of other settings only what they add, so that one busy user doesn't speak against every edit.
    others = None if wanted is before else before
    events, limit = db.read(event_counts.would_hold, wanted, now, others), wanted.guard.max_events_per_user
    waiting = [planning.Hold(event_counts.EVENT, event_counts.LIMIT, events.events, limit or 0)] if events.users else []
    holds = [*outlook.holds, *waiting]
    return {
        "hash": wanted.sent_hash(),
        "surprises": [
            *saving.surprises(saved, outlook),
            *plan_text.held_events(events),
            *plan_text.surprises(before, wanted, outlook),
            *plan_text.paused(wanted, sum(coming.by_name.values())),
            *(f"{each.reason}: {each.message}" for each in remarks.remarks(wanted)),
            *never_seen.lines(db, wanted, now),
        ],
        "decisions": plan.decisions,
        "events": sum(coming.by_name.values()),
        "events_by_name": coming.by_name,
        "events_triggering": coming.triggering,
        "operations": sending.operations,
        "calls": sending.calls,
        "bytes": sending.bytes,
        "minutes": round(sending.calls / wanted.customerio.rate_per_second / 60, 2),
        "guard": {
            "held": bool(holds),
            "reasons": list(dict.fromkeys(hold.reason for hold in holds)),
            "holds": [asdict(hold) for hold in holds],
        },
        "saving": saved,
        "unknown": list(plan_text.unknown(plan)),
    }


def _named(db: Database, given: str) -> str:
    found = db.read(story.matches, given)
    if not found:
        raise errors.Failed(f"nobody is known as {given}; tried as {', '.join(story.KINDS)}")
    return found[0].user_id


def _print_json(told: dict[str, Any], people: Iterable[Person]) -> None:
    """One object on one line; the people, who may be very many, as they come."""
    write = sys.stdout.buffer.write
    write(msgspec.json.encode(told)[:-1] + b',"people":[')
    for number, person in enumerate(people):
        write((b"," if number else b"") + msgspec.json.encode(person))
    write(b"]}\n")
    sys.stdout.buffer.flush()
