"""`connector replay webhooks|parked`: takes up again what was put aside."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from connector import app, errors
from connector.commands import replay, replay_parked, terminal


class What(StrEnum):
    """What can be taken up again."""

    webhooks = "webhooks"
    parked = "parked"


def command(
    context: typer.Context,
    what: What,
    since: Annotated[
        str | None, typer.Option(metavar="TIME", help='Received, or parked, since then; "24h": that long ago.')
    ] = None,
    reason: Annotated[str | None, typer.Option(metavar="WORD", help="Unread, or parked, for this reason.")] = None,
    kind: Annotated[str | None, typer.Option(metavar="PATTERN", help='Webhooks of such a kind: "email.*".')] = None,
    user: Annotated[
        list[str] | None, typer.Option(metavar="ID", help="Parked: only whom the ID names; may be said repeatedly.")
    ] = None,
    settings: terminal.SettingsFile = None,
    as_json: terminal.AsJson = False,
) -> None:
    """Read webhooks again that could not be read, or try users and events again that could not be delivered."""
    if what is What.webhooks and user:
        raise errors.Misconfigured("--user is for `connector replay parked`")
    if what is What.parked and kind is not None:
        raise errors.Misconfigured("--kind is for `connector replay webhooks`")
    _, loaded = terminal.settings(context, settings)
    start = None if since is None else replay.since(since, loaded.people.timezone, app.now())
    with terminal.store(loaded) as db:
        if what is What.webhooks:
            read = app.run(replay.webhooks(db, loaded, app.now, start, kind, reason))
            terminal.show(read.as_json(), replay.describe(read), as_json)
        else:
            tried = replay_parked.parked(db, app.now(), start, reason, user or None)
            terminal.show(tried.as_json(), replay_parked.describe(tried), as_json)
