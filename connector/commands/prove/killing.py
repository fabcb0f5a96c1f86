"""kill -9 at random moments, and the process started again; now and then the database restarted."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import aiohttp
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from connector import app, errors
from connector.commands.prove import processes
from connector.commands.prove.cases import Case
from connector.commands.prove.options import Wanted
from connector.commands.prove.processes import Child
from connector.store import inbox
from connector.store.database import Database
from connector.store.schema import pending

_LEAST_SECONDS = 40.0  # for all kills: who leaves at the beginning must be deleted, and come back, amid them
_MOVING_SHARE = 0.75  # of the kills
_EARLY = 0.15  # of the kills hit a process that is only starting
_AFTER_START_SECONDS = (0.1, 1.2)
_EARLY_SECONDS = (0.0, 1.5)
_RECENT = timedelta(seconds=5)
_LEASE = timedelta(seconds=60)
_DUPLICATES = 0.1
_CONNECTIONS = 8
_RETRY_SECONDS = 0.25

# Among what is reported, a few opt-outs: who has said one must not be subscribed again by a delete and a return.
_KINDS = {"email.sent": 40, "email.delivered": 30, "email.opened": 20, "email.clicked": 9, "customer.unsubscribed": 1}


@dataclass
class Killed:
    """How often, and how often while there was work under way: messages not read or webhooks not answered, users with
    a worker. `crashes` are of processes that ended by themselves."""

    kills: int = 0
    receiving: int = 0
    sending: int = 0
    restarts: int = 0
    crashes: list[Case] = field(default_factory=list)
    by_role: Counter[str] = field(default_factory=Counter)


async def go_on(
    wanted: Wanted,
    children: Sequence[Child],
    db: Database,
    session: aiohttp.ClientSession,
    sandbox_url: str,
    told: Callable[[Killed], Awaitable[None]],
) -> Killed:
    """All kills, each amid a part of the webhooks."""
    rng = random.Random(f"{wanted.seed} kills")  # noqa: S311 - a plan that can be repeated, no secret
    restart_before = set(rng.sample(range(wanted.kills), min(wanted.restarts, wanted.kills)))
    killed = Killed()
    loop = asyncio.get_running_loop()
    began = loop.time()
    for number in range(wanted.kills):
        await asyncio.sleep(began + _LEAST_SECONDS * number / wanted.kills - loop.time())
        part = wanted.events * (number + 1) // wanted.kills - wanted.events * number // wanted.kills
        await _send(session, sandbox_url, part)
        if number in restart_before and wanted.restart_command:
            await asyncio.sleep(rng.uniform(*_AFTER_START_SECONDS))
            await _restart(wanted.restart_command)
            killed.restarts += 1
        victim = rng.choice(children)
        early = rng.random() < _EARLY
        if not early:
            await victim.started()
        await asyncio.sleep(rng.uniform(*(_EARLY_SECONDS if early else _AFTER_START_SECONDS)))
        killed.crashes += start_again(children, wanted)
        unanswered = (await webhooks(session, sandbox_url))["mixes_under_way"] > 0
        victim.kill()
        unread, in_flight = await _under_way(db)
        killed.kills += 1
        killed.receiving += unanswered or unread
        killed.sending += in_flight
        killed.by_role[victim.name.partition("-")[0]] += 1
        victim.start()
        await told(killed)
    return killed


def start_again(children: Sequence[Child], wanted: Wanted) -> list[Case]:
    """What ended by itself. One that finds no database when it starts may end, where that is being restarted."""
    cases = []
    for child in processes.ended(children):
        if child.has_started or not wanted.restart_command:
            cases.append(Case("crashed", "ended_by_itself", child.name, child.last_words()))
        child.start()
    return cases


def is_moving(killed: Killed, wanted: Wanted) -> bool:
    """Whether people still move into the segment and out of it."""
    return killed.kills < wanted.kills * _MOVING_SHARE


async def webhooks(session: aiohttp.ClientSession, sandbox_url: str) -> dict[str, Any]:
    """How those of the sandbox stand. Raises Failed when it can't send any more."""
    async with session.get(f"{sandbox_url}/sandbox/webhooks") as response:
        found: dict[str, Any] = await response.json()
    if found["failures"]:
        raise errors.Failed(f"the sandbox failed: {found['failures']}")
    return found


async def _send(session: aiohttp.ClientSession, sandbox_url: str, count: int) -> None:
    if count == 0:
        return
    mix = {
        "count": count,
        "kinds": _KINDS,
        "duplicates": _DUPLICATES,
        "shuffled": True,
        "connections": _CONNECTIONS,
        "retry_seconds": _RETRY_SECONDS,
    }
    async with session.post(f"{sandbox_url}/sandbox/webhooks", json=mix) as response:
        if response.status != 202:
            raise errors.Failed(f"the sandbox can't send webhooks: {await response.text()}")


async def _restart(command: str) -> None:
    process = await asyncio.create_subprocess_shell(
        command, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
    )
    _, said = await process.communicate()
    if process.returncode != 0:
        raise errors.Failed(f"--restart-command ended with {process.returncode}: {said.decode(errors='replace')}")


async def _under_way(db: Database) -> tuple[bool, bool]:
    """Whether messages are not read, and users are with a worker, as the killed process left it."""
    try:
        return await db.run_read(_unread_and_leased, app.now())
    except sa.exc.OperationalError:
        return False, False  # the database is restarting


def _unread_and_leased(connection: Connection, now: datetime) -> tuple[bool, bool]:
    unread = inbox.oldest_new_at(connection) is not None
    claimed = pending.c.lease.is_not(None) & (pending.c.due_at > now + _LEASE - _RECENT)
    return unread, connection.execute(sa.select(sa.exists().where(claimed))).scalar_one()
