"""The settings in force while the connector runs, and the file they come from."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from pathlib import Path

from connector import errors, log, settings_file
from connector.core import remarks
from connector.settings import Settings

_log = log.get("connector")


@dataclass
class Current:
    """The settings in force, and why a newer edit isn't."""

    settings: Settings
    refused: errors.Misconfigured | None = None
    edited: asyncio.Event = field(default_factory=asyncio.Event)

    def get(self) -> Settings:
        return self.settings


async def watch(path: Path, current: Current, stopping: asyncio.Event) -> None:
    """A valid edit takes effect between units of work; a broken one is shown, and the settings in force stay."""
    _remark(current.settings)
    async with contextlib.aclosing(settings_file.watch(path, stopping)) as edits:
        # An edit between the start's own reading and the watch's beginning must not be missed.
        _edited(await asyncio.to_thread(_read_again, path), current)
        async for edit in edits:
            _edited(edit, current)


def _read_again(path: Path) -> Settings | errors.Misconfigured:
    try:
        return settings_file.load(path)
    except errors.Misconfigured as error:
        return error


def _edited(edit: Settings | errors.Misconfigured, current: Current) -> None:
    if isinstance(edit, errors.Misconfigured):
        current.refused = edit
        _log.error("settings_refused", reason="invalid", faults=[str(fault) for fault in edit.faults] or str(edit))
        return
    before, current.settings, current.refused = current.settings, edit, None
    if edit != before:
        current.edited.set()
        log.configure(edit.log.level, edit.log.format, personal_data=edit.log.personal_data)
        needs_restart = list(settings_file.restart_needed(before, edit))
        _log.info("settings_applied", hash=edit.sent_hash(), needs_restart=needs_restart)
        _remark(edit)


def _remark(settings: Settings) -> None:
    for each in remarks.remarks(settings):
        _log.warning("settings_remark", reason=each.reason, what=each.message)
