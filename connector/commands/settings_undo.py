"""`connector settings undo`: writes the settings file as a revision had it.

    which revision -> its plan on the store -> the question -> a file beside the old one, renamed over it

The running connector takes it as any edit: it is judged, applied or held, and becomes a revision of its own.
"""

from __future__ import annotations

import contextlib
import os
import stat
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import msgspec
import typer

from connector import app, errors, settings_file
from connector.commands import broken_file, plan, plan_text, saving, terminal
from connector.outbound import planning
from connector.settings import Settings, difference, secret_places
from connector.store import revisions
from connector.store.database import Database
from connector.store.revisions import Revision


def undo(db: Database, path: Path, number: int | None, *, asks: bool, as_json: bool) -> int:
    """The exit status: 3 when it is written and the guard will hold something of it. Raises Failed for a revision that
    isn't there, or can't be used."""
    present = broken_file.read(path)
    said = present.decode(errors="replace")
    chosen = _chosen(db, number, said)
    if chosen.text is None:
        raise errors.Failed(f"the text of revision {chosen.number} is not kept: it was {chosen.state}")
    text = secret_places.with_password_of(chosen.text, broken_file.its_store(path))
    if text is None:
        raise errors.Failed(
            f"revision {chosen.number} has a store.url whose password is not kept: write the URL as "
            '"env:DATABASE_URL", or edit the file by hand; `connector settings diff` shows the revision'
        )
    if secret_places.shareable(said) == chosen.text:
        words = f"{path} says what revision {chosen.number} says already"
        terminal.show({"revision": chosen.number, "written": False, "plan": None}, [words], as_json)
        return 0
    told = _plan(db, path, chosen, text, said, quiet=as_json)
    if asks and not typer.confirm(f"Write revision {chosen.number} to {path}?", err=True):
        terminal.remarks.print("nothing was written")
        return 1
    why = _refusal(path, text, present)
    if why is not None:
        masked = "" if text == chosen.text else ", with the password in place of *** in store.url"
        terminal.remarks.print(f"{path} can't be written ({why}): put this text there by hand{masked}")
        if not as_json:
            sys.stdout.write(chosen.text)
            sys.stdout.flush()
    result = {"revision": chosen.number, "written": why is None, "plan": told}
    saved = told["saving"]
    held = saved is not None and saved["held"]
    if why is not None and as_json:
        result["text"] = chosen.text
    becomes = "follows"
    if held:
        becomes = f"holds it until connector approve {told['hash']}"
    elif told["guard"]["held"]:
        becomes = f"follows, and then holds what the plan says ({', '.join(told['guard']['reasons'])})"
    words = f"{path} says what revision {chosen.number} said; a running connector {becomes}"
    if as_json or why is None:
        terminal.show(result, [words], as_json)
    if why is not None:
        return 1
    return 3 if held or told["guard"]["held"] else 0


def _chosen(db: Database, number: int | None, said: str) -> Revision:
    if number is not None:
        given = db.read(revisions.of, number)
        if given is None:
            raise errors.Failed(f"there is no revision {number}: `connector settings history` lists them")
        return given
    newest = db.read(revisions.newest_applied)
    if newest is None:
        raise errors.Failed("no revision was applied yet: there is nothing to go back to")
    says = secret_places.shareable(said)
    found: Revision | None = newest
    while found is not None and found.text == says:
        found = db.read(revisions.newest_applied, before=found.number)
    if found is None:
        raise errors.Failed(f"no revision before {newest.number} says anything else: there is nothing to go back to")
    return found


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
    saved = saving.foretold(db, path, before, wanted, now)
    told = plan.tell(db, before, wanted, outlook, saved, now)
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
