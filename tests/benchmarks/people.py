"""People out: a full pass over BENCH_USERS users (1,000,000 unless told) who are all at Customer.io, and what the
worker does for those who changed before it calls.

Two segments on attributes, one of them with a time window. Nothing has changed; then one user in a hundred. Deciding is
all from the claim to the encoded operations: loading, segments, decision, mapping, diff.
"""

from __future__ import annotations

import os
import re
import statistics
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from connector.core import encode
from connector.outbound import full_pass
from connector.outbound.preparation import prepare
from connector.records import Claim, Mirror
from connector.settings import All, Attribute, People, Settings
from connector.store import schema
from connector.store.database import Database
from tests.benchmarks import segments
from tests.benchmarks.stores import Store

_USERS = int(os.environ.get("BENCH_USERS", "1_000_000"))
_PAGE = 10_000
_CLAIMED = 2_000  # as many as the worker claims at once
_DECIDED = 100_000  # at most
_NOW = datetime(2026, 3, 1, tzinfo=UTC)
_PASS_TARGET = 200_000
_DECIDING_TARGETS = {"sqlite": 50_000, "postgresql": 30_000}
_MEMORY_TARGET = 1.15
_PICKED = ("plan", "seats", "signed_up_at", "text1", "text2", "number1")
SETTINGS = Settings(
    segments={
        "Big": All((Attribute("plan", "in", ("pro", "team")), Attribute("seats", "gte", 50))),
        "New": Attribute("signed_up_at", "within", timedelta(days=30)),
    },
    people=People(segments=("Big",), attributes=_PICKED),
)


def measure(stores: Mapping[str, Store], rounds: int, _requests: int) -> None:
    """Prints four lines for each store."""
    print(f"people: {_USERS:,} users of 20 attributes, all of them mirrored, two segments, {rounds} rounds")
    print()
    for kind, store in stores.items():
        with store.fresh() as url:
            db = Database(url)
            try:
                fill(db, _USERS)
                _show(kind, store.title, db, rounds)
            finally:
                db.close()


def _show(kind: str, title: str, db: Database, rounds: int) -> None:
    _passed(db, found=0)
    before = _reset_peak()
    seconds = statistics.median(_passed(db, found=0) for _ in range(rounds))
    grown = _memory("VmHWM") / before
    _line(f"users a second, nothing changed, {title}", _USERS / seconds, _PASS_TARGET)
    changed = _change(db)
    taken = []
    for _ in range(rounds):
        db.write(lambda connection: connection.execute(sa.delete(schema.pending)))
        taken.append(_passed(db, found=len(changed)))
    shown = f"users a second, one in a hundred changed, {title}"
    print(
        f"{shown:<60}{_USERS / statistics.median(taken):>10,.0f}   found {len(changed):,}, and nobody else", flush=True
    )
    met = "met" if grown <= _MEMORY_TARGET else "NOT MET"
    shown = f"memory at its peak / before the passes, {title}"
    print(f"{shown:<60}{grown:>10.2f}   ≤ {_MEMORY_TARGET}   {met}", flush=True)
    _line(f"changed users decided and mapped a second, {title}", _decided(db, rounds), _DECIDING_TARGETS[kind])


def _line(shown: str, found: float, target: float) -> None:
    print(f"{shown:<60}{found:>10,.0f}   ≥ {target:,}   {'met' if found >= target else 'NOT MET'}", flush=True)


def _passed(db: Database, found: int) -> float:
    """Seconds of a pass that finds as many."""
    began = time.perf_counter()
    passed = full_pass.run(db, SETTINGS, lambda: _NOW)
    seconds = time.perf_counter() - began
    if passed is None or passed.changed != found or passed.holds or passed.released:
        raise RuntimeError(f"the pass must find {found} changed people, and nobody else: {passed}")
    return seconds


def _decided(db: Database, rounds: int) -> float:
    """Users a second, of people in the whitelisted segment of whom one attribute has changed."""
    numbers = [number for number in range(_USERS) if _is_big(number)][:_DECIDED]
    chosen = [_id(number) for number in numbers]
    for start in range(0, len(numbers), _PAGE):
        db.write(_edit, numbers[start : start + _PAGE])
    taken = []
    for _ in range(rounds):
        began = time.perf_counter()
        for start in range(0, len(chosen), _CLAIMED):
            claims = [Claim(user_id, 0, None, None) for user_id in chosen[start : start + _CLAIMED]]
            prepared = prepare(db, SETTINGS, claims, _NOW)
            works = [encode.Work(each.user_id, tuple(map(encode.operation, each.parts))) for each in prepared]
            if sum(1 for _ in encode.batches(works)) == 0 or any(len(work.parts) != 1 for work in works):
                raise RuntimeError("everybody must have one operation")
        taken.append(time.perf_counter() - began)
    return len(chosen) / statistics.median(taken)


def _edit(connection: Connection, numbers: Sequence[int]) -> None:
    """What was sent of each of them was another text."""
    table = schema.mirror
    statement = sa.update(table).where(table.c.user_id == sa.bindparam("of_user"))
    connection.execute(
        statement.values(attributes=sa.bindparam("sent", type_=table.c.attributes.type)),
        [{"of_user": _id(number), "sent": _sent(number) | {"text1": "another"}} for number in numbers],
    )


def _change(db: Database) -> list[str]:
    """One user in a hundred has another version."""
    changed = [_id(number) for number in range(0, _USERS, 100)]
    table = schema.users
    for start in range(0, len(changed), _PAGE):
        theirs = table.c.id.in_(changed[start : start + _PAGE])
        statement = sa.update(table).where(theirs).values(version=2)
        db.write(lambda connection, statement: connection.execute(statement), statement)
    return changed


def _reset_peak() -> float:
    """Forgets the peak so far; the memory in use now, in megabytes."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return _memory("VmRSS")


def _memory(name: str) -> float:
    found = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="utf-8"))
    if found is None:
        raise RuntimeError("this system does not tell how much memory a process needs")
    return int(found[1]) / 1024


def fill(db: Database, count: int) -> None:
    """So many users, who are people as SETTINGS say."""
    for start in range(0, count, _PAGE):
        db.write(_store, range(start, min(start + _PAGE, count)))
    with db.writer.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("ANALYZE")


def _store(connection: Connection, numbers: range) -> None:
    connection.execute(sa.insert(schema.users), [segments.user(number) for number in numbers])
    connection.execute(sa.insert(schema.mirror), [msgspec.structs.asdict(_person(number)) for number in numbers])


def _id(number: int) -> str:
    return f"{number:026d}"


def _is_big(number: int) -> bool:
    return number % 5 in (1, 2) and number % 97 >= 50


def _sent(number: int) -> dict[str, Any]:
    row = segments.user(number)
    return {"email": row["email"], "hull_segments": ["Big"], **{name: row["attributes"][name] for name in _PICKED}}


def _person(number: int) -> Mirror:
    return Mirror(
        user_id=_id(number),
        customer_id=f"user-{number}",
        id_kind="id",
        attributes=_sent(number),
        segment_bits=f"{int(_is_big(number))}0",
        mapping_hash=SETTINGS.mapping_hash(),
        version=1,
        sent_ts=0,
        created_at=_NOW,
        synced_at=_NOW,
        release=None,
    )
