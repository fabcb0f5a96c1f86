"""The settings that are in force in this process, and why a newer edit isn't: what all others here change or ask."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from connector import errors
from connector.settings import Settings, Store
from connector.store.revisions import Revision


class HeldEdit(NamedTuple):
    """An edit that waits for an approval, and its revision, if it could be kept."""

    wanted: Settings
    hash: str
    reason: str
    row: Revision | None = None


class Replaced(NamedTuple):
    """The revision that was in force, and the one that a command made of another file."""

    number: int
    by: int


@dataclass
class Current:
    """The settings in force, and why a newer edit isn't.

    `file` is what the file said when it was last right. `waits_for` is the revision that others have taken up, while
    this process can't: it sends nothing then. `replaced` is what a command's settings took the place of.
    """

    settings: Settings
    file: Settings | None = None
    revision: int | None = None
    refused: errors.Misconfigured | None = None
    held: HeldEdit | None = None
    waits_for: int | None = None
    replaced: Replaced | None = None
    edited: asyncio.Event = field(default_factory=asyncio.Event)
    read_again: asyncio.Event = field(default_factory=asyncio.Event)

    def get(self) -> Settings:
        return self.settings

    def kept(self) -> Store:
        """How long things are kept. While another revision is in force events stay, because that one may count them:
        what is deleted doesn't come back."""
        store = self.settings.store
        return store.model_copy(update={"events": None}) if self.is_stale() else store

    def waited_for(self) -> int | None:
        """The revision that isn't in force here yet: others have taken it up, or it is the edit that is held."""
        row = self.held.row if self.held is not None else None
        return self.waits_for or (row.number if row is not None else None)

    def is_stale(self) -> bool:
        return self.waits_for is not None

    def told(self) -> dict[str, Any]:
        """For `/status`: the state with the reason, where there is something to tell."""
        found: dict[str, Any] = {"hash": self.settings.sent_hash(), "revision": self.revision}
        if self.refused is not None:
            return found | {"state": "edit_refused", "reason": str(self.refused)}
        if self.waits_for is not None:
            return found | {"state": "superseded", "reason": self.next_when_stale()}
        if self.held is not None:
            return found | {"state": "edit_held", "reason": f"{self.held.reason}: connector approve {self.held.hash}"}
        if self.settings.sync.paused:
            return found | {"state": "paused", "reason": "sync.paused is true: nothing is sent"}
        return found | {"state": "running", "reason": None}

    def next_when_stale(self) -> str:
        """Which revision it waits for, and the two ways on."""
        numbers = " ".join(str(each) for each in (self.revision, self.waits_for) if each is not None)
        return (
            f"revision {self.waits_for} was taken up by another process, or by `connector sync`, from another file "
            f"(`connector settings diff {numbers}`): nothing is sent until this process's file says the same; or save "
            "it with another change, or send SIGHUP, and it is the newest"
        )
