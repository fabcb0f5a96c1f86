"""The state file: a sandbox that is started again goes on where it was, and what isn't its file is refused."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from connector import errors
from connector.sandbox import operations, read_back
from connector.sandbox.operations import Delete, Edit, Identifier, Identify, Suppress, Track
from connector.sandbox.state import State
from connector.sandbox.state_file import KeptState, StateFile

ULID = "01E4C4CT6YDC7Y5M7FE1GWWPQJ"
ANN = Identifier("id", "ann")
BOB = Identifier("email", "Bob@x.co")


@dataclass
class Runs:
    """A state file, and sandboxes that have it one after the other; the clock goes on by itself."""

    path: Path
    time: float = 1000.25
    opened: list[StateFile] = field(default_factory=list)

    def start(self) -> KeptState:
        self.stop()
        self.opened.append(StateFile(self.path))
        return KeptState(self.opened[-1], self.now)

    def stop(self) -> None:
        for file in self.opened:
            file.close()
        self.opened.clear()

    def now(self) -> float:
        self.time += 0.75
        return self.time


@pytest.fixture
def runs(tmp_path: Path) -> Iterator[Runs]:
    runs = Runs(tmp_path / "sandbox.db")
    yield runs
    runs.stop()


def identify(who: Identifier, timestamp: int | None = None, **attributes: Any) -> Identify:
    return operations.identify(who, attributes, update_only=False, timestamp=timestamp)


def event(who: Identifier, event_id: str | None = None) -> Track:
    return Track(who, "event", "bought", event_id, None, {"total": 12.5, "note": "ü", "items": [1, None, {"a": True}]})


def all_of(state: State) -> dict[str, Any]:
    """Everything that can be read back, but for the calls."""
    return {
        "counts": read_back.counts(state),
        "people": [read_back.person(each) for each in state.people],
        "activities": [read_back.activity(*each) for each in read_back.newest_activities(state, 100)],
        "log": [read_back.log_entry(*each) for each in read_back.newest_log_entries(state)],
    }


def test_a_restarted_sandbox_has_all_that_it_had(runs: Runs) -> None:
    state = runs.start()
    for operation in (
        identify(ANN, email="ann@x.co", plan="pro", unsubscribed=True, tags=["a", {"b": None}]),
        identify(ANN, timestamp=5, plan="late"),
        event(ANN, ULID),
        event(ANN, "no ulid"),
        event(BOB),
        event(Identifier("anonymous_id", "x")),
        Delete(Identifier("id", "nobody")),
        identify(Identifier("id", "gone")),
        Delete(Identifier("id", "gone")),
        identify(Identifier("cio_id", "d9c100000001"), id="ann2", plan=None),
    ):
        state.apply(operation)
    before = all_of(state)
    assert before["counts"]["refused"] == {"older_timestamp": 1, "unknown_person": 1}
    assert len(before["people"]) == 2
    assert all_of(runs.start()) == before
    assert all_of(runs.start()) == before


def test_a_restarted_sandbox_goes_on_from_there(runs: Runs) -> None:
    state = runs.start()
    state.apply(identify(ANN, plan="pro"))
    state.apply(event(ANN, ULID))
    state = runs.start()
    state.apply(event(ANN, ULID.lower()))
    state.apply(identify(ANN, timestamp=5, plan="late"))
    state.apply(identify(Identifier("id", "bob")))
    assert state.refused == {"repeated_event": 1, "older_timestamp": 1}
    assert len({person.cio_id for person in state.people}) == 2
    before = all_of(state)
    assert all_of(runs.start()) == before


def test_a_suppressed_person_stays_suppressed(runs: Runs) -> None:
    state = runs.start()
    state.apply(identify(ANN, email="ann@x.co"))
    state.apply(Suppress(ANN))
    state = runs.start()
    state.apply(identify(ANN))
    state.apply(identify(Identifier("email", "ann@x.co")))
    assert list(state.people) == []


def test_an_operation_is_in_the_file_before_apply_returns(runs: Runs, tmp_path: Path) -> None:
    state = runs.start()
    state.apply(identify(ANN, plan="pro"))
    copied = tmp_path / "copy.db"
    for suffix in ("", "-wal"):  # as a kill would leave it
        Path(f"{copied}{suffix}").write_bytes(Path(f"{runs.path}{suffix}").read_bytes())
    file = StateFile(copied)
    assert [person.id for person in KeptState(file, runs.now).people] == ["ann"]
    file.close()


def test_a_file_that_another_sandbox_has_is_refused(runs: Runs) -> None:
    runs.start()
    with pytest.raises(errors.Misconfigured, match="locked"):
        StateFile(runs.path)


def test_a_database_of_something_else_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE users (id)")
    connection.close()
    with pytest.raises(errors.Misconfigured, match="something else"):
        StateFile(path)
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT name FROM sqlite_schema").fetchall() == [("users",)]
    connection.close()


def test_what_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "settings.toml").write_text("[server]\n" * 100)
    with pytest.raises(errors.Misconfigured, match=r"settings\.toml can't be used"):
        StateFile(tmp_path / "settings.toml")
    with pytest.raises(errors.Misconfigured, match="can't be used"):
        StateFile(tmp_path / "no folder" / "sandbox.db")
    with pytest.raises(errors.Misconfigured, match="can't be used"):
        StateFile(tmp_path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("PRAGMA user_version = 99", "another version"),
        ("UPDATE operations SET operation = '{}'", "operation 1 can't be read"),
        ("UPDATE operations SET operation = ''", "operation 1 can't be read"),
        ("UPDATE operations SET operation = '[' || operation", "operation 1 can't be read"),
        ("UPDATE operations SET operation = CAST(x'7BFF7D' AS TEXT)", "UTF-8"),
        (f"UPDATE operations SET operation = '{'[' * 5000}'", "operation 1 can't be read"),
        (
            """UPDATE operations SET operation = replace(operation, '"pro"', '"pro","anonymous_id":["x"]')""",
            "operation 2 can't be applied",
        ),
        ("UPDATE operations SET at = 9e999", "operation 1 can't be applied"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused(runs: Runs, change: str, said: str) -> None:
    state = runs.start()
    state.apply(identify(ANN))
    state.apply(Edit(ANN, {"plan": "pro"}))
    runs.stop()
    connection = sqlite3.connect(runs.path, isolation_level=None)
    connection.execute(change)
    connection.close()
    with pytest.raises(errors.Misconfigured, match=said):
        runs.start()


def test_a_damaged_file_is_refused(runs: Runs) -> None:
    state = runs.start()
    for _ in range(200):
        state.apply(event(ANN))
    runs.stop()
    whole = runs.path.read_bytes()
    runs.path.write_bytes(whole[:8192] + b"\x00" * (len(whole) - 8192))
    with pytest.raises(errors.Misconfigured, match="malformed"):
        runs.start()
