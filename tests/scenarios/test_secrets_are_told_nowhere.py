"""A secret in every place that takes one, and in every form: nothing that the connector writes, answers or stores has
any of them in it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import sqlalchemy as sa

from connector.sandbox import state, track_api
from connector.settings import secret_places
from connector.store import schema
from connector.store.database import Database
from tests import places, warm
from tests.places import SITE_ID, VENDOR_EXAMPLE, Place, Process, post, signed

MARK = "canary7f3a"  # in each secret, and in nothing else
SEGMENTS = '"All" = { everyone = true }'
COMMENTS = f"""
# url = "postgresql://app:{MARK}-old-store@old/d?password={MARK}-old-option"
# token = "{MARK}-old-token"
# CUSTOMERIO_API_KEY={MARK}-pasted
# write_keys = [
#   "{MARK}-old-write-key",
# ]
"""
# Each is an edit; the secrets stand where and as they must not.
BROKEN = {
    "literals": f"""
[admin]
token = "{MARK}-a"
[customerio]
api_key = "{MARK}-b"
[webhooks]
signing_keys = ["{MARK}-c", {{ key = "{MARK}-d" }}]
url_key = ["{MARK}-e"]
[intake]
write_keys = "{MARK}-f"
""",
    "names": f"""
[admin]
token = "env:{MARK}"
[customerio]
api_key = "env:{MARK}-b"
[webhooks]
signing_keys = ["file:{MARK}", "file:{MARK * 40}", "env:BLANKS"]
url_key = "ENV:{MARK}"
""",
    "store of another kind": f'[store]\nurl = "mysql://u:{MARK}@h/d"\n',
    "store that readers disagree about": f'[store]\nurl = "postgresql://u:12/{MARK}@h/d"\n',
    "store with an @ in its password": f'\n[store]\nurl = "postgresql://u:x@{MARK}@h/d"\n',
    "no TOML": f'[customerio]\napi_key = "{MARK}\n',
    "key twice": f'[admin]\ntoken = "{MARK}-a"\ntoken = "{MARK}-b"\n',
}


@pytest.fixture
def secrets(place: Place, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """By their names, each where its reference leads."""
    found = {name: f"{MARK}-{name.lower()}" for name in ("API_KEY", "SIGNING_KEY", "URL_KEY", "WRITE_KEY", "TOKEN")}
    monkeypatch.setenv("SIGNING_KEY", found["SIGNING_KEY"])
    monkeypatch.setenv("BLANKS", f" {MARK}")
    (place.folder / "token").write_text(found["TOKEN"] + "\n")
    return found


def environment(place: Place, secrets: dict[str, str], more: str = "") -> None:
    lines = [f"{name}={secrets[name]}" for name in ("API_KEY", "URL_KEY", "WRITE_KEY")]
    (place.folder / ".env").write_text("\n".join([f"# OLD_KEY={MARK}-env", *lines, more, ""]))


def text(place: Place, track_url: str, more: str = "", segments: str = SEGMENTS) -> str:
    return f"""{COMMENTS}
[server]
port = 0
[admin]
port = 0
token = "file:token"
[store]
url = "{place.store_url}"  # password={MARK}-beside
[customerio]
site_id = "{SITE_ID}"
api_key = "env:API_KEY"
region = "us"
track_url = "{track_url}"
[webhooks]
signing_keys = ["env:SIGNING_KEY"]
url_key = "env:URL_KEY"
[intake]
write_keys = ["env:WRITE_KEY"]
[people]
segments = ["All"]
[log]
format = "json"
level = "debug"
personal_data = true
[segments]
{segments}
{more}
"""


def save(path: Path, content: str) -> None:
    unfinished = path.with_suffix(".tmp")
    unfinished.write_text(content)
    unfinished.replace(path)


@asynccontextmanager
async def workspace(api_key: str) -> AsyncIterator[str]:
    application = track_api.create_app(state.State(time.time), site_id=SITE_ID, api_key=api_key)
    async with track_api.serve(application) as running:
        yield running.url


def basic(key: str) -> dict[str, str]:
    return {"Authorization": aiohttp.encode_basic_auth(key, "")}


async def knock(process: Process, secrets: dict[str, str]) -> AsyncIterator[str]:
    """Right and wrong keys, in every way that they are sent; what was answered."""
    hooks, private = f"{process.url}/webhooks/customerio", process.admin_url
    user = {"userId": "42", "event": "Clicked", "messageId": "m1"}
    async with aiohttp.ClientSession() as session:
        right = signed(places.example("right"), secrets["SIGNING_KEY"])
        assert (await post(session, process.url, places.example("right"), **right))[0] == 200
        yield (await post(session, process.url, places.example("wrong"), **signed(b"", f"{MARK}-wrong")))[1]
        requests: list[tuple[str, str, int, dict[str, Any]]] = [
            ("post", f"{hooks}?key={secrets['URL_KEY']}", 200, {"json": VENDOR_EXAMPLE | {"event_id": "legacy"}}),
            ("post", f"{hooks}?key={MARK}-wrong", 401, {"json": VENDOR_EXAMPLE}),
            ("post", f"{hooks}/{MARK}-lost?key={MARK}", 404, {"json": VENDOR_EXAMPLE}),
            ("post", f"{process.url}/v1/track", 200, {"json": user, "headers": basic(secrets["WRITE_KEY"])}),
            ("post", f"{process.url}/v1/track", 200, {"json": user | {"writeKey": secrets["WRITE_KEY"]}}),
            ("post", f"{process.url}/v1/track", 401, {"json": user, "headers": basic(f"{MARK}-wrong")}),
            ("post", f"{process.url}/v1/track", 401, {"json": user | {"writeKey": f"{MARK}-wrong"}}),
            ("post", f"{process.url}/v1/track?writeKey={MARK}-wrong", 401, {"data": b"{"}),
            ("get", f"{private}/status", 401, {"headers": {"Authorization": f"Bearer {MARK}-wrong"}}),
            *(
                ("get", f"{private}/{page}", 200, {"headers": {"Authorization": f"Bearer {secrets['TOKEN']}"}})
                for page in ("status", "metrics", "readyz", "healthz")
            ),
        ]
        for method, url, status, more in requests:
            async with session.request(method, url, **more) as response:
                answer = await response.text()
                assert response.status == status, (url, answer)
                yield f"{response.headers} {answer}"


async def until(process: Process, event: str, count: int) -> None:
    async with asyncio.timeout(30):
        while sum(line.get("event") == event for line in list(process.lines)) < count:
            await asyncio.sleep(0.02)


def commands(path: Path, *all_of_them: list[str]) -> list[str]:
    """What each of them printed."""
    return [warm.run(["--settings", str(path), *command], os.environ, 60)[1] for command in all_of_them]


@contextmanager
def watched(place: Place) -> Iterator[list[str]]:
    """What `tail` prints meanwhile; it is there at the end."""
    command = [sys.executable, "-m", "connector", "--settings", str(place.path), "tail", "--every", "0.2"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    seen: list[str] = []
    try:
        assert process.stderr is not None
        assert "watching" in process.stderr.readline()
        yield seen
    finally:
        process.send_signal(signal.SIGINT)
        seen += process.communicate(timeout=30)


def stored(db: Database) -> Iterator[str]:
    with db.writer.connect() as connection:
        for table in schema.metadata.sorted_tables:
            for row in connection.execute(sa.select(table)):
                yield f"{table.name}: {row._mapping!r}"


@pytest.mark.parametrize("store_kind", ["postgresql"])
async def test_no_secret_is_in_log_answers_store_or_what_commands_print(
    place: Place, db: Database, secrets: dict[str, str]
) -> None:
    url = sa.make_url(place.store_url).set(password=f"{MARK}-store")
    url = url.update_query_dict({"sslpassword": f"{MARK}-option"})
    place.store_url = url.render_as_string(hide_password=False)
    environment(place, secrets)
    told: list[str] = []
    async with workspace(secrets["API_KEY"]) as track_url:
        good = text(place, track_url)
        save(place.path, good)
        process = await asyncio.to_thread(Process, place)
        with process, watched(place) as seen:
            told += [answer async for answer in knock(process, secrets)]
            for number, broken in enumerate(BROKEN.values(), 1):
                save(place.path, COMMENTS + broken)
                await until(process, "settings_refused", number)
                if number == 1:
                    told += [answer async for answer in knock(process, secrets)]
            told += await asyncio.to_thread(
                commands, place.path, ["check"], ["run"], ["status"], ["settings", "diff", "1"], ["settings", "history"]
            )
            # Keys that Customer.io refuses, and another word in a comment: revisions, and a gate that closes.
            environment(place, secrets | {"API_KEY": f"{MARK}-refused"})
            save(place.path, good + f"# api_key = '{MARK}-older'\n[sync]\nlatency = '90ms'\n")
            await until(process, "settings_applied", 1)
            async with aiohttp.ClientSession() as session:
                more = places.example("more", identifiers={"id": "7", "email": "seven@example.com"})
                assert (await post(session, process.url, more, **signed(more, secrets["SIGNING_KEY"])))[0] == 200
            await asyncio.to_thread(process.wait_for, "gate_closed")
            told += [answer async for answer in knock(process, secrets)]
            new = place.folder / "new.toml"
            new.write_text(good + "[guard]\nmax_creates = 5\n")
            (place.folder / "unreachable.toml").write_text(
                f'[store]\nurl = "postgresql://u:{MARK}@127.0.0.1:9/d?password={MARK}"\n'
            )
            told += await asyncio.to_thread(
                commands, place.path, ["status", "--json"], ["check"], ["check", str(new)], ["plan", "--all"],
                ["plan", str(new)], ["person", "42"], ["settings", "history", "--all"], ["settings", "diff", "1"],
                ["settings", "diff", "1", str(len(BROKEN) + 2)],
                ["export", "webhooks"], ["export", "attempts"], ["export", "events"],
                ["--settings", str(place.folder / "unreachable.toml"), "status"],
            )  # fmt: skip
            place.path.chmod(0o444)
            told += await asyncio.to_thread(
                commands, place.path, ["settings", "undo", "1", "--yes"], ["settings", "undo", "1", "--yes", "--json"]
            )
            place.path.chmod(0o644)
            told += await asyncio.to_thread(commands, place.path, ["settings", "undo", "1", "--yes"])
            await until(process, "settings_applied", 2)
            assert await asyncio.to_thread(process.terminate) == 0
        told += seen
    assert "webhook " in "".join(seen)
    assert "Traceback" not in "".join(told)
    assert secret_places.shareable(place.path.read_text()) is not None
    assert f"{MARK}-store" in place.path.read_text(), "but the file itself still has its password"
    for said in (*told, *map(json.dumps, process.lines), *stored(db)):
        at = said.find(MARK)
        assert at < 0, said[max(at - 300, 0) : at + 100]
