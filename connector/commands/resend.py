"""`connector resend --event NAME --since …`: sends events again that are stored, under the ids that they have.

They are only made due: a running connector sends them, or the next `connector sync`. Customer.io ignores those that it
has, but doesn't say for how long; so it is told how many are young enough to trigger campaigns. The whitelist and
events.max_age aren't asked: whoever resends has decided.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any

import typer

from connector import app, errors
from connector.commands import replay, replay_parked, terminal
from connector.inbound import due
from connector.inbound.reader import Reader
from connector.store import events_again
from connector.store.database import Database


def command(
    context: typer.Context,
    event: Annotated[
        str, typer.Option(metavar="NAME", help='Its exact name; "page" and "screen" are all views of that type.')
    ],
    since: Annotated[str, typer.Option(metavar="TIME", help='Happened since then; "24h": since that long ago.')],
    until: Annotated[
        str | None, typer.Option(metavar="TIME", help="Happened before then, which may be said likewise.")
    ] = None,
    user: Annotated[
        list[str] | None, typer.Option(metavar="ID", help="Only of whom the ID names; may be said repeatedly.")
    ] = None,
    settings: terminal.SettingsFile = None,
    as_json: terminal.AsJson = False,
) -> None:
    """Send events again, whatever became of them; Customer.io ignores those that it has."""
    _, loaded = terminal.settings(context, settings)
    now, zone = app.now(), loaded.people.timezone
    start = replay.since(since, zone, now)
    end = None if until is None else replay.since(until, zone, now, "--until")
    if end is not None and end <= start:
        raise errors.Misconfigured("--until must be later than --since")
    with terminal.store(loaded) as db:
        app.run(Reader(db, lambda: loaded, app.now).read_outstanding())
        found = resend(db, now, event, start, end, user or None)
    then = ": a running connector sends them now, else connector sync" if found["resent"] else ""
    words = [f"{found['resent']:,} {'event is' if found['resent'] == 1 else 'events are'} due again{then}"]
    if found["triggering"]:
        young = f"{found['triggering']:,} {'is' if found['triggering'] == 1 else 'are'} young enough"
        words.append(f"{young} to trigger campaigns: for how long Customer.io knows an id again, it doesn't say")
    terminal.show(found, words, as_json)


def resend(
    db: Database, now: datetime, name: str, since: datetime, until: datetime | None, given: Sequence[str] | None
) -> dict[str, Any]:
    """Makes those due that match; `given` are IDs, as `connector person` takes them. Raises Failed, and sends nothing,
    when one of them names nobody."""
    user_ids = None if given is None else db.read(replay_parked.named, given)
    chunks = events_again.named_ids(db, name, since, until, user_ids)
    found = [db.write(due.again, ids, now) for ids in chunks]
    return {"resent": sum(each.events for each in found), "triggering": sum(each.triggering for each in found)}
