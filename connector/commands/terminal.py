"""What every command shares: its options, the settings it was given, the store they name, and how it prints.

Results go to stdout, progress and remarks to stderr.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Console
from typer.core import TyperCommand

from connector import app, errors, log, settings_file
from connector.settings import Settings
from connector.store.database import Database

DEFAULT_SETTINGS = "settings.toml"

out = Console(highlight=False, soft_wrap=True, markup=False)
remarks = Console(stderr=True, highlight=False, soft_wrap=True, markup=False)

SettingsFile = Annotated[
    Path | None,
    typer.Option("--settings", metavar="FILE", help="The settings file [settings.toml, or CONNECTOR_SETTINGS]."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


class WithoutSettings(TyperCommand):
    """A command that has no use for a settings file: one that is named, before or after it, is a mistake."""

    def invoke(self, ctx: Any) -> Any:
        if ctx.obj is not None or ctx.params.get("_settings") is not None:
            raise errors.Misconfigured(
                f"`connector {ctx.info_name}` uses no settings file, nor anything that one names: leave out --settings"
            )
        return super().invoke(ctx)


def path(context: typer.Context, given: Path | None) -> Path:
    """The option after the command, else the one before it, else the environment, else the default."""
    return given or context.obj or Path(os.environ.get("CONNECTOR_SETTINGS") or DEFAULT_SETTINGS)


def settings(context: typer.Context, given: Path | None) -> tuple[Path, Settings]:
    """The file and what it says; only warnings are logged, because the command itself says what it does."""
    file = path(context, given)
    loaded = settings_file.load(file)
    log.configure("warning", loaded.log.format, personal_data=loaded.log.personal_data)
    return file, loaded


def other_settings(new: Path, present: Path) -> Settings:
    """What another file would mean in the place of the present one: with its `.env`, and paths from its folder."""
    return settings_file.load(new, place=present if present.exists() else None)


@contextmanager
def store(loaded: Settings, *, make: bool = False) -> Iterator[Database]:
    """The store that the settings name, closed at the end; `make` builds a missing one."""
    db = app.open_store(loaded, make=make)
    try:
        yield db
    finally:
        db.close()


def show(data: Any, lines: Iterable[str], as_json: bool) -> None:
    """The result: the data as one line of JSON, or the lines for a person."""
    if as_json:
        sys.stdout.buffer.write(msgspec.json.encode(data) + b"\n")
        sys.stdout.buffer.flush()
        return
    for line in lines:
        out.print(line)
