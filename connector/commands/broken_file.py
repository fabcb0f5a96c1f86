"""A settings file that can't be used: commands that only look at the store, or mend the file, go on all the same.

the file -> else where its store is, if that can be told -> the settings that were applied last, from there

Where there is no file, the store is looked for where it is unless a file says otherwise: beside it.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import typer

from connector import errors, log, settings_file
from connector.commands import terminal
from connector.settings import Settings, faults
from connector.store import revisions
from connector.store.database import Database
from connector.watching import starting

_DOTTED = re.compile(r"^[ \t]*store[ \t]*\.[ \t]*(url[ \t]*=.*)$", re.MULTILINE)
_TABLE = re.compile(r"^[ \t]*\[[ \t]*store\b(.*?)(?=^[ \t]*\[|\Z)", re.MULTILINE | re.DOTALL)
_KEY = re.compile(r"^[ \t]*(url[ \t]*=.*)$", re.MULTILINE)


class Opened(NamedTuple):
    """The file, what it says or else what was applied last, and the store."""

    path: Path
    settings: Settings
    db: Database


@contextmanager
def opened(context: typer.Context, given: Path | None) -> Iterator[Opened]:
    """Says on stderr what is wrong with the file. Raises Misconfigured when not even its store can be told."""
    path = terminal.path(context, given)
    broken = False
    try:
        loaded = settings_file.load(path)
    except errors.Misconfigured as error:
        broken, loaded = True, only_its_store(path)
        found = "" if path.exists() else f"is of the store {_file(loaded)}, and "
        terminal.remarks.print(f"{error}\nWhat follows {found}goes by the settings that were applied last.")
    log.configure("warning", loaded.log.format, personal_data=loaded.log.personal_data)
    with terminal.store(loaded) as db:
        newest = db.read(revisions.newest_applied) if broken else None
        in_force = starting.of_revision(path, newest) if newest is not None else None
        yield Opened(path, in_force or loaded, db)


def only_its_store(path: Path) -> Settings:
    """What the file says; of one that can't be used, only where the store is. Raises Misconfigured when even that
    can't be told."""
    try:
        return settings_file.load(path)
    except errors.Misconfigured as broken:
        try:
            found = settings_file.of_text(path, its_store(path)) if path.exists() else _beside(path)
        except errors.Misconfigured:
            found = None
        if found is None:
            raise broken from None
        return found


def _beside(path: Path) -> Settings | None:
    """What a file that says nothing would mean, where its store is there."""
    settings = settings_file.of_text(path, "[store]\n")
    return settings if Path(_file(settings)).is_file() else None


def _file(settings: Settings) -> str:
    return settings.store.url.get_secret_value().removeprefix("sqlite:///")


def its_store(path: Path) -> str:
    """A settings file that says no more than where the store of this one is, which may be broken otherwise."""
    text = read(path).decode(errors="replace")
    try:
        table = tomllib.loads(text).get("store")
        url = table.get("url") if isinstance(table, dict) else None
    except (ValueError, RecursionError):
        # A segment may be called `url`, too: it is asked only where there is no table of the store.
        table_of_its_own = _TABLE.search(text)
        found = _KEY.search(table_of_its_own[1]) if table_of_its_own else _DOTTED.search(text) or _KEY.search(text)
        return f"[store]\n{found[1] if found else ''}\n"
    return f"[store]\nurl = {faults.quoted(url)}\n" if isinstance(url, str) else "[store]\n"


def read(path: Path) -> bytes:
    """The file as it is. Raises Misconfigured where there is none."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise errors.Misconfigured(f"The settings file {path} can't be read: {error.strerror}.") from None
