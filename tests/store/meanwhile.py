"""What another process does between two statements of a transaction, on PostgreSQL; on a thread of its own where it may
have to wait."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
import sqlalchemy as sa

from connector.store.database import Database

on_postgresql = pytest.mark.parametrize("store_kind", ["postgresql"], indirect=True)

_WAITING = sa.text(
    "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
)


@contextmanager
def before(db: Database, begins: str, step: Callable[[], Any], *, number: int = 1) -> Iterator[None]:
    """Runs the step once, before the number-th statement that begins so; some statement has to."""
    found = 0

    def look(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        nonlocal found
        if statement.startswith(begins):
            found += 1
            if found == number:
                step()

    sa.event.listen(db.writer, "before_cursor_execute", look)
    try:
        yield
    finally:
        sa.event.remove(db.writer, "before_cursor_execute", look)
    assert found >= number


class Other:
    """Another process, on a thread of its own."""

    def __init__(self, db: Database, url: str) -> None:
        self.db = Database(url)
        self._watching = db
        self._threads = ThreadPoolExecutor(4)
        self._jobs: list[Future[Any]] = []

    def begin(self, job: Callable[[], Any]) -> Future[Any]:
        """Returns once it is over, or waits for a lock, as one more than before."""
        waiting = self._waiting()
        running = self._threads.submit(job)
        self._jobs.append(running)
        while not running.done() and self._waiting() <= waiting:
            time.sleep(0.002)
        return running

    def results(self) -> list[Any]:
        """Of all that was begun, once it is over; the first error is raised."""
        return [each.result(20) for each in self._jobs]

    def _waiting(self) -> int:
        with self._watching.reader.connect() as connection:
            return int(connection.execute(_WAITING).scalar_one())

    def close(self) -> None:
        self._threads.shutdown()
        self.db.close()


@contextmanager
def other(db: Database, url: str) -> Iterator[Other]:
    """Another process at the same store."""
    process = Other(db, url)
    try:
        yield process
    finally:
        process.close()
