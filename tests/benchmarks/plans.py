"""`plan` before the first sync: BENCH_PLANNED users (100,000 unless told) of 20 attributes each, none of them sent."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from datetime import UTC, datetime

import sqlalchemy as sa

from connector.outbound import planning
from connector.settings import Everyone, Guard, People, Settings
from connector.store import schema
from connector.store.database import Database
from tests.benchmarks import segments
from tests.benchmarks.stores import Store

_USERS = int(os.environ.get("BENCH_PLANNED", "100_000"))
_SECONDS = 10.0
_PAGE = 10_000
_NOW = datetime(2026, 3, 1, tzinfo=UTC)
_SETTINGS = Settings(
    segments={"Everyone": Everyone()},
    people=People(segments=("Everyone",), attributes=("plan", "seats", "signed_up_at", "text1", "text2", "number1")),
    guard=Guard(max_creates=None),
)


def measure(stores: Mapping[str, Store], rounds: int, _requests: int) -> None:
    """Prints the seconds for each store, and what the first sync would take."""
    print(f"plans: the first sync of {_USERS:,} users, the best of {rounds} rounds")
    print()
    for store in stores.values():
        with store.fresh() as url:
            db = Database(url)
            try:
                _fill(db)
                taken = []
                for _ in range(rounds):
                    began = time.perf_counter()
                    outlook = planning.outlook(db, _SETTINGS, _NOW)
                    taken.append(time.perf_counter() - began)
            finally:
                db.close()
        sending = outlook.plan.sending
        met = "met" if min(taken) * 100_000 / _USERS < _SECONDS else "NOT MET"
        shown = f"seconds, {store.title}"
        detail = f"{sending.operations:,} operations, {sending.calls:,} calls, {sending.bytes / 1e6:.1f} MB"
        print(f"{shown:<52}{min(taken):>7.2f}   {detail}   < {_SECONDS:g} for 100,000   {met}", flush=True)


def _fill(db: Database) -> None:
    for start in range(0, _USERS, _PAGE):
        rows = [segments.user(number) for number in range(start, min(start + _PAGE, _USERS))]
        db.write(lambda connection, rows: connection.execute(sa.insert(schema.users), rows), rows)
    with db.writer.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("ANALYZE")
