"""What tests of several tiers need: a settings folder, a sandbox on a port, signed webhooks, a real process."""

from __future__ import annotations

import io
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, Self

import aiohttp

from connector import settings_file
from connector.commands import import_files
from connector.core import signature
from connector.sandbox import state, track_api
from connector.settings import Settings
from tests import warm

KEY = "a signing key"
SITE_ID, API_KEY = "test-site", "test-key"
VENDOR_EXAMPLE: dict[str, Any] = {
    "event_id": "01E4C4CT6YDC7Y5M7FE1GWWPQJ",
    "object_type": "email",
    "metric": "opened",
    "timestamp": 1613063089,
    "data": {
        "customer_id": "42",
        "identifiers": {"id": "42", "email": "test@example.com", "cio_id": "d9c106000001"},
        "delivery_id": "RPILAgUBcRhIBqSfeiIwdIYJKxTY",
        "action_id": 42,
        "broadcast_id": 9,
        "recipient": "test@example.com",
        "subject": "Thanks for signing up",
    },
}


@dataclass
class Place:
    """A folder with a settings file that can be edited, and its `.env`."""

    folder: Path
    store_url: str
    track_url: str = ""
    more: dict[str, str] = field(default_factory=dict)

    @property
    def path(self) -> Path:
        return self.folder / "settings.toml"

    def write(self, **more: str) -> Place:
        """Writes the file; `more` adds lines to a table, or whole tables under names that aren't one."""
        tables = {
            "server": "port = 0",
            "admin": "port = 0",
            "store": f'url = "{self.store_url}"',
            "webhooks": 'signing_keys = ["env:SIGNING_KEY"]',
            "sync": 'latency = "100ms"',
            "log": 'format = "json"',
            **self.more,
            **more,
        }
        if self.track_url and "customerio" not in more:
            tables["customerio"] = self.customerio()
        text = "\n".join(f"[{name}]\n{lines}\n" for name, lines in tables.items())
        (self.folder / ".env").write_text(f"SIGNING_KEY={KEY}\nAPI_KEY={API_KEY}\n")
        unfinished = self.path.with_suffix(".tmp")
        unfinished.write_text(text)
        unfinished.replace(self.path)
        return self

    def customerio(self, *more: str) -> str:
        """The lines of the customerio table, and others after them."""
        lines = [
            f'site_id = "{SITE_ID}"',
            'api_key = "env:API_KEY"',
            'region = "us"',
            f'track_url = "{self.track_url}"',
        ]
        return "\n".join([*lines, *more])

    def settings(self) -> Settings:
        return settings_file.load(self.path)

    def run(self, *arguments: str, exit_status: int = 0) -> str:
        """Runs a command as its user would; returns what it printed, stderr after stdout."""
        status, shown = warm.run(["--settings", str(self.path), *arguments], _environment(), 60)
        assert status == exit_status, shown
        assert "Traceback" not in shown, shown
        return shown

    def export(self, what: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.run("export", what).splitlines()]


class Give(Protocol):
    """Imports rows as a user would, from a JSONL file."""

    def __call__(self, settings: Settings, *rows: dict[str, Any]) -> import_files.Summary: ...


@dataclass
class Sandbox:
    """A local Customer.io on a port, and its state."""

    url: str
    state: state.State

    def people(self) -> dict[str, dict[str, Any]]:
        """Attributes by id, the email among them."""
        return {
            str(person.id): {**person.attributes, **({"email": person.email} if person.email else {})}
            for person in self.state.people
        }

    async def faults(self, script: str) -> None:
        """From now on, for each request the next step of the script; none when it is empty."""
        async with (
            aiohttp.ClientSession() as session,
            session.put(f"{self.url}/sandbox/faults", json={"script": script}) as response,
        ):
            assert response.status == 200, await response.text()


@asynccontextmanager
async def sandbox() -> AsyncIterator[Sandbox]:
    """For as long as the block lasts."""
    customerio = state.State(time.time)
    application = track_api.create_app(customerio, site_id=SITE_ID, api_key=API_KEY)
    async with track_api.serve(application) as running:
        yield Sandbox(running.url, customerio)


def example(event_id: str = VENDOR_EXAMPLE["event_id"], **data: Any) -> bytes:
    """The vendor's example, or one like it under another event id."""
    return json.dumps({**VENDOR_EXAMPLE, "event_id": event_id, "data": {**VENDOR_EXAMPLE["data"], **data}}).encode()


def signed(body: bytes, key: str = KEY, timestamp: str = "1613063090") -> dict[str, str]:
    """The headers that Customer.io would send with the body."""
    return {"X-CIO-Timestamp": timestamp, "X-CIO-Signature": signature.sign(key, timestamp, body)}


async def post(session: aiohttp.ClientSession, url: str, body: bytes, **headers: str) -> tuple[int, str]:
    """Posts a webhook; status and body of the answer."""
    async with session.post(
        f"{url}/webhooks/customerio",
        data=io.BytesIO(body),
        headers={**signed(body), **headers},
        skip_auto_headers=["User-Agent"],
    ) as response:
        return response.status, await response.text()


# Becomes the command, with what a supervisor gives it: descriptors from 3 on, told by the environment, and a limit.
_SUPERVISOR = """
import fcntl, os, resource, sys
names, limit, given, *command = sys.argv[1:]
if limit:
    resource.setrlimit(resource.RLIMIT_NOFILE, (int(limit) // 2, int(limit)))
given = [int(one) for one in given.split(",") if one]
copies = [fcntl.fcntl(one, fcntl.F_DUPFD_CLOEXEC, 100) for one in given]
for one in given:
    os.close(one)
for number, copy in enumerate(copies):
    os.dup2(copy, 3 + number)
if given:
    os.environ |= {"LISTEN_FDS": str(len(given)), "LISTEN_PID": str(os.getpid()), "LISTEN_FDNAMES": names}
os.execv(command[0], command)
"""


class Process:
    """A real `connector run`, or another `command`. Its log is kept; waiting for a line of it is how tests wait.

    `sockets` are handed over as systemd does it, under `names` (joined by a colon). `file_limit` is how many files it
    may open; half of them unless it asks for more; with either it starts as a supervisor would start it, else `warm`.
    `ready` is the log line that the start waits for.
    """

    def __init__(
        self,
        place: Place,
        *,
        sockets: Sequence[socket.socket] = (),
        names: str = "",
        file_limit: int | None = None,
        ready: str = "listening",
        command: Sequence[str] = ("run",),
    ) -> None:
        arguments = ["--settings", str(place.path), *command]
        given = [one.fileno() for one in sockets]
        ours, theirs = os.pipe()
        self._output = os.fdopen(ours)
        self._process: warm.Command | subprocess.Popen[bytes]
        with Path(os.devnull).open("wb") as nothing, os.fdopen(theirs, "wb") as log:
            if given or file_limit is not None:
                supervisor = [sys.executable, "-I", "-S", "-c", _SUPERVISOR]
                limits = [names, str(file_limit or ""), ",".join(map(str, given))]
                self._process = subprocess.Popen(
                    [*supervisor, *limits, sys.executable, "-m", "connector", *arguments],
                    stdout=nothing,
                    stderr=log,
                    env=_environment(),
                    pass_fds=given,
                )
            else:
                self._process = warm.Command(arguments, _environment(), nothing.fileno(), log.fileno())
        self.lines: list[dict[str, Any]] = []
        self._arrived = threading.Condition()
        self._ended = False
        self._reading = threading.Thread(target=self._read, daemon=True)
        self._reading.start()
        self.wait_for(ready)
        if ready == "listening":
            self.listening()

    def listening(self) -> None:
        """Waits until it serves; then it has its URLs."""
        listening = self.wait_for("listening")
        self.url = listening["webhooks"].removesuffix("/webhooks/customerio")
        self.admin_url = listening["admin"]

    def wait_for(self, event: str, seconds: float = 30) -> dict[str, Any]:
        """The first log line of this event, now or when it comes."""
        with self._arrived:
            self._arrived.wait_for(lambda: self._ended or self._find(event) is not None, seconds)
            found = self._find(event)
        assert found is not None, f"no {event!r} in {self.lines}"
        return found

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_failure: object) -> None:
        """Nothing is left behind when a test fails."""
        if self._process.poll() is None:
            self.kill()

    def kill(self) -> None:
        """kill -9"""
        self._process.kill()
        self._end()

    def ask_to_stop(self) -> None:
        """SIGTERM, without waiting for what comes of it."""
        self._process.terminate()

    @property
    def pid(self) -> int:
        return self._process.pid

    def terminate(self) -> int:
        """SIGTERM; the exit status."""
        self._process.terminate()
        return self._end()

    def _end(self) -> int:
        status = self._process.wait(30)
        self._reading.join(10)
        self._output.close()
        return status

    def _find(self, event: str) -> dict[str, Any] | None:
        return next((line for line in self.lines if line.get("event") == event), None)

    def _read(self) -> None:
        for line in self._output:
            with self._arrived:
                self.lines.append(json.loads(line) if line.startswith("{") else {"text": line})
                self._arrived.notify_all()
        with self._arrived:
            self._ended = True
            self._arrived.notify_all()


def _environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("CONNECTOR_")}
    return {**kept, "NO_COLOR": "1", "COLUMNS": "200"}
