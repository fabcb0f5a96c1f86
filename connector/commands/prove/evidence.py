"""What there is to compare: the store, once nobody writes to it, and the sandbox's journal, gone through again."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import aiohttp
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from connector.commands.prove import settling
from connector.commands.prove.cases import Case
from connector.commands.prove.comparing import Applied, Evidence, Known, Person
from connector.commands.prove.comparing_events import Arrived
from connector.commands.prove.load import Load
from connector.commands.prove.processes import Child
from connector.sandbox.operations import Delete, Identify, Operation, Track
from connector.sandbox.state import State
from connector.sandbox.state_file import StateFile
from connector.store import inbox
from connector.store.database import Database
from connector.store.schema import events, mirror, pending
from connector.store.schema import users as users_table

_PAGE = 10_000


async def acknowledged(session: aiohttp.ClientSession, sandbox_url: str) -> list[str]:
    """The ids of the webhooks that were answered 2xx, repeats again."""
    return await _listed(session, f"{sandbox_url}/sandbox/webhooks/acknowledged")


async def unanswered(session: aiohttp.ClientSession, sandbox_url: str) -> set[str]:
    """The ids of those that the sandbox reported on its own, and tries again in an hour. One may be stored all the
    same, and its answer was cut."""
    return set(await _listed(session, f"{sandbox_url}/sandbox/webhooks/queue"))


async def _listed(session: aiohttp.ClientSession, url: str) -> list[str]:
    found: list[str] = []
    after = ""
    while True:
        async with session.get(f"{url}?limit={_PAGE}{after}") as response:
            page = await response.json()
        if not page:
            return found
        found += [each["event_id"] for each in page]
        after = f"&after={page[-1]['number']}"


def gather(
    db: Database,
    journal: Path,
    load: Load,
    sent: set[str],
    unanswered: set[str],
    others: Sequence[Case],
) -> Evidence:
    """Everything; the sandbox has ended, since its file is one process's at a time."""
    customerio, applied, arrived = _gone_through(journal)
    return Evidence(
        stories=load.stories,
        sent=sent,
        unanswered=unanswered,
        events=db.read(_events),
        users=db.read(_users),
        people=[
            Person(each.id or each.cio_id, {**each.attributes, **({"email": each.email} if each.email else {})})
            for each in customerio.people
        ],
        applied=applied,
        histories=load.talking.histories,
        stored=db.read(_stored),
        arrived=arrived,
        unread=db.read(inbox.counts).get("unread", 0),
        waiting=db.read(settling.waiting),
        others=others,
    )


def failed_tasks(children: Sequence[Child], folder: Path) -> Iterator[Case]:
    """Tasks that failed for another reason than that the store was away: the log has each with its traceback."""
    for child in children:
        for line in (folder / f"{child.name}.log").read_text(errors="replace").splitlines():
            if '"task_failed"' in line:
                said = json.loads(line)
                yield Case("crashed", "task_failed", child.name, f"{said.get('task')}: {said.get('exception')}")


def _gone_through(journal: Path) -> tuple[State, list[Applied], list[Arrived]]:
    """Customer.io as it is after all operations, and what each of them came to."""
    now = 0.0
    customerio = State(lambda: now)
    applied: list[Applied] = []
    arrived: list[Arrived] = []

    def apply(at: float, operation: Operation) -> None:
        nonlocal now
        now = at
        refused = customerio.refused.total()
        was_there = isinstance(operation, Track) and _is_there(customerio, operation)
        customerio.apply(operation)
        reason = customerio.log[-1].reason if customerio.refused.total() > refused else None
        if isinstance(operation, Identify | Delete):
            applied.append(_applied(at, operation, reason))
        elif isinstance(operation, Track):
            arrived.append(_arrived(at, operation, reason, was_there=was_there))

    file = StateFile(journal)
    try:
        file.go_through(apply)
    finally:
        file.close()
    return customerio, applied, arrived


def _applied(at: float, operation: Identify | Delete, reason: str | None) -> Applied:
    if isinstance(operation, Delete):
        return Applied(at, operation.who.value, "delete", None, reason)
    return Applied(at, operation.who.value, "identify", operation.attributes.get("seq"), reason)


def _is_there(customerio: State, operation: Track) -> bool:
    return operation.who is not None and customerio.people.find(operation.who) is not None


def _arrived(at: float, operation: Track, reason: str | None, *, was_there: bool) -> Arrived:
    who = "" if operation.who is None else operation.who.value
    what = operation.type, operation.name, operation.id, operation.timestamp, operation.data
    return Arrived(at, who, *what, reason, was_there)


def _stored(connection: Connection) -> dict[str, str]:
    """What is known of the events of users, by the id of the message."""
    columns = events.c.source_id, events.c.outbound, events.c.reason
    rows = connection.execute(sa.select(*columns).where(events.c.source == inbox.INTAKE))
    return {source_id: outbound if reason is None else f"{outbound}: {reason}" for source_id, outbound, reason in rows}


def _events(connection: Connection) -> list[str]:
    """The webhooks' ids."""
    query = sa.select(events.c.source_id).where(events.c.source == inbox.CUSTOMERIO)
    return list(connection.execute(query).scalars())


def _users(connection: Connection) -> list[Known]:
    said_at = users_table.c.opt_changed_at
    missed = users_table.c.opted_out & mirror.c.deleted_at.is_(None) & (said_at < mirror.c.created_at)
    rows = connection.execute(
        sa.select(
            users_table.c.external_id,
            users_table.c.attributes,
            sa.case((pending.c.parked_at.is_not(None), sa.func.coalesce(pending.c.reason, ""))),
            users_table.c.opted_out,
            sa.func.coalesce(missed, sa.false()),
        ).select_from(
            users_table.outerjoin(mirror, mirror.c.user_id == users_table.c.id).outerjoin(
                pending, pending.c.user_id == users_table.c.id
            )
        )
    )
    return [
        Known(name or "", attributes.get("seq", 0), parked, opted_out, bool(has_to_be_out))
        for name, attributes, parked, opted_out, has_to_be_out in rows
    ]
