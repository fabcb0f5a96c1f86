"""What there is to compare: the store, once nobody writes to it, and the sandbox's journal, gone through again."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import aiohttp
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from connector.commands.prove import settling
from connector.commands.prove.cases import Case
from connector.commands.prove.comparing import OPT_OUT, Applied, Evidence, Known, Person
from connector.commands.prove.comparing_events import Arrived
from connector.commands.prove.comparing_webhooks import Filed, Said
from connector.commands.prove.load import Load
from connector.commands.prove.processes import Child
from connector.sandbox.operations import Delete, Identify, Operation, Track
from connector.sandbox.state import State
from connector.sandbox.state_file import StateFile
from connector.store import inbox
from connector.store.database import Database
from connector.store.schema import events, pending
from connector.store.schema import users as users_table

_PAGE = 10_000
# What says nothing of what is lost, and is worth a look when there is much of it.
_NOTICED = ("event_unread", "lease_lost", "not_renewed")


async def acknowledged(session: aiohttp.ClientSession, sandbox_url: str) -> list[tuple[str, Said]]:
    """The webhooks that were answered 2xx by their ids, repeats again."""
    found = await _listed(session, f"{sandbox_url}/sandbox/webhooks/acknowledged")
    return [(each["event_id"], Said(each["kind"], each["customer_id"], each["timestamp"])) for each in found]


async def unanswered(session: aiohttp.ClientSession, sandbox_url: str) -> set[str]:
    """The ids of those that the sandbox reported on its own, and tries again in an hour. One may be stored all the
    same, and its answer was cut."""
    return {each["event_id"] for each in await _listed(session, f"{sandbox_url}/sandbox/webhooks/queue")}


async def unordered(session: aiohttp.ClientSession, sandbox_url: str) -> list[Case]:
    """Calls that left the order of what they said of one person to chance; it may have gone well."""
    found = await _listed(session, f"{sandbox_url}/sandbox/unordered")
    return [
        Case("out_of_order", each["what"], next(iter(each["who"].values())), f"at {each['at']:.3f}: {each['detail']}")
        for each in found
    ]


async def _listed(session: aiohttp.ClientSession, url: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    after = ""
    while True:
        async with session.get(f"{url}?limit={_PAGE}{after}") as response:
            page = await response.json()
        if not page:
            return found
        found += page
        after = f"&after={page[-1]['number']}"


def gather(
    db: Database,
    journal: Path,
    load: Load,
    sent: Mapping[str, Said],
    unanswered: set[str],
    others: Sequence[Case],
) -> Evidence:
    """Everything; the sandbox has ended, since its file is one process's at a time."""
    customerio, applied, arrived = _gone_through(journal)
    return Evidence(
        stories=load.stories,
        sent=sent,
        unanswered=unanswered,
        filed=db.read(_filed),
        users=db.read(_users),
        people=[
            Person(
                each.id or each.cio_id,
                {**each.attributes, **({"email": each.email} if each.email else {})},
                each.created,
            )
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
        for line in _logged(child, folder):
            if '"task_failed"' in line:
                yield Case("crashed", "task_failed", child.name, _failure(line))


def noticed(children: Sequence[Child], folder: Path) -> Counter[str]:
    """How many lines of the logs have one of these words."""
    found: Counter[str] = Counter()
    for child in children:
        for line in _logged(child, folder):
            found.update(word for word in _NOTICED if f'"{word}"' in line)
    return found


def _logged(child: Child, folder: Path) -> list[str]:
    return (folder / f"{child.name}.log").read_text(errors="replace").splitlines()


def _failure(line: str) -> str:
    try:
        said = json.loads(line)
    except ValueError:
        return line  # it was killed amid the line
    return f"{said.get('task')}: {said.get('exception')}"


def _gone_through(journal: Path) -> tuple[State, list[Applied], list[Arrived]]:
    """Customer.io as it is after all operations, and what each of them came to."""
    now = 0.0
    customerio = State(lambda: now)
    applied: list[Applied] = []
    arrived: list[Arrived] = []
    newest: dict[str, int] = {}

    def apply(at: float, operation: Operation) -> None:
        nonlocal now
        now = at
        refused = customerio.refused.total()
        was_there = isinstance(operation, Track) and _is_there(customerio, operation)
        customerio.apply(operation)
        reason = customerio.log[-1].reason if customerio.refused.total() > refused else None
        if isinstance(operation, Identify | Delete):
            done = _applied(at, operation, reason)
            if done.seq is not None and reason is None:
                newest[done.customer_id] = max(done.seq, newest.get(done.customer_id, 0))
            applied.append(done)
        elif isinstance(operation, Track):
            come = _arrived(at, operation, reason, was_there=was_there)
            arrived.append(come._replace(seq=newest.get(come.customer_id, 0)))

    file = StateFile(journal)
    try:
        file.go_through(apply)
    finally:
        file.close()
    return customerio, applied, arrived


def _applied(at: float, operation: Identify | Delete, reason: str | None) -> Applied:
    if isinstance(operation, Delete):
        return Applied(at, operation.who.value, "delete", None, reason)
    attributes = operation.attributes
    opts_out = attributes[OPT_OUT] is True if OPT_OUT in attributes else None
    return Applied(at, operation.who.value, "identify", attributes.get("seq"), reason, opts_out)


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


def _filed(connection: Connection) -> list[Filed]:
    rows = connection.execute(
        sa.select(events.c.source_id, users_table.c.external_id, events.c.context, events.c.name, events.c.occurred_at)
        .select_from(events.outerjoin(users_table, users_table.c.id == events.c.user_id))
        .where(events.c.source == inbox.CUSTOMERIO)
    )
    return [
        Filed(source_id, user, context.get("kind"), name, at.timestamp()) for source_id, user, context, name, at in rows
    ]


def _users(connection: Connection) -> list[Known]:
    rows = connection.execute(
        sa.select(
            users_table.c.external_id,
            users_table.c.attributes,
            sa.case((pending.c.parked_at.is_not(None), sa.func.coalesce(pending.c.reason, ""))),
            users_table.c.opted_out,
        ).select_from(users_table.outerjoin(pending, pending.c.user_id == users_table.c.id))
    )
    return [
        Known(name or "", attributes.get("seq", 0), parked, opted_out) for name, attributes, parked, opted_out in rows
    ]
