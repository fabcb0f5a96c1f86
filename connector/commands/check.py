"""`connector check [NEW]`: a line for each thing that has to be right, with what to do where it isn't."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from connector import app, errors
from connector.inbound.webhooks import PATH
from connector.outbound.client import TrackClient
from connector.settings import Settings
from connector.store import segments
from connector.store.database import Database

Level = Literal["ok", "warning", "fault"]


@dataclass(frozen=True, slots=True)
class Line:
    """One thing that was looked at."""

    level: Level
    about: str
    message: str


async def check(settings: Settings) -> list[Line]:
    """Everything that can be found out now; reads only. A fault means that something will not work."""
    lines = list(_webhooks(settings))
    lines += await _credentials(settings)
    try:
        db = app.open_store(settings)
    except (errors.StoreBehind, errors.Failed) as error:
        return [*lines, Line("fault", "store", str(error))]
    try:
        lines.append(Line("ok", "store", f"{db.dialect}, at this version's schema"))
        lines += list(_people(db, settings))
    finally:
        db.close()
    return lines


def _webhooks(settings: Settings) -> Iterator[Line]:
    base = settings.server.public_url
    if not settings.webhooks.signing_keys:
        yield Line("warning", "webhooks", "off: webhooks.signing_keys is empty, every webhook is answered 503")
    if not base:
        local = f"http://{settings.server.host}:{settings.server.port}{PATH}"
        yield Line(
            "warning",
            "webhooks",
            f"server.public_url is empty; locally the URL is {local}, Customer.io needs a public one",
        )
    else:
        if base.startswith("http://"):
            yield Line("warning", "webhooks", "server.public_url is http: people's data would travel in the clear")
        yield Line("ok", "webhooks", f"the webhook URL is {base.rstrip('/')}{PATH}")


async def _credentials(settings: Settings) -> list[Line]:
    workspace = settings.customerio
    if not workspace.site_id:
        return [Line("warning", "customerio", "customerio.site_id is empty: nothing is sent")]
    async with TrackClient(workspace) as client:
        answer = await client.region()
    if answer.status is None:
        return [Line("fault", "customerio", f"can't be reached ({answer.problem}): check the network and track_url")]
    if answer.status in {401, 403}:
        return [Line("fault", "customerio", "refuses the credentials: site_id and api_key must be one Track API row")]
    if answer.status != 200:
        return [Line("fault", "customerio", f"answered {answer.status} when asked for the region")]
    try:
        lives_in = json.loads(answer.body).get("region")
    except (ValueError, AttributeError):
        return [Line("fault", "customerio", "answered something else than a region; is track_url right?")]
    if lives_in != workspace.region:
        wrong = f"the workspace lives in {lives_in}, customerio.region says {workspace.region}: change it"
        return [Line("fault", "customerio", wrong)]
    return [Line("ok", "customerio", f"accepts the credentials, region {lives_in}")]


def _people(db: Database, settings: Settings) -> Iterator[Line]:
    if not settings.people.segments:
        yield Line("warning", "people", "people.segments is empty: nobody is sent")
    for name, size in db.read(segments.sizes, settings).items():
        listed = "whitelisted" if name in settings.people.segments else "not whitelisted"
        level: Level = "warning" if size == 0 and name in settings.people.segments else "ok"
        yield Line(level, "segments", f"{name}: {size:,} users, {listed}")
