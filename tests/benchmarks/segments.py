"""Segments: who is in one, by SQL, against reading every user and evaluating the same conditions in Python.

BENCH_USERS users (1,000,000 unless told) of 20 attributes each; two conditions, on a text and on a number. Beside it a
whole pass with nothing to do: the anti-join with three segments' predicates inline over users who are all mirrored.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from connector.records import Mirror
from connector.settings import All, Attribute, Event, NoneOf, People, Settings
from connector.store import schema, segments, standing
from connector.store.database import Database
from tests.benchmarks.stores import Store

_USERS = int(os.environ.get("BENCH_USERS", "1_000_000"))
_TARGETS = {"sqlite": 2.0, "postgresql": 5.0}
_PAGE = 10_000
_NOW = datetime(2026, 3, 1, tzinfo=UTC)
_SEGMENT = All((Attribute("plan", "in", ("pro", "team")), Attribute("seats", "gte", 50)))
_SETTINGS = Settings(
    segments={
        "Big": _SEGMENT,
        "New": Attribute("signed_up_at", "within", timedelta(days=30)),
        "Quiet": NoneOf((Event("Order Completed", 1, None, timedelta(days=30)),)),
    },
    people=People(segments=("Big",)),
)


def measure(stores: Mapping[str, Store], rounds: int, _requests: int) -> None:
    """Prints the ratio for each store, and how many users a second a pass compares."""
    print(f"segments: {_USERS:,} users of 20 attributes; two conditions, in SQL and in Python, {rounds} rounds")
    print()
    for kind, store in stores.items():
        with store.fresh() as url:
            db = Database(url)
            try:
                _fill(db)
                _show(kind, store.title, db, rounds)
            finally:
                db.close()


def _show(kind: str, title: str, db: Database, rounds: int) -> None:
    taken: dict[str, list[float]] = {"sql": [], "python": [], "pass": []}
    counted = set()
    ways: dict[str, Callable[[Connection], int]] = {"sql": _in_sql, "python": _in_python, "pass": _pass}
    for _ in range(rounds):
        for name, way in ways.items():
            began = time.perf_counter()
            found = db.read(way)
            taken[name].append(time.perf_counter() - began)
            counted.add((name == "pass", found))
    if len(counted) != 2:
        raise RuntimeError(f"both ways must find the same users, and every pass the same: {counted}")
    seconds = {name: statistics.median(each) for name, each in taken.items()}
    ratio, target = seconds["python"] / seconds["sql"], _TARGETS[kind]
    met = "met" if ratio >= target else "NOT MET"
    shown = f"Python / SQL, {title}"
    detail = f"{seconds['python']:.2f} s / {seconds['sql']:.2f} s"
    print(f"{shown:<52}{ratio:>7.2f}   {detail}   ≥ {target:g}   {met}", flush=True)
    shown = f"users a second in a pass, three segments, {title}"
    print(f"{shown:<52}{_USERS / seconds['pass']:>10,.0f}", flush=True)


def _in_sql(connection: Connection) -> int:
    return segments.size(connection, "Big", _SETTINGS, _NOW)


def _in_python(connection: Connection) -> int:
    """Streams the attributes, as a worker that mapped every user would; no more than the conditions need is done."""
    rows = connection.execution_options(yield_per=_PAGE).execute(sa.select(schema.users.c.attributes))
    return sum(_is_big(attributes) for (attributes,) in rows)


def _is_big(attributes: Mapping[str, Any]) -> bool:
    plan, seats = attributes.get("plan"), attributes.get("seats")
    if not isinstance(plan, str) or plan not in ("pro", "team"):
        return False
    return isinstance(seats, int | float) and not isinstance(seats, bool) and seats >= 50


def _pass(connection: Connection) -> int:
    return sum(1 for _ in standing.differing(connection, _SETTINGS, _NOW))


def _fill(db: Database) -> None:
    for page in _pages():
        db.write(_store, page)
    with db.writer.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("ANALYZE")


def _pages() -> Iterator[range]:
    for start in range(0, _USERS, _PAGE):
        yield range(start, min(start + _PAGE, _USERS))


def _store(connection: Connection, numbers: range) -> None:
    connection.execute(sa.insert(schema.users), [user(number) for number in numbers])
    connection.execute(sa.insert(schema.mirror), [msgspec.structs.asdict(_person(number)) for number in numbers])


def user(number: int) -> dict[str, Any]:
    """A row of the table, with 20 attributes."""
    attributes = {
        "plan": ("free", "pro", "team", "trial", "none")[number % 5],
        "seats": number % 97,
        "signed_up_at": (_NOW - timedelta(days=40 + number % 900)).isoformat(),
        **{f"text{each}": f"value {number * each % 1000}" for each in range(10)},
        **{f"number{each}": number * each % 1000 for each in range(7)},
    }
    return {
        "id": f"{number:026d}",
        "external_id": f"user-{number}",
        "email": f"user-{number}@example.com",
        "attributes": attributes,
        "known_by": "own",
        "first_seen_at": _NOW,
        "updated_at": _NOW,
        "opted_out": False,
        "version": 1,
    }


def _person(number: int) -> Mirror:
    big = number % 5 in (1, 2) and number % 97 >= 50
    return Mirror(
        user_id=f"{number:026d}",
        customer_id=f"user-{number}",
        id_kind="id",
        attributes={},
        segment_bits=f"{int(big)}01",
        mapping_hash=_SETTINGS.mapping_hash(),
        version=1,
        sent_ts=0,
        created_at=_NOW,
        synced_at=_NOW,
        release=None,
    )
