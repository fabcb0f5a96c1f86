"""The settings in force while the connector runs, the file they come from, and how the one becomes the other.

    file -> settings_file.watch -> the same who and what: in force at once
                                   another: planned -> the guard agrees: in force
                                                    -> it doesn't: held, the old who and what goes on (settings/mixing)

Each edit becomes a revision in the store. Looking at those every second, a process learns that a held edit was
approved, or that another process has taken up a newer one; then it sends nothing until its own file says the same.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from connector import errors, log, settings_file
from connector.core import remarks
from connector.outbound import judging, planning
from connector.settings import Settings, difference, mixing, secret_places
from connector.store import revisions
from connector.store.database import Database
from connector.store.revisions import Revision

_LOOK_SECONDS = 1.0
_SETTLED_SECONDS = 0.3
# Of processes that see the same edit, one is the first; the others are given this long to come to the same.
_PATIENCE_SECONDS = 10.0

_log = log.get("connector")


class Held(NamedTuple):
    """An edit that waits for an approval."""

    wanted: Settings
    hash: str
    reason: str


@dataclass
class Current:
    """The settings in force, and why a newer edit isn't.

    `file` is what the file said when it was last right. `waits_for` is the revision that others have taken up, while
    this process can't: it sends nothing then.
    """

    settings: Settings
    file: Settings | None = None
    revision: int | None = None
    refused: errors.Misconfigured | None = None
    held: Held | None = None
    waits_for: int | None = None
    edited: asyncio.Event = field(default_factory=asyncio.Event)
    read_again: asyncio.Event = field(default_factory=asyncio.Event)

    def get(self) -> Settings:
        return self.settings

    def is_stale(self) -> bool:
        return self.waits_for is not None

    def told(self) -> dict[str, Any]:
        """For `/status`: the state with the reason, where there is something to tell."""
        found: dict[str, Any] = {"hash": self.settings.sent_hash(), "revision": self.revision}
        if self.refused is not None:
            return found | {"state": "edit_refused", "reason": str(self.refused)}
        if self.waits_for is not None:
            return found | {"state": "superseded", "reason": f"revision {self.waits_for} is newer: {_NEXT_WHEN_STALE}"}
        if self.held is not None:
            return found | {"state": "edit_held", "reason": f"{self.held.reason}: connector approve {self.held.hash}"}
        if self.settings.sync.paused:
            return found | {"state": "paused", "reason": "sync.paused is true: nothing is sent"}
        return found | {"state": "running", "reason": None}


_NEXT_WHEN_STALE = "nothing is sent until this process's file says the same, or is saved with another change"


def begin(path: Path, settings: Settings, db: Database, now: datetime) -> Current:
    """What is in force at the start, of a file that says `settings`. Where the store knows of other settings, who and
    what is sent stays with those until `watch` has judged the file."""
    newest = db.read(revisions.newest_applied)
    text = _text_of(path, settings)
    own = settings.sent_hash()
    if newest is None or newest.hash == own:
        number = newest.number if newest is not None else None
        kept = secret_places.shareable(text) if text is not None else None
        last = db.read(revisions.newest)
        is_told = newest is not None and newest.text == kept and last is not None and last.state == "applied"
        if text is not None and kept is not None and not is_told:
            number = db.write(revisions.add, "applied", own, text, now).number
        return Current(settings, settings, number)
    known = db.read(revisions.by_hash, own)
    if known is not None and known.state == "applied" and not _is_alone(db):
        return Current(settings, settings, known.number, waits_for=newest.number)
    before = _settings_of(path, newest)
    if before is None:
        return Current(settings, settings, newest.number)
    return Current(mixing.mixed(before, settings), None, newest.number)


def settle(path: Path, settings: Settings, db: Database, now: datetime) -> Current:
    """As `begin`, for a command that ends: the file is judged at once, by whoever asks for it."""
    current = begin(path, settings, db, now)
    if current.file is not None and not current.is_stale():
        return current
    newest = db.read(revisions.newest_applied)
    before = current.settings
    if current.is_stale() and newest is not None:
        before = _settings_of(path, newest) or before
    verdict = judging.judge(db, before, settings, now)
    state: revisions.State = "held" if verdict.holds else "applied"
    hash_, text = settings.sent_hash(), _text_of(path, settings)
    if text is not None and secret_places.shareable(text) is not None:
        words = difference.words(difference.changes(before, settings))
        reason = verdict.reason or None
        row = db.write(revisions.add, state, hash_, text, now, changed=words, counts=verdict.counts, reason=reason)
        if not verdict.holds:
            current.revision = row.number
    current.waits_for = None
    if verdict.holds:
        current.held = Held(settings, hash_, verdict.reason)
        current.settings = mixing.mixed(before, settings)
    else:
        current.settings = current.file = settings
    return current


async def watch(
    path: Path, current: Current, db: Database, clock: Callable[[], datetime], stopping: asyncio.Event
) -> None:
    """Until `stopping`: a valid edit takes effect between units of work, or is held; a broken one is shown, and the
    settings in force stay."""
    _remark(current.settings)
    await _Watch(path, current, db, clock, stopping).run()


class _Watch:
    def __init__(
        self, path: Path, current: Current, db: Database, clock: Callable[[], datetime], stopping: asyncio.Event
    ) -> None:
        self._path, self._current, self._db, self._clock, self._stopping = path, current, db, clock, stopping
        self._latest: Settings | errors.Misconfigured | None = None
        self._news = asyncio.Event()
        self._foreign_since: float | None = None

    async def run(self) -> None:
        if self._current.waits_for is not None:
            self._say_superseded()
        tasks = [asyncio.create_task(each) for each in (self._read(), self._listen_for_sighup())]
        try:
            while not self._stopping.is_set():
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._news.wait(), _LOOK_SECONDS)
                self._news.clear()
                edit, self._latest = self._latest, None
                if edit is not None:
                    await self._take(edit)
                elif tasks[0].done():
                    tasks[0].result()
                    return
                await self._look()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _read(self) -> None:
        async with contextlib.aclosing(settings_file.watch(self._path, self._stopping)) as edits:
            # An edit between the start's own reading and the watch's beginning must not be missed.
            first = await self._as_it_stands()
            if first != self._current.file:
                self._arrived(first)
            async for edit in edits:
                self._arrived(edit)
        self._news.set()

    async def _listen_for_sighup(self) -> None:
        while True:
            await self._current.read_again.wait()
            self._current.read_again.clear()
            _log.info("settings_read_again", reason="SIGHUP")
            self._arrived(await self._as_it_stands())

    async def _as_it_stands(self) -> Settings | errors.Misconfigured:
        """The file, when it says the same twice: it may be in the middle of a save."""
        found = await asyncio.to_thread(_read_again, self._path)
        while not self._stopping.is_set() and found != self._current.file:
            await asyncio.sleep(_SETTLED_SECONDS)
            before, found = found, await asyncio.to_thread(_read_again, self._path)
            if found == before or str(found) == str(before):
                break
        return found

    def _arrived(self, edit: Settings | errors.Misconfigured) -> None:
        self._latest = edit
        self._news.set()

    def _is_newest(self) -> bool:
        return self._latest is None and not self._stopping.is_set()

    async def _take(self, edit: Settings | errors.Misconfigured) -> None:
        current = self._current
        if isinstance(edit, errors.Misconfigured):
            await self._refuse(edit)
            return
        was_refused, current.refused = current.refused is not None, None
        if was_refused:
            _log.info("settings_mended")
        # Mended, or saved again where others have newer ones, it is a revision of its own.
        if edit == current.file and not current.is_stale() and not (was_refused and current.held is None):
            return
        text = await self._text(edit)
        if text is None:
            return  # a newer one is on its way
        newest = await self._db.run_read(revisions.newest_applied)
        changes = difference.changes(current.file or current.settings, edit)
        known = {newest.hash} if newest is not None else set()
        if not current.is_stale():
            known.add(current.settings.sent_hash())
        if edit.sent_hash() in known:
            await self._apply(edit, text, changes, {})
        else:
            before = current.settings
            if current.is_stale() and newest is not None:
                before = _settings_of(self._path, newest) or before
            verdict = await self._judged(before, edit)
            if verdict is None:
                return
            if verdict.holds:
                await self._hold(before, edit, text, changes, verdict)
            else:
                await self._apply(edit, text, changes, verdict.counts)
        current.file = edit

    async def _text(self, edit: Settings) -> str | None:
        """What the file said, for the revision; None when it says something else by now, and that is on its way."""
        while self._is_newest():
            text = await asyncio.to_thread(_text_of, self._path, edit)
            if text is not None:
                return text
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), _SETTLED_SECONDS)
        return None

    async def _judged(self, before: Settings, edit: Settings) -> judging.Verdict | None:
        """None when a newer edit came meanwhile."""
        now = self._clock()
        with contextlib.suppress(planning.CutShort):  # a newer edit came, which is judged next
            return await self._db.on_thread(lambda: judging.judge(self._db, before, edit, now, self._is_newest))
        return None

    async def _refuse(self, edit: errors.Misconfigured) -> None:
        if self._current.refused is not None and str(self._current.refused) == str(edit):
            return
        self._current.refused = edit
        faults = [str(fault) for fault in edit.faults]
        _log.error("settings_refused", reason="invalid", faults=faults or str(edit))
        reason = "\n".join(faults or [str(edit)])
        await self._db.run(revisions.add, "refused", None, None, self._clock(), reason=reason)

    async def _apply(
        self, edit: Settings, text: str, changes: Sequence[difference.Change], counts: dict[str, Any]
    ) -> None:
        words = difference.words(changes)
        row = await self._add("applied", edit, text, words, counts, None)
        self._in_force(edit, row, self._told(changes), counts)

    async def _hold(
        self,
        before: Settings,
        edit: Settings,
        text: str,
        changes: Sequence[difference.Change],
        verdict: judging.Verdict,
    ) -> None:
        current = self._current
        row = await self._add("held", edit, text, difference.words(changes), verdict.counts, verdict.reason)
        hash_ = edit.sent_hash()
        current.held = Held(edit, hash_, verdict.reason)
        self._swap(mixing.mixed(before, edit))
        _log.warning(
            "settings_held",
            hash=hash_,
            revision=row.number if row is not None else None,
            reason=verdict.reason,
            changed=self._told(changes),
            plan=verdict.counts.get("decisions", {}),
            next=f"connector approve {hash_}",
        )

    async def _add(
        self,
        state: revisions.State,
        edit: Settings,
        text: str,
        words: Sequence[str],
        counts: dict[str, Any],
        reason: str | None,
    ) -> Revision | None:
        try:
            return await self._db.run(
                revisions.add, state, edit.sent_hash(), text, self._clock(), changed=words, counts=counts, reason=reason
            )
        except ValueError as error:
            _log.warning("settings_not_kept", reason="secret", what=str(error))
            return None

    def _in_force(self, edit: Settings, row: Revision | None, changed: Sequence[str], counts: dict[str, Any]) -> None:
        current = self._current
        before = current.file or current.settings
        current.held = current.waits_for = self._foreign_since = None
        if row is not None:
            current.revision = row.number
        self._swap(edit)
        _log.info(
            "settings_applied",
            hash=edit.sent_hash(),
            revision=current.revision,
            changed=list(changed),
            plan=counts.get("decisions", {}),
            needs_restart=list(settings_file.restart_needed(before, edit)),
        )
        _remark(edit)

    def _swap(self, settings: Settings) -> None:
        """Between two units of work: each asks once for the settings, and keeps to them."""
        before, self._current.settings = self._current.settings, settings
        if settings != before:
            self._current.edited.set()
            log.configure(settings.log.level, settings.log.format, personal_data=settings.log.personal_data)

    def _told(self, changes: Sequence[difference.Change]) -> list[str]:
        """The words for the log. A segment may name single people."""
        if self._current.settings.log.personal_data:
            return difference.words(changes)
        masked = [
            change._replace(old=None, new=None, secret=True) if change.key.startswith("segments") else change
            for change in changes
        ]
        return difference.words(masked)

    async def _look(self) -> None:
        """What the store says of our revision: approved meanwhile, or another one was taken up."""
        newest = await self._db.run_read(revisions.newest_applied)
        current = self._current
        if newest is None or newest.number == current.revision:
            self._foreign_since = None
        elif current.held is not None and newest.hash == current.held.hash:
            self._in_force(current.held.wanted, newest, newest.changed, dict(newest.counts))
        elif newest.hash == current.settings.sent_hash():
            current.revision, current.waits_for, self._foreign_since = newest.number, None, None
        elif current.waits_for != newest.number:
            now = asyncio.get_running_loop().time()
            self._foreign_since = self._foreign_since or now
            if now - self._foreign_since >= _PATIENCE_SECONDS:
                current.waits_for = newest.number
                self._say_superseded()

    def _say_superseded(self) -> None:
        _log.error(
            "settings_superseded",
            hash=self._current.settings.sent_hash(),
            waits_for=self._current.waits_for,
            next=_NEXT_WHEN_STALE,
        )


def _read_again(path: Path) -> Settings | errors.Misconfigured:
    try:
        return settings_file.load(path)
    except errors.Misconfigured as error:
        return error


def _text_of(path: Path, settings: Settings) -> str | None:
    """The text of the file, if it still says that."""
    try:
        text = path.read_bytes().decode()
        return text if settings_file.of_text(path, text) == settings else None
    except (OSError, UnicodeDecodeError, errors.Misconfigured):
        return None


def _settings_of(path: Path, revision: Revision) -> Settings | None:
    """What a revision said; without its secrets where those are gone."""
    if revision.text is None:
        return None
    try:
        return settings_file.of_text(path, revision.text)
    except errors.Misconfigured:
        return mixing.of_text(revision.text)


def _is_alone(db: Database) -> bool:
    """On SQLite nobody else sends."""
    return db.writer.dialect.name == "sqlite"


def _remark(settings: Settings) -> None:
    for each in remarks.remarks(settings):
        _log.warning("settings_remark", reason=each.reason, what=each.message)
