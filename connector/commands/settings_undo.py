"""`connector settings undo`: writes the settings file as a revision had it.

    which revision -> its plan on the store -> the question -> a file beside the old one, renamed over it

The running connector takes it as any edit: it is judged, applied or held, and becomes a revision of its own.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
import sys
import tempfile
import tomllib
from dataclasses import asdict
from pathlib import Path
from typing import Any

import msgspec
import typer

from connector import app, errors, settings_file
from connector.commands import plan, plan_text, terminal
from connector.outbound import planning
from connector.settings import Settings, difference, faults, secret_places
from connector.store import revisions
from connector.store.database import Database
from connector.store.revisions import Revision

# No other key of the settings is called `url`.
_URL = re.compile(r"^[ \t]*(?:store[ \t]*\.[ \t]*)?(url[ \t]*=.*)$", re.MULTILINE)


def undo(db: Database, path: Path, number: int | None, *, asks: bool, as_json: bool) -> int:
    """The exit status. Raises Failed for a revision that isn't there, or can't be used."""
    present = read(path)
    said = present.decode(errors="replace")
    chosen = _chosen(db, number, said)
    if chosen.text is None:
        raise errors.Failed(f"the text of revision {chosen.number} is not kept: it was {chosen.state}")
    text = secret_places.with_password_of(chosen.text, its_store(path))
    if text is None:
        raise errors.Failed(
            f"revision {chosen.number} has a store.url whose password is not kept: write the URL as "
            '"env:DATABASE_URL", or edit the file by hand; `connector settings diff` shows the revision'
        )
    if text == said:
        words = f"{path} says what revision {chosen.number} says already"
        terminal.show({"revision": chosen.number, "written": False, "plan": None}, [words], as_json)
        return 0
    told = _plan(db, path, chosen, text, said, quiet=as_json)
    if asks and not typer.confirm(f"Write revision {chosen.number} to {path}?", err=True):
        terminal.remarks.print("nothing was written")
        return 1
    why = _refusal(path, text, present)
    if why is not None:
        terminal.remarks.print(f"{path} can't be written ({why}): put this text there by hand")
        if not as_json:
            sys.stdout.write(text)
            sys.stdout.flush()
    result = {"revision": chosen.number, "written": why is None, "plan": told}
    if why is not None and as_json:
        result["text"] = text
    words = f"{path} says what revision {chosen.number} said; a running connector follows"
    if as_json or why is None:
        terminal.show(result, [words], as_json)
    return 0 if why is None else 1


def read(path: Path) -> bytes:
    """The file as it is. Raises Misconfigured where there is none."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise errors.Misconfigured(f"The settings file {path} can't be read: {error.strerror}.") from None


def its_store(path: Path) -> str:
    """A settings file that says no more than where the store of this one is, which may be broken otherwise."""
    text = read(path).decode(errors="replace")
    try:
        table = tomllib.loads(text).get("store")
        url = table.get("url") if isinstance(table, dict) else None
    except (ValueError, RecursionError):
        found = _URL.search(text)
        return f"[store]\n{found[1] if found else ''}\n"
    return f"[store]\nurl = {faults.quoted(url)}\n" if isinstance(url, str) else "[store]\n"


def _chosen(db: Database, number: int | None, said: str) -> Revision:
    if number is not None:
        found = db.read(revisions.of, number)
        if found is None:
            raise errors.Failed(f"there is no revision {number}: `connector settings history` lists them")
        return found
    newest = db.read(revisions.newest_applied)
    if newest is None:
        raise errors.Failed("no revision was applied yet: there is nothing to go back to")
    if secret_places.shareable(said) != newest.text:
        return newest
    before = db.read(revisions.newest_applied, before=newest.number)
    if before is None:
        raise errors.Failed(f"revision {newest.number} is the first that was applied: there is none before it")
    return before


def _plan(db: Database, path: Path, chosen: Revision, text: str, said: str, *, quiet: bool) -> dict[str, Any]:
    """Shows what the revision's text would do on the store now; returns the plan as `plan --json` has it."""
    name = f"revision {chosen.number}"
    try:
        wanted = settings_file.of_text(path, text)
    except errors.Misconfigured as error:
        reasons = "".join(f"\n  {fault}" for fault in error.faults)
        raise errors.Failed(f"{name} can't be used any more:{reasons or f' {error.message}'}") from None
    before = _in_force(db, path, said) or wanted
    now = app.now()
    outlook = planning.outlook(db, wanted, now)
    told = plan.tell(db, before, wanted, outlook, now)
    people = [asdict(each) for each in outlook.plan.people]
    if not quiet:
        for line in difference.words(difference.changes(before, wanted)):
            terminal.out.print(line)
        sent = sum(sum(told["decisions"].get(verb, {}).values()) for verb in ("create", "update", "delete"))
        terminal.show(None, plan_text.describe(told, name, people, sent - len(people)), as_json=False)
    return told | {"people": msgspec.to_builtins(people)}


def _in_force(db: Database, path: Path, said: str) -> Settings | None:
    """The settings that the plan is compared with: those of the file, or, where it is broken, the newest that were
    applied."""
    newest = db.read(revisions.newest_applied)
    for text in (said, newest.text if newest is not None else None):
        if text is not None:
            with contextlib.suppress(errors.Misconfigured):  # the next text may be of use
                return settings_file.of_text(path, text)
    return None


def _refusal(path: Path, text: str, seen: bytes) -> str | None:
    """Writes the file by renaming another over it, so that nobody reads half of it; mode and owner stay. Returns why
    it can't be written. Raises Failed when it is not what was `seen` any more."""
    # What a link leads to is written; the link stays.
    target = path.resolve()
    unfinished: str | None = None
    try:
        known = target.stat()
        if not known.st_mode & (stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH) or not os.access(target, os.W_OK):
            return "it is read-only"
        handle, unfinished = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(PermissionError):  # not ours to give away
            os.chown(unfinished, known.st_uid, known.st_gid)
        Path(unfinished).chmod(stat.S_IMODE(known.st_mode))
        if target.read_bytes() != seen:
            raise errors.Failed(f"{path} was edited meanwhile: nothing was written, look at it first")
        Path(unfinished).replace(target)
        unfinished = None
    except OSError as error:
        return error.strerror or type(error).__name__
    finally:
        if unfinished is not None:
            with contextlib.suppress(OSError):  # why it could not be written is told already
                Path(unfinished).unlink()
    return None
