"""Whether the credentials lead to the store's own workspace: what was sent to one says nothing about another."""

from __future__ import annotations

from typing import Literal

from connector import errors
from connector.outbound.client import TrackClient
from connector.settings import Settings
from connector.store import workspace
from connector.store.database import Database


class Elsewhere(errors.Misconfigured):
    """They lead elsewhere, with one reason word."""

    def __init__(self, reason: Literal["other_region", "other_workspace"], message: str) -> None:
        super().__init__(message)
        self.reason = reason


async def require(db: Database, settings: Settings, client: TrackClient) -> bool:
    """Raises Elsewhere when they do. A store that belongs to nobody belongs to this workspace from now on. False when
    Customer.io can't say where they lead now."""
    found = await client.workspace()
    if found is None:
        return False
    if found.region != settings.customerio.region:
        raise Elsewhere(
            "other_region",
            f"the workspace lives in {found.region}, customerio.region says {settings.customerio.region}: change it",
        )
    owner = await db.run(workspace.claim, found.environment_id)
    if owner != found.environment_id:
        raise Elsewhere(
            "other_workspace",
            f"this store belongs to workspace {owner}, the credentials are those of workspace "
            f"{found.environment_id}: use another store.url for it, or the right credentials",
        )
    return True
