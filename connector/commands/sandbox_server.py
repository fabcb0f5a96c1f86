"""`connector sandbox`: the local Customer.io as a server, until it is stopped."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import ssl
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

from connector import app, errors
from connector.sandbox import state, track_api
from connector.sandbox.fault_script import WORDS
from connector.sandbox.faults import Faults, Wanted
from connector.sandbox.state import State
from connector.sandbox.state_file import KeptState, StateFile
from connector.sandbox.webhooks import reporting
from connector.sandbox.webhooks.clock import Wall
from connector.sandbox.webhooks.reporting import Webhooks
from connector.sandbox.webhooks.webhook_bodies import Setup
from connector.sandbox.webhooks.webhook_sender import Endpoint

FAULT_HELP = 'A fault for each request in turn, such as "3x500, 429:2, cut, apply-cut, hang:30, 207, 200".'

MISSPELT_HELP = "Changes of preferences with the key that the vendor's reference has, which looks like a slip."
EMAIL_HELP = "A call by id may change an email that is set: the workspace's setting of that name."

_COLLECT_AFTER = 100_000  # objects made and not freed since


@dataclass(frozen=True, slots=True)
class Options:
    """What was asked for on the command line.

    `speed` is how much faster than real time webhooks wait for a retry. `certificate` is a PEM file that also holds
    the key; with it the sandbox serves https. A `seed` makes faults and webhooks repeatable and turns on that the
    items of a batch are applied in an order drawn by lot. `email_updates_by_id` must be as it was when the `state`
    file was written, since the file has what was asked for, and not what came of it.
    """

    host: str
    port: int
    region: Literal["us", "eu"]
    site_id: str
    api_key: str
    certificate: Path | None
    webhook_url: str | None
    signing_key: str
    campaign_event: str | None
    setup: Setup
    speed: float
    email_updates_by_id: bool
    state: Path | None
    seed: int | None
    faults: Wanted


class Region(StrEnum):
    """Where a workspace lives."""

    us = "us"
    eu = "eu"


def command(
    host: str = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any free one.")] = 9000,
    region: Region = Region.us,
    site_id: str = "sandbox-site",
    api_key: str = "sandbox-key",
    certificate: Annotated[Path | None, typer.Option(metavar="FILE", help="PEM with its key: serve https.")] = None,
    webhook_url: Annotated[str | None, typer.Option(metavar="URL", help="Where it reports to.")] = None,
    signing_key: Annotated[str, typer.Option(help="What it signs webhooks with.")] = "sandbox-signing-key",
    campaign_event: Annotated[str | None, typer.Option(metavar="NAME", help="The event that starts a mail.")] = None,
    body_content: Annotated[bool, typer.Option("--body-content", help="Webhooks with Body Content on.")] = False,
    only_ids: Annotated[bool, typer.Option("--only-ids", help="Webhooks name people by id alone.")] = False,
    object_type_type: Annotated[bool, typer.Option("--object-type-type", help=MISSPELT_HELP)] = False,
    speed: Annotated[float, typer.Option(help="How much faster webhooks wait for a retry.")] = 1.0,
    email_updates_by_id: Annotated[bool, typer.Option("--email-updates-by-id", help=EMAIL_HELP)] = False,
    state: Annotated[Path | None, typer.Option(metavar="FILE", help="An SQLite file to keep the state in.")] = None,
    seed: Annotated[int | None, typer.Option(help="Repeatable; batches out of order.")] = None,
    fault: Annotated[str, typer.Option(metavar="SCRIPT", help=FAULT_HELP)] = "",
    fail_share: Annotated[list[str] | None, typer.Option(metavar="FAULT=SHARE", help="500=0.05; repeatable.")] = None,
    latency: Annotated[str, typer.Option(metavar="TIME", help="Before every answer, such as 50ms.")] = "",
    rate_limit: Annotated[int, typer.Option(min=0, help="Requests a second, more are answered 429.")] = 0,
    retry_after: Annotated[int | None, typer.Option(min=0, help="The Retry-After of that 429.")] = None,
    outage: Annotated[str, typer.Option(metavar="FAULT", help="For every request: cut, 503, 503:60 …")] = "",
    unauthorized: Annotated[bool, typer.Option("--unauthorized", help="401 for all.")] = False,
    wrong_region: Annotated[bool, typer.Option("--wrong-region", help="Redirected, all of them.")] = False,
    _settings: Annotated[Path | None, typer.Option("--settings", hidden=True)] = None,
) -> None:
    """A local Customer.io: its Track API with its limits, its webhooks, faults on demand. Runs until Ctrl-C."""
    given_shares = shares(fail_share or ())
    wanted = Wanted(fault, given_shares, latency, rate_limit, retry_after, outage, unauthorized, wrong_region)
    options = Options(
        host=host,
        port=port,
        region=region.value,
        site_id=site_id,
        api_key=api_key,
        certificate=certificate,
        webhook_url=webhook_url,
        signing_key=signing_key,
        campaign_event=campaign_event,
        setup=Setup(body_content, only_ids, object_type_type),
        speed=speed,
        email_updates_by_id=email_updates_by_id,
        state=state,
        seed=seed,
        faults=wanted,
    )
    # What was asked for is said as it is: nothing in a path or a URL is markup.
    app.run(serve(options, Console(stderr=True, markup=False, emoji=False, highlight=False, soft_wrap=True)))


async def serve(options: Options, console: Console) -> None:
    """Serves until cancelled; says how to point a connector at it. What can't be used is an `errors.Misconfigured`."""
    # What a sandbox holds stays, so looking through all of it again and again would take half of a batch's time.
    gc.set_threshold(_COLLECT_AFTER, 20, 100)
    faults, webhooks, tls = _faults(options), _webhooks(options), _tls(options.certificate)
    with _state(options) as kept:
        application = track_api.create_app(
            kept,
            site_id=options.site_id,
            api_key=options.api_key,
            region=options.region,
            faulty=faults,
            webhooks=webhooks,
            batch_order_seed=options.seed,
        )
        async with contextlib.AsyncExitStack() as stack:
            try:
                serving = track_api.serve(application, options.host, options.port, tls=tls)
                running = await stack.enter_async_context(serving)
            except OSError as error:
                raise errors.Misconfigured(
                    f"can't listen on {options.host}:{options.port}: {error.strerror}"
                ) from error
            _introduce(options, kept, running.url, console)
            await asyncio.Event().wait()


def shares(given: Iterable[str]) -> dict[str, float]:
    """`--fail-share` options such as `500=0.05`."""
    read = {}
    for each in given:
        word, equals, share = each.rpartition("=")
        try:
            read[word] = float(share)
        except ValueError:
            equals = ""
        if not equals:
            raise errors.Misconfigured(f'--fail-share {each!r}: write it like "500=0.05"; faults: {WORDS}')
    return read


def _faults(options: Options) -> Faults:
    try:
        return Faults(options.faults, seed=options.seed)
    except errors.Refused as refusal:
        raise errors.Misconfigured(str(refusal)) from refusal


def _webhooks(options: Options) -> Webhooks:
    try:
        endpoint = Endpoint("", options.signing_key)  # nowhere, until a URL is PUT
        if options.webhook_url is not None:
            endpoint = reporting.endpoint(options.webhook_url, options.signing_key)
        clock = Wall(options.speed)
    except ValueError as error:
        raise errors.Misconfigured(f"webhooks: {error}") from error
    return Webhooks(
        endpoint, clock=clock, seed=options.seed, setup=options.setup, campaign_event=options.campaign_event
    )


def _tls(certificate: Path | None) -> ssl.SSLContext | None:
    if certificate is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(certificate)
    except OSError as error:  # an SSLError is one
        raise errors.Misconfigured(f"the certificate {certificate} can't be used: {error}") from error
    return context


@contextlib.contextmanager
def _state(options: Options) -> Iterator[State]:
    by_id = options.email_updates_by_id
    if options.state is None:
        yield state.State(time.time, email_updates_by_id=by_id)
        return
    file = StateFile(options.state)
    try:
        yield KeptState(file, time.time, email_updates_by_id=by_id)
    finally:
        file.close()


def _introduce(options: Options, kept: State, url: str, console: Console) -> None:
    console.print(f"a local Customer.io ({options.region}) at {url}; what it holds: {url}/")
    if options.state is not None:
        console.print(f"state in {options.state}: {len(kept.people):,} people, {kept.activities_kept():,} activities")
    if options.webhook_url is not None:
        console.print(f"webhooks go to {options.webhook_url}")
    console.print("point a connector at it:", style="dim")
    console.print(
        f'  [customerio]\n  site_id = "{options.site_id}"\n  api_key = "env:…"  # {options.api_key}\n'
        f'  region = "{options.region}"\n  track_url = "{url}"',
        style="dim",
    )
