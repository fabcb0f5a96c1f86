"""Events on their way from the intake to a sandbox: told, worked off, and read back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from connector.inbound import adopting, due
from connector.outbound import full_pass
from connector.outbound.client import TrackClient
from connector.outbound.tally import Tally
from connector.outbound.throttle import Throttle
from connector.outbound.worker import Worker
from connector.sandbox import read_back
from connector.settings import Settings
from connector.store import schema
from connector.store.database import Database
from tests.places import Place, Sandbox
from tests.store import told
from tests.sync.clock import Clock

PEOPLE = 'segments = ["All"]\nattributes = ["plan"]\nrequire_email = false'


@dataclass
class Way:
    """One store and its sandbox. `events` are the lines of that table; the clock is the test's to move."""

    db: Database
    place: Place
    sandbox: Sandbox
    api: str
    clock: Clock = field(default_factory=Clock)
    number: int = 0
    url: str = ""  # of another Customer.io than the sandbox

    def settings(
        self,
        *,
        events: str = 'names = ["*", "page", "screen"]',
        people: str = PEOPLE,
        workspace: Sequence[str] = (),
        **more: str,
    ) -> Settings:
        """`workspace` are further lines of the customerio table."""
        self.place.track_url = self.url or self.sandbox.url
        tables = {"segments": '"All" = { everyone = true }', "guard": 'max_creates = "unlimited"', **more}
        customerio = self.place.customerio(f'api = "{self.api}"', "rate_per_second = 100000", *workspace)
        return self.place.write(customerio=customerio, people=people, events=events, **tables).settings()

    def tell(self, settings: Settings, kind: str, at: datetime | None = None, **said: Any) -> str:
        """One message now, about what happened at that moment; its id."""
        self.number += 1
        message_id = f"m{self.number}"
        happened = {} if at is None else {"timestamp": at.isoformat()}
        told.tell(self.db, told.message(kind, message_id, **happened, **said), settings=settings, now=self.clock())
        return message_id

    def sql(self, settings: Settings, name: str, user: str, **properties: Any) -> None:
        """An event that SQL wrote now and asks to have sent: it may be larger than a message."""
        row = {"user_id": self.user_id(user), "name": name, "properties": properties, "occurred_at": self.clock()}
        insert = sa.insert(schema.events).values(**row, received_at=self.clock(), outbound="due")
        self.db.write(lambda connection: connection.execute(insert))
        due.read_asked(self.db, settings, self.clock)

    async def work(
        self,
        settings: Settings,
        worker: Worker | None = None,
        *,
        passes: bool = True,
        going: Callable[[], bool] = lambda: True,
    ) -> Tally:
        """A pass, then all that is due now."""
        if passes:
            adopting.everything(self.db, settings, self.clock)
            full_pass.run(self.db, settings, self.clock)
        throttle = Throttle(self.db, settings.customerio.rate_per_second)
        async with TrackClient(settings.customerio, throttle) as client:
            return await (worker or Worker(self.db, self.clock)).work_off(settings, client, going)

    def activities(self) -> list[dict[str, Any]]:
        """All that the sandbox has, in the order in which it was applied."""
        found = read_back.newest_activities(self.sandbox.state, 1_000_000)
        return [read_back.activity(*each) for each in reversed(found)]

    def of(self, customer_id: str | None) -> list[str]:
        """The names of what somebody did, or of what nobody has claimed."""
        return [each["name"] for each in self.activities() if each["customer_id"] == customer_id]

    def outbound(self) -> list[tuple[str, str | None]]:
        """Of every event, by when it happened."""
        columns = schema.events.c.outbound, schema.events.c.reason
        query = sa.select(*columns).order_by(schema.events.c.occurred_at, schema.events.c.id)
        return [(outbound, reason) for outbound, reason in self.db.read(lambda c: c.execute(query).all())]

    def user_id(self, value: str, kind: str = "external_id") -> str:
        query = sa.select(schema.identifiers.c.user_id).where(
            schema.identifiers.c.kind == kind, schema.identifiers.c.value == value
        )
        return str(self.db.read(lambda c: c.execute(query).scalar_one()))


def paths(sandbox: Sandbox, contains: str) -> Sequence[str]:
    """Of the calls so far that have it in their path."""
    return [call.path for call in sandbox.state.calls if contains in call.path]


MINUTE = timedelta(minutes=1)
