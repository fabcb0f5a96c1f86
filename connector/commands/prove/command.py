"""The command: its options, and the proof from start to end."""

from __future__ import annotations

import asyncio
import contextlib
import random
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated

import aiohttp
import sqlalchemy as sa
import typer

from connector import app, errors, log, settings_file
from connector.commands import terminal
from connector.commands.prove import comparing, evidence, killing, patience, processes, report, settling, setup
from connector.commands.prove.cases import Case
from connector.commands.prove.killing import Killed
from connector.commands.prove.load import Load
from connector.commands.prove.options import Wanted
from connector.commands.prove.progress import Shown
from connector.commands.prove.report import Outcome
from connector.settings import Settings
from connector.store.database import Database
from connector.store.schema import inbox, users

_SEED_BITS = 31
_LOOK_AGAIN = 0.2
_THERE_SECONDS = 120.0
_THERE_SHARE = 0.5  # of the people, before the first webhook reports on some


def command(
    kills: Annotated[int, typer.Option(min=1, help="How often a process is killed.")] = 20,
    events: Annotated[
        int, typer.Option(min=1, help="How many webhooks there are, before repeats; a fifth as many events go out.")
    ] = 20_000,
    seed: Annotated[int | None, typer.Option(help="The plan to repeat; a new one is drawn, and printed.")] = None,
    servers: Annotated[int | None, typer.Option(min=1, help="`serve` processes [1; 2 on PostgreSQL].")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="`work` processes [1; 2 on PostgreSQL].")] = None,
    store: Annotated[str | None, typer.Option(metavar="URL", help="An empty store [SQLite in a folder].")] = None,
    restart_command: Annotated[
        str | None, typer.Option(metavar="COMMAND", help="Restarts the database; run now and then.")
    ] = None,
    patience_seconds: Annotated[
        int,
        typer.Option(
            "--patience",
            min=1,
            help="Seconds to wait at the end until nothing is due, or for the next acknowledgement.",
        ),
    ] = 300,
    _settings: Annotated[Path | None, typer.Option("--settings", hidden=True)] = None,
    as_json: terminal.AsJson = False,
) -> None:
    """The crash test: kills connectors amid webhooks, edits, events and faults, and compares everything in the end.
    Exits 1 unless nothing is lost, doubled, out of order or wrong."""
    log.configure("error", "auto", personal_data=False)
    number = 1 if store is None or store.startswith("sqlite:") else 2
    wanted = Wanted(
        kills=kills,
        events=events,
        seed=random.SystemRandom().getrandbits(_SEED_BITS) if seed is None else seed,
        servers=servers or number,
        workers=workers or number,
        store=store,
        restart_command=restart_command,
        patience_seconds=patience_seconds,
    )
    if wanted.is_sqlite and not wanted.servers == wanted.workers == 1:
        raise errors.Misconfigured("SQLite takes one server and one worker; several need --store postgresql://…")
    try:
        outcome = app.run(_prove(wanted))
    except asyncio.CancelledError:
        raise typer.Exit(128 + signal.SIGTERM) from None
    terminal.show(outcome.as_json(), report.describe(outcome), as_json)
    raise typer.Exit(0 if outcome.holds else 1)


async def _prove(wanted: Wanted) -> Outcome:
    task = asyncio.current_task()
    if task is not None:
        # As an exception, so that every process that we started ends.
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    folder = Path(tempfile.mkdtemp(prefix="connector-prove-"))
    try:
        with Shown(terminal.remarks, wanted) as shown:
            shown.say(f"seed {wanted.seed}; logs in {folder}")
            outcome = await _prove_in(folder, wanted, shown)
    except asyncio.CancelledError:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    except (aiohttp.ClientError, TimeoutError) as error:
        raise errors.Failed(f"the sandbox did not answer ({type(error).__name__}): see its log in {folder}") from error
    if not outcome.holds:
        return Outcome(wanted, outcome.figures, outcome.cases, str(folder))
    shutil.rmtree(folder, ignore_errors=True)
    return outcome


async def _prove_in(folder: Path, wanted: Wanted, shown: Shown) -> Outcome:
    began = time.monotonic()
    port = processes.free_port()
    url = f"http://127.0.0.1:{port}"
    keys = setup.secrets(wanted, folder)
    with contextlib.ExitStack() as stack:
        async with (
            aiohttp.ClientSession() as session,
            processes.sandbox(folder, setup.sandbox_options(wanted, keys, url)) as sandbox,
        ):
            settings = setup.write_settings(folder, keys, wanted, port, sandbox.url)
            db = stack.enter_context(_opened(settings_file.load(settings)))
            load = Load(wanted, url, keys["PROVE_WRITE_KEY"], db)
            async with processes.connectors(folder, settings, wanted.roles) as children:
                crashes = await _told_of(load, wanted, children)
                await _people_are_there(session, sandbox.url, wanted)
                shown.say(f"{wanted.users:,} users told of; webhooks, edits, kills")
                killed = await _kill_amid(load, wanted, children, db, session, sandbox.url, shown)
                crashes += killed.crashes
                crashes += await _webhooks_are_acknowledged(wanted, children, session, sandbox.url, shown)
                faults = await _calm_down(session, sandbox.url, shown)
                crashes += await settling.settle(db, load.stories, children, wanted, shown.left)
                answers = await evidence.acknowledged(session, sandbox.url)
                unanswered = await evidence.unanswered(session, sandbox.url)
                unordered = await evidence.unordered(session, sandbox.url)
                statuses = [(child, await child.stop()) for child in children]
        unclean = [
            Case("crashed", "unclean_stop", child.name, f"exit {status}") for child, status in statuses if status
        ]
        others = [*unordered, *crashes, *unclean, *evidence.failed_tasks(children, folder)]
        shown.say("comparing")
        found = evidence.gather(db, sandbox.journal, load, dict(answers), unanswered, others)
    noticed = evidence.noticed(children, folder)
    figures = report.figures(time.monotonic() - began, killed, load, len(answers), found, faults, noticed)
    return Outcome(wanted, figures, comparing.compare(found))


async def _told_of(load: Load, wanted: Wanted, children: Sequence[processes.Child]) -> list[Case]:
    """Everybody for the first time."""
    telling = asyncio.create_task(load.begin())

    async def look() -> tuple[bool, object]:
        return telling.done(), f"{load.edits} of {wanted.users} users"

    try:
        cases = await patience.acknowledged("users", children, wanted, _THERE_SECONDS, look)
        if not telling.done():
            raise errors.Failed(f"the users were not acknowledged: {cases}")
        await telling
    finally:
        telling.cancel()
        await asyncio.gather(telling, return_exceptions=True)
    return cases


async def _kill_amid(
    load: Load,
    wanted: Wanted,
    children: Sequence[processes.Child],
    db: Database,
    session: aiohttp.ClientSession,
    sandbox_url: str,
    shown: Shown,
) -> Killed:
    """Kills while users are edited and tell of events; ends when all of that is acknowledged."""
    editing = asyncio.create_task(load.run())

    async def told(killed: Killed) -> None:
        load.moving = killing.is_moving(killed, wanted)
        load.talking.progress = (killed.kills + 1) / wanted.kills
        if editing.done():
            await editing  # it doesn't end by itself but with an error
        acknowledged = (await killing.webhooks(session, sandbox_url))["acknowledged"]
        shown.killed(killed, acknowledged, load.edits, load.talking.told)

    try:
        killed = await killing.go_on(wanted, children, db, session, sandbox_url, told)
        load.stop()

        async def look() -> tuple[bool, object]:
            return editing.done(), f"{load.edits} edits, {load.talking.told} events"

        killed.crashes += await patience.acknowledged(
            "edits and events", children, wanted, wanted.patience_seconds, look
        )
        if editing.done():
            await editing
    finally:
        editing.cancel()
        await asyncio.gather(editing, return_exceptions=True)
    return killed


async def _webhooks_are_acknowledged(
    wanted: Wanted,
    children: Sequence[processes.Child],
    session: aiohttp.ClientSession,
    sandbox_url: str,
    shown: Shown,
) -> list[Case]:
    shown.say("no more kills; until every webhook is acknowledged")

    async def look() -> tuple[bool, object]:
        standing = await killing.webhooks(session, sandbox_url)
        shown.webhooks(standing["acknowledged"])
        return not standing["mixes_under_way"], f"{standing['acknowledged']} answers 200"

    return await patience.acknowledged("webhooks", children, wanted, wanted.patience_seconds, look)


async def _calm_down(session: aiohttp.ClientSession, sandbox_url: str, shown: Shown) -> Mapping[str, int]:
    """No more faults; returns those that there were."""
    async with session.get(f"{sandbox_url}/sandbox/faults") as response:
        faults: dict[str, int] = (await response.json())["given"]
    async with session.delete(f"{sandbox_url}/sandbox/faults") as response:
        response.raise_for_status()
    shown.say("no more faults; until nothing is left to do")
    return faults


async def _people_are_there(session: aiohttp.ClientSession, sandbox_url: str, wanted: Wanted) -> None:
    until = time.monotonic() + _THERE_SECONDS
    while time.monotonic() < until:
        async with session.get(f"{sandbox_url}/sandbox") as response:
            if (await response.json())["people"] >= wanted.users * _THERE_SHARE:
                return
        await asyncio.sleep(_LOOK_AGAIN)
    raise errors.Failed(f"within {_THERE_SECONDS:.0f} s not even half of the users became people: see the logs")


@contextlib.contextmanager
def _opened(settings: Settings) -> Iterator[Database]:
    """The store, made where there is none. One with anything in it is somebody's."""
    with terminal.store(settings, make=True) as db:
        if db.read(_holds_anything):
            raise errors.Misconfigured("--store: it is not empty; prove takes an empty one, to be thrown away")
        yield db


def _holds_anything(connection: sa.Connection) -> bool:
    return any(connection.execute(sa.select(sa.exists().select_from(table))).scalar_one() for table in (users, inbox))
