"""The worker: claims users who are due, sends what is due for them, records it.

    pending.claim -> preparation -> outbound/client -> core/outcome -> recording

One claim is worked off under one revision of the settings. A user whose delivery failed stays pending, due again
later; who isn't worth a call leaves the backlog with a reason. Before its first call a client is asked where it
leads: a store belongs to one workspace, because what we sent there says nothing about another.
"""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

import sqlalchemy as sa

from connector import errors
from connector.core import encode
from connector.core.outcome import Answer, Delivered, Outcome, Undelivered, of_call, of_items
from connector.outbound import client as track
from connector.outbound import recording
from connector.outbound.preparation import Prepared, prepare
from connector.outbound.recording import Result, Tally
from connector.settings import Settings
from connector.store import pending, workspace
from connector.store.database import Database

LEASE = timedelta(seconds=60)

_BATCH_USERS = 2000
_SINGLE_SECONDS = 15  # in single mode a claim is what can be sent in this time, at up to a second a call
_FIRST_RETRY = 10.0
_LAST_RETRY = 3600.0


class Worker:
    """Any number of them may work on one store; a user is in flight with one at a time."""

    def __init__(self, db: Database, clock: Callable[[], datetime]) -> None:
        self._db = db
        self._clock = clock

    async def work_off(
        self, settings: Settings, client: track.TrackClient, worked: Callable[[int], None] = lambda _users: None
    ) -> Tally:
        """Works until nobody is due, or Customer.io wants a pause; `worked` hears how many users each claim was."""
        total = Tally()
        while client.paused_for == 0:
            tally = await self.work_once(settings, client)
            if tally.users == 0:
                break
            total.add(tally)
            worked(tally.users - tally.untried)
        return total

    async def work_once(self, settings: Settings, client: track.TrackClient) -> Tally:
        """One claim, from start to record. Raises Misconfigured when the credentials lead to another workspace."""
        lease = secrets.token_hex(8)
        not_after = time.monotonic() + LEASE.total_seconds() - 2 * track.TOTAL_SECONDS
        now = self._clock()
        claims = await self._db.run(pending.claim, lease, now, now + LEASE, _claim_size(settings))
        if not claims:
            return Tally()
        try:
            prepared = await self._db.on_thread(lambda: prepare(self._db, settings, claims, now))
            due = [each for each in prepared if each.parts]
            if due:
                await self._require_workspace(settings, client)
            before = client.calls
            send = _send_batches if settings.customerio.api == "batch" else _send_singly
            results = await send(client, due, not_after)
        except (asyncio.CancelledError, errors.Misconfigured):
            await asyncio.shield(self._db.run(pending.give_back, lease, self._clock()))
            raise
        tally = await self._record(lease, settings, client, prepared, results)
        tally.calls = client.calls - before
        return tally

    async def _require_workspace(self, settings: Settings, client: track.TrackClient) -> None:
        found = await client.workspace()
        if found is None:
            return  # it can't say now; the calls themselves will fail for the same reason
        if found.region != settings.customerio.region:
            raise errors.Misconfigured(
                f"the workspace lives in {found.region}, customerio.region says {settings.customerio.region}: change it"
            )
        owner = await self._db.run(workspace.claim, found.environment_id)
        if owner != found.environment_id:
            raise errors.Misconfigured(
                f"this store belongs to workspace {owner}, the credentials are those of workspace "
                f"{found.environment_id}: use another store.url for it, or the right credentials"
            )

    async def _record(
        self,
        lease: str,
        settings: Settings,
        client: track.TrackClient,
        prepared: Sequence[Prepared],
        results: Sequence[Result],
    ) -> Tally:
        now = self._clock()
        paused_until = now + timedelta(seconds=client.paused_for)
        arguments = (lease, settings.mapping_hash(), prepared, results, now, paused_until)
        try:
            return await self._db.run(recording.record, *arguments)
        except sa.exc.IntegrityError:
            # Another worker recorded the same customer id for another user meanwhile; now it can be seen.
            return await self._db.run(recording.record, *arguments)


def _claim_size(settings: Settings) -> int:
    if settings.customerio.api == "batch":
        return _BATCH_USERS
    a_second = min(settings.customerio.rate_per_second, settings.customerio.in_flight)
    return max(1, min(_BATCH_USERS, int(a_second * _SINGLE_SECONDS)))


async def _send_batches(client: track.TrackClient, due: Sequence[Prepared], not_after: float) -> list[Result]:
    by_id = {each.user_id: each for each in due}
    works = [encode.Work(each.user_id, tuple(map(encode.operation, each.parts))) for each in due]
    calls = [_send_batch(client, by_id, batch, not_after) for batch in encode.batches(works)]
    return [result for results in await asyncio.gather(*calls) for result in results]


async def _send_batch(
    client: track.TrackClient, due: dict[str, Prepared], batch: Sequence[encode.Work], not_after: float
) -> list[Result]:
    operations = [part for work in batch for part in work.parts]
    answer = await client.batch(operations, not_after)
    outcomes = iter(of_items(answer, len(operations)))
    results = []
    for work in batch:
        each = due[work.user_id]
        of_parts = [next(outcomes) for _ in work.parts]
        accepted = [part for part, one in zip(each.parts, of_parts, strict=True) if isinstance(one, Delivered)]
        refused = next((one for one in of_parts if isinstance(one, Undelivered)), None)
        results.append(_result(each, refused or Delivered(), answer, accepted))
    return results


async def _send_singly(client: track.TrackClient, due: Sequence[Prepared], not_after: float) -> list[Result]:
    return list(await asyncio.gather(*(_send_parts(client, each, not_after) for each in due)))


async def _send_parts(client: track.TrackClient, prepared: Prepared, not_after: float) -> Result:
    """The parts of one user go one after the other; the first that isn't accepted ends it."""
    outcome: Outcome = Delivered()
    answer = Answer(None)
    accepted: list[encode.Part] = []
    for part in prepared.parts:
        answer = await _send_part(client, part, not_after)
        outcome = of_call(answer)
        if isinstance(outcome, Undelivered):
            break
        accepted.append(part)
    return _result(prepared, outcome, answer, accepted)


async def _send_part(client: track.TrackClient, part: encode.Part, not_after: float) -> Answer:
    if isinstance(part, encode.Delete):
        return await client.delete(encode.path_id(part), not_after)
    return await client.identify(encode.path_id(part), encode.body(part), not_after)


def _result(prepared: Prepared, outcome: Outcome, answer: Answer, accepted: Sequence[encode.Part]) -> Result:
    return Result(prepared, outcome, answer.calls, _retry_in(prepared.claim.attempts), tuple(accepted))


def _retry_in(attempts_so_far: int) -> float:
    """Seconds; doubles from ten to an hour, with jitter so that an outage does not end in one burst."""
    seconds: float = min(_FIRST_RETRY * 2 ** min(attempts_so_far, 16), _LAST_RETRY)
    return seconds * random.uniform(0.8, 1.2)  # noqa: S311 - spreads load, guards nothing
