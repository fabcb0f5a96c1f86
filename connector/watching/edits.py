"""Takes an edit over, holds it, or refuses it; each becomes a revision in the store, and a line in the log."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from connector import errors, log, settings_file
from connector.core import remarks
from connector.outbound import judging, planning
from connector.settings import Settings, difference, mixing
from connector.settings_file.whole import StillOpen
from connector.store import revisions
from connector.store.database import Database
from connector.store.revisions import Revision
from connector.watching import starting
from connector.watching.current import Current, HeldEdit
from connector.watching.noticing import Edit

_log = log.get("connector")


class Edits:
    """What the edits of one file do to what is `current`. `is_newest` says no when another edit waits already."""

    def __init__(
        self,
        path: Path,
        current: Current,
        db: Database,
        clock: Callable[[], datetime],
        is_newest: Callable[[], bool],
    ) -> None:
        self._path, self._current, self._db, self._clock, self._is_newest = path, current, db, clock, is_newest

    async def take(self, edit: Edit | errors.Misconfigured) -> None:
        """In force when this returns, or held, or refused; or passed over, as a newer one came while it was judged."""
        current = self._current
        if isinstance(edit, errors.Misconfigured):
            await self._refuse(edit)
            return
        was_refused, current.refused = current.refused is not None, None
        if was_refused:
            _log.info("settings_mended")
        wanted = edit.settings
        # Mended, or saved again where others have newer ones, it is a revision of its own.
        if wanted == current.file and not current.is_stale() and not (was_refused and current.held is None):
            return
        newest = await self._db.run_read(revisions.newest_applied)
        changes = difference.changes(current.file or current.settings, wanted)
        known = {newest.hash} if newest is not None else set()
        if not current.is_stale():
            known.add(current.settings.sent_hash())
        if wanted.sent_hash() in known:
            await self._apply(edit, changes, {})
        else:
            before = current.settings
            if current.is_stale() and newest is not None:
                before = starting.of_revision(self._path, newest) or before
            verdict = await self._judged(before, wanted)
            if verdict is None:
                return
            if verdict.holds:
                await self._hold(before, edit, changes, verdict)
            else:
                await self._apply(edit, changes, verdict.counts)
        current.file = wanted

    def approved(self, held: HeldEdit, row: Revision) -> None:
        """Somebody let the edit go that is held here."""
        self._in_force(held.wanted, row, row.changed, row.counts)

    async def hold_again(self, held: HeldEdit) -> None:
        """Another process started with the file before the edit, which looks as if this one had been edited back."""
        row = held.row
        if row is None:
            return
        words, now = row.changed, self._clock()
        again = await self._db.run(
            revisions.add, "held", row.hash, row.text, now, changed=words, counts=row.counts, reason=row.reason
        )
        if again.state == "applied":  # it was approved just now
            self.approved(held, again)
            return
        self._current.held = held._replace(row=again)
        _log.info("settings_held_again", reason="other_started", hash=held.hash, revision=again.number)

    async def _judged(self, before: Settings, wanted: Settings) -> judging.Verdict | None:
        """None when a newer edit came meanwhile."""
        now = self._clock()
        with contextlib.suppress(planning.CutShort):  # a newer edit came, which is judged next
            return await self._db.on_thread(lambda: judging.judge(self._db, before, wanted, now, self._is_newest))
        return None

    async def _refuse(self, edit: errors.Misconfigured) -> None:
        if self._current.refused is not None and str(self._current.refused) == str(edit):
            return
        self._current.refused = edit
        faults = [str(fault) for fault in edit.faults]
        reason = "still_open" if isinstance(edit, StillOpen) else "invalid"
        _log.error("settings_refused", reason=reason, faults=faults or str(edit))
        words = "\n".join(faults or [str(edit)])
        await self._db.run(revisions.add, "refused", None, None, self._clock(), reason=words)

    async def _apply(self, edit: Edit, changes: Sequence[difference.Change], counts: dict[str, Any]) -> None:
        row = await self._add("applied", edit, difference.words(changes), counts, None)
        self._in_force(edit.settings, row, self._told(changes), counts)

    async def _hold(
        self, before: Settings, edit: Edit, changes: Sequence[difference.Change], verdict: judging.Verdict
    ) -> None:
        row = await self._add("held", edit, difference.words(changes), verdict.counts, verdict.reason)
        if row is not None and row.state == "applied":  # it was approved where it was judged first
            self._in_force(edit.settings, row, self._told(changes), verdict.counts)
            return
        wanted, hash_ = edit.settings, edit.settings.sent_hash()
        self._current.held = HeldEdit(wanted, hash_, verdict.reason, row)
        self._swap(mixing.mixed(before, wanted))
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
        self, state: revisions.State, edit: Edit, words: Sequence[str], counts: dict[str, Any], reason: str | None
    ) -> Revision | None:
        hash_, now = edit.settings.sent_hash(), self._clock()
        try:
            return await self._db.run(
                revisions.add, state, hash_, edit.text, now, changed=words, counts=counts, reason=reason
            )
        except ValueError as error:
            _log.warning("settings_not_kept", reason="secret", what=str(error))
            return None

    def _in_force(
        self, wanted: Settings, row: Revision | None, changed: Sequence[str], counts: Mapping[str, Any]
    ) -> None:
        current = self._current
        before = current.file or current.settings
        current.held = current.waits_for = None
        if row is not None:
            current.revision = row.number
        self._swap(wanted)
        _log.info(
            "settings_applied",
            hash=wanted.sent_hash(),
            revision=current.revision,
            changed=list(changed),
            plan=counts.get("decisions", {}),
            needs_restart=list(settings_file.restart_needed(before, wanted)),
        )
        remark(wanted)

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


def remark(settings: Settings) -> None:
    """Says in the log what is odd about them."""
    for each in remarks.remarks(settings):
        _log.warning("settings_remark", reason=each.reason, what=each.message)
