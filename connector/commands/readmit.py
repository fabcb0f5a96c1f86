"""`connector readmit ID…`: whoever was erased may come again, because they have signed up anew.

Only what is given is let in, in whatever kind it was theirs: a hash can't be turned back into the address. What else
was kept of the same person is counted, so that nobody wonders why a message with their old address is still ignored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

import typer
from sqlalchemy.engine import Connection

from connector import app, errors
from connector.commands import terminal
from connector.outbound import suppressing
from connector.outbound.client import TrackClient
from connector.outbound.throttle import Throttle
from connector.records import CustomerId
from connector.settings import Settings
from connector.store import database, erasure, kept_out, runs, story
from connector.store.database import Database
from connector.store.kept_out import Kept

_THERE = {"customer_id": "id", "external_id": "id", "email": "email", "cio_id": "cio_id"}


@dataclass(frozen=True, slots=True)
class Readmitted:
    """What is let in again, what of the same people is still kept out, and as what Customer.io was told (None: it
    wasn't)."""

    let_in: tuple[Kept, ...]
    still_out: tuple[Kept, ...]
    told: tuple[str, ...] | None

    def as_json(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "readmitted": [{"kind": each.kind, "hash": each.hash} for each in self.let_in],
            "still_kept_out": [{"kind": each.kind, "hash": each.hash} for each in self.still_out],
            "customerio": None if self.told is None else list(self.told),
        }


def command(
    context: typer.Context,
    given: Annotated[
        list[str], typer.Argument(metavar="ID…", help="All identifiers with which the person comes: id, email, …")
    ],
    here_only: Annotated[
        bool, typer.Option("--here-only", help="Without Customer.io; unsuppress the person there yourself.")
    ] = False,
    settings: terminal.SettingsFile = None,
    as_json: terminal.AsJson = False,
) -> None:
    """Take an erased person back: unsuppressed at Customer.io, and no longer kept out here."""
    _, loaded = terminal.settings(context, settings)
    with terminal.store(loaded) as db:
        done = app.run(readmit(db, loaded, given, app.now, here_only=here_only))
    terminal.show(done.as_json(), describe(done), as_json)


async def readmit(
    db: Database, settings: Settings, given: Sequence[str], clock: Callable[[], datetime], *, here_only: bool = False
) -> Readmitted:
    """Raises Failed, with nothing changed, for an ID that nobody was erased under, or whose erasure is not finished,
    and when Customer.io does not accept it."""
    kept = db.read(_kept, given)
    told = None
    if not here_only:
        whom = [CustomerId(_THERE[each.kind], value) for value, each in kept if each.kind in _THERE]  # type: ignore[arg-type]
        told = await _unsuppress(db, settings, list(dict.fromkeys(whom)))
    let_in = [each for _, each in kept]
    still_out = db.write(_let_in, let_in, clock())
    return Readmitted(tuple(let_in), tuple(still_out), told)


def _kept(connection: Connection, given: Sequence[str]) -> list[tuple[str, Kept]]:
    begun = erasure.begun(connection)
    found = []
    for value in given:
        kept = kept_out.of_value(connection, value)
        if not kept:
            raise errors.Failed(f"nobody was erased under {value}; tried as {', '.join(story.KINDS)}")
        if not begun.isdisjoint(each.user_id for each in story.matches(connection, value)):
            raise errors.Failed(f"{value} is not wholly erased yet: run `connector erase` again first")
        found += [(value.lower() if each.kind == "email" else value, each) for each in kept]
    return found


async def _unsuppress(db: Database, settings: Settings, whom: Sequence[CustomerId]) -> tuple[str, ...]:
    nothing = "nothing was changed. Run it again later, or with --here-only"
    if not settings.customerio.site_id:
        raise errors.Failed(f"customerio.site_id is empty, so Customer.io can't be told: {nothing}")
    throttle = Throttle(db, settings.customerio.rate_per_second)
    async with TrackClient(settings.customerio, throttle) as client:
        try:
            await suppressing.require_workspace(db, settings, client)
        except errors.Failed as error:
            raise errors.Failed(f"{error}: {nothing}") from error
        answered = await suppressing.send(client, "unsuppress", whom)
    if (refusal := answered.refusal) is not None:
        raise errors.Failed(f"Customer.io did not accept it ({refusal.reason}: {refusal.message}): {nothing}")
    return tuple(each.kind for each in whom)


def _let_in(connection: Connection, let_in: Sequence[Kept], now: datetime) -> list[Kept]:
    """Returns what else is kept of the same people."""
    database.lock_identities(connection)
    kept_out.remove(connection, let_in)
    runs.ask(connection, now)  # what plain SQL has written of them can be sent now
    return [each for at in sorted({one.at for one in let_in}) for each in kept_out.of_moment(connection, at)]


def describe(done: Readmitted) -> Iterator[str]:
    """What was done, in words."""
    for each in done.let_in:
        yield f"readmitted  {each.kind:<12} {each.hash}"
    if done.told is None:
        yield "customerio  not asked (--here-only): unsuppress the person there yourself"
    elif done.told:
        yield f"customerio  unsuppressed as {', '.join(done.told)}; nothing that was deleted comes back"
    if others := [each for each in done.still_out if each.kind != "user_id"]:
        kinds = ", ".join(each.kind for each in others)
        yield f"still out   {kinds} of the same erasure: name them as well, if the person comes with them"
