"""The command line. Exit status: 0 done, 1 failed, 2 settings or usage, 3 held by the guard.

Every command takes `--settings FILE`, before or after its name. What is the user's to mend is a message on stderr,
never a traceback. Results go to stdout, progress and remarks to stderr.
"""

from __future__ import annotations

import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import msgspec
import sqlalchemy as sa
import typer

import connector
from connector import app, errors, log, settings_file
from connector.admin import status as status_of
from connector.commands import approve as approving
from connector.commands import (
    broken_file,
    erase,
    export_events,
    import_command,
    init,
    person,
    plan,
    readmit,
    replay_command,
    resend,
    sandbox_server,
    segments,
    settings_command,
    status_text,
    sync_command,
    tail,
    terminal,
)
from connector.commands import check as checking
from connector.commands.demo import demo as run_demo
from connector.commands.prove import command as prove
from connector.inbound.reader import Reader
from connector.settings import Settings
from connector.store import export as exporting
from connector.store import indexes
from connector.store import migrate as migrating
from connector.store.database import Database
from connector.watching import starting

cli = typer.Typer(
    name="connector",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


class Exported(StrEnum):
    """What `export` prints."""

    users = "users"
    events = "events"
    people = "people"
    webhooks = "webhooks"
    attempts = "attempts"


def main() -> None:
    """The entry point."""
    try:
        cli()
    except errors.Misconfigured as error:
        terminal.remarks.print(str(error))
        sys.exit(2)
    except errors.ConnectorError as error:
        terminal.remarks.print(str(error))
        sys.exit(1)
    except sa.exc.DBAPIError as error:
        terminal.remarks.print(
            f"the store failed ({type(error.orig).__name__}): {str(error.orig).partition(chr(10))[0]}"
        )
        sys.exit(1)
    except BrokenPipeError:
        # Whoever read our output has enough; the interpreter's own flush must not complain again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


@cli.callback(invoke_without_command=True)
def common(
    context: typer.Context,
    settings: terminal.SettingsFile = None,
    version: Annotated[bool, typer.Option("--version", is_eager=True)] = False,
) -> None:
    """A self-hosted, bidirectional connector between a user-event store and Customer.io."""
    if version:
        terminal.out.print(connector.__version__)
        raise typer.Exit
    if context.invoked_subcommand is None:
        terminal.out.print(context.get_help())
        raise typer.Exit(2)
    context.obj = settings


@cli.command()
def run(context: typer.Context, settings: terminal.SettingsFile = None) -> None:
    """Server and worker in one process: the main job. Makes the store when there is none."""
    _run(*terminal.settings(context, settings), app.BOTH)


@cli.command()
def serve(context: typer.Context, settings: terminal.SettingsFile = None) -> None:
    """The server alone: receives and reads, sends nothing. Beside it runs `connector work`."""
    _run(*terminal.settings(context, settings), frozenset({app.SERVE}))


@cli.command()
def work(
    context: typer.Context,
    admin_port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="Health, metrics and status on this port of admin.host; 0: any free one."),
    ] = None,
    settings: terminal.SettingsFile = None,
) -> None:
    """The worker alone: sends, receives nothing. It listens nowhere, unless --admin-port says where."""
    _run(*terminal.settings(context, settings), frozenset({app.WORK}), admin_port)


def _run(path: Path, loaded: Settings, parts: app.Parts, admin_port: int | None = None) -> None:
    log.configure(loaded.log.level, loaded.log.format, personal_data=loaded.log.personal_data)
    app.run(app.main(path, loaded, parts, admin_port))


cli.command(name="sync")(sync_command.command)


cli.command(name="import")(import_command.command)


cli.command(name="replay")(replay_command.command)


@cli.command(name="export")
def export_(
    context: typer.Context,
    what: Exported,
    form: Annotated[str | None, typer.Option("--format", help="segment: Customer.io's events, for Segment.")] = None,
    settings: terminal.SettingsFile = None,
    _json: terminal.AsJson = True,
) -> None:
    """Users, events, people, webhooks or attempts (what was not plain success) as JSONL on stdout; with --format
    segment only Customer.io's own events."""
    export_events.require(form, what)
    _, loaded = terminal.settings(context, settings)
    with terminal.store(loaded) as db:
        app.run(_read_outstanding(db, loaded))
        write = sys.stdout.buffer.write
        everything = exporting.everything(db, what, loaded, app.now())
        if what is Exported.events:
            everything = export_events.complete(everything)
        for row in everything if form is None else export_events.segment_messages(db):
            write(msgspec.json.encode(row) + b"\n")
        sys.stdout.buffer.flush()


@cli.command()
def check(
    context: typer.Context,
    new: Annotated[Path | None, typer.Argument(metavar="NEW", help="Another settings file to check.")] = None,
    settings: terminal.SettingsFile = None,
    as_json: terminal.AsJson = False,
) -> None:
    """Settings, store, credentials, region, webhook URL, segments: a line each, with what to do. Exits 1 on a fault."""
    present = terminal.path(context, settings)
    loaded = settings_file.load(present) if new is None else terminal.other_settings(new, present)
    lines = [checking.Line("ok", "settings", f"{new or present} can be used"), *app.run(checking.check(loaded))]
    shown = (f"{line.level:<8} {line.about:<11} {line.message}" for line in lines)
    terminal.show([msgspec.to_builtins(line) for line in lines], shown, as_json)
    raise typer.Exit(1 if any(line.level == "fault" for line in lines) else 0)


@cli.command()
def migrate(context: typer.Context, settings: terminal.SettingsFile = None, as_json: terminal.AsJson = False) -> None:
    """Bring the store's schema up to this version; makes the store when there is none."""
    _, loaded = terminal.settings(context, settings)
    db = Database(loaded.store.url.get_secret_value())
    try:
        with app.errors_as_failed():
            before, after = migrating.upgrade(db)
            indexes.apply(db, loaded.store.indexed_attributes)
    finally:
        db.close()
    words = f"the store is at {after} already" if before == after else f"migrated from {before or 'nothing'} to {after}"
    terminal.show({"before": before, "after": after}, [words], as_json)


@cli.command()
def status(context: typer.Context, settings: terminal.SettingsFile = None, as_json: terminal.AsJson = False) -> None:
    """The backlog, what is held, the last passes."""
    now = app.now()
    with broken_file.opened(context, settings) as (_, loaded, db):
        found = db.read(status_of.collect, loaded, now)
    terminal.show(found, status_text.describe(found, now), as_json)


@cli.command()
def approve(
    context: typer.Context,
    hash_: Annotated[str | None, typer.Argument(metavar="HASH", help="What to let go.")] = None,
    first: Annotated[int | None, typer.Option(min=1, help="Only so many.")] = None,
    settings: terminal.SettingsFile = None,
    as_json: terminal.AsJson = False,
) -> None:
    """List what the guard holds; with a hash let it go."""
    with broken_file.opened(context, settings) as (path, loaded, db):
        if hash_ is None:
            holds = approving.listed(db)
            terminal.show(holds, approving.describe(holds), as_json)
            return
        in_force = starting.in_force(path, loaded, db)
        released = approving.approve(db, in_force, hash_, first, app.now())
    words = f"{released:,} let go; a running connector sends them now, else run `connector sync`"
    terminal.show({"released": released}, [words], as_json)


@cli.command()
def demo(
    once: Annotated[bool, typer.Option("--once", help="Exit when it's done, instead of staying up.")] = False,
    _settings_file: terminal.SettingsFile = None,
    as_json: terminal.AsJson = False,
) -> None:
    """The whole thing in one process, against a sandbox, with sample users; says what happened."""
    log.configure("error", "auto", personal_data=False)
    raise typer.Exit(app.run(run_demo(once=once, as_json=as_json, out=terminal.out, remarks=terminal.remarks)))


cli.command(name="erase")(erase.command)
cli.command(name="init")(init.command)
cli.command(name="person")(person.command)
cli.command(name="plan")(plan.command)
cli.command(name="prove", cls=terminal.WithoutSettings)(prove.command)
cli.command(name="readmit")(readmit.command)
cli.command(name="resend")(resend.command)
cli.command(name="sandbox", cls=terminal.WithoutSettings)(sandbox_server.command)
cli.command(name="segments")(segments.command)
cli.add_typer(settings_command.cli, name="settings")
cli.command(name="tail")(tail.command)


async def _read_outstanding(db: Database, settings: Settings) -> int:
    return await Reader(db, lambda: settings, app.now).read_outstanding()
