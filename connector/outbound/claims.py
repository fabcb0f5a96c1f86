"""The claims that a worker holds: who of each is still in hand, and until when a call for them may begin.

A lease that isn't renewed runs out, and somebody else takes its users. So no call begins for them so late that it could
end after that.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa

from connector import log
from connector.outbound.client import TOTAL_SECONDS
from connector.outbound.preparation import Prepared
from connector.store import leases
from connector.store.database import Database

LEASE = timedelta(seconds=60)

_RENEWED_EACH = 20.0
_HELD = LEASE.total_seconds() - 2 * TOTAL_SECONDS  # seconds

_log = log.get("worker")


@dataclass
class _Lease:
    """`renewed` is the moment, of the monotonic clock, from which on it holds for LEASE; `users` are those who are not
    recorded."""

    token: str
    renewed: float
    users: set[str]


class Claims:
    """Those of one worker, by the token of their lease."""

    def __init__(self, db: Database, clock: Callable[[], datetime]) -> None:
        self._db = db
        self._clock = clock
        self._leases: dict[str, _Lease] = {}

    def add(self, token: str, renewed: float, user_ids: Iterable[str]) -> None:
        """These users are ours, under a lease that was written at that moment of the monotonic clock, or after."""
        self._leases[token] = _Lease(token, renewed, {*user_ids})

    def left(self) -> list[tuple[str, set[str]]]:
        """Token and users of each claim, as far as they are not recorded."""
        return [(lease.token, {*lease.users}) for lease in self._leases.values()]

    def landed(self, token: str, user_ids: Collection[str]) -> None:
        """They are recorded, or given back."""
        lease = self._leases[token]
        lease.users.difference_update(user_ids)
        if not lease.users:
            del self._leases[token]

    def not_after(self, prepared: Sequence[Prepared]) -> Callable[[], float]:
        """The last moment to begin a try for all of them: whoever comes by an old lease must not be overtaken."""
        theirs = {each.claim.lease: self._leases[each.claim.lease] for each in prepared}.values()
        return lambda: min(lease.renewed for lease in theirs) + _HELD

    async def keep(self) -> None:
        """Renews all of them, until it is cancelled."""
        while True:
            await asyncio.sleep(_RENEWED_EACH)
            for lease in list(self._leases.values()):
                renewed, now = time.monotonic(), self._clock()
                try:
                    ours = await self._db.run(leases.renew, lease.token, now, now + LEASE)
                    # So late, others may have taken some first; before that, who is missing is just being recorded.
                    if lease.users <= ours or (ours and time.monotonic() < lease.renewed + _HELD):
                        lease.renewed = renewed
                except sa.exc.SQLAlchemyError as error:
                    # The store is away. What isn't renewed in time begins no new call.
                    _log.warning("not_renewed", reason="store_unreachable", error=type(error).__name__)
