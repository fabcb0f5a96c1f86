"""What is in force at first: the file, or the settings that the store knows of, until somebody has judged the file."""

from __future__ import annotations

import tomllib
from datetime import datetime
from pathlib import Path

from connector import errors, log, settings_file
from connector.outbound import judging
from connector.settings import Guard, Settings, difference, mixing, secret_places
from connector.settings_file import whole
from connector.store import alone, approvals, revisions
from connector.store.database import Database
from connector.store.revisions import Revision
from connector.watching.current import Current, HeldEdit, Replaced

_log = log.get("connector")


def begin(path: Path, settings: Settings, db: Database, now: datetime) -> Current:
    """What is in force at the start, of a file that says `settings`. Where the store knows of other settings, who and
    what is sent stays with those until the file has been judged (`following`)."""
    return _begin(path, settings, db, now, is_alone=_one_sends(db))


def _begin(path: Path, settings: Settings, db: Database, now: datetime, *, is_alone: bool) -> Current:
    """Of whoever is not alone, an older revision waits for the one in force."""
    newest = db.read(revisions.newest_applied)
    text = _text_of(path, settings)
    own = settings.sent_hash()
    if newest is None or newest.hash == own:
        number = newest.number if newest is not None else None
        kept = secret_places.shareable(text) if text is not None else None
        if text is not None and kept is not None and not _is_told(db, own, kept):
            number = db.write(revisions.add, "applied", own, text, now).number
        return Current(settings, settings, number)
    known = db.read(revisions.by_hash, own)
    if known is not None and known.state == "applied" and not is_alone:
        return Current(settings, settings, known.number, waits_for=newest.number)
    before = of_revision(path, newest)
    if before is None:
        _log.warning("settings_not_compared", reason="other_version", revision=newest.number)
    return Current(_until_judged(before, settings, newest), None, newest.number)


def settle(path: Path, settings: Settings, db: Database, now: datetime) -> Current:
    """As `begin`, for a command that ends: the file is judged at once, by whoever asks for it. Raises Failed for one
    that is superseded, on SQLite while a connector sends."""
    is_alone = _one_sends(db) and not alone.is_taken(settings.store.url.get_secret_value(), "work")
    current = _begin(path, settings, db, now, is_alone=is_alone)
    if current.is_stale():
        raise errors.Failed(_superseded(current))
    if current.file is not None:
        return current
    newest = db.read(revisions.newest_applied)
    before = current.settings
    verdict = judging.judge(db, before, settings, now)
    state: revisions.State = "held" if verdict.holds else "applied"
    hash_, text, row = settings.sent_hash(), _text_of(path, settings), None
    if text is not None and secret_places.shareable(text) is not None:
        words = difference.words(difference.changes(before, settings))
        reason = verdict.reason or None
        row = db.write(revisions.add, state, hash_, text, now, changed=words, counts=verdict.counts, reason=reason)
        state = row.state  # somebody may have approved the same edit meanwhile
        if state == "applied":
            current.revision = row.number
            if newest is not None and newest.number != row.number:
                current.replaced = Replaced(newest.number, row.number)
    if state == "held":
        current.held = HeldEdit(settings, hash_, verdict.reason, row)
        current.settings = mixing.mixed(before, settings)
    else:
        current.settings = current.file = settings
    return current


def in_force(path: Path, settings: Settings, db: Database) -> Settings:
    """What a connector goes by whose file says `settings`: while that edit is held, who and what is sent stays with
    the settings before it."""
    edit, newest = db.read(approvals.waiting), db.read(revisions.newest_applied)
    if edit is None or newest is None or edit.hash != settings.sent_hash():
        return settings
    return _until_judged(of_revision(path, newest), settings, newest)


def of_revision(path: Path, revision: Revision) -> Settings | None:
    """What a revision said; without its secrets where those are gone."""
    if revision.text is None:
        return None
    try:
        return settings_file.of_text(path, revision.text)
    except errors.Misconfigured:
        return mixing.of_text(revision.text)


def _until_judged(before: Settings | None, settings: Settings, newest: Revision) -> Settings:
    """What is in force while nobody has agreed to the `settings`: who and what was sent `before` them. Where this
    version can't read that, it is what they say, but under the guard before them: a guard that was lifted in the same
    edit doesn't count for it."""
    if before is not None:
        return mixing.mixed(before, settings)
    if newest.text is None:
        return settings
    try:
        guard = Guard.model_validate(tomllib.loads(newest.text).get("guard", {}))
    except ValueError:
        return settings
    return settings.model_copy(update={"guard": guard})


def _is_told(db: Database, own: str, kept: str) -> bool:
    """Whether the revision in force says it, be it for another process, whose file differs in a port; and nothing is
    held or refused, which ends now. Who holds it still says so again (`edits`)."""
    last = db.read(revisions.newest)
    return last is not None and last.state == "applied" and db.read(revisions.is_told, own, kept)


def _superseded(current: Current) -> str:
    older, newer = current.revision, current.waits_for
    return (
        f"superseded: this file says what revision {older} said, and revision {newer} was taken up from another one "
        f"since (`connector settings diff {older} {newer}`); nothing was read or sent. "
        f"`connector settings undo {newer}` writes that one to this file. To go back to this one, save it in place of "
        "a running connector's file: a sync takes up only settings that the store has not seen"
    )


def _text_of(path: Path, settings: Settings) -> str | None:
    """The text of the file, if it still says that."""
    try:
        text = whole.read(path).decode()
        return text if settings_file.of_text(path, text) == settings else None
    except (OSError, UnicodeDecodeError, errors.Misconfigured):
        return None


def _one_sends(db: Database) -> bool:
    """Whether one connector at most sends: on SQLite."""
    return db.writer.dialect.name == "sqlite"
