"""What is to be written of the users of one claim, and under which terms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NamedTuple

from connector.records import Mirror
from connector.store import leases, mirror
from connector.store.attempts import Attempt


class Unsent(NamedTuple):
    """Why a user's events aren't sent; and whether who has let the user go is known on."""

    reason: str
    keeps_release: bool


@dataclass
class Notes:
    """What the transaction will write of the users of one claim."""

    done: list[str] = field(default_factory=list)
    people: list[Mirror] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)  # or may have been, before they were made anew
    touched: list[mirror.Looked] = field(default_factory=list)
    renamed: list[str] = field(default_factory=list)
    opted_out: list[str] = field(default_factory=list)
    doubted: list[str] = field(default_factory=list)  # nobody knows what these people have there
    withdrawn: dict[str, Mirror | None] = field(default_factory=dict)  # who was not created
    waiting: list[leases.Wait] = field(default_factory=list)
    log_rows: list[Attempt] = field(default_factory=list)
    failures: list[leases.Failure] = field(default_factory=list)
    parked: list[leases.Parked] = field(default_factory=list)
    untried: list[str] = field(default_factory=list)
    sent: list[int] = field(default_factory=list)
    events_parked: dict[int, str] = field(default_factory=dict)
    unsent: dict[str, Unsent] = field(default_factory=dict)  # who has events that wait


@dataclass(frozen=True, slots=True)
class Meanwhile:
    """What others have done since these calls went out. `owners` says by customer id whose person that is by now;
    `others` are those who aren't who it was sent for. `heirs` are by merged user the survivors who have their person by
    now. `doubts` are the versions of those who were doubted, and of the heirs."""

    owners: Mapping[str, str]
    others: frozenset[str]
    heirs: Mapping[str, str]
    doubts: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Terms:
    """Under which this is recorded: what the settings made of users, for how long somebody may fail, and events wait
    for somebody who isn't sent, and when."""

    mapping_hash: str
    give_up_after: timedelta
    events_wait: timedelta
    now: datetime
