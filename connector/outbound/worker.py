"""The worker: claims users who are due, sends what is due for them, records it.

    pending.claim -> preparation -> outbound/client -> core/outcome -> mirror, attempts and pending, in one
    transaction and only for the rows whose lease is still ours

One claim is worked off under one revision of the settings. A user whose delivery failed stays pending, due again
later; who isn't worth a call leaves the backlog with a reason.
"""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from connector import log
from connector.core import encode
from connector.core.outcome import Answer, Delivered, Outcome, Undelivered, of_call, of_items
from connector.outbound import client as track
from connector.outbound.preparation import Prepared, prepare
from connector.records import Claim, Mirror
from connector.settings import Settings
from connector.store import attempts, mirror, pending
from connector.store.attempts import Attempt
from connector.store.database import Database

LEASE = timedelta(seconds=60)

_BATCH_USERS = 2000
_SINGLE_SECONDS = 15  # in single mode a claim is what can be sent in this time
_FIRST_RETRY = 10.0
_LAST_RETRY = 3600.0

_log = log.get("worker")


@dataclass
class Tally:
    """What was done: users by verb and reason, and calls."""

    created: int = 0
    updated: int = 0
    calls: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)

    @property
    def users(self) -> int:
        return self.created + self.updated + self.skipped.total() + self.failed.total()

    def add(self, other: Tally) -> None:
        self.created += other.created
        self.updated += other.updated
        self.calls += other.calls
        self.skipped.update(other.skipped)
        self.failed.update(other.failed)


@dataclass(frozen=True, slots=True)
class _Result:
    prepared: Prepared
    outcome: Outcome
    calls: int


class Worker:
    """Any number of them may work on one store; a user is in flight with one at a time."""

    def __init__(self, db: Database, clock: Callable[[], datetime]) -> None:
        self._db = db
        self._clock = clock

    async def work_off(
        self, settings: Settings, client: track.TrackClient, worked: Callable[[int], None] = lambda _users: None
    ) -> Tally:
        """Works until nobody is due; `worked` hears how many users each claim was."""
        total = Tally()
        while client.paused_for == 0:
            tally = await self.work_once(settings, client)
            if tally.users == 0:
                break
            total.add(tally)
            worked(tally.users)
        return total

    async def work_once(self, settings: Settings, client: track.TrackClient) -> Tally:
        """One claim, from start to record."""
        lease = secrets.token_hex(8)
        not_after = time.monotonic() + LEASE.total_seconds() - 2 * track.TOTAL_SECONDS
        now = self._clock()
        claims = await self._db.run(pending.claim, lease, now, now + LEASE, _claim_size(settings))
        if not claims:
            return Tally()
        try:
            prepared = await self._db.on_thread(lambda: prepare(self._db, settings, claims, now))
            before = client.calls
            send = _send_batches if settings.customerio.api == "batch" else _send_singly
            results = await send(client, [each for each in prepared if each.parts], not_after)
        except asyncio.CancelledError:
            await asyncio.shield(self._db.run(pending.give_back, lease, self._clock()))
            raise
        tally = await self._record(lease, settings, claims, prepared, results)
        tally.calls = client.calls - before
        return tally

    async def _record(
        self,
        lease: str,
        settings: Settings,
        claims: Sequence[Claim],
        prepared: Sequence[Prepared],
        results: Sequence[_Result],
    ) -> Tally:
        now = self._clock()
        arguments = (lease, settings.mapping_hash(), claims, prepared, results, now)
        try:
            return await self._db.run(_record, *arguments)
        except sa.exc.IntegrityError:
            # Another worker recorded the same customer id for another user meanwhile; now it can be seen.
            return await self._db.run(_record, *arguments)


def _claim_size(settings: Settings) -> int:
    if settings.customerio.api == "batch":
        return _BATCH_USERS
    return max(1, min(_BATCH_USERS, int(settings.customerio.rate_per_second * _SINGLE_SECONDS)))


async def _send_batches(client: track.TrackClient, due: Sequence[Prepared], not_after: float) -> list[_Result]:
    by_id = {each.user_id: each for each in due}
    works = [encode.Work(each.user_id, tuple(map(encode.operation, each.parts))) for each in due]
    calls = [_send_batch(client, by_id, batch, not_after) for batch in encode.batches(works)]
    return [result for results in await asyncio.gather(*calls) for result in results]


async def _send_batch(
    client: track.TrackClient, due: dict[str, Prepared], batch: Sequence[encode.Work], not_after: float
) -> list[_Result]:
    operations = [part for work in batch for part in work.parts]
    answer = await client.batch(operations, not_after)
    outcomes = iter(of_items(answer, len(operations)))
    results = []
    for work in batch:
        parts = [next(outcomes) for _ in work.parts]
        refused = next((each for each in parts if isinstance(each, Undelivered)), None)
        results.append(_Result(due[work.user_id], refused or Delivered(), answer.calls))
    return results


async def _send_singly(client: track.TrackClient, due: Sequence[Prepared], not_after: float) -> list[_Result]:
    return list(await asyncio.gather(*(_send_parts(client, each, not_after) for each in due)))


async def _send_parts(client: track.TrackClient, prepared: Prepared, not_after: float) -> _Result:
    """The parts of one user go one after the other; the first that isn't accepted ends it."""
    outcome: Outcome = Delivered()
    answer = Answer(None)
    for part in prepared.parts:
        answer = await client.identify(part.customer_id.value, encode.body(part), not_after)
        outcome = of_call(answer)
        if isinstance(outcome, Undelivered):
            break
    return _Result(prepared, outcome, answer.calls)


def _record(
    connection: Connection,
    lease: str,
    mapping_hash: str,
    claims: Sequence[Claim],
    prepared: Sequence[Prepared],
    results: Sequence[_Result],
    now: datetime,
) -> Tally:
    ours = pending.still_ours(connection, lease)
    if len(ours) < len(claims):
        _log.warning("lease_lost", users=len(claims) - len(ours))
    tally = Tally()
    done: list[str] = []
    people: list[Mirror] = []
    touched: list[tuple[str, str, str, int]] = []
    log_rows: list[Attempt] = []
    failures: list[pending.Failure] = []

    delivered = [each for each in results if each.prepared.user_id in ours and isinstance(each.outcome, Delivered)]
    owners = mirror.owners(connection, [each.parts[0].customer_id.value for each in prepared if each.parts])
    for result in delivered:
        each = result.prepared
        if owners.get(each.parts[0].customer_id.value, each.user_id) != each.user_id:
            done.append(each.user_id)
            tally.skipped["customer_id_taken"] += 1
            log_rows.append(Attempt(each.user_id, "create", result.calls, 200, "customer_id_taken", ""))
            continue
        done.append(each.user_id)
        people.append(_mirror(each, mapping_hash, now))
        if each.decision.verb == "create":
            tally.created += 1
        else:
            tally.updated += 1
        log_rows += [
            Attempt(each.user_id, each.decision.verb, 0, None, left.reason, f"{left.name}: {left.message}")
            for left in each.decision.left_out
        ]
    for result in results:
        if result.prepared.user_id in ours and isinstance(result.outcome, Undelivered):
            each, outcome = result.prepared, result.outcome
            tally.failed[outcome.reason] += 1
            due_at = now + timedelta(seconds=_retry_in(each.claim.attempts))
            failures.append(pending.Failure(each.user_id, due_at, outcome.reason))
            log_rows.append(
                Attempt(each.user_id, each.decision.verb, result.calls, outcome.status, outcome.reason, outcome.message)
            )
    for each in prepared:
        if not each.parts and each.user_id in ours:
            tally.skipped[each.decision.reason] += 1
            done.append(each.user_id)
            if each.subject.mirror is not None:
                subject = each.subject
                touched.append((each.user_id, subject.segment_bits, mapping_hash, subject.user.version))
    mirror.record(connection, people)
    mirror.touch(connection, touched)
    attempts.add(connection, log_rows, now)
    pending.finish(connection, lease, done, now)
    pending.postpone(connection, lease, failures, now)
    if tally.failed:
        _log.warning("undelivered", **dict(tally.failed))
    return tally


def _mirror(prepared: Prepared, mapping_hash: str, now: datetime) -> Mirror:
    sent_as = prepared.parts[0].customer_id
    before = prepared.subject.mirror
    return Mirror(
        user_id=prepared.user_id,
        customer_id=sent_as.value,
        id_kind=sent_as.kind,
        attributes=prepared.decision.attributes,
        segment_bits=prepared.subject.segment_bits,
        mapping_hash=mapping_hash,
        version=prepared.subject.user.version,
        sent_ts=prepared.decision.timestamp,
        created_at=before.created_at if before else now,
        synced_at=now,
        release=before.release if before else prepared.claim.release,
    )


def _retry_in(attempts_so_far: int) -> float:
    """Seconds; doubles from ten to an hour, with jitter so that an outage does not end in one burst."""
    seconds: float = min(_FIRST_RETRY * 2 ** min(attempts_so_far, 16), _LAST_RETRY)
    return seconds * random.uniform(0.8, 1.2)  # noqa: S311 - spreads load, guards nothing
