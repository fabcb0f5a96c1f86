"""The command: its options, and the proof from start to end."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import random
import shutil
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import aiohttp
import sqlalchemy as sa
import typer

from connector import app, errors, log, settings_file
from connector.commands import terminal
from connector.commands.prove import comparing, evidence, killing, processes, report, settling
from connector.commands.prove.comparing import Applied, Case, Evidence
from connector.commands.prove.killing import Killed
from connector.commands.prove.load import Load
from connector.commands.prove.options import EVERY_SECONDS, FAULTS, GRACE_SECONDS, LATENCY, Wanted
from connector.commands.prove.progress import Shown
from connector.commands.prove.report import Figures, Outcome
from connector.commands.prove.stories import LARGE, LARGE_SEATS, MEMBERS, PICKED
from connector.inbound.webhooks import PATH
from connector.settings import Settings
from connector.store.database import Database
from connector.store.schema import inbox, users

_SITE_ID = "prove-site"
_SEED_BITS = 31
_SPEED = 3600  # Customer.io's own reports are tried again after an hour: here a second
_LOOK_AGAIN = 0.2
_THERE_SECONDS = 120.0
_THERE_SHARE = 0.5  # of the people, before the first webhook reports on some

_SETTINGS = """\
[server]
port = {port}
reuse_port = {reuse_port}

[admin]
port = 0

[store]
url = "env:PROVE_STORE"

[customerio]
site_id = "{site_id}"
api_key = "env:PROVE_API_KEY"
region = "us"
track_url = "{track_url}"

[webhooks]
signing_keys = ["env:PROVE_SIGNING_KEY"]

[intake]
write_keys = ["env:PROVE_WRITE_KEY"]

[people]
segments = ["{members}"]
attributes = {picked}

[people.delete]
enabled = true
grace = "{grace}s"

[guard]
max_creates = "unlimited"
max_delete_share = 1

[sync]
every = "{every}s"
latency = "200ms"

[log]
format = "json"

[segments]
"{members}" = {{ attribute = "stage", is = "member" }}
"{large}" = {{ attribute = "seats", gte = {large_seats} }}
"""


def command(
    kills: Annotated[int, typer.Option(min=1, help="How often a process is killed.")] = 20,
    events: Annotated[int, typer.Option(min=1, help="How many webhooks there are, before repeats.")] = 20_000,
    seed: Annotated[int | None, typer.Option(help="The plan to repeat; a new one is drawn, and printed.")] = None,
    servers: Annotated[int | None, typer.Option(min=1, help="`serve` processes [1; 2 on PostgreSQL].")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="`work` processes [1; 2 on PostgreSQL].")] = None,
    store: Annotated[str | None, typer.Option(metavar="URL", help="An empty store [SQLite in a folder].")] = None,
    restart_command: Annotated[
        str | None, typer.Option(metavar="COMMAND", help="Restarts the database; run now and then.")
    ] = None,
    patience: Annotated[int, typer.Option(min=1, help="Seconds to wait at the end until nothing is due.")] = 300,
    _settings: Annotated[Path | None, typer.Option("--settings", hidden=True)] = None,
    as_json: terminal.AsJson = False,
) -> None:
    """The crash test: kills connectors amid webhooks, edits and faults, and compares everything in the end. Exits 1
    unless nothing is lost, doubled, out of order or wrong."""
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
        patience_seconds=patience,
    )
    if wanted.is_sqlite and not wanted.servers == wanted.workers == 1:
        raise errors.Misconfigured("SQLite takes one server and one worker; several need --store postgresql://…")
    outcome = app.run(_prove(wanted))
    terminal.show(outcome.as_json(), report.describe(outcome), as_json)
    raise typer.Exit(0 if outcome.holds else 1)


async def _prove(wanted: Wanted) -> Outcome:
    task = asyncio.current_task()
    if task is not None:
        # As an exception, so that every process that we started ends.
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    folder = Path(tempfile.mkdtemp(prefix="connector-prove-"))
    outcome: Outcome | None = None
    try:
        with Shown(terminal.remarks, wanted) as shown:
            shown.say(f"seed {wanted.seed}; logs in {folder}")
            outcome = await _prove_in(folder, wanted, shown)
    finally:
        if outcome is not None and outcome.holds:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
    return outcome if outcome.holds else Outcome(wanted, outcome.figures, outcome.cases, str(folder))


async def _prove_in(folder: Path, wanted: Wanted, shown: Shown) -> Outcome:
    began = time.monotonic()
    port = processes.free_port()
    url = f"http://127.0.0.1:{port}"
    secrets = _secrets(wanted, folder)
    with contextlib.ExitStack() as stack:
        async with (
            aiohttp.ClientSession() as session,
            processes.sandbox(folder, _sandbox_options(wanted, secrets, url)) as sandbox,
        ):
            settings = _write_settings(folder, secrets, wanted, port, sandbox.url)
            db = stack.enter_context(_opened(settings_file.load(settings)))
            load = Load(wanted, url, secrets["PROVE_WRITE_KEY"], db)
            async with processes.connectors(folder, settings, wanted.roles) as children:
                await load.begin()
                await _people_are_there(session, sandbox.url, wanted)
                shown.say(f"{wanted.users:,} users told of; webhooks, edits, kills")
                killed = await _kill_amid(load, wanted, children, db, session, sandbox.url, shown)
                faults = await _calm_down(session, sandbox.url, shown)
                crashes = await settling.settle(
                    db,
                    functools.partial(killing.undelivered, session, sandbox.url),
                    load.stories,
                    children,
                    wanted.patience_seconds,
                    shown.left,
                )
                answers = await evidence.acknowledged(session, sandbox.url)
                statuses = [(child, await child.stop()) for child in children]
        unclean = [
            Case("crashed", "unclean_stop", child.name, f"exit {status}") for child, status in statuses if status
        ]
        others = [*killed.crashes, *crashes, *unclean, *evidence.failed_tasks(children, folder)]
        shown.say("comparing")
        found = evidence.gather(db, sandbox.journal, load.stories, set(answers), others)
    figures = _figures(time.monotonic() - began, killed, load, answers, found, faults)
    return Outcome(wanted, figures, comparing.compare(found))


async def _kill_amid(
    load: Load,
    wanted: Wanted,
    children: Sequence[processes.Child],
    db: Database,
    session: aiohttp.ClientSession,
    sandbox_url: str,
    shown: Shown,
) -> Killed:
    """Kills while users are edited; ends when every edit is acknowledged."""
    editing = asyncio.create_task(load.run())

    async def told(killed: Killed) -> None:
        load.moving = killing.is_moving(killed, wanted)
        if editing.done():
            await editing  # it doesn't end by itself but with an error
        shown.killed(killed, (await killing.webhooks(session, sandbox_url))["acknowledged"], load.edits)

    try:
        killed = await killing.go_on(wanted, children, db, session, sandbox_url, told)
        load.stop()
        async with asyncio.timeout(wanted.patience_seconds):
            await editing
    except TimeoutError:
        raise errors.Failed("the last edits were not acknowledged in time") from None
    finally:
        editing.cancel()
        await asyncio.gather(editing, return_exceptions=True)
    return killed


async def _calm_down(session: aiohttp.ClientSession, sandbox_url: str, shown: Shown) -> Mapping[str, int]:
    """Once all webhooks are acknowledged, no more faults; returns those that there were."""
    shown.say("no more kills; until every webhook is acknowledged")
    while (standing := await killing.webhooks(session, sandbox_url))["mixes_under_way"]:
        shown.webhooks(standing["acknowledged"])
        await asyncio.sleep(_LOOK_AGAIN)
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


def _figures(
    seconds: float, killed: Killed, load: Load, answers: Sequence[str], found: Evidence, faults: Mapping[str, int]
) -> Figures:
    effective = [each for each in found.applied if each.refused is None]
    delivered = {(each.customer_id, each.seq) for each in effective if each.seq is not None}
    return Figures(
        seconds=round(seconds, 1),
        kills=killed.kills,
        kills_while_receiving=killed.receiving,
        kills_while_sending=killed.sending,
        restarts=killed.restarts,
        webhooks=len(found.sent),
        answers=len(answers),
        users=len(load.stories),
        edits=load.edits,
        moves=load.moves,
        delivered=len(delivered),
        deleted=sum(each.what == "delete" for each in effective),
        returned=_returned(effective),
        dropped=sum(each.refused == "older_timestamp" for each in found.applied),
        faults=dict(faults),
    )


def _returned(effective: Sequence[Applied]) -> int:
    gone: set[str] = set()
    returned: Counter[str] = Counter()
    for each in effective:
        if each.what == "delete":
            gone.add(each.customer_id)
        elif each.customer_id in gone:
            gone.discard(each.customer_id)
            returned[each.customer_id] += 1
    return returned.total()


def _secrets(wanted: Wanted, folder: Path) -> dict[str, str]:
    drawn = random.SystemRandom()
    keys = {
        name: f"{drawn.getrandbits(128):032x}" for name in ("PROVE_API_KEY", "PROVE_SIGNING_KEY", "PROVE_WRITE_KEY")
    }
    return {**keys, "PROVE_STORE": wanted.store or f"sqlite:///{folder / 'connector.db'}"}


@contextlib.contextmanager
def _opened(settings: Settings) -> Iterator[Database]:
    """The store, made where there is none. One with anything in it is somebody's."""
    with terminal.store(settings, make=True) as db:
        if db.read(_holds_anything):
            raise errors.Misconfigured("--store: it is not empty; prove takes an empty one, to be thrown away")
        yield db


def _holds_anything(connection: sa.Connection) -> bool:
    return any(connection.execute(sa.select(sa.exists().select_from(table))).scalar_one() for table in (users, inbox))


def _sandbox_options(wanted: Wanted, secrets: Mapping[str, str], url: str) -> list[str]:
    options: dict[str, Any] = {
        "--site-id": _SITE_ID,
        "--api-key": secrets["PROVE_API_KEY"],
        "--signing-key": secrets["PROVE_SIGNING_KEY"],
        "--webhook-url": url + PATH,
        "--seed": wanted.seed,
        "--latency": LATENCY,
        "--speed": _SPEED,
    }
    shares = [word for fault, share in FAULTS.items() for word in ("--fail-share", f"{fault}={share}")]
    return [*(str(word) for pair in options.items() for word in pair), *shares]


def _write_settings(folder: Path, secrets: Mapping[str, str], wanted: Wanted, port: int, track_url: str) -> Path:
    env = folder / ".env"
    env.touch(mode=0o600)
    env.write_text("".join(f"{name}={value}\n" for name, value in secrets.items()))
    path = folder / "settings.toml"
    path.write_text(
        _SETTINGS.format(
            port=port,
            # Several servers share the port; on SQLite there is one.
            reuse_port="true" if wanted.servers > 1 else "false",
            site_id=_SITE_ID,
            track_url=track_url,
            members=MEMBERS,
            large=LARGE,
            large_seats=LARGE_SEATS,
            picked=list(PICKED),
            grace=GRACE_SECONDS,
            every=EVERY_SECONDS,
        )
    )
    return path
