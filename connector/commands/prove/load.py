"""What goes on while processes are killed: edits of users, and moves into the segment and out of it.

    editors, each with users of its own -> /v1/batch, signed webhooks beside it (from the sandbox) -> the connector
    one more editor                     -> SQL, as the README says it, straight into the store

An edit is said until it is acknowledged, with the same message id, and the next one of that user comes after that: so
the last edit is what the user is. Who leaves may come back about when they are deleted.
"""

from __future__ import annotations

import asyncio
import functools
import heapq
import random
from collections.abc import Awaitable, Callable, Coroutine, Sequence

import aiohttp
import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from connector import app, errors
from connector.commands.prove import stories
from connector.commands.prove.options import EVERY_SECONDS, GRACE_SECONDS, Wanted
from connector.commands.prove.stories import Edit, Story
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
_TRY_AGAIN_SECONDS = 0.2
_ANSWER_SECONDS = 10.0
_BEFORE_DELETE, _AFTER_DELETE = 3.0, 15.0

Say = Callable[[Sequence[Edit]], Awaitable[None]]
Editor = Callable[[Sequence[str], random.Random, Say], Coroutine[None, None, None]]


class Load:
    """All edits. `moving` is whether people still move; `stop` ends it, once all that was said is acknowledged."""

    def __init__(self, wanted: Wanted, url: str, write_key: str, db: Database) -> None:
        self._seed = wanted.seed
        self._url = f"{url}/v1/batch"
        self._write_key = write_key
        self._db = db
        self._stopping = asyncio.Event()
        self.moving = True
        self.moves = 0
        names = [f"u{number:06d}" for number in range(wanted.users)]
        self.stories = {name: Story(name) for name in names}
        by_sql = int(len(names) * _BY_SQL)
        self._parts = [names[by_sql + number :: EDITORS] for number in range(EDITORS)]
        self._by_sql = names[:by_sql]

    @property
    def edits(self) -> int:
        """How many were acknowledged."""
        return sum(story.said for story in self.stories.values())

    async def begin(self) -> None:
        """Tells of everybody for the first time."""
        await self._all(self._introduce, "first")

    async def run(self) -> None:
        """Until stopped."""
        await self._all(self._edit, "edits")

    def stop(self) -> None:
        self._stopping.set()

    async def _all(self, editor: Editor, purpose: str) -> None:
        """All editors at once; the first error ends them all."""
        async with self._session() as session:
            ways = [(part, self._to(session)) for part in self._parts] + [(self._by_sql, self._to_store(purpose))]
            jobs = (editor(part, self._rng(purpose, number), way) for number, (part, way) in enumerate(ways))
            tasks = [asyncio.create_task(job) for job in jobs]
            try:
                await asyncio.gather(*tasks)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def _introduce(self, names: Sequence[str], rng: random.Random, say: Say) -> None:
        for start in range(0, len(names), _AT_ONCE):
            await self._say([(name, True) for name in names[start : start + _AT_ONCE]], rng, say)

    async def _edit(self, names: Sequence[str], rng: random.Random, say: Say) -> None:
        loop = asyncio.get_running_loop()
        returning: list[tuple[float, str]] = []

        def leave(name: str) -> bool:
            after = GRACE_SECONDS + EVERY_SECONDS + rng.uniform(-_BEFORE_DELETE, _AFTER_DELETE)
            heapq.heappush(returning, (loop.time() + after, name))
            return False

        await self._say([(name, leave(name)) for name in rng.sample(names, int(len(names) * _LEAVERS))], rng, say)
        while not self._stopping.is_set():
            chosen = {name: self.stories[name].is_inside for name in rng.sample(names, rng.randint(1, _MOST_AT_ONCE))}
            if self.moving:
                for name, is_inside in chosen.items():
                    if is_inside and rng.random() < _MOVES:
                        chosen[name] = leave(name)
                while returning and returning[0][0] <= loop.time():
                    chosen[heapq.heappop(returning)[1]] = True
            await self._say(list(chosen.items()), rng, say)
            await asyncio.sleep(rng.uniform(*_PAUSE_SECONDS))

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

    def _to(self, session: aiohttp.ClientSession) -> Say:
        async def say(edits: Sequence[Edit]) -> None:
            body = msgspec.json.encode({"batch": [_message(each) for each in edits]})
            await _until(lambda: self._post(session, body))

        return say

    async def _post(self, session: aiohttp.ClientSession, body: bytes) -> bool:
        """Whether it was acknowledged. Raises Failed when it was refused."""
        try:
            async with session.post(self._url, data=body) as response:
                said = await response.text()
                if response.status == 200 and msgspec.json.decode(said) == {"success": True}:
                    return True
                if response.status < 500:
                    raise errors.Failed(f"the intake refused an edit: {response.status} {said[:500]}")
        except (aiohttp.ClientError, TimeoutError, OSError):
            return False
        return False

    def _to_store(self, purpose: str) -> Say:
        rng = self._rng(purpose, "marks")

        async def say(edits: Sequence[Edit]) -> None:
            for each in edits:
                marked = rng.random() < _MARKED
                await _until(functools.partial(self._write, each, marked=marked))

        return say

    async def _write(self, edit: Edit, *, marked: bool) -> bool:
        """Whether it was committed; False also when nobody knows, and saying it again changes nothing."""
        try:
            await self._db.run(_write, edit, marked)
        except sa.exc.OperationalError:
            return False
        return True

    def _session(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            auth=aiohttp.BasicAuth(self._write_key), timeout=aiohttp.ClientTimeout(total=_ANSWER_SECONDS)
        )

    def _rng(self, *purpose: object) -> random.Random:
        return random.Random(f"{self._seed} {purpose}")  # noqa: S311 - a plan that can be repeated, no secret


async def _until(done: Callable[[], Awaitable[bool]]) -> None:
    while True:
        if await done():
            return
        await asyncio.sleep(_TRY_AGAIN_SECONDS)


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
