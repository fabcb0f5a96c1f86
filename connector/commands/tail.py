"""`connector tail`: a line for each webhook, message, event, decision and call as they happen, until Ctrl-C.

It reads the store, beside whatever runs on it, and changes nothing. Calls that were plain success show as what they
made: a person or an event that was sent. Decisions that send nothing are counted.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
import sqlalchemy as sa
import typer

from connector import app, log
from connector.commands import broken_file, terminal
from connector.commands.person_text import quoted
from connector.core import normalize
from connector.store import inbox, recent
from connector.store.recent import Look, Watch

_PEOPLE_SHARE = 10  # of the time, the tenth in which people may be looked for


def command(
    context: typer.Context,
    every: Annotated[float, typer.Option(min=0.05, max=60, help="Seconds from one look to the next.")] = 0.5,
    settings: terminal.SettingsFile = None,
    as_json: terminal.AsJson = False,
) -> None:
    """A line for each webhook, message, event, decision and call as they happen. Runs until Ctrl-C."""
    try:
        with broken_file.opened(context, settings) as (_, loaded, db):
            watch = db.read(Watch, app.now())
            terminal.remarks.print("watching; Ctrl-C ends it")
            shows, is_away = loaded.log.personal_data, False
            people_again = 0.0
            while True:
                time.sleep(every)
                began = time.monotonic()
                with_people = began >= people_again
                try:
                    found = db.read(watch.look, app.now(), people=with_people)
                except sa.exc.DBAPIError as error:
                    if not is_away:
                        terminal.remarks.print(f"the store can't be asked ({type(error.orig).__name__}); trying again")
                    is_away = True
                    continue
                if is_away:
                    terminal.remarks.print("the store answers again")
                is_away = False
                if with_people:
                    people_again = began + _PEOPLE_SHARE * (time.monotonic() - began)
                for line in lines(found, shows=shows):
                    _print(line, as_json)
    except KeyboardInterrupt:
        return


def lines(found: Look, *, shows: bool) -> Iterator[dict[str, Any]]:
    """What a look found, in the order in which it happened: `at`, `what`, and what there is to say. Unless it `shows`
    personal data, ids of users stay hidden, and Customer.io's words about them."""
    told = [*_arrived(found), *_happened(found), *_settled(found), *_tried(found), *_synced(found), *_gate(found)]
    for line in sorted(told, key=lambda each: each["at"] or datetime.min.replace(tzinfo=UTC)):
        if not shows:
            line |= {key: log.HIDDEN for key in ("user_id", "customer_id", "message") if line.get(key)}
        yield line
    for each in found.decided:
        yield {"at": None, "what": "decided", "decision": each.verb, "reason": each.reason, "users": each.users}


def _arrived(found: Look) -> Iterator[dict[str, Any]]:
    for row in found.arrived:
        is_webhook = row.source == inbox.CUSTOMERIO
        line = {"at": row.at, "what": "webhook" if is_webhook else "message", "kind": row.kind or _kind(row)}
        yield line | ({"state": row.state, "reason": row.reason} if row.reason else {})


def _kind(row: recent.Arrived) -> str | None:
    """What it says it is, where nobody has read it yet."""
    if row.body is None:
        return None
    if row.source == inbox.CUSTOMERIO:
        return normalize.glance(row.body).kind
    try:
        said = json.loads(row.body)["message"]["type"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return None
    return said if isinstance(said, str) else None


def _happened(found: Look) -> Iterator[dict[str, Any]]:
    for row in found.happened:
        line = {"at": row.at, "what": "event", "source": row.source, "type": row.type, "name": row.name}
        yield line | {"user_id": row.user_id, "outbound": row.outbound}


def _settled(found: Look) -> Iterator[dict[str, Any]]:
    for row in found.settled:
        line = {"at": row.at, "what": f"event_{row.outbound}", "type": row.type, "name": row.name}
        yield line | {"user_id": row.user_id} | ({"reason": row.reason} if row.reason else {})


def _tried(found: Look) -> Iterator[dict[str, Any]]:
    for row in found.tried:
        line = {"at": row.at, "what": "attempt", "of": row.what, "status": row.status, "reason": row.reason}
        yield line | {"message": row.message, "user_id": row.user_id}


def _synced(found: Look) -> Iterator[dict[str, Any]]:
    for row in found.synced:
        yield {"at": row.at, "what": row.verb, "customer_id": row.customer_id, "user_id": row.user_id}


def _gate(found: Look) -> Iterator[dict[str, Any]]:
    if found.gate is not None:
        state = "open" if found.gate.reason is None else "closed"
        yield {"at": found.gate.at, "what": "gate", "state": state, "reason": found.gate.reason}


def _print(line: dict[str, Any], as_json: bool) -> None:
    if as_json:
        sys.stdout.buffer.write(msgspec.json.encode(line) + b"\n")
    else:
        sys.stdout.write(described(line) + "\n")
    sys.stdout.flush()


def described(line: dict[str, Any]) -> str:
    """One line for a terminal: when, what, and the rest by name. Text of others is quoted, so that none of it can move
    the cursor."""
    at = f"{line['at']:%H:%M:%S}" if line["at"] is not None else " " * 8
    rest = {key: value for key, value in line.items() if key not in ("at", "what") and value is not None}
    plain = {"kind", "source", "type", "outbound", "state", "reason", "of", "status", "decision", "users"}
    words = (f"{key}={value if key in plain and _is_word(value) else quoted(value)}" for key, value in rest.items())
    return f"{at}  {line['what']:<13} {' '.join(words)}".rstrip()


def _is_word(value: object) -> bool:
    return isinstance(value, int) or (isinstance(value, str) and value.replace(".", "_").isidentifier())
