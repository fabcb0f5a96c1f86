"""Suppressing a person at Customer.io, and the way back.

Suppressing deletes the person for good and blocks everything that named them; what is sent under it later is ignored
without an error (https://docs.customer.io/journeys/deleting-users/). It is one batch call, also where people are sent
through v1: there the kind of an id is guessed from how it looks.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import msgspec

from connector import errors
from connector.core import outcome
from connector.core.outcome import Outcome, Undelivered
from connector.outbound import belonging
from connector.outbound.client import TOTAL_SECONDS, TrackClient
from connector.records import CustomerId
from connector.settings import Settings
from connector.store.database import Database

Action = Literal["suppress", "unsuppress"]


@dataclass(frozen=True, slots=True)
class Answered:
    """What Customer.io said to each; `status` is the call's."""

    status: int | None
    outcomes: tuple[tuple[CustomerId, Outcome], ...]

    @property
    def refusal(self) -> Undelivered | None:
        """The first that was not accepted."""
        return next((said for _, said in self.outcomes if isinstance(said, Undelivered)), None)


async def require_workspace(db: Database, settings: Settings, client: TrackClient) -> None:
    """Raises Failed when Customer.io can't be reached, Misconfigured when it is another workspace than the store's:
    under the same ids, it would be strangers who are suppressed."""
    if not await belonging.require(db, settings, client):
        raise errors.Failed(
            "Customer.io can't be reached, or doesn't take the credentials (connector check says which)"
        )


async def send(client: TrackClient, action: Action, whom: Sequence[CustomerId]) -> Answered:
    """Suppresses, or unsuppresses, under each of these."""
    if not whom:
        return Answered(None, ())
    not_after = time.monotonic() + TOTAL_SECONDS
    answer = await client.batch([_operation(action, each) for each in whom], lambda: not_after)
    return Answered(answer.status, tuple(zip(whom, outcome.of_items(answer, len(whom)), strict=True)))


def _operation(action: Action, whom: CustomerId) -> bytes:
    return msgspec.json.encode({"type": "person", "action": action, "identifiers": {whom.kind: whom.value}})
