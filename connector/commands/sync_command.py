"""`connector sync [--user ID …]`, as the command line has it."""

from __future__ import annotations

from typing import Annotated

import typer

from connector import app
from connector.commands import sync, sync_summary, terminal
from connector.watching import starting


def command(
    context: typer.Context,
    user: Annotated[
        list[str] | None,
        typer.Option(metavar="ID", help="Nobody but whom the ID names, and show the calls; may be said repeatedly."),
    ] = None,
    settings: terminal.SettingsFile = None,
    as_json: terminal.AsJson = False,
) -> None:
    """Read what has arrived, make one full pass, and work until nothing is due. Exits 3 when something is held."""
    path, loaded = terminal.settings(context, settings)
    with terminal.store(loaded) as db:
        current = starting.settle(path, loaded, db, app.now())
        summary = app.run(sync.sync(db, current.settings, app.now, terminal.remarks, user or None))
        summary.edit, summary.replaced = current.held, current.replaced
    terminal.show(summary.as_json(), sync_summary.describe(summary), as_json)
    raise typer.Exit(summary.exit_status)
