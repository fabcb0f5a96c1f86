"""An edit of the settings, from the save to the swap or to the hold: BENCH_EDITED users (100,000 unless told), of whom
every second is a person at Customer.io.

The file is a real one, and followed as a running connector follows it; nothing else runs beside. The edits: one more
attribute, so that everybody is compared anew; a whitelist of everybody, so that the other half would be created; and
the same with the guard lifted in the same edit. At the end the plan's own walk over everybody, for comparison.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import sqlalchemy as sa

from connector import app, log, settings_file
from connector.outbound import planning
from connector.store import schema
from connector.store.database import Database
from connector.watching import following, starting
from tests.benchmarks import people
from tests.benchmarks.stores import Store

_USERS = int(os.environ.get("BENCH_EDITED", "100_000"))
_LEAST_SECONDS = 2.0
_SECONDS_A_MILLION = {"sqlite": 30.0, "postgresql": 60.0}
_PATIENCE_SECONDS = 600.0
_MOST_ROUNDS = 3
_PICKED = '"plan", "seats", "signed_up_at", "text1", "text2", "number1"'
_BIG = '"Big"'
_ALL = '"Big", "Rest"'
_FILE = """[customerio]
site_id = "bench"
region = "us"
api_key = "env:BENCH_API_KEY"
[guard]
max_creates = {limit}
[log]
level = "error"
[people]
segments = [{whitelist}]
attributes = [{attributes}]
[segments]
Big = {{ all = [{{ attribute = "plan", in = ["pro", "team"] }}, {{ attribute = "seats", gte = 50 }}] }}
New = {{ attribute = "signed_up_at", within = "30d" }}
{rest}
"""


def _text(*, limit: str = "10", whitelist: str = _BIG, attributes: str = _PICKED) -> str:
    rest = "Rest = { everyone = true }" if whitelist == _ALL else ""
    return _FILE.format(limit=limit, whitelist=whitelist, attributes=attributes, rest=rest)


# What is saved, and whether it is held.
_EDITS = {
    "one more attribute": (_text(attributes=f'{_PICKED}, "number2"'), False),
    "everybody": (_text(whitelist=_ALL), True),
    "everybody, no guard": (_text(whitelist=_ALL, limit='"unlimited"'), True),
}


def measure(stores: Mapping[str, Store], rounds: int, _requests: int) -> None:
    """Prints the seconds of each edit for each store."""
    rounds = min(rounds, _MOST_ROUNDS)
    print(f"edits: {_USERS:,} users of 20 attributes, half of them people, two segments, {rounds} rounds")
    print()
    os.environ["BENCH_API_KEY"] = "a key"
    log.configure("error", "json", personal_data=False)
    for kind, store in stores.items():
        with store.fresh() as url, tempfile.TemporaryDirectory(dir="/tmp") as folder:
            db = Database(url)
            path = Path(folder) / "settings.toml"
            try:
                _fill(db)
                most = max(_LEAST_SECONDS, _SECONDS_A_MILLION[kind] * _USERS / 1_000_000)
                for name, (text, is_held) in _EDITS.items():
                    taken = [asyncio.run(_seconds(db, path, text, is_held=is_held)) for _ in range(rounds)]
                    median = statistics.median(taken)
                    shown = f"{'held' if is_held else 'in force'}: {name}, {store.title}"
                    met = "met" if median < most else "NOT MET"
                    print(f"{shown:<52}{median:>7.2f} s   < {most:g} s   {met}", flush=True)
                began = time.perf_counter()
                path.write_text(_EDITS["one more attribute"][0], encoding="utf-8")
                planning.outlook(db, settings_file.load(path), app.now())
                shown = f"(the plan of one more attribute, {store.title})"
                print(f"{shown:<52}{time.perf_counter() - began:>7.2f} s", flush=True)
            finally:
                db.close()


async def _seconds(db: Database, path: Path, text: str, *, is_held: bool) -> float:
    """From the save to what became of it."""
    path.write_text(_text(), encoding="utf-8")
    before = settings_file.load(path)
    if before.mapping_hash() != people.SETTINGS.mapping_hash():
        raise RuntimeError("the people in the store must be as the file says")
    db.write(lambda connection: connection.execute(sa.delete(schema.settings_revisions)))
    current = starting.begin(path, before, db, app.now())
    stopping = asyncio.Event()
    following_it = asyncio.create_task(following.follow(path, current, db, app.now, stopping))
    await asyncio.sleep(1)  # it watches by now
    began = time.perf_counter()
    other = path.with_suffix(".new")
    other.write_text(text, encoding="utf-8")
    other.rename(path)
    try:
        async with asyncio.timeout(_PATIENCE_SECONDS):
            while current.held is None and current.settings == before:
                await asyncio.sleep(0.01)
        seconds = time.perf_counter() - began
    finally:
        stopping.set()
        await following_it
    if (current.held is not None) != is_held:
        raise RuntimeError(f"it must {'' if is_held else 'not '}be held")
    return seconds


def _fill(db: Database) -> None:
    """Of every second nothing was ever sent."""
    people.fill(db, _USERS)
    sent = schema.mirror.c.user_id
    odd = sa.func.substr(sent, 26, 1).in_(("1", "3", "5", "7", "9"))
    db.write(lambda connection: connection.execute(sa.delete(schema.mirror).where(odd)))
    with db.writer.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("ANALYZE")
