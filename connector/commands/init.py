"""`connector init`: from nothing to settings that can be used, and a store.

    site id, key, region -> Customer.io says whether they are right -> .env (0600), settings.toml -> the store

What isn't given as an option is asked for. Nothing that is there already is overwritten, and nothing is written before
Customer.io has taken the credentials.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from pydantic import SecretStr, ValidationError

from connector import app, errors, settings_file
from connector.commands import terminal
from connector.inbound.webhooks import PATH
from connector.outbound.client import TrackClient
from connector.settings import Customerio, Server, faults

KEY = "CUSTOMERIO_API_KEY"
_KEY_TEXT = re.compile(r"[A-Za-z0-9._~+/=-]{1,200}")

SETTINGS = """\
# Settings of the connector. All keys, with what they mean: settings.example.toml. What you change here takes effect
# when you save; `connector check` says what is wrong or missing, `connector plan` what would be sent.

# --- To Customer.io -------------------------------------------------------------------------------------------

[customerio]
site_id = {site_id}
# The key itself stands in the file .env beside this one.
api_key = "env:{key}"
region = {region}{track_url}

# --- From Customer.io -----------------------------------------------------------------------------------------

[webhooks]
# The signing key of the reporting webhook, once you have made one: put it into .env as CUSTOMERIO_SIGNING_KEY=…
# and take away the # in front of the next line.
# signing_keys = ["env:CUSTOMERIO_SIGNING_KEY"]

[server]
# How the world reaches this connector, for the webhook's URL: "https://connector.example.com".
public_url = {public_url}

# --- Your users -----------------------------------------------------------------------------------------------

[store]
# A file beside this one; or "env:DATABASE_URL", with a postgresql:// URL in .env.
url = "sqlite:///connector.db"

[people]
# Who is sent to Customer.io: names of segments from below. Empty: nobody.
segments = []
# What is sent of them besides email, created_at and the segments: ["plan", {{ name = "account.name", as = "company" }}]
attributes = []

[segments]
# "Paying customers" = {{ attribute = "plan", in = ["pro", "team"] }}
# "Everybody" = {{ everyone = true }}
"""
ENVIRONMENT = """\
# Secrets of the connector: the settings beside this file name them. Keep it out of version control.
{key}={value}
# CUSTOMERIO_SIGNING_KEY=
"""


class Region(StrEnum):
    """Where a workspace lives."""

    us = "us"
    eu = "eu"


def command(
    context: typer.Context,
    site_id: Annotated[
        str | None, typer.Option(help="Settings, API and webhook credentials, Tracking API keys at Customer.io.")
    ] = None,
    api_key: Annotated[
        str | None, typer.Option(envvar=KEY, help="The key of the same row. Others can see what a command line says.")
    ] = None,
    region: Annotated[Region | None, typer.Option(help="Where the workspace lives.")] = None,
    public_url: Annotated[str, typer.Option(metavar="URL", help="How the world reaches this connector.")] = "",
    track_url: Annotated[str, typer.Option(metavar="URL", help="Of a sandbox, or a proxy.")] = "",
    settings: terminal.SettingsFile = None,
    as_json: terminal.AsJson = False,
) -> None:
    """Ask for the credentials, check them, write settings and .env, make the store, and say what comes next."""
    path = terminal.path(context, settings)
    environment = path.absolute().parent / ".env"
    _require_room(path, environment)
    asks = sys.stdin.isatty()
    site_id = site_id or _asked("Site id", "--site-id", asks)
    api_key = api_key or _asked("API key (a Track API key; it stays hidden)", "--api-key", asks, hidden=True)
    given = region.value if region is not None else None
    workspace, public_url = _workspace(site_id.strip(), api_key.strip(), given, track_url, public_url)
    lives_in = app.run(_lives_in(workspace))
    if given is None and asks:
        terminal.remarks.print(f"the workspace lives in {lives_in}")
    elif given is not None and given != lives_in:
        raise errors.Failed(
            f"the workspace lives in {lives_in}, not in {given}: say --region {lives_in}; nothing was written"
        )
    _write(path, environment, workspace, lives_in, public_url)
    loaded = settings_file.load(path)
    with terminal.store(loaded, make=True):
        pass
    url = f"{public_url or f'http://{loaded.server.host}:{loaded.server.port}'}{PATH}"
    told = {"settings": str(path), "env": str(environment), "region": lives_in, "webhook_url": url}
    terminal.show(told, _next(path, environment, url, public=bool(public_url)), as_json)


def _require_room(path: Path, environment: Path) -> None:
    if not path.absolute().parent.is_dir():
        raise errors.Misconfigured(f"there is no folder {path.absolute().parent}: make it first")
    if os.path.lexists(path):
        raise errors.Misconfigured(
            f"{path} is there already and stays as it is: edit it, and run `connector check`; or name another file in "
            "another folder with --settings"
        )
    if os.path.lexists(environment):
        raise errors.Misconfigured(
            f"{environment} is there already and stays as it is: move it away first, or put {KEY}=… into it and copy "
            f"settings.example.toml to {path}"
        )


def _asked(what: str, option: str, asks: bool, *, hidden: bool = False) -> str:
    if not asks:
        raise errors.Misconfigured(f"{option} is needed where nobody can be asked")
    return str(typer.prompt(what, hide_input=hidden, err=True))


def _workspace(
    site_id: str, api_key: str, region: str | None, track_url: str, public_url: str
) -> tuple[Customerio, str]:
    """Judged as the settings file will be, and a key that can stand in a .env as it is. No message quotes the key."""
    if not _KEY_TEXT.fullmatch(api_key):
        raise errors.Misconfigured("this can't be a Track API key: copy it anew, without blanks around it")
    if not site_id:
        raise errors.Misconfigured("the site id is empty")
    try:
        workspace = Customerio.model_validate(
            {"site_id": site_id, "api_key": SecretStr(api_key), "region": region, "track_url": track_url}
        )
        server = Server.model_validate({"public_url": public_url})
    except ValidationError as error:
        (problem, *_) = faults.found(error)
        raise errors.Misconfigured(f"{faults.written(problem.where)} {problem.message}") from None
    return workspace, server.public_url


async def _lives_in(workspace: Customerio) -> str:
    """The region that Customer.io says; it tells on the host of either. Raises Failed when it doesn't."""
    async with TrackClient(workspace, throttle=None) as client:
        answer = await client.region()
    if answer.status is None:
        raise errors.Failed(f"Customer.io can't be reached ({answer.problem}): check the network; nothing was written")
    if answer.status in {401, 403}:
        raise errors.Failed(
            "Customer.io refuses the credentials: site id and key must be of one row of the Tracking API keys; an App "
            "API key will not do. Nothing was written"
        )
    with contextlib.suppress(ValueError, AttributeError):  # it isn't JSON, or no object: said below
        if answer.status == 200 and (region := json.loads(answer.body).get("region")) in tuple(Region):
            return str(region)
    raise errors.Failed(f"Customer.io answered {answer.status} and no region; is it a Track API? Nothing was written")


def _write(path: Path, environment: Path, workspace: Customerio, region: str, public_url: str) -> None:
    track_url = f"\ntrack_url = {faults.quoted(workspace.track_url)}" if workspace.track_url else ""
    text = SETTINGS.format(
        site_id=faults.quoted(workspace.site_id),
        key=KEY,
        region=faults.quoted(region),
        track_url=track_url,
        public_url=faults.quoted(public_url),
    )
    secrets = ENVIRONMENT.format(key=KEY, value=workspace.api_key.get_secret_value())
    try:
        # From its first moment nobody else can read it.
        for file, content, mode in ((environment, secrets, 0o600), (path, text, 0o644)):
            with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w") as opened:
                opened.write(content)
    except OSError as error:
        raise errors.Failed(f"{error.filename} can't be written: {error.strerror}") from error


def _next(path: Path, environment: Path, url: str, *, public: bool) -> Iterator[str]:
    yield f"wrote {path} and {environment}, and made the store; Customer.io accepts the credentials"
    yield ""
    yield "next:"
    yield "  1. connector run                       receives and sends, until Ctrl-C"
    yield "  2. connector tail                      in another terminal: shows what happens"
    if not public:
        yield "  3. a tunnel or a proxy to that port, its https:// address into server.public_url"
    yield f"  {3 if public else 4}. at Customer.io, add a reporting webhook for {_webhook(url, public=public)};"
    yield "     its signing key goes into .env, then take away the # before signing_keys in the settings"
    yield f"  {4 if public else 5}. connector import users FILE, name segments in the settings, connector plan"


def _webhook(url: str, *, public: bool) -> str:
    return url if public else f"that address and {PATH} (here it is {url})"
