"""`connector erase ID`: a person who asked to be forgotten is suppressed at Customer.io, removed here and kept out.

    read what has arrived -> hashes: nothing new about them is taken -> suppress -> raw messages -> rejects files
    -> events -> all the rest -> the receipt

Each step can be done again, so whoever is interrupted runs the command again. Customer.io is asked before anything
goes: while it can't answer, nothing is removed. The receipt has nothing in it that names the person but our own id.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from sqlalchemy.engine import Connection

from connector import app, errors
from connector.commands import erase_rejects, terminal
from connector.commands.erase_rejects import Cleaned
from connector.core import mapping
from connector.core.outcome import Undelivered
from connector.inbound import adopting, forgetting
from connector.inbound.reader import Reader
from connector.outbound import suppressing
from connector.outbound.client import TrackClient
from connector.outbound.suppressing import Answered
from connector.outbound.throttle import Throttle
from connector.records import CustomerId
from connector.settings import Settings
from connector.store import database, erasure, kept_out, story, users
from connector.store.database import Database
from connector.store.erasure import Erasure
from connector.store.kept_out import Kept

NOTHING_REMOVED = (
    "nothing was removed. Run it again later, or with --here-only, which leaves the person at Customer.io to you"
)
_CANT_BE_KNOWN = (
    "logs of proxies and mail servers, exports and files that were imported: look there yourself",
    "backups, replicas, and what the database keeps of deleted rows until it is vacuumed",
    "what raw messages, events and attributes of other users say about them",
)
_CANT_BE_KNOWN_THERE = "whether Customer.io did it: it accepts a suppression without saying what came of it"
_REJECTS_ELSEWHERE = "rejects files of imports in other folders: name them with --rejects"


@dataclass
class Receipt:
    """What was done. `removed` counts rows by table, `inbox_bodies` among them; `answered` is None when Customer.io was
    not asked. `user_id` is None for who was erased before: nothing was left to do."""

    user_id: str | None
    at: datetime
    finished_at: datetime
    removed: dict[str, int] = field(default_factory=dict)
    kept: list[Kept] = field(default_factory=list)
    answered: Answered | None = None
    rejects: list[Cleaned] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "user_id": self.user_id,
            "already_erased": self.user_id is None,
            "at": self.at,
            "finished_at": self.finished_at,
            "removed": self.removed,
            "rejects": [{"file": str(each.path), "lines": each.lines} for each in self.rejects],
            "customerio": _answers(self.answered),
            "kept_out": [{"kind": each.kind, "hash": each.hash} for each in self.kept],
            "cant_be_known": list(self.cant_be_known()) if self.user_id is not None else [],
        }

    def cant_be_known(self) -> Iterator[str]:
        """Where else something may be, in words."""
        if self.answered is not None:
            yield _CANT_BE_KNOWN_THERE
        yield _REJECTS_ELSEWHERE
        yield from _CANT_BE_KNOWN


def command(
    context: typer.Context,
    given: Annotated[str, typer.Argument(metavar="ID", help="Anything that names one user, as for `person`.")],
    rejects: Annotated[
        Path, typer.Option(metavar="FOLDER", help="Where *.rejects.jsonl of imports are; their lines go too.")
    ] = Path(),
    here_only: Annotated[
        bool, typer.Option("--here-only", help="Without Customer.io; suppress the person there yourself.")
    ] = False,
    settings: terminal.SettingsFile = None,
    as_json: terminal.AsJson = False,
) -> None:
    """Forget a person for good: suppressed at Customer.io, removed here, kept out from now on. Prints a receipt."""
    _, loaded = terminal.settings(context, settings)
    with terminal.store(loaded) as db:
        receipt = app.run(erase(db, loaded, given, app.now, rejects, here_only=here_only))
    terminal.show(receipt.as_json(), describe(receipt), as_json)


async def erase(
    db: Database,
    settings: Settings,
    given: str,
    clock: Callable[[], datetime],
    rejects: Path = Path(),
    *,
    here_only: bool = False,
) -> Receipt:
    """Erases the one user whom the ID names. Raises Failed when it names nobody, or several, or Customer.io does not
    accept it; what was removed then is nothing."""
    reader = Reader(db, lambda: settings, clock)
    await reader.read_outstanding()
    await db.on_thread(lambda: adopting.adopt(db, clock))
    if not db.read(_whom, given):
        kept = db.read(kept_out.of_value, given)
        return Receipt(None, kept[0].at, clock(), kept=db.read(kept_out.of_moment, kept[0].at))
    if here_only:
        begun, answered = db.write(_begin, given, settings, clock()), None
    else:
        begun, answered = await _suppress(db, settings, given, clock)
    # What arrived since then is ignored now, and what was read before is looked through.
    await reader.read_outstanding()
    return await db.on_thread(lambda: _remove(db, settings, begun, answered, rejects, clock))


def _whom(connection: Connection, given: str) -> list[str]:
    """The one user whom it names, [] for somebody who was erased before."""
    found = story.matches(connection, given)
    if len(found) > 1:
        named = ", ".join(f"{each.user_id} (by {each.kind})" for each in found)
        raise errors.Failed(f"the ID names several users: {named}; say which by that id")
    if found:
        return [found[0].user_id]
    if not kept_out.of_value(connection, given):
        raise errors.Failed(f"nobody is known by that ID; tried as {', '.join(story.KINDS)}")
    return erasure.written_again(connection, given)


def _begin(connection: Connection, given: str, settings: Settings, now: datetime) -> Erasure:
    database.lock_identities(connection)
    try:
        # Once more: a reader may have merged them into somebody since.
        user_ids = _whom(connection, given)
    except errors.Failed as error:
        raise errors.Failed(f"who is who has just changed: {error}. Nothing was removed; run it again") from error
    if not user_ids:
        raise errors.Failed("another command has just erased them; run it again")
    everyone = erasure.with_merged(connection, user_ids)
    today = [mapping.customer_id(each, settings) for each in users.load(connection, everyone).values()]
    return erasure.begin(connection, everyone, [each for each in today if isinstance(each, CustomerId)], now)


async def _suppress(
    db: Database, settings: Settings, given: str, clock: Callable[[], datetime]
) -> tuple[Erasure, Answered]:
    """Keeps them out and suppresses them. Who can't be suppressed now is not even begun with, as far as can be told."""
    if not settings.customerio.site_id:
        raise errors.Failed(f"customerio.site_id is empty, so Customer.io can't be told: {NOTHING_REMOVED}")
    throttle = Throttle(db, settings.customerio.rate_per_second)
    async with TrackClient(settings.customerio, throttle) as client:
        try:
            await suppressing.require_workspace(db, settings, client)
        except errors.Failed as error:
            raise errors.Failed(f"{error}: {NOTHING_REMOVED}") from error
        begun = db.write(_begin, given, settings, clock())
        answered = await suppressing.send(client, "suppress", begun.known_as)
    if (refusal := answered.refusal) is not None:
        raise errors.Failed(
            f"Customer.io did not accept the suppression ({refusal.reason}: {refusal.message}): {NOTHING_REMOVED}. "
            "Nothing new about the person is taken meanwhile"
        )
    return begun, answered


def _remove(
    db: Database,
    settings: Settings,
    begun: Erasure,
    answered: Answered | None,
    rejects: Path,
    clock: Callable[[], datetime],
) -> Receipt:
    bodies = forgetting.forget(db, settings, begun.names)
    cleaned = erase_rejects.clean(rejects, begun.names)
    events = 0
    while count := db.write(erasure.remove_events, begun.user_ids):
        events += count
    removed = db.write(erasure.finish, begun)
    removed |= {"events": removed["events"] + events, "inbox_bodies": bodies}
    kept = db.read(kept_out.of_moment, begun.at)
    return Receipt(begun.user_ids[0], begun.at, clock(), removed, kept, answered, cleaned)


def _answers(answered: Answered | None) -> list[dict[str, Any]] | None:
    if answered is None:
        return None
    return [
        {"as": whom.kind, "status": answered.status, "accepted": not isinstance(said, Undelivered)}
        for whom, said in answered.outcomes
    ]


def describe(receipt: Receipt) -> Iterator[str]:
    """The receipt in words."""
    since = f"{receipt.at:%Y-%m-%d %H:%M:%S} UTC"
    if receipt.user_id is None:
        yield f"erased      already, {since}; nothing was left to do"
    else:
        yield f"erased      user {receipt.user_id}, {since}, finished {receipt.finished_at:%Y-%m-%d %H:%M:%S} UTC"
        counts = (f"{count:,} {name.replace('_', ' ')}" for name, count in receipt.removed.items() if count)
        yield f"removed     {', '.join(counts)}"
        for each in receipt.rejects:
            yield f"rejects     {each.lines:,} lines of {each.path}"
        yield from _told(receipt.answered)
    for kept in receipt.kept:
        yield f"kept out    {kept.kind:<12} {kept.hash}"
    yield "way back    connector readmit ID…, with the identifiers as they were"
    for words in receipt.cant_be_known() if receipt.user_id is not None else ():
        yield f"can't know  {words}"


def _told(answered: Answered | None) -> Iterator[str]:
    if answered is None:
        yield "customerio  not asked (--here-only): suppress the person there yourself"
    elif not answered.outcomes:
        yield "customerio  never heard of them: no id, address or cio_id to suppress"
    else:
        kinds = ", ".join(whom.kind for whom, _ in answered.outcomes)
        yield f"customerio  suppressed under {kinds}: accepted with {answered.status}"
