"""Whoever locks several rows does so in one order, which is no matter of the database: by the text of the statements,
because a database whose collation is a language's can't be had everywhere."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
import sqlalchemy as sa

from connector.store import backlog, leases, merging, mirror, pending, users
from connector.store.database import Database
from tests.store.given import NOW
from tests.store.meanwhile import on_postgresql

LATER = NOW + timedelta(seconds=10)

ORDERED: list[tuple[Callable[..., Any], tuple[Any, ...]]] = [
    (leases.still_ours, ({"01J9": "a", "01a2": "a"},)),
    (leases.all_ours, ("a", ["01J9", "01a2"])),
    (leases.renew, ("a", NOW, LATER)),
    (leases.give_back, ("a", NOW)),
    (leases.give_back, ("a", NOW, ["01J9", "01a2"])),
    (pending.lock, (["01J9", "01a2"],)),
    (users.lock, (["01J9", "01a2"],)),
    (mirror.lock, (["01J9", "01a2"],)),
    (merging.merge, ({"01a2": "01J9"}, NOW)),
    (partial(backlog.replay, reason=None, user_ids=None, since=None), (NOW,)),
]


@on_postgresql
@pytest.mark.parametrize(("fn", "arguments"), ORDERED)
def test_rows_are_locked_in_an_order_that_is_no_matter_of_the_database(
    db: Database, fn: Callable[..., Any], arguments: tuple[Any, ...]
) -> None:
    locking: list[str] = []

    def noted(_connection: Any, _cursor: Any, statement: str, *_more: Any) -> None:
        if "FOR UPDATE" in statement or "FOR NO KEY UPDATE" in statement:
            locking.append(statement)

    sa.event.listen(db.writer, "before_cursor_execute", noted)
    db.write(fn, *arguments)
    sa.event.remove(db.writer, "before_cursor_execute", noted)
    assert locking
    assert all('COLLATE "C"' in each for each in locking)
