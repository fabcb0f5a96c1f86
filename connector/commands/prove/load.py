"""What goes on while processes are killed: edits of users, moves into the segment and out of it, and events.

    editors, each with users of its own -> /v1/batch, signed webhooks beside it (from the sandbox) -> the connector
    talking: events of some of them     -> /v1/batch
    one more editor                     -> SQL, as the README says it, straight into the store

An edit is said until it is acknowledged, with the same message id, and the next one of that user comes after that: so
the last edit is what the user is. Who leaves may come back about when they are deleted; who tells of events comes back
in any case, when nobody moves any more if not before.
"""

from __future__ import annotations

import asyncio
import functools
import heapq
import random
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Sequence

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from connector import app
from connector.commands.prove import intake, stories
from connector.commands.prove.intake import Intake
from connector.commands.prove.options import EVERY_SECONDS, GRACE_SECONDS, Wanted
from connector.commands.prove.stories import Edit, Story
from connector.commands.prove.talking import Talking
from connector.records import Identifier
from connector.store import database, users
from connector.store.database import Database
from connector.store.schema import pending
from connector.store.schema import users as users_table

EDITORS = 4

_BY_SQL = 0.1  # of the users
_AT_ONCE = 100  # edits in one request, of users who are new
_MOST_AT_ONCE = 12
_LEAVERS = 0.1
_MOVES = 0.06
_MARKED = 0.5  # of the edits by SQL: the full pass finds the others
_PAUSE_SECONDS = (0.1, 0.5)
_BEFORE_DELETE, _AFTER_DELETE = 3.0, 15.0

Say = Callable[[Sequence[Edit]], Awaitable[None]]
Editor = Callable[[Sequence[str], random.Random, Say], Coroutine[None, None, None]]


class Load:
    """All edits, and `talking`. `moving` is whether people still move; `stop` ends it, once all that was said is
    acknowledged."""

    def __init__(self, wanted: Wanted, url: str, write_key: str, db: Database) -> None:
        self._seed = wanted.seed
        self._intake = Intake(url, write_key)
        self._db = db
        self._stopping = asyncio.Event()
        self.moving = True
        self.moves = 0
        names = [f"u{number:06d}" for number in range(wanted.users)]
        self.stories = {name: Story(name) for name in names}
        by_sql = int(len(names) * _BY_SQL)
        self._parts = [names[by_sql + number :: EDITORS] for number in range(EDITORS)]
        self._by_sql = names[:by_sql]
        self.talking = Talking(wanted, self._parts, self.stories, self._stopping, app.now())

    @property
    def edits(self) -> int:
        """How many were acknowledged."""
        return sum(story.said for story in self.stories.values())

    async def begin(self) -> None:
        """Tells of everybody for the first time."""
        async with self._intake:
            await _together(self._editors(self._introduce, "first"))

    async def run(self) -> None:
        """Until stopped."""
        async with self._intake:
            await _together([*self._editors(self._edit, "edits"), *self.talking.jobs(self._intake)])

    def stop(self) -> None:
        self.moving = False
        self._stopping.set()

    def _editors(self, editor: Editor, purpose: str) -> list[Coroutine[None, None, None]]:
        ways = [(part, self._to_intake) for part in self._parts] + [(self._by_sql, self._to_store(purpose))]
        return [editor(part, self._rng(purpose, number), way) for number, (part, way) in enumerate(ways)]

    async def _introduce(self, names: Sequence[str], rng: random.Random, say: Say) -> None:
        for start in range(0, len(names), _AT_ONCE):
            await self._say([(name, True) for name in names[start : start + _AT_ONCE]], rng, say)

    async def _edit(self, names: Sequence[str], rng: random.Random, say: Say) -> None:
        away = _Away(rng)
        # The first one tells of events, if anybody here does.
        leaving = dict.fromkeys([names[0], *rng.sample(names, int(len(names) * _LEAVERS))])
        await self._say([(name, away.leave(name)) for name in leaving], rng, say)
        while not self._stopping.is_set():
            chosen = {name: self.stories[name].is_inside for name in rng.sample(names, rng.randint(1, _MOST_AT_ONCE))}
            if self.moving:
                for name, is_inside in chosen.items():
                    if is_inside and rng.random() < _MOVES:
                        chosen[name] = away.leave(name)
            returning = away.due() if self.moving else self._who_must(away.all())
            await self._say(list({**chosen, **dict.fromkeys(returning, True)}.items()), rng, say)
            await asyncio.sleep(rng.uniform(*_PAUSE_SECONDS))
        await self._say([(name, True) for name in self._who_must(away.all())], rng, say)

    def _who_must(self, names: Iterable[str]) -> list[str]:
        """Those who come back in any case: who tells of events."""
        return [name for name in names if name in self.talking.histories]

    async def _say(self, what: Sequence[tuple[str, bool]], rng: random.Random, say: Say) -> None:
        edits = []
        for name, inside in what:
            story = self.stories[name]
            self.moves += bool(story.inside) and story.is_inside != inside
            edits.append(story.edit(rng, inside=inside))
        if not edits:
            return
        await say(edits)
        for each in edits:
            self.stories[each.user].said = each.seq

    async def _to_intake(self, edits: Sequence[Edit]) -> None:
        await self._intake.say([_message(each) for each in edits])

    def _to_store(self, purpose: str) -> Say:
        rng = self._rng(purpose, "marks")

        async def say(edits: Sequence[Edit]) -> None:
            for each in edits:
                marked = rng.random() < _MARKED
                await intake.until(functools.partial(self._write, each, marked=marked))

        return say

    async def _write(self, edit: Edit, *, marked: bool) -> bool:
        """Whether it was committed; False also when nobody knows, and saying it again changes nothing."""
        try:
            await self._db.run(_write, edit, marked)
        except sa.exc.OperationalError:
            return False
        return True

    def _rng(self, *purpose: object) -> random.Random:
        return random.Random(f"{self._seed} {purpose}")  # noqa: S311 - a plan that can be repeated, no secret


class _Away:
    """Who has left of one editor's users, and when they come back: about when they are deleted."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._returning: list[tuple[float, str]] = []

    def leave(self, name: str) -> bool:
        """Whether they are inside then."""
        after = GRACE_SECONDS + EVERY_SECONDS + self._rng.uniform(-_BEFORE_DELETE, _AFTER_DELETE)
        heapq.heappush(self._returning, (time.monotonic() + after, name))
        return False

    def due(self) -> Iterator[str]:
        """Those who come back now."""
        while self._returning and self._returning[0][0] <= time.monotonic():
            yield heapq.heappop(self._returning)[1]

    def all(self) -> list[str]:
        """All; nobody is away any more."""
        names = [name for _, name in self._returning]
        self._returning.clear()
        return names


async def _together(jobs: Iterable[Coroutine[None, None, None]]) -> None:
    """All at once; the first error ends them all."""
    tasks = [asyncio.create_task(job) for job in jobs]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _message(edit: Edit) -> dict[str, object]:
    traits = {"email": stories.email(edit.user), **edit.traits}
    return {"type": "identify", "userId": edit.user, "traits": traits, "messageId": f"{edit.user} {edit.seq}"}


def _write(connection: Connection, edit: Edit, marked: bool) -> None:
    name = Identifier("external_id", edit.user)
    user_id = users.find(connection, [name]).get(name)
    if user_id is None:
        database.lock_identities(connection)
        new = {"external_id": edit.user, "email": stories.email(edit.user), "attributes": edit.traits}
        user_id = connection.execute(sa.insert(users_table).returning(users_table.c.id), new).scalar_one()
        users.add(connection, [], [(name, user_id), (Identifier("email", stories.email(edit.user)), user_id)])
        return
    connection.execute(
        sa.update(users_table)
        .where(users_table.c.id == user_id)
        .values(attributes=edit.traits, version=users_table.c.version + 1, updated_at=app.now())
    )
    if marked:
        mark = database.insert(connection, pending).on_conflict_do_update(
            index_elements=[pending.c.user_id], set_={"changed": True}
        )
        connection.execute(mark, {"user_id": user_id})
