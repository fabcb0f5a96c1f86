"""`connector plan [NEW]`: what a pass would do to Customer.io now, or under another settings file; sends nothing.

    what has arrived is read -> outbound/planning walks the store -> told in words, as JSON, or for a pull request

The store is always that of the settings in force. With `--all` the store is walked a second time, so that people can be
printed one by one when the guard's word is known.
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

from connector import app, errors, settings_file
from connector.commands import never_seen, plan_text, terminal
from connector.core import remarks
from connector.core.plan import Person
from connector.inbound.reader import Reader
from connector.outbound import planning
from connector.outbound.planning import Outlook
from connector.settings import Settings
from connector.store import due_events, story
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
    """What a pass would do now, or under other settings: who, what changes, how many calls, what the guard holds."""
    if sum((every, user is not None)) == 2 or (markdown and as_json):
        raise errors.Misconfigured("choose one: --all or --user, --markdown or --json")
    path, loaded = terminal.settings(context, settings)
    wanted = loaded if new is None else settings_file.load(new)
    with terminal.store(loaded) as db:
        app.run(Reader(db, lambda: loaded, app.now).read_outstanding())
        now = app.now()
        only = None if user is None else _named(db, user)
        outlook = planning.outlook(db, wanted, now, only)
        told = tell(db, loaded, wanted, outlook, now)
        first = outlook.plan.people
        people = planning.everyone(db, wanted, now, outlook.holds) if every else iter(first)
        if as_json:
            _print_json(told, people)
            return
        sent = sum(sum(outlook.plan.decisions.get(verb, {}).values()) for verb in ("create", "update", "delete"))
        more = 0 if every or user is not None else sent - len(first)
        describe = plan_text.markdown if markdown else plan_text.describe
        terminal.show(None, describe(told, str(new or path), map(asdict, people), more), as_json=False)


def tell(db: Database, before: Settings, wanted: Settings, outlook: Outlook, now: datetime) -> dict[str, Any]:
    """The plan as `--json` prints it, but for the people."""
    plan, sending = outlook.plan, outlook.plan.sending
    due = db.read(due_events.outlook, now)
    return {
        "hash": wanted.sent_hash(),
        "surprises": [
            *plan_text.surprises(before, wanted, outlook),
            *(f"{each.reason}: {each.message}" for each in remarks.remarks(wanted)),
            *never_seen.lines(db, wanted, now),
        ],
        "decisions": plan.decisions,
        "events": sum(due.by_name.values()),
        "events_by_name": due.by_name,
        "events_triggering": due.triggering,
        "operations": sending.operations,
        "calls": sending.calls,
        "bytes": sending.bytes,
        "minutes": round(sending.calls / wanted.customerio.rate_per_second / 60, 2),
        "guard": {
            "held": bool(outlook.holds),
            "reasons": list(dict.fromkeys(hold.reason for hold in outlook.holds)),
            "holds": [asdict(hold) for hold in outlook.holds],
        },
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
