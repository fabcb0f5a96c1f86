"""`connector demo`: the whole thing in one process, on a fresh store in a temporary folder, against a sandbox.

    sample users -> import -> segments -> sync -> people at the sandbox
    sandbox -> signed webhooks -> inbox -> events of users

The connector is the real one: it is made from a settings file by the composition root, listens on a port and calls
the sandbox over HTTP. Every number is counted in the store or read back from the sandbox; when what is there isn't
what should be there, the demo says so and exits 1.
"""

from __future__ import annotations

import asyncio
import random
import tempfile
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, field
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import sqlalchemy as sa
from rich.console import Console
from sqlalchemy.engine import Connection

from connector import app, settings_file
from connector.commands import demo_text, import_files
from connector.commands import sync as syncing
from connector.core import mapping
from connector.inbound.webhooks import PATH
from connector.sandbox import state, track_api
from connector.sandbox.webhooks import webhook_bodies, webhook_sender
from connector.settings import Settings
from connector.store import events, inbox, users
from connector.store.database import Database
from connector.store.schema import mirror
from connector.store.schema import users as users_table

SITE_ID = "demo-site"
SEED = 20
MESSAGE_LIFE = [("email", "sent"), ("email", "delivered"), ("email", "opened"), ("email", "clicked")]
RARER = [("email", "bounced"), ("email", "unsubscribed"), ("customer", "unsubscribed"), ("customer", "subscribed")]
SETTINGS = """\
# The settings of the demo. Edit and save: the running connector follows.

[customerio]
site_id = "{site_id}"
api_key = "env:DEMO_API_KEY"
region = "us"
track_url = "{track_url}"

[server]
port = 0

[admin]
port = 0

[store]
url = "sqlite:///demo.db"

[webhooks]
signing_keys = ["env:DEMO_SIGNING_KEY"]

[people]
segments = ["Paying customers", "Big accounts"]
attributes = [
  "first_name", "last_name", "plan", "seats", "newsletter", "trial_ends_at",
  {{ name = "account.name", as = "company" }},
]

[segments]
"Paying customers" = {{ attribute = "plan", in = ["pro", "team"] }}
"Big accounts" = {{ all = [{{ attribute = "seats", gte = 50 }}, {{ attribute = "country", not_in = ["US"] }}] }}
"Everyone" = {{ everyone = true }}
"""


@dataclass
class Counted:
    """What went which way, and how it compares with what should be there."""

    users_imported: int = 0
    users_changed: int = 0
    people_created: int = 0
    people_updated: int = 0
    without_email: int = 0
    left_kept: int = 0
    calls: int = 0
    calls_of_another_sync: int = 0
    webhooks_sent: int = 0
    webhooks_received: int = 0
    events_stored: int = 0
    duplicates_refused: int = 0
    forgeries_refused: int = 0
    event_names: dict[str, int] = field(default_factory=dict)
    people_expected: int = 0
    people_found: int = 0
    people_equal: int = 0
    different: list[str] = field(default_factory=list)

    @property
    def right(self) -> bool:
        """Everything moved, and what is there is what should be there."""
        moved = (
            self.users_imported,
            self.people_created,
            self.people_updated,
            self.webhooks_received,
            self.events_stored,
            self.duplicates_refused,
            self.forgeries_refused,
        )
        return (
            all(moved)
            and self.people_equal == self.people_expected
            and self.people_found == self.people_expected + self.left_kept
            and self.webhooks_received == self.webhooks_sent
            and self.events_stored == self.webhooks_received - self.duplicates_refused
            and self.calls_of_another_sync == 0
        )


async def demo(*, once: bool, as_json: bool, out: Console, remarks: Console) -> int:
    """Runs it all; stays up until Ctrl-C unless `once`. Returns the exit status."""
    secrets = random.SystemRandom()
    api_key, signing_key = (f"{secrets.getrandbits(128):032x}" for _ in range(2))
    with tempfile.TemporaryDirectory(prefix="connector-demo-") as name:
        folder = Path(name)
        async with AsyncExitStack() as stack:
            customerio = state.State(time.time)
            served = track_api.create_app(customerio, site_id=SITE_ID, api_key=api_key)
            sandbox = await stack.enter_async_context(track_api.serve(served))
            path = _write_settings(folder, sandbox.url, api_key, signing_key)
            settings = settings_file.load(path)
            connector = await stack.enter_async_context(app.running(path, settings))
            session = await stack.enter_async_context(aiohttp.ClientSession())

            counted = Counted()
            counted.calls = -await _calls(session, sandbox.url)
            await _people_out(connector.db, settings, counted, remarks)
            counted.calls += await _calls(session, sandbox.url)
            await syncing.sync(connector.db, settings, app.now)
            counted.calls_of_another_sync = await _calls(session, sandbox.url) - counted.calls
            endpoint = webhook_sender.Endpoint(connector.public_url + PATH, signing_key)
            await _events_in(connector, session, sandbox.url, endpoint, counted)
            await _compare(connector.db, settings, session, sandbox.url, counted)
            if as_json:
                out.print(msgspec.json.encode({**asdict(counted), "right": counted.right}).decode())
            else:
                for line in demo_text.describe(asdict(counted), right=counted.right):
                    out.print(line)
            if not once:
                remarks.print(demo_text.staying_up(sandbox.url, connector.public_url, connector.admin_url, path))
                await asyncio.Event().wait()
    return 0 if counted.right else 1


def _write_settings(folder: Path, track_url: str, api_key: str, signing_key: str) -> Path:
    env = folder / ".env"
    env.touch(mode=0o600)
    env.write_text(f"DEMO_API_KEY={api_key}\nDEMO_SIGNING_KEY={signing_key}\n")
    path = folder / "settings.toml"
    path.write_text(SETTINGS.format(site_id=SITE_ID, track_url=track_url))
    return path


async def _people_out(db: Database, settings: Settings, counted: Counted, remarks: Console) -> None:
    """Imports the sample users and syncs; then what changed a day later, and syncs again."""
    for sample in ("users.csv", "users_later.csv"):
        with as_file(files("connector.commands") / "samples" / sample) as file:
            imported = await db.on_thread(lambda file=file: import_files.users(db, settings, file, app.now))  # type: ignore[misc]
        counted.users_imported += imported.results["created"]
        counted.users_changed += imported.results["updated"]
        await syncing.sync(db, settings, app.now, remarks)
    counted.people_created, counted.people_updated = await db.run_read(_people_counts)
    counted.without_email = await db.run_read(_without_email)


def _people_counts(connection: Connection) -> tuple[int, int]:
    """How many people there are, and how many were sent again after they were created."""
    updated = sa.func.count().filter(mirror.c.synced_at > mirror.c.created_at)
    created, again = connection.execute(sa.select(sa.func.count(), updated).select_from(mirror)).one()
    return created, again


def _without_email(connection: Connection) -> int:
    missing = sa.select(sa.func.count()).select_from(users_table).where(users_table.c.email.is_(None))
    return connection.execute(missing).scalar_one()


async def _events_in(
    connector: app.Running,
    session: aiohttp.ClientSession,
    sandbox_url: str,
    endpoint: webhook_sender.Endpoint,
    counted: Counted,
) -> None:
    """The sandbox reports on messages to the people it has; some webhooks come twice, one is a forgery."""
    people = await _get(session, f"{sandbox_url}/sandbox/people")
    recipients = [webhook_bodies.Recipient(each["id"], each["email"], each["cio_id"]) for each in people]
    rng = random.Random(SEED)  # noqa: S311 - a repeatable story, no secret
    started = int(time.time())  # an opt-out from before the people were created would be carried to Customer.io
    sent = list(webhook_bodies.stream(recipients[:40], MESSAGE_LIFE, rng, timestamp=started))
    sent += webhook_bodies.stream(recipients[40:48], RARER, rng, timestamp=started)
    sent += sent[::10]
    answers = await webhook_sender.send(endpoint, sent)
    forged = webhook_sender.Endpoint(endpoint.url, "not the key")
    counted.forgeries_refused = sum(answer.status == 401 for answer in await webhook_sender.send(forged, sent[:1]))
    counted.webhooks_sent = len(answers)
    counted.webhooks_received = sum(answer.accepted for answer in answers)
    await connector.reader.read_outstanding()
    stored = await connector.db.run_read(inbox.count)
    counted.duplicates_refused = counted.webhooks_received - stored
    counted.events_stored = await connector.db.run_read(events.count)
    counted.event_names = await connector.db.run_read(events.count_by_name)


async def _compare(
    db: Database, settings: Settings, session: aiohttp.ClientSession, sandbox_url: str, counted: Counted
) -> None:
    """Attribute by attribute: what the settings say of each whitelisted user, against what Customer.io has."""
    found = {each["id"]: each for each in await _get(session, f"{sandbox_url}/sandbox/people")}
    expected, counted.left_kept = await db.on_thread(lambda: _expected(db, settings))
    counted.people_expected, counted.people_found = len(expected), len(found)
    for customer_id, attributes in expected.items():
        person = found.get(customer_id, {"attributes": {}})
        if {**person["attributes"], "email": person.get("email")} == attributes:
            counted.people_equal += 1
        else:
            counted.different.append(customer_id)


def _expected(db: Database, settings: Settings) -> tuple[dict[str, dict[str, Any]], int]:
    """By external id, what each user who is in a whitelisted segment and has an email should have there; and how many
    left the segments and were kept."""
    expected = {}
    left_kept = 0
    for subject in db.read(users.subjects, db.read(_all_ids), settings, app.now()):
        user = subject.user
        inside = mapping.whitelisted(subject.segment_bits, settings)
        if inside and user.email and user.external_id:
            expected[user.external_id] = mapping.attributes(user, subject.segment_bits, settings)[0]
        elif subject.mirror is not None:
            left_kept += 1
    return expected, left_kept


def _all_ids(connection: Connection) -> Sequence[str]:
    return connection.execute(sa.select(users_table.c.id)).scalars().all()


async def _calls(session: aiohttp.ClientSession, sandbox_url: str) -> int:
    """How many calls the sandbox has received."""
    return int((await _get(session, f"{sandbox_url}/sandbox"))["calls"])


async def _get(session: aiohttp.ClientSession, url: str) -> Any:
    async with session.get(url) as response:
        return await response.json()
