"""What a proof is asked for, and the figures that follow from it."""

from __future__ import annotations

from dataclasses import dataclass

GRACE_SECONDS = 20
EVERY_SECONDS = 5

# Kinds of faults that say nothing about anybody: a refusal would park people for good, as it should.
FAULTS = {"500": 0.06, "503": 0.05, "429:1": 0.02, "cut": 0.06, "apply-cut": 0.08, "hang:1": 0.03, "hang:9": 0.01}
LATENCY = "150ms"

_FEWEST_USERS = 200
_EVENTS_A_USER = 8
_FEWEST_OUT = 100
_EVENTS_FOR_ONE_OUT = 5


@dataclass(frozen=True, slots=True)
class Wanted:
    """`store` is a URL, None: an SQLite file of its own. `restart_command` restarts the database of the store."""

    kills: int
    events: int
    seed: int
    servers: int
    workers: int
    store: str | None
    restart_command: str | None
    patience_seconds: float

    @property
    def is_sqlite(self) -> bool:
        return self.store is None or self.store.startswith("sqlite:")

    @property
    def users(self) -> int:
        """How many are told of: so many that those whom killed workers had in hand, and who wait for their leases to
        run out, are a small part."""
        return max(_FEWEST_USERS, self.events // _EVENTS_A_USER)

    @property
    def events_out(self) -> int:
        """How many whitelisted events of users are told."""
        return max(_FEWEST_OUT, self.events // _EVENTS_FOR_ONE_OUT)

    @property
    def roles(self) -> list[str]:
        """The commands that make up the connector."""
        if self.servers == self.workers == 1 and self.is_sqlite:
            return ["run"]
        return ["serve"] * self.servers + ["work"] * self.workers

    @property
    def restarts(self) -> int:
        """How often the database is restarted."""
        return max(1, self.kills // 10) if self.restart_command else 0
